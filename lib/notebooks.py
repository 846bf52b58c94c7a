"""Notebooks through papermill: parameters checked before a kernel starts, the same outputs every time.

    parameters(path)                                # what a notebook can be given, with types and meaning
    execute(path, out, {"profile": "smoke"})        # one notebook
    for done in execute_many(jobs, at_once=2): ...  # several, each in a kernel of its own

Papermill by itself runs a misspelt parameter with its default, and records the misspelt value; `check`
refuses it, and a value of another type, before anything starts. The kernel is the Python that runs this,
whether or not a kernelspec is installed; its threads are capped, so that kernels side by side don't fight for
cores; and it ends with the notebook, also on Ctrl-C. Times, paths and process numbers are taken out of what
is written, so that equal outputs give equal bytes.

A parameters cell has the tag `parameters` and annotated assignments, a comment on each line saying what it is
for::

    profile: str = "published"  # published reads the records; smoke, laptop, full compute what is missing
"""

from __future__ import annotations

import ast
import asyncio
import difflib
import io
import json
import logging
import math
import os
import re
import signal
import sys
import tempfile
import threading
import time
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from lib.core import InputError, PostsError
from lib.reading import CHOICES
from lib.runs.files import write_whole

Value = str | int | float | bool
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


class NotebookError(PostsError):
    """A notebook that raised, took too long, or whose kernel died.

    path: the notebook. cell: number of the cell in it, from 1 (0 where no cell is to blame). cell_id: its id.
    ename, evalue: the exception.
    """

    def __init__(self, path: Path, cell: int, cell_id: str, ename: str, evalue: str) -> None:
        self.path, self.cell, self.cell_id, self.ename, self.evalue = path, cell, cell_id, ename, evalue
        where = f"{path}, cell {cell} (id {cell_id})" if cell else str(path)
        super().__init__(f"{where}: {ename}: {_one_line(evalue)}".removesuffix(": "))


# --- parameters ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """What a notebook can be given. choices: all that it can be, where that is a short list."""

    name: str
    type: type
    default: Value
    help: str = ""
    choices: tuple[str, ...] = ()


def parameters(path: Path) -> tuple[Parameter, ...]:
    """The parameters of a notebook, read from the cell tagged `parameters` without running it.

    Raises InputError, naming the file, for a file that is no notebook or a parameters cell that is not plain.
    """
    tagged = [cell for cell in _cells(path) if "parameters" in cell.get("metadata", {}).get("tags", ())]
    if not tagged:
        return ()
    if len(tagged) > 1:
        raise InputError(f"{path}: {len(tagged)} cells have the tag 'parameters'; at most one is wanted")
    source = "".join(tagged[0]["source"])
    wanted = "only lines such as 'name: str = \"value\"  # meaning' belong there"
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise InputError(f"{path}: its parameters cell is no Python ({error.msg})") from error
    comments = _comments(source)
    found = []
    for statement in statements:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            raise InputError(f"{path}: its parameters cell has {ast.unparse(statement)!r}; {wanted}")
        name, kind = statement.target.id, ast.unparse(statement.annotation)
        if kind not in TYPES:
            raise InputError(
                f"{path}: parameter {name} has the type {kind}; one of {', '.join(TYPES)} is wanted"
            )
        try:
            default: Any = ast.literal_eval(statement.value) if statement.value is not None else None
        except ValueError:
            default = None
        if type(default) is int and kind == "float":
            default = float(default)
        if type(default) is not TYPES[kind]:
            raise InputError(f"{path}: parameter {name} wants a plain default of type {kind}")
        choices = tuple(CHOICES) if name == "profile" else ()
        found.append(
            Parameter(
                name, TYPES[kind], cast(Value, default), comments.get(statement.end_lineno or 0, ""), choices
            )
        )
    return tuple(found)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def check(path: Path, given: Mapping[str, Any]) -> dict[str, Value]:
    """`given` in the parameters' types; a text from the command line becomes a number if need be.

    Raises InputError for a name that the notebook does not have and for a value that does not fit.
    """
    known = {parameter.name: parameter for parameter in parameters(path)}
    out: dict[str, Value] = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise InputError(f"{path}: no parameter {name!r}; {hint}")
        out[name] = _typed(value, known[name], path)
    return out


