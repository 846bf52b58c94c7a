"""Progress of a sweep with the time left: a live bar in a terminal, plain lines elsewhere, nothing in a notebook."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from lib.core import Config
from lib.runs.context import Ending
from lib.runs.executors import Event, Moved, Started


class Quiet:
    """Shows nothing. Also the base: it counts, and guesses the time left from the mean of its kind."""

    def __init__(
        self, configs: Mapping[str, Config], jobs: int, guesses: Mapping[str, float] | None = None
    ) -> None:
        self.configs, self.jobs = configs, max(1, jobs)
        self.guesses = dict(guesses or {})
        self.ended: dict[str, Ending] = {}
        self.share: dict[str, float] = {}
        self.seconds: dict[str, list[float]] = {}

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def tell(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Started(key):
                self.share[key] = 0.0
            case Moved(key, done, total, _):
                self.share[key] = min(1.0, done / total) if total else 0.0
            case Ending(key, status, seconds):
                self.share.pop(key, None)
                self.ended[key] = event
                if status in ("done", "diverged"):
                    self.seconds.setdefault(self.configs[key].experiment, []).append(seconds)

    def left(self) -> float | None:
        """Seconds until the end, or None while nothing is known."""
        total = 0.0
        for key, config in self.configs.items():
            if key not in self.ended:
                measured = self.seconds.get(config.experiment) or [
                    t for ts in self.seconds.values() for t in ts
                ]
                mean = self.guesses.get(key) or (sum(measured) / len(measured) if measured else None)
                if mean is None:
                    return None
                total += mean * (1 - self.share.get(key, 0.0))
        return total / self.jobs


class Plain(Quiet):
    """One line for each run that ends, and one every `every` seconds in between."""

    def __init__(self, *args, console: Console, every: float = 30.0) -> None:
        super().__init__(*args)
        self.console, self.every, self.last = console, every, time.monotonic()

    def tell(self, event: Event) -> None:
        super().tell(event)
        if isinstance(event, Ending):
            took = f" in {event.seconds:.1f} s" if event.seconds else ""
            self._line(f"{self.configs[event.key].label()}: {event.status}{took}")
        elif isinstance(event, Moved) and time.monotonic() - self.last > self.every:
            self._line(
                f"{self.configs[event.key].label()}: {event.done:g} of {event.total:g} {event.note}".rstrip()
            )

    def _line(self, text: str) -> None:
        self.last = time.monotonic()
        left = self.left()
        more = f" · {duration(left)} left" if left else ""
        self.console.print(
            f"[{len(self.ended)}/{len(self.configs)}] {text}{more}", markup=False, highlight=False
        )


class Live(Quiet):
    """A bar for the sweep and a line for each run under way."""

    def __init__(self, *args, console: Console) -> None:
        super().__init__(*args)
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=False,
        )
        self.whole = self.bars.add_task("runs", total=len(self.configs), note="")
        self.rows: dict[str, TaskID] = {}

    def __enter__(self) -> Live:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def tell(self, event: Event) -> None:
        super().tell(event)
        match event:
            case Started(key):
                label = self.configs[key].label()
                self.rows[key] = self.bars.add_task(label[:70], total=None, note="")
            case Moved(key, done, total, note):
                self.bars.update(self.rows[key], completed=int(done), total=int(total), note=note)
            case Ending(key):
                if key in self.rows:
                    self.bars.remove_task(self.rows.pop(key))
        left = self.left()
        self.bars.update(self.whole, completed=len(self.ended), note=f"{duration(left)} left" if left else "")


def duration(seconds: float) -> str:
    """A time in words that a person would use: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
