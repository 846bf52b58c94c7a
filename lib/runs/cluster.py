"""Runs on a Dask cluster: one run a task, artifacts made once, records kept by the caller or in a shared store.

    posts run lsh --profile full --executor dask://host:8786          # dask scheduler; dask worker host:8786 --nthreads 1
    compute("lsh", "full", executor=Cluster("dask://host:8786"))

Where all workers see the caller's store under the same path, they write into it themselves, go on from its checkpoints,
and share its locks. Else each has a store of its own, and what it computed is returned and kept by the caller, who holds
the locks meanwhile.

A run that asks for an artifact that is not there ends at once and says so; the artifact's config is computed first, once,
by any worker, and the run begins again. So no worker waits for another.

A worker that dies costs the run it was computing: Dask gives it to another worker, which goes on from the last checkpoint
of a shared store; a run that its workers do not survive is an `error`. When the scheduler is gone the sweep ends with a
PostsError; finished records are kept, and the same command goes on with the others.

At most two runs a worker are handed out at a time, so that neither the scheduler's memory nor the caller's locks grow with
the length of the sweep.

A worker must have the same code as the caller (told by the run's fingerprint) and computes one run at a time, because
threads of one process share torch's settings. `--device cuda` asks for workers with `--resources GPU=1`.
"""

from __future__ import annotations

import logging
import queue
import resource
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.core import Config, InputError, PostsError, Provenance, Record
from lib.runs import fingerprints
from lib.runs.context import ArtifactWanted, Ending, Task, code_of, compute_one
from lib.runs.executors import Moved, Started, Tell
from lib.runs.records import Damaged
from lib.runs.store import Store

if TYPE_CHECKING:
    from distributed import Client, Future

SCHEME = "dask://"
GPU = "GPU"
"""The resource tag of workers that have a GPU."""

Kept = tuple[Record, dict[str, np.ndarray] | None]
"""A record and the artifact of its run."""


