"""Notebooks: parameters are checked before a kernel starts, outputs are reproducible, failures say where,
kernels end."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lib import notebooks
from lib.core import InputError
from lib.notebooks import Job, NotebookError, check, execute, execute_many, parameters

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = """profile: str = "published"  # published reads the records; the others compute
n: int = 3  # how many
rate: float = 1  # how fast
loud: bool = False"""


def code(identifier: str, source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": identifier,
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source.splitlines(keepends=True),
        "outputs": [],
        "execution_count": None,
    }


def write(path: Path, *cells: dict[str, Any], first: str = PARAMETERS) -> Path:
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# A title"]}
    content = [title, *([code("parameters", first, "parameters")] if first else []), *cells]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    document = {"cells": content, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def outputs(path: Path) -> dict[str, Any]:
    """Each cell's text outputs, by cell id."""
    return {
        cell["id"]: "".join(
            "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            for output in cell["outputs"]
        )
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    }


def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process ends in time (a zombie has ended)."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a kernel would have been started")

    monkeypatch.setattr(notebooks, "_execute", never)


# --- parameters ---------------------------------------------------------------------------------------------


def test_parameters_are_read_without_running_anything(tmp_path: Path) -> None:
    profile, n, rate, loud = parameters(write(tmp_path / "x.ipynb"))
    assert (profile.name, profile.type, profile.default) == ("profile", str, "published")
    assert profile.help == "published reads the records; the others compute"
    assert profile.choices == ("published", "smoke", "laptop", "full")
    assert (n.type, n.default, n.help, n.choices) == (int, 3, "how many", ())
    assert (rate.type, rate.default, type(rate.default)) == (float, 1.0, float)
    assert (loud.type, loud.default, loud.help) == (bool, False, "")
    assert parameters(write(tmp_path / "none.ipynb", first="")) == ()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("n = 3", "has 'n = 3'; only lines such as"),
        ("import os", "has 'import os'; only lines such as"),
        ("n: int", "n wants a plain default of type int"),
        ("n: int = '3'", "n wants a plain default of type int"),
        ("n: int = True", "n wants a plain default of type int"),
        ("n: int = len('abc')", "n wants a plain default of type int"),
        ("n: list = [3]", "n has the type list; one of str, int, float, bool"),
        ("p: Literal['a'] = 'a'", r"p has the type Literal\['a'\]"),
        ("n: int = ", "its parameters cell is no Python"),
    ],
)
def test_a_parameters_cell_that_is_not_plain_is_refused(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"x\.ipynb.*{words}"):
        parameters(write(tmp_path / "x.ipynb", first=source))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a notebook: no JSON at line 1"),
        ("[" * 100_000, "not a notebook: nested too deeply"),
        ("[]", "not a notebook of nbformat 4"),
        (
            '{"cells": 3, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
            "4: cells must be array",
        ),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "x.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"x\.ipynb.*{words}"):
        parameters(path)


def test_two_parameters_cells_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 cells have the tag"):
        parameters(write(tmp_path / "x.ipynb", code("again", "m: int = 1", "parameters")))