def _typed(value: Any, parameter: Parameter, path: Path) -> Value:
    kind = parameter.type
    typed: Any = value
    if isinstance(value, str) and kind is not str:
        typed = _from_text(value.strip(), kind)
    elif kind is float and type(value) is int:
        typed = float(value)
    if type(typed) is not kind or (isinstance(typed, float) and not math.isfinite(typed)):
        raise InputError(f"{path}: {parameter.name} is {value!r}; {_WANTED[kind]} is wanted")
    if parameter.choices and typed not in parameter.choices:
        raise InputError(
            f"{path}: {parameter.name} is {value!r}; one of {', '.join(parameter.choices)} is wanted"
        )
    return cast(Value, typed)


_WANTED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _from_text(text: str, kind: type) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return None


def parsed(text: str, name: str) -> dict[str, Any]:
    """A notebook's JSON, held against the schema of nbformat 4. Raises InputError, which begins with `name`."""
    from nbformat.validator import get_validator

    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}: not a notebook: no JSON at line {error.lineno}; restore it from git"
        ) from error
    except RecursionError as error:
        raise InputError(f"{name}: not a notebook: nested too deeply") from error
    if not isinstance(document, dict) or document.get("nbformat") != 4:
        raise InputError(f"{name}: not a notebook of nbformat 4; open it in Jupyter and save it again")
    minor = document.get("nbformat_minor")
    schema = get_validator(4, minor if minor in (0, 1, 2, 3, 4, 5) else 5)
    for wrong in schema.iter_errors(document):
        raise InputError(f"{name}: not a notebook of nbformat 4: {wrong.message.removeprefix('data.'):.200}")
    return document


