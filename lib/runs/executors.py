"""What computes tasks: this process, or several. A cluster fits the same interface.

An executor's `run(tasks, tell)` computes every task and calls `tell(event)` for each `Started`, `Moved` and `Ending`, in
the order in which they happen. An InputError ends it; a worker that dies costs the run it was computing, nothing else.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol

from lib.core import InputError, Outcome
from lib.runs.context import Ending, Task, compute_one


@dataclass(frozen=True)
class Started:
    """A task has begun."""

    key: str


@dataclass(frozen=True)
class Moved:
    """A task tells how far it is: `done` of `total`, in units of its own."""

    key: str
    done: float
    total: float
    note: str


Event = Started | Moved | Ending
Tell = Callable[[Event], None]


class Executor(Protocol):
    """Computes tasks, in any order."""

    def run(self, tasks: Sequence[Task], tell: Tell) -> None:
        """Compute all tasks and tell what happens."""


def _compute(task: Task, tell: Tell) -> Ending:
    key = task.config.key
    tell(Started(key))
    return compute_one(task, lambda done, total, note: tell(Moved(key, done, total, note)))


class Serial:
    """In this process, one after the other."""

    def run(self, tasks: Sequence[Task], tell: Tell) -> None:
        for task in tasks:
            tell(_compute(task, tell))


class Processes:
    """In `jobs` worker processes, each of which computes one task after another."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise InputError(f"jobs is {jobs}; at least 1 is wanted")
        self.jobs = jobs

    def run(self, tasks: Sequence[Task], tell: Tell) -> None:
        waiting = list(reversed(tasks))
        workers = [_Worker() for _ in range(min(self.jobs, len(tasks)))]
        try:
            for worker in workers:
                worker.give(waiting.pop())
            while busy := [worker for worker in workers if worker.task is not None]:
                for ready in connection.wait([worker.pipe for worker in busy]):
                    worker = next(w for w in busy if w.pipe is ready)
                    message = worker.receive()
                    if isinstance(message, InputError):
                        raise message
                    tell(message)
                    if isinstance(message, Ending):
                        worker.task = None
                        if waiting:
                            if not worker.process.is_alive():
                                worker.restart()
                            worker.give(waiting.pop())
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    """One worker process and the pipe to it."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.restart()

    def restart(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task = task
        self.pipe.send(task)

    def receive(self) -> Any:
        """The next message; the death of the process is the ending of its task."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode or 0
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            status: Outcome = "out of memory" if code == -signal.SIGKILL else "error"
            assert self.task is not None
            return Ending(self.task.config.key, status, error=f"its worker ended with {cause}")

    def stop(self) -> None:
        self.pipe.close()
        if self.task is not None and self.process.is_alive():
            self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


def _work(pipe: connection.Connection) -> None:
    """The life of a worker: it ends with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_compute(task, pipe.send))
        except InputError as error:
            pipe.send(InputError(str(error)))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