def test_texts_from_the_command_line_become_what_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ipynb")
    given = {"profile": "smoke", "n": "4", "rate": "0.5", "loud": "True"}
    assert check(path, given) == {"profile": "smoke", "n": 4, "rate": 0.5, "loud": True}
    assert check(path, {"n": 4, "rate": 2}) == {"n": 4, "rate": 2.0}
    assert check(path, {}) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"profil": "smoke"}, "no parameter 'profil'; did you mean profile"),
        ({"zzz": 1}, "no parameter 'zzz'; there are: profile, n, rate, loud"),
        ({"n": "x"}, "n is 'x'; a whole number is wanted"),
        ({"n": "3.0"}, "n is '3.0'; a whole number is wanted"),
        ({"n": 3.0}, "n is 3.0; a whole number is wanted"),
        ({"n": True}, "n is True; a whole number is wanted"),
        ({"rate": True}, "rate is True; a number is wanted"),
        ({"rate": "nan"}, "rate is 'nan'; a number is wanted"),
        ({"loud": 1}, "loud is 1; true or false is wanted"),
        ({"loud": "yes"}, "loud is 'yes'; true or false is wanted"),
        ({"profile": 3}, "profile is 3; a text is wanted"),
        ({"profile": "lptop"}, "profile is 'lptop'; one of published, smoke, laptop, full is wanted"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_kernel_starts(
    tmp_path: Path, no_kernels: None, given: dict[str, Any], words: str
) -> None:
    good, path = write(tmp_path / "good.ipynb"), write(tmp_path / "x.ipynb")
    with pytest.raises(InputError, match=rf"x\.ipynb: {words}"):
        execute(path, tmp_path / "out.ipynb", given)
    # Also where it is not the first notebook that is wrong, and before anything is asked of the iterator.
    with pytest.raises(InputError, match=rf"x\.ipynb: {words}"):
        execute_many([Job(good, tmp_path / "a.ipynb"), Job(path, tmp_path / "b.ipynb", given)])


def test_batches_that_cannot_be_are_refused(tmp_path: Path, no_kernels: None) -> None:
    job = Job(write(tmp_path / "x.ipynb"), tmp_path / "out.ipynb")
    with pytest.raises(InputError, match="two notebooks cannot be written to one file"):
        execute_many([job, job])
    with pytest.raises(InputError, match="0 notebooks at once"):
        execute_many([job], at_once=0)
    assert list(execute_many([])) == []


def test_without_papermill_the_extra_is_named(
    tmp_path: Path, no_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(InputError, match=r"needs papermill: pip install -e '\.\[site\]'"):
        execute(write(tmp_path / "x.ipynb"), tmp_path / "out.ipynb")


# --- execution ----------------------------------------------------------------------------------------------

papermill = pytest.importorskip("papermill")

EVERYTHING = (
    code("values", "import os\nimport sys\n\n[profile, n, rate, loud]"),
    code(
        "where",
        "e = os.environ\nprint(sys.executable, os.getcwd(), e['OMP_NUM_THREADS'], e['POSTS_THREADS'])",
    ),
    code("package", "import lib.core\n\nlib.core.__file__"),
    code("hashes", "{'a', 'b', 'c', 'd', 'e'}"),
    code("stream", f"import warnings\nprint({str(ROOT)!r} + '/lib/core.py')\nwarnings.warn('careful')"),
)


def test_a_notebook_is_executed_quietly_and_reproducibly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    def none(self: Any, name: str) -> None:
        raise AssertionError(f"no kernelspec {name} is installed here")

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    before = Path.cwd()
    path = write(tmp_path / "a {post}" / "x.ipynb", *EVERYTHING)
    source = path.read_bytes()
    given = {"profile": "smoke", "n": "4"}
    jobs = [
        Job(path, tmp_path / "one" / "out.ipynb", given),
        Job(path, tmp_path / "two" / "out.ipynb", given),
    ]
    done = list(execute_many(jobs, at_once=2, threads=1))
    assert [item.error for item in done] == [None, None]
    first, second = (job.out.read_bytes() for job in jobs)
    assert first == second
    assert path.read_bytes() == source and Path.cwd() == before
    assert capfd.readouterr() == ("", "")

    found = outputs(jobs[0].out)
    assert found["values"] == "['smoke', 4, 1, False]"
    python = sys.executable.removeprefix(f"{ROOT}/")  # an environment in the project is named from there
    assert found["where"] == f"{python} {path.parent} 1 1\n"
    assert found["package"] == repr(str(ROOT / "lib" / "core.py"))
    assert "lib/core.py\n" in found["stream"] and str(ROOT) not in found["stream"]
    assert "<cell>:3: UserWarning: careful" in found["stream"] and "ipykernel_" not in first.decode()

    document = json.loads(first)
    assert document["metadata"]["papermill"] == {"parameters": {"profile": "smoke", "n": 4}}
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    assert [cell["id"] for cell in document["cells"]] == [
        "title",
        "parameters",
        "injected-parameters",
        *(cell["id"] for cell in EVERYTHING),
    ]
    assert all(set(cell["metadata"]) <= {"tags"} for cell in document["cells"])
    assert [cell["execution_count"] for cell in document["cells"] if cell["cell_type"] == "code"] == list(
        range(1, 8)
    )

    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.reads(first.decode(), as_version=4))


def test_failures_say_where_and_keep_what_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = {
        "raises": write(
            tmp_path / "raises.ipynb", code("fine", "40 + 2"), code("bad", "raise ValueError('a\\nb')")
        ),
        "slow": write(tmp_path / "slow.ipynb", code("sleep", "import time\ntime.sleep(60)")),
        "dies": write(tmp_path / "dies.ipynb", code("exit", "import os\nos._exit(3)")),
        "fine": write(tmp_path / "fine.ipynb", code("fine", "40 + 2")),
    }
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "raises.ipynb").write_text("the last good one")
    (folder / "fine.failed.ipynb").write_text("an old failure")
    jobs = [Job(path, folder / f"{name}.ipynb", timeout=2) for name, path in paths.items()]
    done = {item.job.path.stem: item.error for item in execute_many(jobs, at_once=2)}
    assert {name: str(error).removeprefix(f"{tmp_path}/") for name, error in done.items() if error} == {
        "raises": "raises.ipynb, cell 4 (id bad): ValueError: a b",
        "slow": "slow.ipynb, cell 3 (id sleep): Timeout: it took longer than 2 s",
        "dies": "dies.ipynb, cell 3 (id exit): the kernel died: out of memory, or a crash",
    }
    assert done["fine"] is None
    error = done["raises"]
    assert isinstance(error, NotebookError)
    assert (error.cell, error.cell_id, error.ename, error.evalue) == (4, "bad", "ValueError", "a\nb")
    # The last good output stays; what was executed is beside it; a success clears an old failure.
    assert (folder / "raises.ipynb").read_text() == "the last good one"
    assert outputs(folder / "raises.failed.ipynb")["fine"] == "42"
    assert sorted(path.name for path in folder.iterdir()) == [
        "dies.failed.ipynb",
        "fine.ipynb",
        "raises.failed.ipynb",
        "raises.ipynb",
        "slow.failed.ipynb",
    ]
    assert capfd.readouterr() == ("", "")
    assert not [item for item in caplog.records if item.name == "asyncio" and item.levelno >= logging.WARNING]


