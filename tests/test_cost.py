"""The benchmark of costs: sums over published records, commands that fail, a notebook that is changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("torch")

from lib import bench
from lib.core import InputError, PostsError
from lib.runs import published, sweep
from lib.site.build import BuildReport

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cost():
    return bench._load(ROOT, "cost")


def test_what_is_published_is_added_up(cost, toy, tmp_path):
    (tmp_path / "posts/toy-post/index.ipynb").write_text("{}")
    assert cost.recorded(tmp_path) == ([], [])
    sweep.compute("toy-post", "laptop")
    sweep.publish("toy-post", "laptop")
    records = [r for name in ("walk", "onward") for r in published.read(tmp_path, "toy-post", "laptop", name)]
    (hours, memory), (note,) = cost.recorded(tmp_path)
    assert hours["value"] == pytest.approx(sum(r.provenance.cpu_s for r in records) / 2 / 3600)
    assert memory["value"] == pytest.approx(max(r.provenance.peak_mb for r in records) / 1024)
    assert hours["at_most"] == 10 and memory["at_most"] == 8 and "toy-post" in note
    assert [bench._missing(row) for row in (hours, memory)] == [[], []]
    assert bench.measured(hours) == f"{hours['value']:.4g}"


def test_a_command_that_fails_is_named(cost, tmp_path):
    assert cost.took(tmp_path, sys.executable, "-c", "pass") > 0
    with pytest.raises(PostsError, match=r"ended with 3:\nwhy"):
        cost.took(tmp_path, sys.executable, "-c", "print('why'); raise SystemExit(3)")


def test_a_clone_is_of_the_commit_and_goes(cost, project_copy):
    for words in (
        ("init", "-q"),
        ("add", "README.md"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"),
    ):
        cost.took(project_copy.root, "git", *words)
    (project_copy.root / "README.md").write_text("changed since")
    with cost.fresh_clone(project_copy.root) as clone:
        assert [path.name for path in clone.iterdir() if path.name != ".git"] == ["README.md"]
        assert (clone / "README.md").read_text() == (ROOT / "README.md").read_text()
    assert not clone.exists()


def test_a_changed_notebook_is_still_one(cost, tmp_path):
    path = tmp_path / "index.ipynb"
    original = (ROOT / "posts/lsh/index.ipynb").read_text(encoding="utf-8")
    path.write_text(original, encoding="utf-8")
    cost.change(path)
    cost.change(path)
    nbformat.validate(nbformat.read(path, 4))
    changed = [
        (a["source"], b["source"])
        for a, b in zip(json.loads(original)["cells"], json.loads(path.read_text())["cells"], strict=True)
        if "".join(a["source"]) != "".join(b["source"])
    ]
    assert len(changed) == 1 and changed[0][1].endswith("# changed\n# changed")


def test_threads_are_the_commands_own(cost):
    with pytest.raises(InputError, match="threads = 2"):
        cost.run(threads=2)


# --- the site against Quarto ---------------------------------------------------------------------------------------


@pytest.fixture
def site_build():
    return bench._load(ROOT, "site_build")


def test_without_quarto_there_is_no_comparison(site_build, monkeypatch):
    monkeypatch.setattr(site_build.quarto, "version", lambda: None)
    with pytest.raises(InputError, match=r"quarto 1\.7 or newer has to be on the PATH"):
        site_build.run(repeats=2)


def test_both_renderers_make_every_page_in_each_turn(site_build, monkeypatch, tmp_path):
    """Pages that the embedded renderer keeps are gone before each of its turns; notebooks were executed before the first."""
    kept = tmp_path / ".build" / "pages"
    calls = []

    def build(project, *, renderer, out, jobs=None):
        assert project == tmp_path and (not calls or not kept.exists())
        kept.mkdir(parents=True, exist_ok=True)
        calls.append(renderer)
        return BuildReport(out, renderer, 14, (), 0.0)

    monkeypatch.setattr(site_build.quarto, "version", lambda: (1, 7, 34))
    monkeypatch.setattr(site_build, "root", lambda: tmp_path)
    monkeypatch.setattr(site_build, "build", build)
    found = site_build.run(repeats=2)
    assert calls == ["embedded", "embedded", "quarto", "embedded", "quarto", "quarto", "embedded"]
    (row,) = found["rows"]
    assert bench._missing(row) == [] and row["case"].startswith("14 pages")
    assert found["versions"] == {"quarto": "1.7.34"}