@dataclass(frozen=True)
class Job:
    """What travels to a worker. code: the fingerprint of the run's code as the caller has it. topic: where events go.

    The task's deadline is in seconds since the epoch on the way, because each machine's `time.monotonic()` is its own.
    shared: whether `task.store` is the caller's own. for_artifact: a record without its artifact is not enough.
    supplies: artifacts for a worker whose store is its own.
    """

    task: Task
    code: str
    topic: str
    shared: bool
    for_artifact: bool = False
    supplies: tuple[Kept, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What comes back: how it ended, with what it left where the store is not shared; or the artifact that is wanted;
    or why the whole sweep must end."""

    ending: Ending | None = None
    left: Kept | None = None
    wanted: Config | None = None
    refused: str = ""


class Cluster:
    """An executor on the Dask scheduler at `dask://host:port`.

    timeout: seconds to wait for the scheduler. Raises InputError for another form of address, for a scheduler that does not
    answer, has no workers, or (for a GPU) none that offers one.
    """

    def __init__(self, address: str, timeout: float = 10) -> None:
        host, colon, port = address.removeprefix(SCHEME).rpartition(":")
        if not address.startswith(SCHEME) or not colon or not host or not port.isdigit():
            raise InputError(f"executor is {address!r}; {SCHEME}host:port is wanted")
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise InputError("a cluster needs the extra `cluster`: pip install -e '.[cluster]'") from error
        self.address, self.timeout = f"tcp://{host}:{port}", timeout

    def run(self, tasks: Sequence[Task], tell: Tell) -> None:
        """Compute all tasks and tell what happens."""
        with _quiet():
            from distributed.comm import CommClosedError

            client = self._connect()
            try:
                _Run(client, self.address, tasks, tell).run()
            except (CommClosedError, _Gone) as error:
                raise PostsError(
                    f"the scheduler at {self.address} is gone; finished records are kept, and the same command goes on"
                ) from error
            finally:
                _close(client)

    def _connect(self) -> Client:
        from distributed import Client

        try:
            return Client(self.address, timeout=self.timeout, set_as_default=False, direct_to_workers=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers at {self.address}; start one with `dask scheduler`"
            ) from error


class _Gone(Exception):
    """The scheduler is gone."""


class _Run:
    """One call of `Cluster.run`: what is under way, who waits for which artifact, and which locks are held."""

    def __init__(self, client: Client, address: str, tasks: Sequence[Task], tell: Tell) -> None:
        self.client, self.address, self.tell = client, address, tell
        self.tasks = {task.config.key: task for task in tasks}
        self.asked = set(self.tasks)
        self.topic = f"posts-{uuid.uuid4().hex}"
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.futures: dict[str, Future] = {}
        self.begun: set[str] = set()
        self.window = 0
        self.waiting: dict[str, set[str]] = {}  # artifact's key: keys of the runs that wait for it
        self.wants: dict[str, dict[str, Config]] = {}  # run's key: artifacts that it asked for
        self.locks: dict[str, ExitStack] = {}
        self.gpu = any(task.device.startswith("cuda") for task in tasks)

    def run(self) -> None:
        self.shared = self._look_around()
        self.client.subscribe_topic(self.topic, lambda event: self.inbox.put(("event", event[1])))
        try:
            todo = deque(self.tasks)
            while todo or self.futures:
                while todo and len(self.futures) < self.window:
                    if (
                        key := todo.popleft()
                    ) not in self.begun:  # an artifact may have been asked for before its turn
                        self._begin(key)
                if self.futures:
                    self._next()
        finally:
            for future in self.futures.values():
                future.release()
            for lock in self.locks.values():
                lock.close()

    def _look_around(self) -> bool:
        """Whether all workers see the caller's store."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise InputError(f"the scheduler at {self.address} has no workers; start some with `dask worker`")
        if self.gpu and not any(worker.get("resources", {}).get(GPU) for worker in workers.values()):
            raise InputError(
                f"no worker of {self.address} offers a GPU; start one with `dask worker --resources GPU=1`"
            )
        self.window = max(8, 2 * len(workers))
        _allow_files(self.window + 256)
        store = Path(next(iter(self.tasks.values())).store).absolute()
        store.mkdir(parents=True, exist_ok=True)
        mark = store / f".{self.topic}.part"
        mark.touch()
        try:
            return all(self.client.run(_exists, str(mark)).values())
        finally:
            mark.unlink()

    def _begin(self, key: str) -> None:
        """Hand a run to the cluster, unless another process on this store has it in hand."""
        self.begun.add(key)
        task = self.tasks[key]
        store = Store(task.store)
        supplies: list[Kept] = []
        if self.shared:
            task = replace(task, store=str(store.path.absolute()), ask=True)
        else:
            if key not in self.locks:
                held = ExitStack()
                if not held.enter_context(store.lock(task.config, wait=False)):
                    self._end(key, Ending(key, "busy"))
                    return
                self.locks[key] = held
            supplies = [_kept(store, config) for config in self.wants.get(key, {}).values()]
            task = replace(task, ask=True)
        if task.deadline is not None:
            task = replace(task, deadline=task.deadline - time.monotonic() + time.time())
        job = Job(
            task,
            _fingerprint(task.config),
            self.topic,
            self.shared,
            for_artifact=key in self.waiting,
            supplies=tuple(supplies),
        )
        future = self.client.submit(
            work, job, key=f"{task.config.post}-{key[:12]}-{uuid.uuid4().hex[:8]}", pure=False,
            resources={GPU: 1} if self.gpu else None,
        )  # fmt: skip
        self.futures[key] = future
        future.add_done_callback(lambda done, key=key: self.inbox.put(("done", (key, done))))

    def _next(self) -> None:
        """One event, or a look at whether the scheduler is still there."""
        try:
            kind, what = self.inbox.get(timeout=1)
        except queue.Empty:
            if self.client.status not in ("running", "connecting"):
                raise _Gone from None
            return
        if kind == "event":
            self._tell(Started(what["key"]) if what["kind"] == "started" else Moved(*what["moved"]))
            return
        key: str = what[0]
        future: Future = what[1]
        if self.futures.get(key) is not future:
            return
        del self.futures[key]
        if future.status == "finished":
            self._take(key, future.result())
        elif future.status == "error":
            self._end(key, Ending(key, "error", error=f"its worker failed: {future.exception()}"))
        else:
            raise _Gone
        future.release()

    def _take(self, key: str, answer: Answer) -> None:
        if answer.refused:
            raise InputError(answer.refused)
        if answer.wanted is not None:
            self._want(key, answer.wanted)
            return
        assert answer.ending is not None
        if answer.left is not None:
            Store(self.tasks[key].store).put(*answer.left)
        self._end(key, answer.ending)

    def _want(self, key: str, artifact: Config) -> None:
        """The run begins again when the artifact is there; it is computed now unless it is under way already."""
        wanted = artifact.key
        asks = self.wants.setdefault(key, {})
        if wanted in asks:
            self._end(key, Ending(key, "error", error=f"no artifact from {artifact.label()}"))
            return
        asks[wanted] = artifact
        run = self.tasks[key]
        if not self.shared and wanted not in self.futures and _has(Store(run.store), artifact, run.renew):
            self._begin(key)  # with what the caller has, which a worker with a store of its own cannot see
            return
        self.waiting.setdefault(wanted, set()).add(key)
        if wanted not in self.tasks:
            self.tasks[wanted] = replace(run, config=artifact, replaces=Store(run.store).date(artifact))
        if wanted not in self.futures:
            self._begin(wanted)

    def _end(self, key: str, ending: Ending) -> None:
        if (lock := self.locks.pop(key, None)) is not None:
            lock.close()
        if key in self.asked:
            self._tell(ending)
        for waiting in sorted(self.waiting.pop(key, ())):
            if ending.status in ("done", "diverged", "already there"):
                self._begin(waiting)
            else:
                # Of an artifact that another process has in hand, or that time was up for, the run is asked for again.
                status = ending.status if ending.status in ("busy", "suspended") else "error"
                self._end(
                    waiting, Ending(waiting, status, error=f"its artifact: {ending.error or ending.status}")
                )

    def _tell(self, event: Started | Moved | Ending) -> None:
        if event.key in self.asked:
            self.tell(event)


def _has(store: Store, config: Config, renew: bool) -> bool:
    """Whether the store has the artifact of a config; with `renew`, one that today's code makes."""
    try:
        record = store.get(config)
        there = record is not None and store.artifact(config) is not None
    except Damaged:
        return False
    return there and not (renew and record is not None and fingerprints.changes(record.provenance.code))


def _kept(store: Store, config: Config) -> Kept:
    record = store.get(config)
    assert record is not None
    return record, store.artifact(config)


def _fingerprint(config: Config) -> str:
    return Provenance({}, code_of(config), "", True, {}, "", 0, 0, 0, 0, "").code_fingerprint


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own log of lost connections, which ends in our error. Its loggers have levels of their own."""
    import distributed  # noqa: F401  (its loggers exist from now on)

    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files, as far as it may: each run that is under way holds a lock."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def _close(client: Client) -> None:
    try:
        client.close(timeout=2)
    except (OSError, TimeoutError):
        return  # the scheduler is gone


# --- on a worker -----------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()


def _exists(path: str) -> bool:
    return Path(path).exists()


@cache
def _own_store() -> str:
    """A store of this worker process, for as long as it lives."""
    from distributed import get_worker

    return tempfile.mkdtemp(prefix="posts-store-", dir=get_worker().local_directory)


def work(job: Job) -> Answer:
    """Compute a job on this worker."""
    from distributed import get_worker

    worker = get_worker()
    key, config = job.task.config.key, job.task.config
    if _fingerprint(config) != job.code:
        return Answer(
            refused=f"the worker {worker.address} has other code than this project for {config.label()}"
        )
    last = 0.0

    def watch(done: float, total: float, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            worker.log_event(job.topic, {"kind": "moved", "moved": (key, done, total, note)})

    with _one_at_a_time:
        worker.log_event(job.topic, {"kind": "started", "key": key})
        task = job.task if job.shared else replace(job.task, store=_own_store())
        if task.deadline is not None:
            task = replace(task, deadline=task.deadline - time.time() + time.monotonic())
        store = Store(task.store)
        for record, artifact in job.supplies:
            store.put(record, artifact)
        try:
            ending = compute_one(task, watch, need_artifact=job.for_artifact)
        except ArtifactWanted as wanted:
            return Answer(wanted=wanted.config)
        except InputError as error:
            return Answer(refused=f"{error} (on the worker {worker.address})")
        if job.shared or ending.status in ("busy", "suspended"):
            return Answer(ending)
        try:
            return Answer(ending, _kept(store, config))
        except Damaged as error:
            return Answer(Ending(key, "error", ending.seconds, str(error)))
