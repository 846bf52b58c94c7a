"""The post's quantities on records whose answers are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.claims import judge, load
from lib.core import InputError, Provenance, Record, canonical, sha256
from lib.quantities import trm as q
from lib.reading import Missing, open_post
from lib.runs import published

ROOT = Path(__file__).resolve().parents[1]
SLUG = "trm"
PROVENANCE = Provenance(
    {"sudoku-6x6": "f00d"}, {}, "01234567", True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-11-20"
)
ARM_GAINS = {
    "fixed": 0.0,
    "start": -0.1,
    "n1": 0.02,
    "T1": 0.08,
    "N2": 0.01,
    "N3": 0.02,
    "N4": 0.03,
    "N5": 0.03,
}
ARM_GAINS |= {"N6": 0.05, "no_act": -0.2}
GROUPS = {
    "randomised_depth": ARM_GAINS,
    "blip": {"N3": 0.02, "N4": 0.03, "N5": 0.03},
    "combining": {"none": 0, "n": 0.02, "T": 0.08, "N": 0.03, "nT": 0.1, "nN": 0.04, "TN": 0.1, "nTN": 0.12},
    "path_independence": {"static": 0, "batch": -0.1, "mixed": 0.05},
    "capacity": {"32": -0.3, "32T": -0.28, "64": 0, "64T": 0.08},
    "schedules": {"fixed": 0, "curriculum": -0.01, "k_step": -0.2, "long": 0.1},
    "milestones": {"final": 0, "waves": 0.06, "shuffled": 0.01},
    "frequency": {"2:1": 0, "1:2": -0.04},
}
KS, DEPTHS = [1, 2, 4, 8], [1, 2, 4, 8, 16]


def made(experiment: str, config: dict[str, Any], metrics: dict[str, Any], **more: Any) -> Record:
    key = sha256(canonical([experiment, config]))
    return Record(
        SLUG,
        experiment,
        key,
        config,
        "done",
        metrics,
        more.get("series", {}),
        more.get("arrays", {}),
        PROVENANCE,
    )


def nested(start: str = "static") -> dict[str, Any]:
    return {"post": SLUG, "experiment": "training", "config": {"start": start, "eval_every": 100, "limit": 8}}


def arm(experiment: str, name: str, gained: float, seed: int) -> Record:
    """Solves .1, .3, .5, .7 and .8 at the depths, plus what the arm gains, plus seed / 1000; alignment follows the gain."""
    solved = dict(zip(DEPTHS, (0.1, 0.3, 0.5, 0.7, 0.8), strict=True))
    metrics = {f"solved_{depth}": value + gained + seed / 1000 for depth, value in solved.items()}
    metrics |= {"aas_puzzles": 0.5 + gained, "aas_cells": 0.9, "gap_y": -2.0 - gained, "gap_z": -3.5}
    metrics |= {"realised_steps": 7.0, "passes": 3600 if name == "curriculum" else 6000}
    series = {f"val_{how}": [0.1, 0.2 + gained] for how in ("single", "cell_mode", "confidence")}
    series["steps"] = [8.0, (1.2 if name == "long" else 1.5) + seed / 10]
    arrays = {"solved_by_step": np.linspace(0.1, 0.8, 16)}
    return made(
        experiment, {"arm": name, "training": nested(), "seed": seed}, metrics, series=series, arrays=arrays
    )


def table(start: str, sigma: float, seed: int) -> np.ndarray:
    """One pass solves .1 log₂(2 N); confidence adds .04 log₂ k, the check twice that; the mode of cells loses half of it."""
    depth = 0.1 * np.log2(2 * np.array(DEPTHS))[None, None]
    worth = {"single": 0.0, "cell_mode": -0.02, "puzzle_mode": 0.02, "confidence": 0.04}
    worth |= {"confidence_all": 0.04, "check": 0.08, "check_all": 0.09, "oracle": 0.08}
    slopes = np.array([worth[how] for how in q.AGGREGATORS])[:, None, None]
    return depth + slopes * np.log2(KS)[None, :, None] + seed / 1000


def votes(
    experiment: str, diversity: str, start: str, sigma: float, snapshot: int, seed: int, distinct: float
) -> Record:
    config = {
        "training": nested(start),
        "snapshot": snapshot,
        "diversity": diversity,
        "sigma": sigma,
        "passes": KS,
        "depths": DEPTHS,
        "puzzles": 100,
        "seed": seed,
    }
    calibration = np.array([[4.0] + [0.0] * 9, [0.2] + [0.0] * 9, [1.0] + [0.0] * 9])
    arrays = {"solved": table(start, sigma, seed), "calibration": calibration}
    return made(experiment, config, {"distinct": distinct, "calibration_error": 0.1}, arrays=arrays)


@pytest.fixture(scope="module")
def post(tmp_path_factory):
    """A project whose only records are these."""
    root = tmp_path_factory.mktemp("project")
    (root / "posts" / SLUG).mkdir(parents=True)
    (root / "_quarto.yml").write_text("project: {}\n")
    for experiment, arms in GROUPS.items():
        records = [arm(experiment, name, gained, seed) for name, gained in arms.items() for seed in range(3)]
        published.write(root, SLUG, "laptop", experiment, records, of=len(records))
    for experiment in ("aggregation", "several_solutions"):
        records = [
            votes(experiment, diversity, start, sigma, snapshot, seed, distinct)
            for seed in range(3)
            for snapshot in (850, 0)
            for diversity, start, sigma, distinct in (
                ("start", "batch", 0.0, 2.0),
                ("start", "puzzle", 0.0, 2.5),
                ("noise", "static", 0.3, 4.0),
                ("symmetry", "static", 0.0, 3.0),
            )
        ]
        published.write(root, SLUG, "laptop", experiment, records, of=len(records))
    return open_post(SLUG, root=root)


POSTED = {"diversity": "start", "start": "batch"}


def test_gains_are_paired_by_seed(post):
    found = q.gain(post, experiment="randomised_depth", arm="T1", over="fixed", metric="solved_8")
    assert found.tolist() == pytest.approx([0.08] * 3) and list(found.index) == [0, 1, 2]
    assert q.depth_gain(post, low=1, high=8).tolist() == pytest.approx([0.6] * 3)
    assert q.stacking(post, metric="solved_8").tolist() == pytest.approx([-0.01] * 3)
    assert q.capacity_trend(post, small="32", large="64", metric="solved_8").tolist() == pytest.approx(
        [0.06] * 3
    )
    assert q.blip(post, low="N3", middle="N4", high="N5", metric="solved_8").tolist() == pytest.approx(
        [0.005] * 3
    )
    assert q.passes_saved(post).tolist() == pytest.approx([6000 / 3600] * 3)
    assert q.saturation(post).tolist() == pytest.approx([1.5] * 3)
    assert q.late_steps(post).tolist() == pytest.approx([1.2, 1.3, 1.4])
    assert q.late_steps(post, arm="fixed").tolist() == pytest.approx([1.5, 1.6, 1.7])


def test_votes_are_read_from_the_right_place(post):
    found = q.vote(post, how="confidence", passes=4, depth=8, sigma=0.0, **POSTED)
    assert found.tolist() == pytest.approx([0.4 + 0.08, 0.481, 0.482])
    gained = q.vote_gain(post, how="cell_mode", over="single", passes=8, depth=2, **POSTED)
    assert gained.tolist() == pytest.approx([-0.06] * 3)
    less = q.diminishing(post, how="confidence", depth=2, passes=[2, 4, 8], **POSTED)
    assert less.tolist() == pytest.approx([0] * 3)
    deep = q.depth_over_breadth(post, how="confidence", passes=4, depth=2, **POSTED)
    assert deep.tolist() == pytest.approx([0.4 - 0.28] * 3)
    assert q.diversity_lead(post, sigma=0.3, start="batch").tolist() == [2.0] * 3
    assert q.start_lead(post, start="puzzle", over="batch").tolist() == [0.5] * 3
    last = q.vote(post, how="check", passes=1, depth=1, snapshot=0, sigma=0.3, diversity="noise")
    assert last.tolist() == pytest.approx([0.1, 0.101, 0.102])


def test_places_that_a_table_does_not_have(post):
    with pytest.raises(Missing, match="3 passes at depth 8"):
        q.vote(post, how="single", passes=3, depth=8, **POSTED)
    with pytest.raises(InputError, match="no aggregator 'vote'"):
        q.vote(post, how="vote", passes=2, depth=8, **POSTED)
    assert len(q.vote(post, how="single", passes=2, depth=8, diversity="noise", sigma=7.0)) == 0


def test_correlations_between_and_within(post):
    """The alignment of these records is the arm's gain: perfect between arms, and no number within one."""
    assert q.between(post, score="aas_puzzles", metric="solved_8").tolist() == pytest.approx([1, 1, 1])
    assert len(q.within(post, score="aas_puzzles", metric="solved_8")) == 0
    title = q.both_correlations(post.runs("randomised_depth").frame, "gap_y", "solved_8")
    assert title == "ρ = −1.00, within –"


