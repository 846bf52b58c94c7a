"""A context in memory, for tests that run an experiment by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib import data as registry
from lib.core import Checkpoint, Config, Context, NoCheckpoint, Result


class Room(Context):
    """What a run of `run` sees: one data set, artifacts that are computed once, a slot that may keep things.

    data: the set, which a config names by its own name, or several by the names that configs give them; without any, data
    sets are loaded. made: artifacts by config. told: what the run said of its progress.
    """

    def __init__(
        self,
        run: Callable[[Config, Context], Result],
        data: Any = None,
        slot: Checkpoint | None = None,
        made: dict[Config, Any] | None = None,
    ) -> None:
        self.run, self.set, self.slot = run, data, slot or NoCheckpoint()
        self.made = {} if made is None else made
        self.told: list[tuple[float, float, str]] = []

    def data(self, name: str) -> Any:
        if self.set is None:
            return registry.load(name)
        if isinstance(self.set, dict):
            return self.set[name]
        assert name == self.set.name
        return self.set

    def artifact(self, config: Config) -> Any:
        if config not in self.made:
            self.made[config] = self.run(config, Room(self.run, self.set, made=self.made)).artifact
        return self.made[config]

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.told.append((done, total, note))

    @property
    def checkpoint(self) -> Checkpoint:
        return self.slot
