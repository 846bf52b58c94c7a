"""Quantities of the distillation post on made-up records: what is counted, what is paired with what, what stays missing."""

from __future__ import annotations

import numpy as np
import pytest

from lib.core import InputError, Provenance, Record
from lib.quantities import distilling_knowledge as q
from lib.reading import Runs

PROVENANCE = Provenance({}, {}, "c" * 40, True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-01-01T00:00:00+00:00")
HARD, SOFT = ["hard", 1.0, 0.0], ["soft", 4.0, 0.9]
TEACHER = {"epochs": 4, "images": 100, "hidden": 20, "jittered_validation": False, "seed": 0, "data": "tiny"}
BASE = {
    "data": "tiny", "hidden": 10, "jitter": 0, "images": 100, "epochs": 3, "omitted": [], "arms": [HARD, SOFT],
}  # fmt: skip


def record(seed, experiment="transfer", arrays=None, metrics=None, teacher=None, **config):
    errors = np.array([[2, 2, 2], [1, 1, 1]]) + seed
    made = {"errors": errors, "matched_errors": errors - 1, "best_errors": np.zeros((2, 3), dtype=int)}
    inner = {"post": "p", "experiment": "teacher", "config": TEACHER | (teacher or {})}
    found = {"test_images": 200, "teacher_errors": 1} if metrics is None else metrics
    return Record(
        "p", experiment, f"{experiment}{seed}{config}{teacher}", BASE | {"seed": seed, "teacher": inner} | config,
        "done", found, {}, made if arrays is None else arrays, PROVENANCE,
    )  # fmt: skip


def taught(seed, errors, **config):
    metrics = {"test_images": 200, "test_errors": errors, "val_accuracy": 0.9, "clean_val_accuracy": 0.95}
    return Record(
        "p",
        "teacher",
        f"{seed}{config}",
        TEACHER | {"seed": seed} | config,
        "done",
        metrics,
        {},
        {},
        PROVENANCE,
    )


class Post:
    """Records by experiment."""

    def __init__(self, *records):
        self.records = records

    def runs(self, experiment):
        return Runs("p", experiment, "laptop", [r for r in self.records if r.experiment == experiment])


@pytest.fixture
def post():
    return Post(*(record(seed) for seed in (2, 0, 1)), *(taught(seed, 1 + seed) for seed in range(3)))


def test_errors_are_scaled_to_10_000_images_and_indexed_by_seed(post):
    found = q.errors(post, experiment="transfer", arm=HARD)
    assert found.index.tolist() == [0, 1, 2] and found.tolist() == [300, 450, 600]
    assert q.errors(post, experiment="transfer", arm=SOFT, digits=[1]).tolist() == [50, 100, 150]
    assert q.errors(post, experiment="transfer", arm=SOFT, bias="matched").tolist() == [0, 150, 300]
    with pytest.raises(InputError, match="bias is 'prior'"):
        q.errors(post, experiment="transfer", arm=SOFT, bias="prior")


def test_gaps_are_paired(post):
    gap = q.gap(
        post, of={"experiment": "transfer", "arm": SOFT}, over={"experiment": "transfer", "arm": HARD}
    )
    assert gap.tolist() == [150, 150, 150]


def test_runs_without_the_arm_are_passed_over_and_several_are_an_error():
    post = Post(record(0), record(0, omitted=[3], arms=[SOFT, ["soft", 20.0, 1.0]]))
    assert len(q.errors(post, experiment="transfer", arm=HARD)) == 1
    assert len(q.errors(post, experiment="transfer", arm=["matched", 1.0, 0.9])) == 0
    assert q.errors(post, experiment="transfer", arm=SOFT, where={"omitted": [3]}).tolist() == [300]
    with pytest.raises(InputError, match="several runs"):
        q.errors(post, experiment="transfer", arm=SOFT)


def test_a_diverged_run_has_no_number():
    post = Post(record(0, arrays={}, metrics={}), record(1))
    assert q.errors(post, experiment="transfer", arm=HARD).index.tolist() == [1]
    assert q.long(post.runs("transfer"))["seed"].tolist() == [1, 1]


def test_the_teachers_of_the_corrected_protocol_are_the_longest_trained():
    post = Post(
        taught(0, 2),
        taught(0, 9, epochs=1),
        taught(0, 8, images=10, epochs=9),
        taught(0, 6, hidden=5),
        taught(0, 3, jittered_validation=True),
    )
    assert q.teacher_errors(post).tolist() == [100]
    assert q.jitter_cost(post).tolist() == [50]
    assert q.jitter_gap(post).tolist() == pytest.approx([0.05])


def test_quality_compares_the_best_teacher_with_the_worst():
    better = np.array([[0, 0, 0], [0, 0, 1]])
    post = Post(
        record(0, "teacher_quality", teacher={"epochs": 4}, arrays={"errors": better}),
        record(0, "teacher_quality", teacher={"epochs": 1}),
        record(0, "teacher_quality", teacher={"epochs": 2}),
    )
    assert q.teacher_quality(post, arm=SOFT).tolist() == [100]
    assert len(q.teacher_quality(Post(), arm=SOFT)) == 0


def test_tables_count_the_omitted_digits_and_each_arm_once():
    mutual = ["mutual", 1.0, 0.5]
    post = Post(*(record(seed, "omitted_digit", omitted=[2], arms=[SOFT, HARD]) for seed in range(3)))
    table = q.long(post.runs("omitted_digit"))
    assert table.loc[0, ["on_omitted", "matched_on_omitted", "best_on_omitted"]].tolist() == [100, 50, 0]
    assert q.long(Post(record(0)).runs("transfer"))["on_omitted"].isna().all()
    assert len(q.long(Post(record(0, arms=[mutual, mutual])).runs("transfer"))) == 1
    found = q.spread(table, "errors", ["kind"]).set_index("kind")
    assert found["n"].to_dict() == {"soft": 3, "hard": 3} and found.loc["soft", "mean"] == 450


def test_the_tables_of_the_page():
    wide = {name: np.ones((2, 10), dtype=int) for name in ("errors", "matched_errors", "best_errors")}
    post = Post(
        *(record(seed, "omitted_digit", omitted=[3], arrays=wide) for seed in range(2)),
        *(record(seed) for seed in range(2)),
        *(taught(seed, 1) for seed in range(2)),
    )
    table = q.without_three(post, arms=[HARD, SOFT])
    assert (
        len(table) == 6
        and set(table["Errors"]) == {"500.0 ± 0.0 (2)"}
        and set(table.iloc[:, 3]) == {"50.0 ± 0.0 (2)"}
    )
    beside = q.beside(post, soft=SOFT)
    assert beside["Paper"].tolist() == ["67", "146", "74"] and beside["Original"].tolist() == [
        "99",
        "167",
        "109",
    ]
    assert beside["Ours"].tolist()[0] == "50.0 ± 0.0 (2)"
    assert q.mean_sd([np.nan]) == "–" and q.mean_sd([3.0]) == "3.0 (1)"


def test_arms_have_names():
    assert q.arm_name("hard", 1.0, 0.0) == "hard labels"
    assert q.arm_name("soft", 20.0, 1.0) == "soft labels, T = 20, a = 1"
    assert q.arm_name("hint", 4.0, 0.1) == "soft labels and hints, T = 4"