SLEEPER = 'import os, pathlib, time\npathlib.Path("pid").write_text(str(os.getpid()))\ntime.sleep(120)'


def pid_in(folder: Path, within: float = 30.0) -> int:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if (folder / "pid").exists() and (text := (folder / "pid").read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the kernel did not start")


def test_leaving_early_ends_the_kernels(tmp_path: Path) -> None:
    slow = write(tmp_path / "slow" / "x.ipynb", code("sleep", SLEEPER))
    until_it_runs = (
        'import pathlib, time\nwhile not pathlib.Path("../slow/pid").exists():\n    time.sleep(0.05)'
    )
    quick = write(tmp_path / "quick" / "x.ipynb", code("wait", until_it_runs))
    several = execute_many([Job(slow, tmp_path / "a.ipynb"), Job(quick, tmp_path / "b.ipynb")], at_once=2)
    assert next(several).job.path == quick
    begun = time.monotonic()
    several.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 20
    assert gone(pid_in(tmp_path / "slow"))
    assert not (tmp_path / "a.ipynb").exists()


def test_ctrl_c_leaves_no_kernel_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ipynb", code("sleep", SLEEPER))
    script = f"from lib.notebooks import Path, execute\nexecute(Path({str(path)!r}), Path('out.ipynb'))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    kernel = pid_in(tmp_path)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)
    assert running.returncode != 0 and b"KeyboardInterrupt" in said
    assert gone(kernel)
    assert not (tmp_path / "out.ipynb").exists()
