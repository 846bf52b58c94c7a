"""A new post runs, is tested and is listed from the first minute; where it cannot be made, nothing stays."""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

import pytest

from lib import scaffold
from lib.core import InputError, PostsError
from tests.conftest import ProjectCopy

pytest.importorskip("torch")

SLUG = "eleventh-post"
WRITTEN = (
    "lib/experiments/eleventh_post.py",
    "lib/quantities/eleventh_post.py",
    "posts/eleventh-post/index.ipynb",
    "posts/eleventh-post/claims.yml",
    "tests/test_experiments_eleventh_post.py",
)


def alone(project: ProjectCopy) -> None:
    """Leave the copy with the new post only: what is tested here is not the others."""
    for path in (project.root / "posts").glob("*/index.ipynb"):
        if path.parent.name != SLUG:
            path.unlink()


def cells(root: Path) -> list[dict]:
    return json.loads((root / "posts" / SLUG / "index.ipynb").read_text())["cells"]


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_it_is_there_runs_and_is_listed(project_copy: ProjectCopy) -> None:
    done = project_copy.run("new", SLUG, "--title", 'The "Eleventh": a Post', check=True)
    assert set(WRITTEN) <= set(done.stdout.splitlines())
    assert all((project_copy.root / line).is_file() for line in done.stdout.splitlines())

    listed = project_copy.run("list", check=True).stdout
    row = next(line for line in listed.splitlines() if SLUG in line)
    assert 'The "Eleventh": a Post' in row and "smoke" in row and datetime.date.today().isoformat() in row

    again = project_copy.run("run", SLUG, "--profile", "smoke", "--fresh", check=True).stdout
    assert "40 computed, 0 were there" in again


@pytest.mark.long
def test_its_code_its_test_its_notebook_and_its_page_pass(project_copy: ProjectCopy) -> None:
    project_copy.run("new", SLUG, check=True)
    alone(project_copy)
    modules = [project_copy.root / path for path in WRITTEN if path.endswith((".py", ".ipynb"))]
    for command in (
        ["ruff", "check", *modules],
        ["ruff", "format", "--check", *modules],
        ["mypy", *modules[:2]],
        ["pytest", "-q", WRITTEN[-1]],
        ["pytest", "-q", "--nbval-lax", f"posts/{SLUG}"],
    ):
        if command[0] != "pytest":
            pytest.importorskip(command[0])
        project_copy.python("-m", *command, check=True)
    project_copy.run("notebook", SLUG, "--profile", "smoke", check=True)

    project_copy.run("site", "--renderer", "embedded", check=True)
    assert "all is well" in project_copy.run("check", check=True).stdout
    site = project_copy.root / "_site" / "posts"
    assert (site / SLUG / "index.html").is_file()
    assert re.search(rf'href="[^"]*{SLUG}/', (site / "index.html").read_text())
    assert f"/posts/{SLUG}/</guid>" in (site / "index.xml").read_text()


@pytest.mark.long
def test_at_laptop_its_claims_are_decided(project_copy: ProjectCopy) -> None:
    project_copy.run("new", SLUG, check=True)
    alone(project_copy)
    project_copy.run("run", SLUG, "--profile", "laptop", "--jobs", "1", check=True)
    project_copy.run("publish", SLUG, "--profile", "laptop", check=True)
    # both distributions have closed forms, so this is a statement about them and not about a seed
    assert "2 reproduced" in project_copy.run("list", check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Eleventh Post"], "cannot be a slug"),
        (["class"], "Python keeps the word for itself"),
        (["twelfth", "--title", "  "], "the title is empty"),
        ([SLUG], f"posts/{SLUG} is there already"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    project_copy: ProjectCopy, arguments: list[str], words: str
) -> None:
    (project_copy.root / "posts" / SLUG).mkdir()
    before = files(project_copy.root)
    done = project_copy.run("new", *arguments)
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert files(project_copy.root) == before


def test_where_its_first_run_fails_nothing_stays(project_copy: ProjectCopy) -> None:
    template = project_copy.root / "lib" / "templates" / "post" / "experiments.py.tmpl"
    template.write_text(
        template.read_text().replace("    uniform = ", "    raise OSError('no luck')\n    uniform = ")
    )
    before = files(project_copy.root)
    done = project_copy.run("new", SLUG)
    assert done.returncode == 1 and "no luck" in done.stderr
    left = {path for path in files(project_copy.root) - before if "locks" not in path.parts}
    assert left == set()
    assert not (project_copy.root / "posts" / SLUG).exists()


def test_another_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the project that this command belongs to"):
        scaffold.new(tmp_path, SLUG)
    assert list(tmp_path.iterdir()) == []


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    root = Path(scaffold.__file__).resolve().parents[1]
    with pytest.raises(PostsError, match=r"pip install -e '\.\[compute\]'"):
        scaffold.new(root, SLUG)
    assert not (root / "posts" / SLUG).exists()


def test_notebook_text_becomes_cells() -> None:
    text = "%% raw front-matter\n---\ntitle: T\n---\n%% code parameters parameters\nx: int = 1\n\n%% markdown end\nSo."
    whole = json.loads(scaffold.notebook(text))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    raw, code, markdown = whole["cells"]
    assert "".join(raw["source"]) == "---\ntitle: T\n---" and raw["id"] == "front-matter"
    assert code["metadata"] == {"tags": ["parameters"]} and code["outputs"] == []
    assert code["source"] == ["x: int = 1"]
    assert markdown["source"] == ["So."] and "outputs" not in markdown


def test_the_template_is_a_valid_notebook() -> None:
    nbformat = pytest.importorskip("nbformat")
    text = (scaffold.TEMPLATES / "index.ipynb.tmpl").read_text()
    nbformat.validate(nbformat.reads(scaffold.notebook(text), as_version=4))
