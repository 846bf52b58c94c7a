"""The post's quantities on records whose answers are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.claims import judge, load
from lib.core import Provenance, Record, canonical, sha256
from lib.quantities import engression as q
from lib.reading import Post
from lib.runs import published

SLUG = "engression"
ROOT = Path(__file__).resolve().parents[1]
PROVENANCE = Provenance({}, {}, "0123456789", True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-11-20")
SEEDS = (0, 1, 2)


def record(experiment: str, config: dict[str, Any], metrics: dict[str, Any], **more: Any) -> Record:
    series, arrays = more.get("series", {}), more.get("arrays", {})
    key = sha256(canonical([experiment, config]))
    data = {"data": "simulated"} | config
    return Record(SLUG, experiment, key, data, "done", metrics, series, arrays, PROVENANCE)


def extrapolation(seed: int) -> list[Record]:
    """Engression's error is half of L1's before the function and the double after it; as posted L1's is 10 % larger."""
    found = []
    for function in q.FUNCTIONS:
        for placement, factor in (("pre", 0.5), ("post", 2.0)):
            fields = {"function": function, "placement": placement, "seed": seed}
            base = 1.0 + seed
            for method, arm, error in (
                ("l1", "corrected", base),
                ("engression", "corrected", factor * base),
                ("l1", "as_posted", 1.1 * base),
            ):
                x = np.linspace(0, 1, 5)
                arrays = {"x": x, "median": x + error, "truth": x, "scatter": np.ones((3, 2))}
                config = {**fields, "method": method, "arm": arm}
                metrics = {"inside_error": 0.1, "outside_error": error}
                found.append(record("figure_4", config, metrics, arrays=arrays))
    return found


def others(seed: int) -> list[Record]:
    found = [
        record(
            "loss_terms",
            {"terms": terms, "seed": seed},
            {"spread_ratio": ratio},
            series={"step": [0.0, 10.0], "spread": [1.0, ratio]},
            arrays={"density": np.full((2, 3), ratio), "centre": np.arange(3.0)},
        )
        for terms, ratio in (("first", 0.2), ("second", 50.0), ("both", 1.0))
    ]
    scales = {"best_scale_2": 0.38, "best_scale": 1.0, "cdist_error": 0.04}
    found.append(record("distances", {"seed": seed}, scales))
    for arm, sigma in (("corrected", 0.1), ("corrected", 1.0), ("as_posted", 1.0)):
        for m in (2, 16):
            metrics = {
                "early_error": 1.0 / m,
                "error": 0.2,
                "evaluated_error": 0.1,
                "posted_error": 0.52,
                "loss_sd": 1.0 / m,
                "tails_behind": sigma - 0.5,
            }
            fields = {"arm": arm, "sigma": sigma, "m": m, "seed": seed}
            found.append(record("m_sweep", fields, metrics, series={"step": [1.0, 2.0], "loss": [3.0, 2.0]}))
    for m, error in ((2, 0.1), (16, 0.2)):
        found.append(record("m_budget", {"m": m, "seed": seed}, {"error": error}))
    for entries, error in ((2, 4.0), (100, 1.0)):
        fields = {"width": 128, "noise_dim": entries, "seed": seed}
        found.append(record("noise_size", fields, {"outside_error": error}))
    for law, error in (("normal", 0.1), ("uniform", 0.3)):
        fields = {"noise_scale": 1.0, "noise": law, "seed": seed}
        found.append(record("noise_scale", fields, {"error": error}, arrays={"quantiles": np.zeros((3, 4))}))
    for scale, bend in ((0.1, 1.0), (4.0, 0.0)):
        median = bend * np.array([0.0, 1.0, 0.0, 1.0])
        arrays = {"quantiles": np.stack([median, median, median]), "x": np.arange(4.0)}
        fields = {"noise_scale": scale, "noise": "normal", "seed": seed}
        found.append(record("noise_scale", fields, {"error": 0.1}, arrays=arrays))
    pairs = {"pairs": ["log:pre", "log:post"], "variables": [], "seed": seed}
    known = {"right": 7, "wrong": 0, "pre_wins": 0.5, "post_wins": 0.5, "general_gain": 0.0}
    found.append(record("pre_or_post", pairs, known, arrays={"z": np.array([5.0, -5.0])}))
    table = {"pairs": [], "variables": ["a", "b"], "seed": seed, "data": "air_quality"}
    real = {"pre_wins": 0.4, "post_wins": 0.0, "general_gain": 0.02}
    found.append(record("pre_or_post", table, real, arrays={"z": np.array([5.0, -1.0 + 3.5 * seed])}))
    for split in ("random", "temporal"):
        fields = {"split": split, "seed": seed, "data": "air_quality"}
        crps = {f"crps_{name}": 30.0 + i for i, name in enumerate(q.STACKED)}
        cover = {f"coverage_{name}": 0.89 for name in q.STACKED}
        found.append(record("stacking", fields, crps | cover))
    for beta, weight, excess in ((0.5, 0.0, 0.3), (1.0, 0.0, 0.2), (1.5, 0.0, 0.4), (1.0, 4.0, 0.1)):
        metrics = dict.fromkeys(("excess", "excess_0.9", "excess_0.95", "excess_0.99"), excess)
        found.append(record("tails", {"beta": beta, "weight": weight, "seed": seed}, metrics))
    for law in ("bimodal", "ring"):
        for steps in (1, 2, 4):
            metrics = {"excess": 0.4 / steps, "between": 0.2 / steps}
            found.append(record("multi_step", {"law": law, "steps": steps, "seed": seed}, metrics))
    return found


