"""Benchmarks are found, run and kept; a result that cannot be shown is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
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


def test_a_row_without_a_peer_has_a_bar(project: Path) -> None:
    pytest.importorskip("torch")
    row = {"case": "a", "unit": "%", **bench.mean([89.0, 90.0, 91.0]), "at_least": 89.5}
    assert row["value"] == 90 and row["n"] == 3 and row["values"] == [89, 90, 91]
    assert row["low"] == pytest.approx(90 - 4.303 / 3**0.5, abs=1e-3)
    assert (
        bench.bar(row) == "at least 89.5" and bench.bar({"at_most": 20}) == "at most 20" and not bench.bar({})
    )
    (project / "benchmarks" / "race.py").write_text(f"ROW = {row!r}\n{MODULE}")
    assert bench.run(project, "race", repeats=3)["rows"] == [row]
    assert len(bench.results(project)) == 1
    del row["high"]
    (project / "benchmarks" / "race.py").write_text(f"ROW = {row!r}\n{MODULE}")
    with pytest.raises(PostsError, match="no high"):
        bench.run(project, "race")


def test_sides_take_turns() -> None:
    """One call of each is not counted; then they swap who goes first."""
    calls: list[str] = []
    clock, processor = bench.in_turn(lambda: calls.append("ours"), lambda: calls.append("peer"), 3)
    assert calls == ["ours", "peer", "ours", "peer", "peer", "ours", "ours", "peer"]
    assert clock.shape == processor.shape == (2, 3) and (clock >= 0).all()


def test_paired_ratios_are_of_the_same_turn() -> None:
    """A load that slows both sides of a turn leaves its ratio alone."""
    load = np.array([1.0, 5.0, 2.0, 3.0, 1.0])
    found = bench.paired(np.stack([load, 4 * load]), scale=1e3)
    assert found == {"ours": 2000, "peer": 8000, "ratio": 4, "low": 4, "high": 4}


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


def test_the_page_has_a_table_of_comparisons_and_one_of_bars(project: Path) -> None:
    from lib.site.generated import benchmarks

    measured = {
        "case": "right | %",
        "unit": "%",
        "value": 90.0,
        "low": 89.0,
        "high": 91.0,
        "n": 3,
        "at_least": 89.5,
    }
    folder = project / "benchmarks" / "results"
    folder.mkdir()
    entry = {"title": "A race", "rows": [ROW, measured], "notes": ["A note."], "threads": 1, "machine": "m"}
    entry |= {"versions": {"torch": "2"}, "commit": "0123456789abc", "clean": True, "date": "2026-01-01"}
    (folder / "race.json").write_text(json.dumps(entry))
    page = benchmarks(project)
    assert page.index("| a | 4.0 [3.5, 4.5] | 1 | 4 | ms | 5 |") < page.index("| Measured (95 % interval) |")
    assert "| right \\| % | 90 [89, 91] | % | at least 89.5 | 3 |" in page
    assert page.count("::: {.benchmark}") == 2 and "A note." in page