def test_frames_for_figures(post):
    wide = q.breadth(post.runs("aggregation"))
    assert len(wide) == 3 * 2 * 4 * len(q.AGGREGATORS) * len(KS) * len(DEPTHS)
    row = wide[
        (wide["how"] == "check") & (wide["passes"] == 8) & (wide["depth"] == 2) & (wide["seed"] == 1)
    ].iloc[0]
    assert row["solved"] == pytest.approx(0.2 + 0.24 + 0.001) and row["compute"] == 16
    assert set(q.first_snapshots(wide)["snapshot"]) == {850}
    assert set(q.kinds(wide)) == {"start batch", "start puzzle", "noise 0.3", "symmetry"} <= set(q.KINDS)
    course = q.validation(post.runs("path_independence"))
    assert set(course["step"]) == {100, 200} and set(course["how"]) == {"single", "cell_mode", "confidence"}
    assert q.by_depth(post.runs("schedules"))["depth"].max() == 16
    found = q.comparison(post.runs("milestones"), ("solved_8",)).set_index("arm")
    assert found.loc["waves", "mean"] == pytest.approx(0.761)
    assert found.loc["waves", "se"] == pytest.approx(0.001 / 3**0.5)
    heads = q.calibration(post.runs("aggregation"))
    assert len(heads) == 1 and heads["right"][0] == 0.25 and heads["probability"][0] == pytest.approx(0.05)
    assert heads["answers"][0] == 24 * 4


