"""Benchmarks are found, run and kept; a result that cannot be shown is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib import bench
from lib.core import InputError, PostsError

ROW = {"case": "a", "ours": 1.0, "peer": 4.0, "unit": "ms", "ratio": 4.0, "low": 3.5, "high": 4.5, "n": 5}
MODULE = """
NAME, TITLE = "race", "A race"

def run(*, repeats=5, threads=1):
    return {"rows": [ROW | {"n": repeats}], "notes": [f"{threads} thread"]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one benchmark, `race`."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "race.py").write_text(f"ROW = {ROW!r}\n{MODULE}")
    (folder / "_shared.py").write_text("raise RuntimeError('no benchmark')")
    (folder / "index.qmd").write_text("---\n---\n")
    return tmp_path


def test_all_where_none_is_named(project: Path) -> None:
    assert bench.chosen(project, []) == ("race",)
    assert bench.chosen(project, ["race", "race"]) == ("race",)


def test_an_unknown_one_is_refused_with_a_hint(project: Path) -> None:
    with pytest.raises(InputError, match="did you mean race"):
        bench.chosen(project, ["rase"])
    with pytest.raises(InputError, match="there are: race"):
        bench.chosen(project, ["nothing"])


def test_a_result_is_kept_as_it_is_returned(project: Path) -> None:
    pytest.importorskip("torch")
    found = bench.run(project, "race", repeats=7)
    assert found["rows"] == [ROW | {"n": 7}]
    assert found["title"] == "A race" and found["threads"] == 1
    assert {"machine", "versions", "commit", "clean", "date"} <= set(found)
    assert bench.results(project) == [found]
    assert [path.name for path in (project / "benchmarks" / "results").iterdir()] == ["race.json"]


def test_a_row_without_its_interval_is_refused_and_the_last_result_stays(project: Path) -> None:
    pytest.importorskip("torch")
    kept = bench.run(project, "race")
    short = {name: value for name, value in ROW.items() if name != "low"}
    (project / "benchmarks" / "race.py").write_text(f"ROW = {short!r}\n{MODULE}")
    with pytest.raises(PostsError, match="no low"):
        bench.run(project, "race")
    assert bench.results(project) == [kept]


def test_what_is_not_installed_is_named(project: Path) -> None:
    (project / "benchmarks" / "race.py").write_text("import not_a_package_of_anyone\n")
    with pytest.raises(InputError, match="not_a_package_of_anyone, which is not installed"):
        bench.run(project, "race")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", json.dumps({"rows": [{"case": "a"}], "title": "t"})]
)
def test_a_damaged_result_is_named(project: Path, content: str) -> None:
    folder = project / "benchmarks" / "results"
    folder.mkdir()
    (folder / "race.json").write_text(content)
    with pytest.raises(InputError, match=r"results/race\.json is damaged; posts bench race"):
        bench.results(project)


def test_nothing_is_kept_yet(project: Path) -> None:
    assert bench.results(project) == []
