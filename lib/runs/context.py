"""One run: a config computed in this process, with its provenance, its checkpoint and its record.

`compute_one` is what every executor calls in the end. It holds the config's lock while it computes, so two processes on
one store never compute the same config twice.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lib import experiments
from lib.core import Config, Context, InputError, Outcome, Provenance, Record, Result, Suspended
from lib.runs import fingerprints
from lib.runs.checkpoints import FileCheckpoint
from lib.runs.memory import keep_freed
from lib.runs.records import Damaged
from lib.runs.store import Store

Watcher = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Task:
    """A config to compute, with where and how; small and picklable, so that it travels to any worker.

    device: a torch device. threads: CPU threads of the run (they enter the order of sums, so they enter the provenance).
    deadline: `time.monotonic()` after which a run stops at its next checkpoint, and none is begun. replaces: the date of
    the store's record that is to be computed again; with any other finished record there is nothing to do.
    renew: also compute artifacts again that other code than today's made; else they are used, and the run is as stale.
    ask: raise `ArtifactWanted` for an artifact that is not there, for whoever gave the task to have it made.
    """

    config: Config
    store: str
    device: str = "cpu"
    threads: int = 1
    deadline: float | None = None
    replaces: str | None = None
    renew: bool = False
    ask: bool = False


class ArtifactWanted(Exception):
    """A run cannot go on without the artifact of `config`, and was told to ask for it."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.label())
        self.config = config


@dataclass(frozen=True)
class Ending:
    """How a task ended: its record's outcome, or why it has none (`busy`: another process is computing it)."""

    key: str
    status: Outcome | Literal["busy", "suspended", "already there"]
    seconds: float = 0.0
    error: str = ""


class RunContext(Context):
    """The context of one run; see `lib.core.Context`."""

    def __init__(self, task: Task, watcher: Watcher | None = None) -> None:
        self.task = task
        self.device = task.device
        self.store = Store(task.store)
        self.code = dict(code_of(task.config))
        self.fingerprints: dict[str, str] = {}
        self.elsewhere = [0.0, 0.0]  # seconds, by the clock and of the processor, that went into artifacts
        self.watcher = watcher
        code = Provenance({}, self.code, "", True, {}, "", 0, 0, 0, 0, "").code_fingerprint
        place = self.store.checkpoint(task.config)
        self._checkpoint = FileCheckpoint(place, code, every=checkpoint_seconds(), deadline=task.deadline)

    def data(self, name: str) -> Any:
        data = _load(name, self.device)
        self.fingerprints[name] = data.fingerprint
        return data

    def artifact(self, config: Config) -> dict[str, np.ndarray]:
        old = self._own(config)
        stale = old is not None and self.task.renew and bool(fingerprints.changes(old.provenance.code))
        if self.task.ask and (stale or not self._made(config)):
            raise ArtifactWanted(config)
        task = replace(self.task, config=config, replaces=old.provenance.date if old and stale else None)
        started, cpu = time.perf_counter(), time.process_time()
        ending = compute_one(task, self.watcher, wait=True, need_artifact=True)
        self.elsewhere[0] += time.perf_counter() - started
        self.elsewhere[1] += time.process_time() - cpu
        arrays = self.store.artifact(config)
        if arrays is None:
            reason = f": {ending.error or ending.status}" if ending.status != "already there" else ""
            raise RuntimeError(f"no artifact from {config.label()}{reason}")
        record = self._own(config)
        if record is not None:
            self.fingerprints |= record.provenance.data
            self.code |= record.provenance.code
        return arrays

    def _own(self, config: Config) -> Record | None:
        """The store's record, or None where it is missing or damaged (which `compute_one` sees to)."""
        try:
            return self.store.get(config)
        except Damaged:
            return None

    def _made(self, config: Config) -> bool:
        try:
            return self.store.artifact(config) is not None
        except Damaged:
            return False

    @property
    def checkpoint(self) -> FileCheckpoint:
        return self._checkpoint

    def progress(self, done: float, total: float, note: str = "") -> None:
        if self.watcher is not None:
            self.watcher(done, total, note)


def checkpoint_seconds() -> float:
    """Seconds between two checkpoints of a run: `POSTS_CHECKPOINT_SECONDS`, else 20."""
    given = os.environ.get("POSTS_CHECKPOINT_SECONDS", "20")
    try:
        return float(given)
    except ValueError:
        raise InputError(f"POSTS_CHECKPOINT_SECONDS is {given!r}; a number of seconds is wanted") from None


@lru_cache(maxsize=4)
def _load(name: str, device: str) -> Any:
    from lib import data

    return data.load(name, device=device)


@cache
def _code(post: str, kind: Any) -> dict[str, str]:
    handler = experiments.handler(post, kind)
    found = fingerprints.code(handler.__module__, handler.__name__)
    return found | fingerprints.code(kind.__module__, kind.__name__)


