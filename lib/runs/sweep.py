"""Sweeps: compute what a profile lacks, once, whatever happens in between; then publish it.

    report = compute("lsh", "laptop", project=root(), jobs=2)
    publish("lsh", "laptop", project=root())

Published records count as present: a fresh clone computes nothing that the project has already, and goes on where
another machine stopped. `fresh` computes all again, `stale` what was made by other code than today's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib import experiments, project
from lib.core import PROFILES, Config, InputError, Record
from lib.runs import files, fingerprints, published
from lib.runs.context import Ending, Task
from lib.runs.executors import Event, Executor, Processes, Serial
from lib.runs.progress import Quiet
from lib.runs.records import Damaged
from lib.runs.store import Store


@dataclass
class Report:
    """What a sweep did: endings by key, what was there before, and what it has to say."""

    configs: dict[str, Config]
    present: int = 0
    endings: dict[str, Ending] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[tuple[Config, Ending]]:
        """Runs that failed or ran out of memory."""
        return [
            (self.configs[k], e) for k, e in self.endings.items() if e.status in ("error", "out of memory")
        ]

    @property
    def suspended(self) -> int:
        """Runs that stopped at a checkpoint because time was up, or were not begun for it."""
        return sum(ending.status == "suspended" for ending in self.endings.values())


def stale(record: Record) -> list[str]:
    """What changed in the code since `record` was made, in words; empty where nothing did."""
    return fingerprints.changes(record.provenance.code)


def lookup(
    slug: str,
    configs: Mapping[str, Config],
    project_root: Path,
    store: Store,
    warnings: list[str] | None = None,
) -> dict[str, Record]:
    """The best record of each config, from the store and from what is published.

    A damaged record in the store counts as none, and is named in `warnings`.
    """
    packed = published.read_all(project_root, slug)
    out = {}
    for key, config in configs.items():
        try:
            own = store.get(config)
        except Damaged as error:
            own = None
            if warnings is not None:
                warnings.append(f"{error}; it is set aside and computed again")
        best = published.best((own, packed.get(key)), stale)
        if best is not None:
            out[key] = best
    return out


def plan(slug: str, profile: str, only: str | None = None) -> dict[str, Config]:
    """The configs of a profile (of one of its experiments) by key."""
    by_experiment = experiments.configs(slug, profile)
    if only is not None and only not in by_experiment:
        raise InputError(
            f"{slug} has no experiment {only!r} at {profile}; there are: {', '.join(by_experiment)}"
        )
    return {c.key: c for name, configs in by_experiment.items() if only in (None, name) for c in configs}


def compute(
    slug: str,
    profile: str,
    *,
    project_root: Path | None = None,
    store: Store | None = None,
    only: str | None = None,
    jobs: int = 1,
    threads: int = 1,
    device: str = "cpu",
    minutes: float | None = None,
    stale_too: bool = False,
    fresh: bool = False,
    executor: Executor | None = None,
    watch: Callable[[Mapping[str, Config], int, Mapping[str, float]], Quiet] = Quiet,
) -> Report:
    """Compute what a profile lacks. Raises InputError; failed runs are in the report.

    jobs: worker processes (1: in this process). threads: CPU threads a run. minutes: stop at the next checkpoints after
    that time, begin nothing new. watch: makes what shows the progress (`lib.runs.progress`).
    """
    project_root = project_root or project.root()
    store = store or Store(project.store_path(project_root))
    report = Report(plan(slug, profile, only))
    files.remove_parts(store.path / slug)
    have = lookup(slug, report.configs, project_root, store, report.warnings)
    wanted = {
        key: config
        for key, config in report.configs.items()
        if key not in have or fresh or (stale_too and stale(have[key]))
    }
    report.present = len(report.configs) - len(wanted)
    if not wanted:
        return report
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    tasks = [
        Task(
            config,
            str(store.path),
            device,
            threads,
            deadline,
            replaces=store.date(config),
            renew=stale_too or fresh,
        )
        for config in wanted.values()
    ]
    guesses = {key: record.provenance.wall_s for key, record in have.items()}
    executor = executor or (Serial() if jobs == 1 else Processes(jobs))
    with watch(wanted, jobs, guesses) as watcher:

        def tell(event: Event) -> None:
            if isinstance(event, Ending):
                report.endings[event.key] = event
                if event.status == "busy":
                    return
            watcher.tell(event)

        waiting = tasks
        while waiting:
            executor.run(waiting, tell)
            waiting = [task for task in waiting if report.endings[task.config.key].status == "busy"]
            if waiting:
                time.sleep(0.5)
    return report


@dataclass(frozen=True)
class Published:
    """What one experiment's pack holds now."""

    experiment: str
    path: Path
    records: int
    of: int
    stale: int


def publish(
    slug: str, profile: str, *, project_root: Path | None = None, store: Store | None = None
) -> list[Published]:
    """Pack the finished records of a profile, those already published included. Raises InputError, Damaged.

    Of an experiment without any finished record nothing is written; one that the profile no longer has is removed.
    """
    project_root = project_root or project.root()
    store = store or Store(project.store_path(project_root))
    by_experiment = experiments.configs(slug, profile)
    out = []
    with files.lock(project_root / ".build/locks" / f"publish-{slug}", wait=True):
        for experiment, configs in by_experiment.items():
            found = lookup(slug, {config.key: config for config in configs}, project_root, store)
            records = [found[config.key] for config in configs if config.key in found]
            if records:
                path = published.write(project_root, slug, profile, experiment, records, of=len(configs))
                old = sum(bool(stale(found[config.key])) for config in configs if config.key in found)
                out.append(Published(experiment, path, len(records), len(configs), old))
        for path in published.folder(project_root, slug, profile).glob("*"):
            if path.name.split(".")[0] not in by_experiment:
                path.unlink()
    return out


def why(slug: str, project_root: Path, store: Store) -> dict[tuple[str, ...], list[tuple[Config, Record]]]:
    """The stale records of a post, grouped by what changed."""
    out: dict[tuple[str, ...], list[tuple[Config, Record]]] = {}
    seen = set()
    for profile in PROFILES:
        configs = plan(slug, profile)
        for key, record in lookup(slug, configs, project_root, store).items():
            reasons = tuple(stale(record))
            if reasons and key not in seen:
                out.setdefault(reasons, []).append((configs[key], record))
            seen.add(key)
    return out


def other_data(
    slug: str, project_root: Path, store: Store, load: Callable[[str], Any]
) -> list[tuple[str, str, str]]:
    """Data sets that are here with another fingerprint than records were made from: name, theirs, ours."""
    known: dict[str, set[str]] = {}
    for profile in PROFILES:
        for record in lookup(slug, plan(slug, profile), project_root, store).values():
            for name, fingerprint in record.provenance.data.items():
                known.setdefault(name, set()).add(fingerprint)
    out = []
    for name, fingerprints_ in sorted(known.items()):
        try:
            here = load(name).fingerprint
        except InputError:
            continue
        out += [(name, other, here) for other in sorted(fingerprints_) if other != here]
    return out


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
