"""Quantities of the post on batch normalisation on made-up records: pairs by seed, logarithms, and what is missing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lib.core import InputError, Provenance, Record
from lib.quantities import understanding_bn as q
from lib.reading import Runs

PROVENANCE = Provenance({}, {}, "c" * 40, True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-01-01T00:00:00+00:00")


def record(experiment, seed, metrics=None, series=None, arrays=None, outcome="done", **config):
    key = f"{experiment}{seed}{sorted(config.items())}"
    return Record(
        "understanding-bn", experiment, key, {"seed": seed, "data": "tiny", **config}, outcome,
        metrics or {}, series or {}, arrays or {}, PROVENANCE,
    )  # fmt: skip


class Post:
    """Records by experiment."""

    def __init__(self, *records):
        self.records = records

    def runs(self, experiment):
        return Runs(
            "understanding-bn", experiment, "laptop", [r for r in self.records if r.experiment == experiment]
        )


def test_accuracies_are_paired_by_seed():
    def curve(bn, lr, seed, value, arm="corrected"):
        both = {"train_accuracy": [0.1, value], "test_accuracy": [0.2, value]}
        return record(
            "learning_curves", seed, {"test_accuracy": value}, both, bn=bn, lr=lr, arm=arm, epochs=4
        )

    post = Post(
        *(curve(True, 0.1, seed, 0.9 + seed / 100) for seed in (1, 0)),
        *(curve(False, 1e-4, seed, 0.5) for seed in (0, 1)),
        curve(True, 0.1, 0, 0.8, arm="rate_kept"),
    )
    found = q.lead(post, of={"bn": True, "lr": 0.1}, over={"bn": False, "lr": 1e-4})
    assert found.index.tolist() == [0, 1] and found.tolist() == pytest.approx([0.4, 0.41])
    kept = {"bn": True, "lr": 0.1, "arm": "rate_kept"}
    assert q.lead(post, of={"bn": True, "lr": 0.1}, over=kept)[0] == pytest.approx(0.1)
    table = q.curves(post.runs("learning_curves"))
    assert table[(table["call"] == "BN, rate .1") & (table["arm"] == "corrected")]["share"].tolist() == [
        25.0, 50.0, 25.0, 50.0,
    ]  # fmt: skip
    with pytest.raises(InputError, match="no name for bn=False"):
        q.curves(Post(curve(False, 0.5, 0, 0.1)).runs("learning_curves"))


def test_ratios_are_logarithms_of_without_over_with():
    def gradient(bn, seed, sd, **fields):
        given = {"architecture": "cifar", "weights": "xavier_uniform", "linear": True} | fields
        arrays = {"edges": np.arange(3.0), "counts": np.array([1.0, 3.0])}
        return record(
            "initial_gradients", seed, {"sd": sd, "kurtosis": 3 * sd}, arrays=arrays, bn=bn, **given
        )

    post = Post(
        *(gradient(True, seed, 0.01) for seed in range(2)),
        *(gradient(False, seed, 10.0 ** (seed + 1)) for seed in range(2)),
        gradient(True, 0, 0.3, architecture="imagenet"),
        gradient(False, 0, 0.003, architecture="imagenet"),
    )
    assert q.gradient_ratio(post, architecture="cifar").tolist() == pytest.approx([3, 4])
    assert q.gradient_ratio(post, architecture="imagenet").tolist() == pytest.approx([-2])
    assert q.gradient_ratio(post, architecture="cifar", name="kurtosis").tolist() == pytest.approx([3, 4])
    assert q.network_effect(post)[0] == pytest.approx(5) and math.isnan(q.network_effect(post)[1])
    table = q.two_by_two(post)
    assert table.iloc[0].tolist()[1:3] == ["ResNet-110 for CIFAR", "+3.50"]
    assert table.iloc[0].tolist()[4:] == ["+3.00", 2] and table.iloc[1].tolist()[3:] == ["– to –", "−2.00", 1]
    assert len(table) == 2  # nothing was run with the original's weights
    table = q.gradients(post.runs("initial_gradients"))
    assert table["sd_without"].tolist() == pytest.approx([10**1.5, 0.003])
    assert table["seeds"].tolist() == [2, 1]
    edges, shares = q.histogram(post.runs("initial_gradients").where(bn=True, architecture="cifar"), seed=1)
    assert shares.tolist() == [0.25, 0.75] and len(edges) == 3


def test_steps_of_one_batch_and_arm_are_compared():
    def step(bn, arm, value):
        return record("step_sizes", 0, {"largest_7": value}, bn=bn, arm=arm)

    post = Post(
        step(True, "gradient", 1.0), step(False, "gradient", 0.01), step(False, "as_posted", math.nan)
    )
    assert q.step_ratio(post, batch=7, of={"bn": True}, over={"bn": False})[0] == pytest.approx(2)
    lacking = q.step_ratio(post, batch=7, of={"bn": False}, over={"bn": False, "arm": "as_posted"})
    assert lacking.isna().all()


def test_growth_is_of_the_last_over_the_first():
    def seen(bn, seed, last):
        return record("activations", seed, arrays={"variance": np.array([0.5, 1.0, last])}, bn=bn)

    post = Post(seen(True, 0, 0.5), seen(True, 1, 5.0), seen(False, 1, 500.0), seen(False, 0, 50.0))
    assert q.growth(post, bn=False).tolist() == pytest.approx([2, 3])
    assert q.growth_gap(post).tolist() == pytest.approx([2, 2])
    table = q.depths(post.runs("activations"), "variance")
    assert len(table) == 12 and table["convolution"].max() == 3


def test_divergence_and_its_losses():
    post = Post(
        record("divergence", 0, {"diverged": 1.0}, {"loss": [9.0, math.inf]}, bn=False, lr=0.003, outcome="diverged"),
        record("divergence", 0, {"diverged": 0.0}, {"loss": [9.0, 0.9]}, bn=False, lr=1e-4),
    )  # fmt: skip
    assert q.diverged(post, bn=False, lr=0.003).tolist() == [1]
    assert q.fall(post, bn=False, lr=1e-4).tolist() == pytest.approx([1])
    assert q.fall(post, bn=False, lr=0.003).isna().all()


def test_class_bias_and_rates():
    post = Post(
        record("class_bias", 0, {"concentration": 0.2}, bn=True),
        record("class_bias", 0, {"concentration": 0.7}, bn=False),
        *(
            record("largest_rate", 0, {"log_rate": rate}, bn=bn, depth=depth)
            for (bn, depth), rate in {(True, 110): 0.0, (False, 110): -3.0, (True, 20): 0.0, (False, 20): -1.0}.items()
        ),
    )  # fmt: skip
    assert q.bias_gap(post, name="concentration").tolist() == pytest.approx([0.5])
    assert q.rate_gap(post, depth=110).tolist() == pytest.approx([3])
    assert q.rate_gap_growth(post, deep=110, shallow=20).tolist() == pytest.approx([2])
    assert q.over_seeds(q.rate_gap(post, depth=20)).mean == pytest.approx(1)


def test_where_no_run_fits_there_is_no_number():
    post = Post(record("divergence", 0, {"diverged": 0.0}, bn=True, lr=0.1))
    assert len(q.diverged(post, bn=False, lr=0.5)) == 0
    assert len(q.growth(Post(), bn=True)) == 0


def test_a_range_over_seeds_in_words():
    assert q.between(pd.Series([0.0131, math.nan, 0.012])) == "0.012 to 0.013"
    assert q.between(pd.Series([12.0, 36.2])) == "12 to 36"
    assert q.between(pd.Series([0.5, 0.5])) == "0.50"
    assert q.between(pd.Series([math.nan])) == "not to be had"