def code_of(config: Config) -> dict[str, str]:
    """The hashes of the code that a run of `config` goes through today."""
    kind: Any = type(config)
    return _code(config.post, kind)


def compute_one(
    task: Task, watcher: Watcher | None = None, *, wait: bool = False, need_artifact: bool = False
) -> Ending:
    """Compute a task and keep its record, unless the store has it by now.

    An InputError (a data set that is not here, an unwritable store) is raised: it concerns the whole sweep. Any other
    exception of the run becomes a record with the outcome `error` or `out of memory`.
    """
    config, store = task.config, Store(task.store)
    with store.lock(config, wait=wait) as ours:
        if not ours:
            return Ending(config.key, "busy")
        try:
            record = store.get(config)
            made = not need_artifact or store.artifact(config) is not None
        except Damaged:
            store.set_aside(config)
            record, made = None, False
        if record is not None and record.finished and made and record.provenance.date != task.replaces:
            return Ending(config.key, "already there")
        if task.deadline is not None and time.monotonic() >= task.deadline:
            return Ending(config.key, "suspended", error="time was up before it began")
        keep_freed()
        context = RunContext(task, watcher)
        return _compute(task, context, store)


def _compute(task: Task, context: RunContext, store: Store) -> Ending:
    config = task.config
    started, cpu = time.perf_counter(), time.process_time()
    _reset_peak()
    outcome: Outcome
    error, result = "", Result()
    try:
        with _prepared(config, task):
            result = experiments.handler(config.post, type(config))(config, context)
        outcome = result.outcome
    except (InputError, ArtifactWanted):
        raise
    except Suspended as reason:
        return Ending(config.key, "suspended", time.perf_counter() - started, str(reason))
    except Exception as failure:  # noqa: BLE001 - whatever a run does wrong belongs into its record
        outcome = "out of memory" if _is_out_of_memory(failure) else "error"
        error = "".join(traceback.format_exception(failure)[-3:]).strip()
    seconds = time.perf_counter() - started
    provenance = Provenance(
        data=dict(context.fingerprints),
        code=context.code,
        commit=commit()[0],
        clean=commit()[1],
        versions=versions(),
        device=device_name(task.device),
        threads=task.threads,
        wall_s=round(seconds - context.elsewhere[0], 3),
        cpu_s=round(time.process_time() - cpu - context.elsewhere[1], 3),
        peak_mb=round(_peak(task.device), 1),
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )
    store.put(make_record(config, outcome, result, provenance, error), result.artifact)
    context.checkpoint.clear()
    return Ending(config.key, outcome, seconds, error)


def make_record(
    config: Config, outcome: Outcome, result: Result, provenance: Provenance, error: str = ""
) -> Record:
    """The record of a config's result."""
    return Record(
        post=config.post,
        experiment=config.experiment,
        key=config.key,
        config=config.to_dict(),
        outcome=outcome,
        metrics=result.metrics,
        series=result.series,
        arrays=result.arrays,
        provenance=provenance,
        error=error,
    )


@contextlib.contextmanager
def _prepared(config: Config, task: Task) -> Iterator[None]:
    """Threads as asked, no denormals, and seeded global generators, in case a library draws from one.

    All of it is put back afterwards: a run may be nested in another one (an artifact), in a notebook, or in a test.
    """
    import random

    import torch

    threads, flushed = torch.get_num_threads(), (torch.tensor([1e-40]) * 1.0).item() == 0
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generators are meant
    seed = int(config.key[:8], 16)
    with torch.random.fork_rng(devices=[task.device] if task.device.startswith("cuda") else []):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        torch.set_num_threads(task.threads)
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(flushed)
            torch.set_num_threads(threads)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _is_out_of_memory(failure: Exception) -> bool:
    text = str(failure).lower()
    return isinstance(failure, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak(device: str) -> float:
    """Highest resident size in MiB since `_reset_peak` (since the process began where the kernel can't tell)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) / 1024
    except OSError:
        pass
    return peak


@lru_cache(maxsize=1)
def commit() -> tuple[str, bool]:
    """The commit that `lib` is on, and whether `lib` is as committed; ("unknown", False) outside a git checkout."""
    here = Path(__file__).resolve().parents[2]
    try:
        head, status = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20
            ).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "lib"))
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("POSTS_COMMIT", "unknown"), False
    return head.strip(), not status.strip()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    import torch

    return {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}


@lru_cache(maxsize=4)
def device_name(device: str) -> str:
    """A device in words: the GPU's name, or the processor's."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    if device != "cpu":
        return device
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"CPU ({line.split(':', 1)[1].strip()})"
    except OSError:
        pass
    return f"CPU ({platform.machine()})"
