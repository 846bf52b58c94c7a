"""Quantities of the post on memorization on made-up records: pairs by seed, the paper's numbers, and the tables of figures."""

from __future__ import annotations

import numpy as np
import pytest

from lib.core import Provenance, Record
from lib.quantities import nn_memorization as q
from lib.reading import Runs

PROVENANCE = Provenance({}, {}, "c" * 40, True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-01-01T00:00:00+00:00")


def record(experiment, seed, metrics=None, series=None, arrays=None, **config):
    key = f"{experiment}{seed}{sorted(config.items())}"
    return Record(
        "nn-memorization", experiment, key, {"seed": seed, "data": "tiny", **config}, "done", metrics or {},
        series or {}, arrays or {}, PROVENANCE,
    )  # fmt: skip


class Post:
    """Records by experiment."""

    def __init__(self, *records):
        self.records = records

    def runs(self, experiment):
        return Runs(
            "nn-memorization", experiment, "laptop", [r for r in self.records if r.experiment == experiment]
        )


def test_the_papers_curves_are_as_read():
    table = q.paper().set_index(["kind", "epoch"])["csr"]
    assert len(table) == 24 and table["real", 140] == 0.203 and table["randx", 10] == 0.572
    assert table["randy", 70] == 0.703


def test_dispersions_are_paired():
    post = Post(
        *(record("p_correct", seed, {"dispersion_train_first": 13.0 + seed}, kind="real") for seed in (1, 0)),
        *(record("p_correct", seed, {"dispersion_train_first": 2.0}, kind="randy") for seed in (0, 1)),
    )
    assert q.dispersion(post, kind="real").tolist() == [13, 14]
    assert q.dispersion_gap(post, kind="real", over="randy").tolist() == [11, 12]


def test_critical_ratios():
    def one(kind, own, seed=0):
        fields = {"kind": kind, "interval": 10, "epochs": 15, "radii": [0.3], "budgets": [10, 20]}
        series, arrays = {"own": [0.1, own]}, {"grid": np.array([[0.1, own]])}
        return record("csr", seed, {"own_last": own, "posted": 0.9}, series, arrays, **fields)

    post = Post(one("randx", 0.6), one("real", 0.2))
    assert q.csr_gap(post, of={"kind": "randx"}, over={"kind": "real"}).tolist() == pytest.approx([0.4])
    assert q.csr_off_paper(post, kind="real").tolist() == pytest.approx([-0.003])
    assert q.csr(post, kind="real", name="posted").tolist() == [0.9]
    table = q.courses(post.runs("csr"), "own")
    assert table["epoch"].tolist() == [10, 15, 10, 15]
    assert (
        q.grid(post.runs("csr"))["value"].tolist() == [0.1, 0.6, 0.1, 0.2]
        or len(q.grid(post.runs("csr"))) == 4
    )


def test_moments_and_filters():
    post = Post(
        record("randx_moments", 0, {"own": 0.6, "on_real": 0.4}, kind="randx"),
        record("randx_moments", 0, {"own": 0.3, "on_real": 0.0}, kind="randx_unit"),
        record("filters", 0, {"smoothness": 0.5}, kind="real"),
        record("filters", 0, {"smoothness": 0.1}, kind="randy"),
    )
    of, over = {"kind": "randx", "name": "on_real"}, {"kind": "randx_unit", "name": "on_real"}
    assert q.moments_gap(post, of=of, over=over).tolist() == pytest.approx([0.4])
    assert q.smoothness_gap(post).tolist() == pytest.approx([0.4])
    assert q.over_seeds(q.moments(post, **of)).mean == 0.4


def test_a_regulariser_is_judged_by_what_it_takes_from_each():
    def one(kind, regulariser, strength, train, test):
        metrics = {"train_accuracy": train, "test_accuracy": test}
        return record("regularisation", 0, metrics, kind=kind, regulariser=regulariser, strength=strength)

    post = Post(
        one("randy", "none", 0.0, 1.0, 0.1), one("real", "none", 0.0, 1.0, 0.5),
        one("randy", "dropout", 0.5, 0.3, 0.1), one("real", "dropout", 0.5, 0.9, 0.55),
    )  # fmt: skip
    # above chance: .9 and .4 without dropout, .2 and .45 with it
    assert q.hindrance(post, regulariser="dropout", strength=0.5).tolist() == pytest.approx([7 / 9 + 1 / 8])
    nothing = Post(
        *(
            one(kind, name, x, 0.1, 0.1)
            for kind in ("randy", "real")
            for name, x in (("none", 0.0), ("dropout", 0.5))
        )
    )
    assert q.hindrance(nothing, regulariser="dropout", strength=0.5).isna().all()
    table = q.trade(post.runs("regularisation")).set_index("regulariser")
    assert table.loc["dropout", "memorized"] == 0.3 and table.loc["dropout", "generalised"] == 0.55


def test_falls():
    post = Post(
        record("partial_noise", 0, {"fall": 0.2}, share=0.8), record("partial_noise", 0, {"fall": 0.05}, share=0.0)
    )  # fmt: skip
    assert q.fall_gap(post, share=0.8).tolist() == pytest.approx([0.15])


def test_shares_are_sorted_and_the_binomial_has_randxs_mean():
    arrays = {"train": np.array([[3, 0, 10, 5], [0, 0, 1, 2]])}
    post = Post(record("p_correct", 0, {}, arrays=arrays, kind="randx", members=10))
    table = q.sorted_shares(post.runs("p_correct"), part="train", when=0)
    assert table[table["kind"] == "randx"]["p"].tolist() == [0.0, 0.3, 0.5, 1.0]
    drawn = table[table["kind"] == "binomial"]["p"]
    assert drawn.is_monotonic_increasing and ((drawn * 10) % 1 == 0).all()
