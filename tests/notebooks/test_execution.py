"""Plain tools run every notebook: papermill, nbval, from the root and from the post's folder; the same numbers twice."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from lib.notebooks import parameters
from tests.conftest import ROOT
from tests.notebooks.conftest import FIRST, FIRST_AT_ONCE, NOTEBOOKS, Shell, papermill, shell

pytest.importorskip("papermill")

# When a run was made and by which commit may differ; every number has to agree.
SANITIZE = r"""
[commit]
regex: · commits? .*
replace: · COMMIT

[date]
regex: \d{4}-\d\d-\d\d
replace: DATE
"""


def nbval(shell: Shell, notebook: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Strict nbval of an executed notebook, from its folder."""
    pytest.importorskip("nbval")
    rules = tmp_path / "sanitize.cfg"
    rules.write_text(SANITIZE, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--nbval", f"--nbval-sanitize-with={rules}"]
    return shell.python("-m", "pytest", *options, notebook.name, cwd=notebook.parent)


def shown(path: Path) -> str:
    """Everything that an executed notebook displays as text."""
    cells = json.loads(path.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return json.dumps([output.get("data", output) for output in outputs], ensure_ascii=False)


def test_there_is_a_post() -> None:
    assert NOTEBOOKS


def test_smoke_draws_every_figure_and_says_that_it_is_smoke(notebook: Path, smoke: Path) -> None:
    cells = json.loads(smoke.read_text())["cells"]
    for cell in cells:
        if re.search(r"^#\| label: fig-", "".join(cell["source"]), re.M):
            kinds = [kind for output in cell["outputs"] for kind in output.get("data", {})]
            assert {"image/png", "image/svg+xml", "text/html"} & set(kinds), cell["id"]
    assert "smoke run: it shows that the code runs" in shown(smoke)
    assert "{.claims" in shown(smoke)
    assert '"output_type": "error"' not in smoke.read_text()
    assert "stderr" not in shown(smoke), "a notebook displays what it says, not warnings"


@FIRST
def test_smoke_from_the_root(notebook: Path, smoke: Path, plain: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    papermill(plain, notebook, out, "smoke")
    assert "smoke run: it shows that the code runs" in shown(out)


@FIRST_AT_ONCE
def test_smoke_from_the_folder_of_the_post(notebook: Path, smoke: Path, plain: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    papermill(plain, notebook, out, "smoke", cwd=notebook.parent)
    assert "smoke run: it shows that the code runs" in shown(out)


@FIRST  # nbval runs all of them from the root
def test_published_records_are_drawn_from_the_folder_of_the_post(notebook: Path, plain: Shell) -> None:
    pytest.importorskip("nbval")
    plain.passes(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", notebook.name, cwd=notebook.parent
    )


@FIRST_AT_ONCE
def test_a_second_computation_shows_the_same_numbers(
    notebook: Path, smoke: Path, unpublished: Path, tmp_path: Path
) -> None:
    """Every text output of the smoke notebook, computed again into an empty store."""
    done = nbval(shell(tmp_path / "another-store", root=unpublished), smoke, tmp_path)
    assert done.returncode == 0, done.stdout
    computed = list((tmp_path / "another-store").rglob("*.json"))
    assert computed, "nothing was computed again"


@pytest.mark.long
@FIRST
def test_strict_nbval_sees_another_number(
    notebook: Path, smoke: Path, unpublished: Path, store: Path, tmp_path: Path
) -> None:
    """So that the test above can fail."""
    text = smoke.read_text(encoding="utf-8")
    changed = re.sub(r"(smoke run: it shows .*?)\d+ runs", r"\g<1>1234 runs", text, count=1)
    assert changed != text
    other = tmp_path / "changed.ipynb"
    other.write_text(changed, encoding="utf-8")
    done = nbval(shell(store, root=unpublished), other, tmp_path)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout


def test_help_lists_each_parameter_with_type_and_meaning(notebook: Path, plain: Shell) -> None:
    known = parameters(notebook)
    assert known[0].name == "profile"
    printed = plain.passes("-m", "papermill", "--help-notebook", notebook.relative_to(ROOT))
    for parameter in known:
        assert re.search(rf"^\s*{parameter.name}: {parameter.type.__name__} \(default ", printed, re.M), (
            printed
        )
        assert parameter.help
        assert " ".join(parameter.help.split()) in " ".join(printed.split())
