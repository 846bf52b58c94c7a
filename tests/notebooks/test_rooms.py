"""Reading works without torch, computing without Jupyter: run as on a machine that does not have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.notebooks.conftest import COMPUTE, FIRST, JUPYTER, NOTEBOOKS, Shell, papermill, shell

IMPORT_ALL = """
import importlib, pathlib, sys
rooms, unwanted = sys.argv[1].split(), sys.argv[2].split()
names = []
for room in rooms:
    path = pathlib.Path("lib", room)
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    names += [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in sorted(files)]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted(set(unwanted) & set(sys.modules)))
"""
READING = "core project stats plots claims reading quantities notebooks site cli"
COMPUTING = "core project data methods nets training experiments runs cli"


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return shell(tmp_path_factory.mktemp("reading") / "store", *COMPUTE)


@pytest.fixture(scope="module")
def without_jupyter(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return shell(tmp_path_factory.mktemp("computing") / "store", *JUPYTER)


@pytest.mark.parametrize("names", [COMPUTE, JUPYTER])
def test_what_is_absent_is_absent(tmp_path: Path, names: tuple[str, ...]) -> None:
    ask = f"import importlib.util as u; print([n for n in {names!r} if u.find_spec(n)])"
    assert shell(tmp_path / "store", *names).passes("-c", ask).strip() == "[]"


# --- reading -------------------------------------------------------------------------------------------------


def test_the_reading_rooms_import_without_torch(without_torch: Shell) -> None:
    assert int(without_torch.passes("-c", IMPORT_ALL, READING, "torch").split()[0]) > 20


def test_the_reading_rooms_leave_torch_alone_where_it_is(plain: Shell) -> None:
    assert plain.passes("-c", IMPORT_ALL, READING, " ".join(COMPUTE)).split()[1:] == []


@FIRST  # make site draws all of them in an environment without torch
def test_published_records_are_drawn_without_torch(
    notebook: Path, without_torch: Shell, tmp_path: Path
) -> None:
    pytest.importorskip("papermill")
    out = tmp_path / "out.ipynb"
    papermill(without_torch, notebook, out, "published", cwd=tmp_path)
    outputs = [o for cell in json.loads(out.read_text())["cells"] for o in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@FIRST
def test_computing_without_torch_says_what_to_install(
    notebook: Path, without_torch: Shell, tmp_path: Path
) -> None:
    slug = notebook.parent.name
    for command in (
        ["run", slug, "--profile", "smoke"],
        ["notebook", slug, "--profile", "smoke", "-o", tmp_path],
    ):
        done = without_torch.python("-m", "lib", *command)
        assert done.returncode in (1, 2)
        assert "pip install -e '.[compute]'" in done.stderr and "Traceback" not in done.stderr


def test_listing_needs_no_torch(without_torch: Shell) -> None:
    listed = without_torch.passes("-m", "lib", "list")
    assert all(notebook.parent.name in listed for notebook in NOTEBOOKS)


# --- computing -----------------------------------------------------------------------------------------------


def test_the_computing_rooms_import_without_jupyter(without_jupyter: Shell) -> None:
    pytest.importorskip("torch")
    assert int(without_jupyter.passes("-c", IMPORT_ALL, COMPUTING, "IPython").split()[0]) > 20


def test_the_computing_rooms_leave_jupyter_alone_where_it_is(plain: Shell) -> None:
    pytest.importorskip("torch")
    found = plain.passes("-c", IMPORT_ALL, COMPUTING, " ".join(JUPYTER)).split()[1:]
    assert set(found) <= {"yaml"}  # numba reads settings of its own with it, where it is there


def test_a_sweep_runs_without_jupyter(without_jupyter: Shell) -> None:
    pytest.importorskip("torch")
    slug = sorted(path.stem for path in (ROOT / "lib" / "experiments").glob("[a-z]*.py"))[0].replace("_", "-")
    printed = without_jupyter.passes("-m", "lib", "run", slug, "--profile", "smoke", "--jobs", "1", "--fresh")
    assert f"{slug} smoke: " in printed and " 0 computed" not in printed
