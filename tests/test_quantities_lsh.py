"""The post's quantities on records whose answers are known, and the figure that a reader drags."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib.claims import judge, load
from lib.core import Provenance, Record, canonical, sha256
from lib.quantities import lsh as q
from lib.reading import Missing, Post, open_post
from lib.runs import published

SLUG = "lsh"
ROOT = Path(__file__).resolve().parents[1]
PROVENANCE = Provenance({"mnist": "f00d"}, {}, "0123456789", True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-11-21")


def record(
    experiment: str, config: dict[str, Any], metrics: dict[str, Any] | None = None, **arrays: Any
) -> Record:
    key = sha256(canonical([experiment, config]))
    named = {name.replace("__", ": "): np.array(values) for name, values in arrays.items()}
    return Record(SLUG, experiment, key, config, "done", metrics or {}, {}, named, PROVENANCE)


def tradeoff(seed: int, speeds: dict[str, list[float]], recalls: dict[str, list[float]]) -> Record:
    """Settings are called 64 a, 64 b, …; building took a second for each method."""
    metrics: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for method, values in speeds.items():
        metrics[f"{method}: settings"] = " · ".join(f"64 {letter}" for letter in "abcdef"[: len(values)])
        metrics[f"{method}: build_s"] = 2.0 if method == "lsh" else 60.0
        arrays[f"{method}: recall"] = recalls[method]
        for how in ("batch_cpu", "single_cpu"):
            arrays[f"{method}: {how}_qps"] = [v / (1 if how == "batch_cpu" else 2) for v in values]
    config = {"methods": list(speeds), "n": 1000, "data": "mnist", "seed": seed}
    return record("tradeoff", config, metrics, **arrays)


def walk() -> Record:
    """Planes along the axes; a point in each direction of 20°, 100° and 200°, of different lengths."""
    angles = np.radians([20.0, 100.0, 200.0])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1.0], [0.3], [2.0]])
    return record("walk", {"seed": 42}, points=points, planes=[[1.0, 0.0], [0.0, 1.0]], query=[-1.0, 1.0])


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Post]:
    """The post with the given records, published at `laptop` in a project of its own."""

    def open_with(*records: Record) -> Post:
        (tmp_path / "_quarto.yml").write_text("project: {type: website}\n")
        folder = tmp_path / "posts" / SLUG
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.ipynb").write_text(
            '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
        )
        for experiment in {item.experiment for item in records}:
            own = [item for item in records if item.experiment == experiment]
            published.write(tmp_path, SLUG, "laptop", experiment, own, of=len(own))
        return open_post(SLUG, root=tmp_path)

    return open_with


# --- speeds --------------------------------------------------------------------------------------------------------

SPEEDS = {"lsh": [900.0, 500.0, 100.0], "torch": [100.0], "faiss flat": [200.0], "hnswlib": [2000.0, 1500.0]}
RECALLS = {"lsh": [0.90, 0.95, 1.0], "torch": [1.0], "faiss flat": [1.0], "hnswlib": [0.94, 0.97]}


def test_a_speedup_is_over_the_best_of_the_others_at_settings_that_reach_the_recall(opened) -> None:
    post = opened(*(tradeoff(seed, SPEEDS, RECALLS) for seed in range(3)))
    found = q.speedup(post, method="lsh", over=["torch", "faiss flat"], recall=0.95)
    assert found.to_dict() == dict.fromkeys(range(3), 2.5)
    assert q.speedup(post, method="hnswlib", over=["lsh"], recall=0.95).to_list() == [3.0] * 3
    assert q.speedup(post, method="lsh", over=["torch"], recall=0.8).to_list() == [9.0] * 3
    assert q.speedup(post, method="hnswlib", over=["lsh"], recall=0.99).isna().all()


def test_a_run_without_a_method_decides_nothing_about_it(opened) -> None:
    post = opened(tradeoff(0, SPEEDS, RECALLS))
    with pytest.raises(Missing, match="no run compares annoy, lsh"):
        q.speedup(post, method="annoy", over=["lsh"], recall=0.9)
    lacking = tradeoff(0, SPEEDS, RECALLS)
    lacking.arrays.pop("torch: recall")  # type: ignore[attr-defined]
    lacking.metrics["torch: skipped"] = "torch is not installed"  # type: ignore[index]
    with pytest.raises(Missing, match=r"no torch .* seed 0 \(torch is not installed\)"):
        q.fastest(lacking, "torch", 0.9)


def test_builds_are_compared_an_index_each(opened) -> None:
    """Three code lengths of ours took two seconds, one of them trained and not; a graph is one index."""
    found = tradeoff(0, SPEEDS, RECALLS)
    found.metrics["lsh: settings"] = "64 bits, 10 · 64 bits, 20 · 64 bits, 20, thresholds · 128 bits, 10"  # type: ignore[index]
    assert q.build_seconds(found, "lsh") == pytest.approx(2 / 3)
    assert q.build_seconds(found, "hnswlib") == 60
    assert q.build_ratio(opened(found), method="hnswlib", over="lsh").to_list() == pytest.approx([90.0])


def test_a_frontier_has_no_setting_that_is_beaten_at_both(opened) -> None:
    post = opened(tradeoff(0, {"lsh": [900.0, 800.0, 100.0]}, {"lsh": [0.9, 0.85, 1.0]}))
    found = q.curves(post.runs("tradeoff")).set_index("setting")["frontier"]
    assert found.to_dict() == {"64 a": True, "64 b": False, "64 c": True}


def test_the_table_is_sorted_by_speed_and_says_where_a_recall_is_not_reached(opened) -> None:
    post = opened(*(tradeoff(seed, SPEEDS, RECALLS | {"torch": [0.9]}) for seed in range(2)))
    table = q.beside(post.runs("tradeoff"), 0.95)
    assert table["Method"].to_list() == [q.METHODS[m] for m in ("hnswlib", "lsh", "faiss flat", "torch")]
    assert table["Batch"].to_list() == ["1,500", "500", "200", "–"]
    assert table["Single"].to_list() == ["750", "250", "100", "–"]
    assert table["Build"].to_list() == ["60.0", "2.0", "60.0", "–"]


# --- sizes ---------------------------------------------------------------------------------------------------------


def sizes(lsh: Callable[[float], float], brute: Callable[[float], float]) -> list[Record]:
    return [
        record(
            "size",
            {"n": n, "seed": seed, "data": "mnist"},
            {"lsh_batch_s": lsh(n), "brute_batch_s": brute(n)},
        )
        for n in (1000, 4000, 16_000)
        for seed in range(2)
    ]


def test_exponents_and_where_two_costs_meet(opened) -> None:
    post = opened(*sizes(lambda n: 1e-3 * n**0.5, lambda n: 1e-5 * n))
    assert q.exponent(post, method="lsh").to_list() == pytest.approx([0.5, 0.5])
    assert q.exponent(post, method="brute").to_list() == pytest.approx([1.0, 1.0])
    # 1e-3 √n = 1e-5 n at n = 10,000
    assert q.crossing(post).to_list() == pytest.approx([10_000, 10_000])


def test_costs_that_do_not_meet(opened) -> None:
    assert q.crossing(opened(*sizes(lambda n: 1e-6 * n, lambda n: 1e-5 * n))).to_list() == pytest.approx(
        [1000] * 2
    )


def test_a_lead_that_never_comes_is_no_number(opened) -> None:
    assert q.crossing(opened(*sizes(lambda n: 1e-4 * n, lambda n: 1e-5 * n))).isna().all()


# --- candidates ----------------------------------------------------------------------------------------------------


def test_candidates_needed_are_read_between_two_measured_points(opened) -> None:
    def reach(way: str, counts: list[float], recalls: list[float]) -> Record:
        return record(
            "reach",
            {"way": way, "seed": 0, "data": "mnist"},
            candidates=counts,
            recall=recalls,
            wanted=[1, 2, 3],
        )

    post = opened(
        reach("rings", [100, 1000, 10_000], [0.5, 0.8, 1.0]),
        reach("directed", [10, 100, 1000], [0.5, 0.8, 1.0]),
        reach("forest", [10, 20, 30], [0.1, 0.2, 0.3]),
        reach("tables", [10, 20, 30], [0.95, 0.97, 1.0]),
    )
    needed = {way: q.candidates_needed(post, way=way, recall=0.9)[0] for way in ("rings", "forest", "tables")}
    assert needed["rings"] == pytest.approx(math.sqrt(1e7)) and math.isnan(needed["forest"])
    assert needed["tables"] == 10
    assert q.candidates_ratio(post, way="directed", over="rings", recall=0.9)[0] == pytest.approx(0.1)


# --- arms and theory -----------------------------------------------------------------------------------------------


def test_arms_are_paired_by_seed(opened) -> None:
    post = opened(
        *(
            record(
                "arms",
                {"arm": arm, "bits": bits, "seed": seed, "data": "mnist"},
                {
                    "recall": base + bits / 1000 + seed / 10,
                    "largest_bucket": 0.5,
                    "buckets": 12,
                    "imbalance": 0.1,
                    "mean_candidates": 104.0,
                },
            )
            for arm, base in (("normal", 0.1), ("orthogonal", 0.12))
            for bits in (64, 256)
            for seed in range(3)
        )
    )
    gain = q.arm_gain(post, arm="orthogonal", over="normal", bits=64)
    assert gain.to_list() == pytest.approx([0.02] * 3)
    assert q.more_bits(post, arm="normal", bits=256, over=64).to_list() == pytest.approx([0.192] * 3)
    assert q.arm(post, arm="normal", bits=64, metric="largest_bucket").to_list() == [0.5] * 3
    table = q.arm_table(post.runs("arms"), 64)
    assert (
        table["Planes"].to_list() == ["normal", "orthogonal"] and table["Candidates"].to_list() == ["104"] * 2
    )


def test_probing_and_orientation_are_the_records_own(opened) -> None:
    at = {"bits": 16, "seed": 1, "data": "mnist"}
    post = opened(
        record("probing", at | {"tables": 1}, {"recall": 0.5, "difference": 0.01}),
        record("probing", at | {"tables": 4}, {"recall": 0.9, "difference": -0.01}),
        record("orientation", {"shift": 0.5, "seed": 1}, {"range": 0.128}),
    )
    assert q.more_tables(post, bits=16, tables=4).to_dict() == pytest.approx({1: 0.4})
    assert q.recall_difference(post, bits=16, tables=4).to_list() == [-0.01]
    assert q.orientation_range(post, shift=0.5).to_list() == [0.128]


def test_every_claim_finds_its_quantity(opened) -> None:
    """On no records at all each is undecided, and none fails."""
    post = opened(walk())
    for claim in load(ROOT, SLUG):
        assert judge(claim, post).verdict == "inconclusive"


# --- the figure that a reader drags --------------------------------------------------------------------------------


def test_wedges_are_the_quadrants_of_planes_along_the_axes() -> None:
    run = walk()
    for side in ((True, True), (False, True), (False, False), (True, False)):
        corners = np.array(q.wedge(run, side, 2.0))[1:]
        assert np.hypot(*corners.T) == pytest.approx(2.0)
        middle = corners[len(corners) // 2]
        assert ((middle > 0) == side).all() and q.region(run, middle) == side
        assert q.outline(run, side, 2.0)[0] == q.outline(run, side, 2.0)[-1]


def test_a_bucket_that_no_direction_has_has_no_wedge() -> None:
    three = record(
        "walk", {"seed": 1}, points=[[1.0, 0.0]], planes=[[1, 0], [0, 1], [1, 1]], query=[1.0, 0.0]
    )
    assert q.wedge(three, (True, True, False), 1.0) == []
    assert len({tuple(side) for side, _ in q.asked(three, 10)["probes"]}) == 5


def test_what_a_query_meets() -> None:
    """At 85° the query is in the first quadrant, hardly off the plane to the second, where the nearest point lies."""
    found = q.asked(walk(), 85.0)
    assert found["side"] == (True, True) and found["bucket"] == [0]
    assert found["nearest"] == 1 and found["cosine"] == pytest.approx(math.cos(math.radians(15)))
    assert found["flips"] == 1 and found["until"] == 2
    assert found["probes"][0] == ((False, True), [1]) and found["probes"][-1] == ((False, False), [2])
    assert q.said(found) == (
        "Bucket 11 holds point 0. The nearest is point 1 (cosine 0.97), one flipped bit away: met in bucket 2 of those looked into."
    )
    inside = q.asked(walk(), 30.0)
    assert inside["flips"] == 0 and q.said(inside).endswith("in this bucket.")
    assert "holds no point" in q.said(q.asked(walk(), 300.0))


def test_whatever_the_direction_the_nearest_is_met_in_the_bucket_that_is_said() -> None:
    run = walk()
    for degrees in range(360):
        found = q.asked(run, degrees)
        order = [found["bucket"], *(ids for _, ids in found["probes"])]
        assert found["nearest"] in order[found["until"] - 1]
        assert sorted(i for ids in order for i in ids) == [0, 1, 2]


def test_words_for_numbers() -> None:
    assert q.listed([-0.418, -0.02, -0.27]) == "−0.42, −0.02 and −0.27"
    assert q.listed([0.5]) == "0.50"
    assert q.start_degrees(walk()) == pytest.approx(135)


def test_times_that_never_cross_are_a_dash():
    """On a busy machine no smoke run may show where ours becomes the faster."""
    assert f"{q.over_seeds(pd.Series([np.nan, np.nan])):,.0f}" == "–"
    assert q.over_seeds(pd.Series([np.nan, 2.0, 4.0])).mean == 3