@pytest.fixture(scope="module")
def post(tmp_path_factory) -> Post:
    """A post that reads these records, as published at laptop."""
    root = tmp_path_factory.mktemp("project")
    (root / "_quarto.yml").write_text("project: {type: website}\n")
    (root / "posts" / SLUG).mkdir(parents=True)
    (root / "posts" / SLUG / "index.ipynb").write_text("{}")
    (root / "posts" / SLUG / "claims.yml").write_text((ROOT / "posts" / SLUG / "claims.yml").read_text())
    records = [item for seed in SEEDS for item in extrapolation(seed) + others(seed)]
    for experiment in {item.experiment for item in records}:
        part = [item for item in records if item.experiment == experiment]
        published.write(root, SLUG, "laptop", experiment, part, of=len(part))
    from lib.reading import open_post

    return open_post(SLUG, root=root)


def close(values, wanted):
    assert list(values.index) == list(SEEDS)
    np.testing.assert_allclose(values, wanted)


def test_extrapolation(post):
    close(q.error(post, function="log", placement="pre", method="l1"), [1, 2, 3])
    for name in q.FUNCTIONS:
        close(q.advantage(post, function=name, placement="pre"), 2)
    close(q.mean_advantage(post, placement="post"), 0.5)
    close(q.less_after(post), 4)
    close(q.posted_baseline(post), 1.1)
    frame = q.curves(post.runs("figure_4"))
    assert len(frame) == len(SEEDS) * 24 * 5 and set(frame["arm"]) == {"corrected", "as_posted"}
    assert q.scatter(post.runs("figure_4"), function="log").shape == (3, 2)
    table = q.errors_table(post)
    assert len(table) == 8 and table["L1 / engression"].iloc[0].startswith("2.00")


def test_the_loss(post):
    close(q.spread_ratio(post, terms="first"), 0.2)
    close(q.best_scale(post, m=2), 0.38)
    close(q.best_scale(post, m=None), 1)
    frames, centre = q.densities(post.runs("loss_terms"))
    assert list(frames) == ["0", "10"] and centre == [0, 1, 2]
    assert frames["10"]["second term only"] == [50, 50, 50]


def test_samples_and_noise(post):
    close(q.early_gain(post, low=2, high=16, sigma=1.0), 8)
    close(q.steadier(post, low=2, high=16, sigma=1.0), 8)
    close(q.tails_behind(post, sigma=0.1), -0.4)
    close(q.posted_error(post), 0.52)
    close(q.training_mode(post), 2)
    close(q.budget_gain(post, low=2, high=16), 2)
    close(q.more_noise(post, width=128, few=2, many=100), 4)
    close(q.smoother(post, small=0.1, large=4.0), 2)
    close(q.uniform_effect(post), 3)
    assert len(q.paths(post.runs("m_sweep"), ["loss"])) == len(SEEDS) * 6 * 2


def test_placement(post):
    close(q.calls(post, kind="right"), 7)
    close(q.share(post, kind="pre_wins"), 0.4)
    close(q.general_gain(post), 0.02)
    table = q.z_table(q.real(post))
    assert list(table["pair"]) == ["a:b", "b:a"]
    assert list(table["pre"]) == pytest.approx([1, 2 / 3])
    assert list(table["z"]) == pytest.approx([5, 2.5])
    assert list(q.z_table(q.simulated(post))["pair"]) == ["log:pre", "log:post"]


def test_stacking_tails_and_steps(post):
    close(q.crps_gain(post, method="head_in_sample", over="cqr", split="random"), -1)
    close(q.split_effect(post, method="plain"), 0)
    close(q.coverage(post, method="plain", split="temporal"), 0.89)
    assert len(q.stacked_table(post.runs("stacking"))) == len(q.STACKED)
    close(q.tail_gain(post, level=0.95), 0.1)
    close(q.step_gain(post, law="ring", steps=4), 0.3)
    close(q.step_gain(post, law="ring", steps=2, metric="between"), 0.1)


def test_every_claim_is_judged_from_such_records(post):
    """By hand: which hold on these."""
    verdicts = {item.claim.id: item.verdict for item in post.judge()}
    assert "inconclusive" not in verdicts.values(), [
        (item.claim.id, item.reason) for item in post.judge() if item.verdict == "inconclusive"
    ]
    wrong = {name for name, verdict in verdicts.items() if verdict == "not reproduced"}
    assert wrong == {
        "tails-later-narrow",
        "real-noise-is-pre-additive",
        "head-beats-conformal",
        "out-of-fold-head-beats-conformal",
        "plain-wins-under-drift",
    }


def test_claims_name_quantities_that_there_are(post):
    for claim in load(ROOT, SLUG):
        assert callable(getattr(q, claim.quantity)) and judge(claim, post).interval is not None


def test_quantities_need_no_torch():
    code = (
        "import sys, lib.quantities.engression; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
