"""Quantities of the TENT post on made-up records: what is paired with what, and what is missing stays missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.core import InputError, Provenance, Record
from lib.quantities import tent as q
from lib.reading import Runs

PROVENANCE = Provenance({}, {}, "c" * 40, True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-01-01T00:00:00+00:00")
SOURCE = {"post": "tent", "experiment": "source", "config": {"network": "fast", "width": 32, "epochs": 12}}
BASE = {
    "source": SOURCE, "data": "tiny", "arms": ["source", "norm", "tent"], "corruptions": ["fog", "snow"], "batch_size": 10,
    "mode": "online", "order": "random", "delta": 0.0, "passes": 1,
}  # fmt: skip


def record(seed, experiment="by_corruption", arrays=None, metrics=None, **config):
    errors = np.array([[0.5, 0.7], [0.3, 0.4], [0.28, 0.39]]) + 0.01 * seed
    batches = np.repeat(errors[:, :, None], 4, axis=2)
    batches[2, :, :2] += 0.02  # TENT has yet to learn
    batches[2, :, 2:] -= 0.02
    made = {"error": errors, "ece": errors / 2, "posted_error": errors + 0.001, "batches": batches}
    return Record(
        "tent", experiment, f"{experiment}{seed}{config}", BASE | {"seed": seed} | config, "done",
        metrics or {}, {}, made if arrays is None else arrays, PROVENANCE,
    )  # fmt: skip


class Post:
    """Records by experiment."""

    def __init__(self, *records):
        self.records = records

    def runs(self, experiment):
        return Runs("tent", experiment, "laptop", [r for r in self.records if r.experiment == experiment])


@pytest.fixture
def post():
    return Post(*(record(seed) for seed in (2, 0, 1)))


def test_errors_and_leads_are_paired_by_seed(post):
    assert q.error(post, arm="norm").tolist() == pytest.approx([0.35, 0.36, 0.37])
    assert q.error(post, arm="norm", corruption="snow").tolist() == pytest.approx([0.4, 0.41, 0.42])
    assert q.lead(post, arm="tent", over="norm").tolist() == pytest.approx([0.015] * 3)
    assert q.lead(post, arm="tent", over="norm").index.tolist() == [0, 1, 2]
    assert q.rise(post, name="ece", arm="norm", over="tent").tolist() == pytest.approx([0.0075] * 3)


def test_the_lead_on_the_first_images_is_that_of_the_first_batches(post):
    assert q.lead(post, arm="tent", over="norm", first=20).tolist() == pytest.approx([-0.005] * 3)
    assert q.lead_growth(post, first=20).tolist() == pytest.approx([0.02] * 3)
    assert q.lead_beside_mean(post, corruption="fog").tolist() == pytest.approx([0.005] * 3)
    table = q.growth(post.runs("by_corruption"))
    assert table[table["seed"] == 0]["lead"].tolist() == pytest.approx([-0.005, -0.005, 0.025 / 3, 0.015])
    assert table["images"].max() == 40
    with pytest.raises(InputError, match="batch by batch"):
        q._value(post.runs("by_corruption"), "ece", "tent", None, 20)


def test_an_arm_or_corruption_that_a_run_lacks_has_no_number(post):
    assert q.error(post, arm="sar").isna().all()
    assert q.error(post, arm="tent", corruption="frost").isna().all()


def test_several_runs_of_a_seed_are_an_error():
    twice = Post(record(0), record(0, mode="offline"))
    with pytest.raises(InputError, match="several runs"):
        q.error(twice, arm="norm")


def test_streams_are_told_by_mode_and_order():
    streams = Post(
        record(0, "streams"),
        record(0, "streams", order="sorted", arrays={"error": np.full((3, 2), 0.9)}),
        record(0, "streams", order="runs", delta=0.1, arrays={"error": np.full((3, 2), 0.6)}),
    )
    gap = q.stream_gap(streams, of={"arm": "norm", "order": "sorted"}, over={"arm": "norm"})
    assert gap.tolist() == pytest.approx([0.55])
    assert q.stream(streams, arm="tent", order="runs", delta=0.1).tolist() == pytest.approx([0.6])


def test_cells_of_the_grid_and_norm():
    rates = [1e-3, 1e-2]
    arrays = {"error": np.array([[0.3], [0.28], [0.6]]), "entropy": np.array([[1.0], [0.9], [0.2]])}
    fields = {
        "arms": ["norm"],
        "rates": rates,
        "corruptions": ["fog"],
        "parameters": "affine",
        "optimizer": "adam",
    }
    post = Post(*(record(seed, "sensitivity", arrays=arrays, **fields) for seed in (0, 1)))
    assert q.cell(post, batch=10, rate=None).tolist() == [0.3, 0.3]
    assert q.cell(post, batch=10, rate=1e-2, name="entropy").tolist() == [0.2, 0.2]
    assert q.cell(post, batch=10, rate=0.5).isna().all()
    gap = q.cell_gap(post, batch=10, rate=1e-2, other_batch=10, other_rate=1e-3)
    assert gap.tolist() == pytest.approx([0.32, 0.32])
    table = q.grid(post.runs("sensitivity"))
    assert len(table) == 6 and table["rate"].isna().sum() == 2


def test_sources_are_told_by_their_fields():
    def source(width):
        return {**SOURCE, "config": SOURCE["config"] | {"width": width}}

    better = np.array([[0.5, 0.7], [0.3, 0.4], [0.2, 0.3]])
    post = Post(
        record(0, "source_size", source=source(16)),
        record(0, "source_size", source=source(32), arrays={"error": better}),
    )
    gap = q.source_lead_gap(post, experiment="source_size", of={"width": 32}, over={"width": 16})
    assert gap.tolist() == pytest.approx([0.1 - 0.015])


def test_passes_and_mistakes():
    post = Post(record(0, "length", passes=2), record(0, "mistakes"))
    assert q.lead_by_pass(post, turn=0).tolist() == pytest.approx([-0.005])
    assert q.pass_gap(post).tolist() == pytest.approx([0.04])
    assert q.weighting(post, arm="tent").tolist() == pytest.approx([0.001])
    assert q.cost(post, arm="tent", over="norm").tolist() == pytest.approx([-0.015])


def test_memo_is_compared_on_the_first_batch():
    arms = ["source", "memo"]
    batches = np.array([[[0.5, 0.9]], [[0.4, np.nan]]])
    arrays = {"error": np.array([[0.7], [0.4]]), "batches": batches}
    post = Post(record(0, "methods", arms=arms, corruptions=["fog"], arrays=arrays))
    assert q.method_gap(post, arm="source", over="memo").tolist() == pytest.approx([0.1])


def test_reference_numbers_have_the_means_that_are_quoted():
    means = 100 * q.reference().groupby("arm")["error"].mean()
    assert means.round(1).to_dict() == {"source": 43.5, "norm": 20.4, "tent": 18.6}


def test_tables_are_texts(post):
    frame = q.long(post.runs("by_corruption"))
    wide = q.table(frame, "error", "arm", ["norm", "tent", "sar"], "corruption")
    assert list(wide["arm"]) == ["norm", "tent"] and list(wide.columns) == ["arm", "fog", "snow"]
    assert wide.loc[0, "fog"] == "31.0 ± 2.5"
    assert isinstance(q.beside(post), pd.DataFrame) and q.beside(post)["Ours"].str.len().gt(1).all()
    found = q.spread(frame, "error", ["arm"])
    assert found.set_index("arm")["n"].to_dict() == {"source": 3, "norm": 3, "tent": 3}
