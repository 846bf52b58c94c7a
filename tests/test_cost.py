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