def _cells(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a notebook: no UTF-8 text") from error
    cells: list[dict[str, Any]] = parsed(text, str(path))["cells"]
    return cells


# --- execution ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A notebook to execute. timeout: seconds for each cell. cwd: by default the notebook's folder."""

    path: Path
    out: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    cwd: Path | None = None


@dataclass(frozen=True)
class Done:
    """A job that ended, in `seconds`; `error` is None where its notebook ran through."""

    job: Job
    seconds: float
    error: PostsError | None = None


def execute(
    path: Path,
    out: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
    threads: int | None = None,
    cwd: Path | None = None,
) -> Path:
    """Execute a notebook into `out`, written whole at the end; returns `out`.

    timeout: seconds for each cell. threads: for the kernel's libraries (default: all cores). cwd: the
    kernel's folder (default: the notebook's). Raises InputError before a kernel starts, NotebookError where
    the notebook fails: then what was executed is beside `out` as `….failed.ipynb`, and an earlier `out` is
    untouched.
    """
    (done,) = execute_many([Job(path, out, parameters or {}, timeout, cwd)], at_once=1, threads=threads)
    if done.error is not None:
        raise done.error
    return out


def execute_many(
    jobs: Iterable[Job], *, at_once: int | None = None, threads: int | None = None
) -> Iterator[Done]:
    """Execute notebooks, `at_once` at a time (default: one a core), each in a kernel of its own; as they end.

    threads: for each kernel's libraries (default: the cores divided among the kernels). All parameters of all
    jobs are checked before the first kernel starts (InputError); what fails later is in `Done.error`. Leaving
    the iteration early, by Ctrl-C too, ends the kernels.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    checked = [(job, check(job.path, job.parameters)) for job in jobs]
    outs = [job.out.resolve() for job, _ in checked]
    if len(set(outs)) != len(outs):
        raise InputError("two notebooks cannot be written to one file")
    if at_once is not None and at_once < 1:
        raise InputError(f"{at_once} notebooks at once is not possible; 1 or more are")
    if checked:
        _needs_papermill()
    workers = max(1, min(at_once or cores, len(checked)))
    return _run(checked, workers, threads or max(1, cores // workers))


def _needs_papermill() -> None:
    try:
        import ipykernel  # noqa: F401
        import papermill  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"executing notebooks needs {error.name}: pip install -e '.[site]'") from error


def _run(checked: list[tuple[Job, dict[str, Value]]], workers: int, threads: int) -> Iterator[Done]:
    kernels = _Kernels(threads)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="notebook")
    waiting = {pool.submit(_execute, job, values, kernels) for job, values in checked}
    try:
        while waiting:
            # A bounded wait, so that Ctrl-C is noticed everywhere.
            ended, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()
        kernels.end()
        pool.shutdown(wait=True)


class _Kernels:
    """The kernels that are running, so that they can be ended together."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._ended = False

    def environment(self) -> dict[str, str]:
        """What a kernel finds in its environment besides ours."""
        pools = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM")
        # The same `lib` as here, wherever it was imported from.
        package = str(Path(__file__).resolve().parent.parent)
        # A fixed hash seed: what iterates over a set is displayed in the same order every time.
        fixed = {
            "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
            "PYTHONHASHSEED": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "POSTS_THREADS": str(self.threads),
        }
        return fixed | {
            f"{pool}_NUM_THREADS".replace("MAXIMUM_NUM", "MAXIMUM"): str(self.threads) for pool in pools
        }

    def add(self, pid: int) -> None:
        with self._lock:
            self._groups.add(pid)
        if self._ended:
            self.kill(pid)

    def kill(self, pid: int) -> None:
        """End a kernel and whatever it started (it leads a process group of its own)."""
        with self._lock:
            known = pid in self._groups
            self._groups.discard(pid)
        if known:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def end(self) -> None:
        self._ended = True
        for pid in list(self._groups):
            self.kill(pid)


def _manager(kernels: _Kernels, log: Any, started: list[int]) -> type:
    """A kernel manager class that starts this Python, capped; the kernel's own messages go to `log`."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
        env=kernels.environment(),
    )

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
            await super()._async_launch_kernel(kernel_cmd, **(kw | {"stdout": log, "stderr": log}))
            pid = getattr(self.provisioner, "pid", None)
            if pid is not None:
                started.append(pid)
                kernels.add(pid)

    return Manager


def _execute(job: Job, values: dict[str, Value], kernels: _Kernels) -> Done:
    """One notebook, in a thread of its own. What is wrong with the notebook is returned, not raised."""
    begun = time.monotonic()
    started: list[int] = []
    failed = job.out.with_name(f"{job.out.stem}.failed.ipynb")
    error: PostsError | None = None
    with tempfile.TemporaryDirectory(prefix="posts-") as folder:
        work = Path(folder) / "executed.ipynb"
        with open(Path(folder) / "kernel.log", "w+b") as log:
            try:
                _papermill(job, values, work, _manager(kernels, log, started))
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is this notebook's failure
                log.seek(0)
                error = _failure(raised, job, work, log.read().decode(errors="replace"))
            finally:
                for pid in started:
                    kernels.kill(pid)
                _close_loop()
        try:
            if error is None:
                write_whole(job.out, scrubbed(work, job.path, values))
                failed.unlink(missing_ok=True)
            elif work.is_file():
                write_whole(failed, scrubbed(work, job.path, values))
        except InputError as unwritable:
            error = error or unwritable
    return Done(job, time.monotonic() - begun, error)


@cache
def _engine() -> str:
    """The name of papermill's engine that is used here, registered the first time."""
    from papermill.engines import NBClientEngine, papermill_engines

    class SavedOnce(NBClientEngine):
        """Writes the notebook when its execution has ended, whichever way, instead of twice a cell: figures are large."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            path, nb_man.output_path = nb_man.output_path, None
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **options)
            finally:
                nb_man.output_path = path

    papermill_engines.register("saved once", SavedOnce)
    return "saved once"


def _papermill(job: Job, values: dict[str, Value], work: Path, manager: type) -> None:
    import papermill

    # What goes wrong is raised, and said once by whoever called.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    papermill.execute_notebook(
        # Papermill fills {…} in paths with the parameters; here a brace is a brace.
        str(job.path.resolve()).replace("{", "{{").replace("}", "}}"),
        str(work).replace("{", "{{").replace("}", "}}"),
        parameters=dict(values) or None,
        engine_name=_engine(),
        kernel_name="python3",
        language="python",
        progress_bar=False,
        log_output=False,
        execution_timeout=None if job.timeout is None else max(1, round(job.timeout)),
        kernel_manager_class=manager,
        # Not papermill's `cwd`, which changes this process's folder under the feet of its other threads.
        resources={"metadata": {"path": str((job.cwd or job.path.parent).resolve())}},
        record_timing=False,
        coalesce_streams=True,
        shutdown_kernel="immediate",
    )


def _close_loop() -> None:
    """Close the event loop that was made for this thread, with whatever a dead kernel left waiting in it."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def _failure(raised: Exception, job: Job, work: Path, log: str) -> PostsError:
    """What to say of a notebook that did not run through."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(raised, PostsError):
        return raised
    cell = _last_begun(work, job.path)
    if isinstance(raised, PapermillExecutionError):
        return NotebookError(job.path, *cell, raised.ename, raised.evalue)
    if isinstance(raised, CellTimeoutError):
        return NotebookError(job.path, *cell, "Timeout", f"it took longer than {job.timeout:g} s")
    if isinstance(raised, DeadKernelError):
        said = [line for line in log.splitlines() if line.strip() and "[IPKernelApp]" not in line]
        return NotebookError(
            job.path, *cell, "the kernel died", said[-1] if said else "out of memory, or a crash"
        )
    return NotebookError(job.path, *cell, type(raised).__name__, str(raised))


def _last_begun(work: Path, path: Path) -> tuple[int, str]:
    """Number and id, in the source notebook, of the last cell that was begun; (0, "") where none was."""
    if not work.is_file():
        return 0, ""
    order = {cell.get("id"): number for number, cell in enumerate(_cells(path), 1)}
    begun = [cell for cell in _cells(work) if cell["metadata"].get("papermill", {}).get("start_time")]
    last = begun[-1].get("id") if begun else None
    return order.get(last, 0), str(last)


# --- what is written ----------------------------------------------------------------------------------------

_CELL_FILE = re.compile(r"(?:/[^\s:\"']*)?/ipykernel_\d+/\d+\.py")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def scrubbed(executed: Path, source: Path, values: Mapping[str, Value]) -> bytes:
    """An executed notebook as bytes that depend on its source, its parameters and its outputs only.

    Kept: outputs, execution counts, the source's own metadata, the parameters. Taken out: papermill's times,
    paths and run numbers, the random id of the injected cell, process numbers and the project's path in
    streams and tracebacks.
    """
    document = json.loads(executed.read_text(encoding="utf-8"))
    original = json.loads(source.read_text(encoding="utf-8"))
    metadata = {cell.get("id"): cell.get("metadata", {}) for cell in original["cells"]}
    kept = []
    for cell in document["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "papermill-error-cell-tag" in tags:
            continue
        if "injected-parameters" in tags:
            cell["id"], cell["metadata"] = "injected-parameters", {"tags": tags}
        else:
            cell["metadata"] = metadata.get(cell.get("id"), {})
        for output in cell.get("outputs", ()):
            _scrub(output)
        kept.append(cell)
    document["cells"] = kept
    document["metadata"] = original.get("metadata", {}) | {"papermill": {"parameters": dict(values)}}
    return (json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _scrub(output: dict[str, Any]) -> None:
    kind = output.get("output_type")
    for name in {"stream": ("text",), "error": ("evalue", "traceback")}.get(str(kind), ()):
        value = output[name]
        output[name] = [_clean(line) for line in value] if isinstance(value, list) else _clean(value)


def _clean(text: str) -> str:
    base = str(Path(__file__).resolve().parent.parent)
    return _CELL_FILE.sub("<cell>", text).replace(base + os.sep, "")


def _one_line(text: str, most: int = 400) -> str:
    line = " ".join(_ANSI.sub("", text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