def test_names_for_readers():
    assert (
        q.arm_name("N4") == "limit ± 4"
        and q.arm_name("T1") == "T ± 1"
        and q.arm_name("64T") == "width 64, T ± 1"
    )
    assert q.in_order(["64T", "no_act", "N4", "N2", "fixed", "32", "T1"]) == [
        "fixed",
        "T1",
        "N2",
        "N4",
        "no_act",
        "32",
        "64T",
    ]
    assert list(q.ways(4)) == [
        "single 1",
        "cell_mode 4",
        "puzzle_mode 4",
        "confidence 2",
        "confidence 4",
        "check 4",
    ]


def test_names_are_those_of_the_experiments():
    pytest.importorskip("torch")
    from lib.experiments import trm

    assert tuple(q.AGGREGATORS) == trm.AGGREGATORS
    laptop = trm.configs("laptop")
    arms = {c.arm for c in laptop if isinstance(c, trm.Compared)}
    assert arms - set(q.ARMS) <= {"N2", "N4", "N6", "32", "64", "32T", "64T", "2:1", "1:2"}
    assert set(q.METHODS) <= {c.arm for c in laptop if isinstance(c, trm.RandomisedDepth)}


def test_the_papers_numbers():
    assert q.paper().set_index("setting")["solved"]["HRM"] == 0.55
    assert q.recursions()["passes"].tolist() == [3, 10, 21, 36, 42]


def test_a_board():
    board = q.Board(36)
    assert board.n == 6 and board.middles[7] == (1.5, -1.5) and len(board.lines) == 14
    assert sum(bounds for bounds, _ in board.lines) == 4 + 3
    assert (np.array(board.square(0))[:, 1] < 0).all()
    with pytest.raises(InputError, match="25 cells"):
        q.Board(25)


def test_every_claim_finds_its_quantity(post):
    """On these records each claim of a laptop has a verdict, and none fails."""
    for claim in load(ROOT, SLUG):
        found = judge(claim, post)
        if claim.profile == "laptop":
            assert found.interval is not None and found.interval.n == 3, claim.id
            assert found.verdict != "inconclusive" or "partly" in found.reason, (claim.id, found.reason)
        else:
            assert found.verdict == "inconclusive"


def test_the_quantities_need_no_torch():
    code = "import sys, lib.quantities.trm; print('torch' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
