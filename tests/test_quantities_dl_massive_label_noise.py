"""The post's quantities on records whose answers are known, and the numbers that it takes from elsewhere."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.claims import judge, load
from lib.core import InputError, Provenance, Record, canonical, sha256
from lib.methods.noise_ceiling import ceiling, noisy_accuracy, thresholds
from lib.quantities import dl_massive_label_noise as q
from lib.reading import Post, open_post
from lib.runs import published

SLUG = "dl-massive-label-noise"
ROOT = Path(__file__).resolve().parents[1]
RATES = [0.01, 0.05, 0.1, 0.5]
PROVENANCE = Provenance({"mnist": "f00d"}, {}, "0123456789", True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-11-20")
COMMON = {
    "lrs": RATES,
    "data": "mnist",
    "validation": 5000,
    "batch_size": 128,
    "max_steps": 8000,
    "eval_every": 400,
    "patience": 5,
}
SLOPES = {"perceptron": 0.008, "mlp1": 0.006, "mlp2": 0.004, "mlp4": 0.002}
COSTS = {"corrected": 0.0, "last": 0.01, "carried": -0.05, "shifted": 0.3, "as_posted": 0.4}


def record(experiment: str, fields: dict[str, Any], accuracy: float, lr: float, **more: Any) -> Record:
    """A run that validation judged 0.01 better than the test set, and whose worse rates lose 0.1 a place."""
    config = COMMON | fields
    behind = 0.1 * np.abs(np.arange(len(RATES)) - RATES.index(lr))
    arrays = {
        "best_val_accuracy": accuracy + 0.01 - behind,
        "test_accuracy": np.where(np.arange(len(RATES)) == 0, accuracy + 0.02, accuracy),
    } | more.pop("arrays", {})
    series = {f"val_accuracy_{lr:g}": [0.5, 0.6, 0.7, 0.85, 0.8, 0.81, 0.89]}
    metrics = {"test_accuracy": accuracy, "val_accuracy": accuracy + 0.01, "lr": lr, "ceiling": 1.0} | more
    return Record(
        SLUG,
        experiment,
        sha256(canonical([experiment, config])),
        config,
        "done",
        metrics,
        series,
        arrays,
        PROVENANCE,
    )


def diverged(experiment: str, fields: dict[str, Any]) -> Record:
    """A run without a number."""
    config = COMMON | fields
    arrays = {"best_val_accuracy": np.full(len(RATES), math.nan)}
    key = sha256(canonical([experiment, config]))
    return Record(SLUG, experiment, key, config, "diverged", {"ceiling": 1.0}, {}, arrays, PROVENANCE)


def curve(seeds: Sequence[int] = (0, 1, 2), alphas: Sequence[int] = (0, 10, 50)) -> list[Record]:
    """Accuracy falls by `SLOPES` a noisy label, from .99 + seed / 1000; the best rate is .5 at α = 0, else .05."""
    return [
        record(
            "noise_curve",
            {"network": network, "alpha": alpha, "seed": seed},
            0.99 - slope * alpha + seed / 1000,
            0.05 if alpha else 0.5,
        )
        for network, slope in SLOPES.items()
        for alpha in alphas
        for seed in seeds
    ]


def mistakes(seeds: Sequence[int] = (0, 1, 2)) -> list[Record]:
    """Each arm loses `COSTS`, whatever the seed; with shifted labels digit k is right k times in ten."""
    return [
        record(
            "mistakes",
            {"network": "mlp2", "alpha": alpha, "seed": seed, "arm": arm, "through": [0, 25, 50]},
            0.8 + seed / 100 - cost,
            0.1,
            ceiling=0.9 if arm == "shifted" else 1.0,
            arrays={"by_class": np.arange(10) / 10 if arm == "shifted" else np.full(10, 0.8)},
        )
        for alpha in (0, 25, 50)
        for arm, cost in COSTS.items()
        if alpha or arm != "shifted"
        for seed in seeds
    ]


def spelt(experiment: str, config: dict[str, Any], metrics: dict[str, Any], **more: Any) -> Record:
    """A run of a further experiment, with just these fields."""
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


ORDER_ENDS = {"shuffled": 0.8, "adjacent": 0.79, "noisy_first": 0.83, "clean_first": 0.15}


def orders(seeds: Sequence[int] = range(5)) -> list[Record]:
    """Every order ends at `ORDER_ENDS` + seed / 1000; clean first was at .7 before; three validations a pass of 10 batches."""
    return [
        spelt(
            "order",
            {"order": name, "alpha": alpha, "seed": seed, "data": "mnist", "evaluations": 3},
            {
                "test_accuracy": end + seed / 1000,
                "best_test_accuracy": max(end, 0.7) + seed / 1000,
                "steps": 10,
            },
            series={"accuracy": [0.7, 0.5, 0.4, end]},
        )
        for name, end in ORDER_ENDS.items()
        for alpha in (1, 5, 25)
        for seed in seeds
    ]


WATCHED = {
    "accuracy": [0.2, 0.6, 0.8, 0.7, 0.5, 0.4, 0.3],
    "loss": [2.2, 2.0, 1.9, 1.8, 2.0, 2.1, 2.2],
    "noisy_loss": [2.3, 2.25, 2.26, 2.27, 2.28, 2.29, 2.31],
    "test_accuracy": [0.2, 0.62, 0.82, 0.72, 0.52, 0.42, 0.32],
    "accuracy_ema": [0.3, 0.7, 0.8, 0.9, 0.9, 0.8, 0.8],
    "test_accuracy_ema": [0.3, 0.7, 0.8, 0.88, 0.9, 0.8, 0.8],
}


def trainings(seeds: Sequence[int] = range(5)) -> list[Record]:
    """The series of `WATCHED`, and noisy accuracies as the formula has them but for .001."""
    found = []
    for images in (2000, 55_000):
        for alpha in (10, 50):
            noisy = [noisy_accuracy(value, alpha) + 0.001 for value in WATCHED["accuracy"]]
            for seed in seeds:
                config = {"images": images, "alpha": alpha, "seed": seed, "data": "mnist"}
                config |= {"eval_every": 10, "max_steps": 65}
                series = WATCHED | {"noisy_accuracy": noisy}
                found.append(spelt("stopping", config, {"passes": 2.0}, series=series))
    return found


def by_batch(seeds: Sequence[int] = range(5)) -> list[Record]:
    """The best of the rates .01, .1, 1 is .1 at α = 0, .01 at 50; ten times that with batches of 512, or averaged."""
    found = []
    for alpha in (0, 50):
        for size in (32, 128, 512):
            for seed in seeds:
                raw = (0.01 if alpha else 0.1) * (10 if size == 512 else 1)
                mean = min(raw * 10, 1.0)
                config = {"network": "perceptron", "alpha": alpha, "batch_size": size, "seed": seed}
                arrays = {
                    f"{prefix}best_val_accuracy": 0.9
                    - 0.1 * np.abs(np.log10(np.array([0.01, 0.1, 1]) / best))
                    for prefix, best in (("", raw), ("ema_", mean))
                }
                fields = config | {"data": "mnist", "lrs": [0.01, 0.1, 1.0]}
                found.append(spelt("learning_rates", fields, {"lr": raw, "ema_lr": mean}, arrays=arrays))
    return found


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


@pytest.fixture
def post(opened: Callable[..., Post]) -> Post:
    return opened(*curve(), *mistakes(), *orders(), *trainings(), *by_batch())


# --- one number a seed ---------------------------------------------------------------------------------------------


def test_accuracies_of_the_curve_and_their_differences_are_those_of_the_records(post: Post) -> None:
    assert q.accuracy(post, network="mlp2", alpha=50).to_dict() == pytest.approx(
        {0: 0.79, 1: 0.791, 2: 0.792}
    )
    assert q.fall(post, network="mlp4", low=0, high=50).to_dict() == pytest.approx(
        dict.fromkeys(range(3), 0.1)
    )
    lead = q.lead(post, network="mlp2", over="perceptron", alpha=50)
    assert lead.to_dict() == pytest.approx(dict.fromkeys(range(3), 0.2))


def test_the_rate_drops_by_a_power_of_ten_where_every_network_moves_so_far(post: Post) -> None:
    assert q.rate_drop(post, low=0, high=50).to_dict() == pytest.approx(dict.fromkeys(range(3), 1.0))
    assert q.rate_drop(post, low=10, high=50).to_dict() == pytest.approx(dict.fromkeys(range(3), 0.0))


def test_a_network_that_keeps_its_rate_counts_as_no_drop(opened: Callable[..., Post]) -> None:
    records = [item for item in curve() if item.config["network"] != "mlp4"]
    kept = [
        record("noise_curve", {"network": "mlp4", "alpha": alpha, "seed": seed}, 0.9, 0.5)
        for alpha in (0, 50)
        for seed in range(3)
    ]
    drop = q.rate_drop(opened(*records, *kept), low=0, high=50)
    assert drop.to_dict() == pytest.approx(dict.fromkeys(range(3), 0.75))


def test_costs_are_paired_by_seed_so_that_what_the_seed_does_cancels(post: Post) -> None:
    for arm, expected in COSTS.items():
        if arm != "corrected":
            found = q.cost(post, arm=arm, network="mlp2", alpha=50)
            assert found.to_dict() == pytest.approx(dict.fromkeys(range(3), expected))


@pytest.mark.parametrize("how", ["missing", "diverged"])
def test_a_seed_without_its_pair_has_no_number_and_the_others_keep_theirs(
    opened: Callable[..., Post], how: str
) -> None:
    gone = {"network": "mlp2", "alpha": 50, "seed": 1, "arm": "shifted", "through": [0, 25, 50]}
    kept = [item for item in mistakes() if {name: item.config[name] for name in gone} != gone]
    assert len(kept) == len(mistakes()) - 1
    post = opened(*kept, *([diverged("mistakes", gone)] if how == "diverged" else []))
    found = q.cost(post, arm="shifted", network="mlp2", alpha=50)
    assert found[[0, 2]].to_list() == pytest.approx([0.3, 0.3])
    assert math.isnan(found[1])
    assert q.over_seeds(found).n == 2
    lost = q.class_accuracy(post, arm="shifted", network="mlp2", alpha=50, label=5)
    assert lost.dropna().to_dict() == pytest.approx({0: 0.5, 2: 0.5})


def test_a_network_that_lacks_a_rate_leaves_its_seed_without_a_drop(opened: Callable[..., Post]) -> None:
    lost = {"network": "mlp1", "alpha": 50, "seed": 2}
    kept = [item for item in curve() if {name: item.config[name] for name in lost} != lost]
    for post in (opened(*kept), opened(*kept, diverged("noise_curve", lost))):
        drop = q.rate_drop(post, low=0, high=50)
        assert drop[[0, 1]].to_list() == pytest.approx([1.0, 1.0])
        assert math.isnan(drop[2])


def test_where_nothing_fits_there_are_no_numbers(post: Post) -> None:
    assert len(q.accuracy(post, network="mlp2", alpha=70)) == 0
    assert len(q.rate_drop(post, low=0, high=70)) == 0
    assert len(q.class_accuracy(post, arm="shifted", network="mlp1", alpha=50, label=5)) == 0


def test_ceiling_headroom_and_classes_are_the_arms_own(post: Post) -> None:
    at = {"arm": "shifted", "network": "mlp2", "alpha": 50}
    assert q.arm_ceiling(post, **at).to_dict() == pytest.approx(dict.fromkeys(range(3), 0.9))
    assert q.headroom(post, **at).to_dict() == pytest.approx({0: 0.4, 1: 0.39, 2: 0.38})
    assert q.class_accuracy(post, **at, label=7).to_dict() == pytest.approx(dict.fromkeys(range(3), 0.7))


# --- frames --------------------------------------------------------------------------------------------------------


def test_networks_are_ordered_by_size_and_only_those_that_ran(post: Post) -> None:
    assert q.present(post.runs("noise_curve").frame) == ["perceptron", "mlp1", "mlp2", "mlp4"]
    assert q.present(post.runs("mistakes").frame) == ["mlp2"]


def test_settings_are_what_all_runs_share(post: Post, opened: Callable[..., Post]) -> None:
    found = q.settings(post.runs("noise_curve"))
    assert found["max_steps"] == 8000
    assert found["rates"] == "0.01, 0.05, 0.1, 0.5"
    other = record("noise_curve", {"network": "mlp2", "alpha": 0, "seed": 0, "max_steps": 9}, 0.9, 0.1)
    with pytest.raises(InputError, match="max_steps"):
        q.settings(opened(*curve(), other).runs("noise_curve"))


def test_votes_count_the_seeds_that_chose_a_rate(opened: Callable[..., Post]) -> None:
    rates = [0.1, 0.1, 0.01]
    runs = [
        record("noise_curve", {"network": "mlp2", "alpha": 50, "seed": seed}, 0.9, rate)
        for seed, rate in enumerate(rates)
    ]
    gone = diverged("noise_curve", {"network": "mlp2", "alpha": 50, "seed": 3})
    votes = q.votes(opened(*runs, gone).runs("noise_curve"))
    assert votes.set_index("lr")["seeds"].to_dict() == {0.1: 2, 0.01: 1}
    assert votes["mean"].to_list() == pytest.approx([10 ** (-4 / 3)] * 2)


def test_every_rate_is_measured_against_the_best_of_its_run(post: Post) -> None:
    frame = q.by_rate(post.runs("noise_curve").where(network="mlp2", alpha=50, seed=0))
    assert frame.set_index("rate")["loss_to_best"].to_dict() == pytest.approx(
        {0.01: 0.1, 0.05: 0, 0.1: 0.1, 0.5: 0.2}
    )


def test_a_run_whose_rates_all_diverged_has_no_best(opened: Callable[..., Post]) -> None:
    gone = diverged("noise_curve", {"network": "mlp2", "alpha": 50, "seed": 3})
    assert q.by_rate(opened(gone).runs("noise_curve"))["loss_to_best"].isna().all()


def test_classes_are_placed_from_the_rarest_to_the_most_frequent(post: Post) -> None:
    frame = q.by_class(post.runs("mistakes").where(arm="shifted", alpha=50, seed=0))
    assert frame.sort_values("place")["label"].to_list() == [5, 4, 8, 6, 0, 9, 2, 3, 7, 1]
    assert frame.set_index("label")["accuracy"][3] == pytest.approx(0.3)


def test_intervals_leave_out_what_has_no_number_and_close_for_one_seed(post: Post) -> None:
    frame = post.runs("noise_curve").where(network="mlp2").frame
    frame.loc[frame["alpha"] == 10, "test_accuracy"] = math.nan
    frame = frame[(frame["alpha"] < 50) | (frame["seed"] == 0)]
    found = q.intervals(frame, "test_accuracy", ("network", "alpha")).set_index("alpha")
    assert list(found.index) == [0, 50]
    assert found.loc[0, "low"] < found.loc[0, "mean"] == pytest.approx(0.991)
    assert found.loc[50, "low"] == found.loc[50, "mean"] == found.loc[50, "high"]


def test_the_table_has_theirs_and_ours_at_the_same_noise(post: Post) -> None:
    table = q.beside(post).set_index(["Network", "α"])
    assert list(table.loc["MLP2", 50]) == ["89.3", "48.1", "79.1 [78.9, 79.3]"]
    assert table.loc[("MLP2", 0), "Paper"] == "–"
    assert set(table.index.get_level_values("α")) == {0, 50}  # at 10 the original has nothing


def test_the_table_of_costs_names_each_mistake_at_each_noise(post: Post) -> None:
    """An arm that no network has is left out; the two rows that are no arms come last."""
    table = q.costs(post, networks=["perceptron", "mlp2"]).set_index("Arm")
    assert list(table.columns) == [f"{n}, α = {a}" for n in ("Perceptron", "MLP2") for a in (25, 50)]
    assert table.loc["shifted labels", "MLP2, α = 50"] == "30.0 [30.0, 30.0]"
    assert table.loc["carried networks", "MLP2, α = 25"] == "−5.0 [−5.0, −5.0]"
    assert table.loc["shifted labels", "Perceptron, α = 50"] == "–"
    assert "inputs in [−1, 1]" not in table.index
    assert list(table.index[-2:]) == ["patience in effect 1", "rate chosen on test"]
    assert table.loc["patience in effect 1", "MLP2, α = 50"] == "4.0 [4.0, 4.0]"
    assert table.loc["rate chosen on test", "MLP2, α = 50"] == "−2.0 [−2.0, −2.0]"


# --- the mistakes that corrected runs tell of ----------------------------------------------------------------------


def test_impatience_is_what_comes_after_the_originals_rule_would_have_stopped(post: Post) -> None:
    """The made-up series rises, stalls at the fifth value, and is .04 higher later."""
    found = q.impatience(post, network="mlp2", alpha=50)
    assert found.to_dict() == pytest.approx(dict.fromkeys(range(3), 0.04))


def test_flattery_is_the_best_tested_rate_minus_the_chosen_one(post: Post) -> None:
    found = q.flattery(post, network="mlp2", alpha=50)
    assert found.to_dict() == pytest.approx(dict.fromkeys(range(3), 0.02))


def test_a_diverged_run_has_neither(opened: Callable[..., Post]) -> None:
    gone = diverged("noise_curve", {"network": "mlp2", "alpha": 50, "seed": 3})
    gone.arrays["test_accuracy"] = np.full(len(RATES), math.nan)
    post = opened(*curve(), gone)
    assert math.isnan(q.impatience(post, network="mlp2", alpha=50)[3])
    assert math.isnan(q.flattery(post, network="mlp2", alpha=50)[3])


def test_seeds_keep_a_difference_to_those_that_both_sides_have(opened: Callable[..., Post]) -> None:
    more = [
        record("noise_curve", {"network": "mlp2", "alpha": 50, "seed": seed}, 0.8, 0.05) for seed in (3, 4)
    ]
    post = opened(*curve(), *more)
    assert q.fall(post, network="mlp2", low=0, high=50).isna().sum() == 2
    assert list(q.fall(post, network="mlp2", low=0, high=50, seeds=3).index) == [0, 1, 2]
    assert q.rate_drop(post, low=0, high=50, seeds=3).to_dict() == pytest.approx(dict.fromkeys(range(3), 1.0))


def test_a_network_with_one_rate_has_no_say_in_the_drop(opened: Callable[..., Post]) -> None:
    only = [
        record("noise_curve", {"network": "conv4", "alpha": alpha, "seed": seed, "lrs": [0.5]}, 0.9, 0.5)
        for alpha in (0, 50)
        for seed in range(3)
    ]
    drop = q.rate_drop(opened(*curve(), *only), low=0, high=50)
    assert drop.to_dict() == pytest.approx(dict.fromkeys(range(3), 1.0))


# --- order ---------------------------------------------------------------------------------------------------------


def test_orders_are_compared_with_shuffled_pairs_seed_by_seed(post: Post) -> None:
    for name, end in ORDER_ENDS.items():
        found = q.order_cost(post, order=name, alpha=25)
        assert found.to_dict() == pytest.approx(dict.fromkeys(range(5), 0.8 - end))
    lost = q.forgetting(post, order="clean_first", alpha=5)
    assert lost.to_dict() == pytest.approx(dict.fromkeys(range(5), 0.55))


def test_the_way_through_a_pass_ends_at_its_end(post: Post) -> None:
    frame = q.along(post.runs("order").where(order="clean_first", alpha=25, seed=0))
    assert frame["share"].to_list() == pytest.approx([0.3, 0.6, 0.9, 1.0])
    assert frame["accuracy"].to_list() == [0.7, 0.5, 0.4, 0.15]


# --- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "patience", "mode", "expected"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.9], 2, "max", (3, 1)),
        ([0.1, 0.3, 0.2, 0.2, 0.9], 3, "max", (4, 4)),
        ([2.0, 1.0, 1.5, 0.5], 5, "min", (3, 3)),
        ([0.5, 0.5, 0.5], 2, "max", (2, 0)),
        ([math.nan, 0.2, 0.1], 5, "max", (2, 1)),
        ([0.7], 1, "max", (0, 0)),
    ],
)
def test_a_patient_rule_on_scripted_values(
    values: list[float], patience: int, mode: Any, expected: tuple[int, int]
) -> None:
    assert q.patient_stop(values, patience, mode) == expected


@settings(deadline=None)  # the first example imports torch
@given(
    st.lists(st.integers(0, 6).map(lambda value: value / 7), min_size=1, max_size=25),
    st.integers(1, 6),
    st.sampled_from(["max", "min"]),
)
def test_a_patient_rule_is_the_training_loops(values: list[float], patience: int, mode: Any) -> None:
    pytest.importorskip("torch")
    from lib.training import Stopping

    rule = Stopping(patience, mode=mode)
    for place, value in enumerate(values):
        if rule.update(value, place, dict):
            break
    assert q.patient_stop(values, patience, mode) == (place, rule.best_index)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25), st.integers(1, 5))
def test_the_originals_rule_is_the_training_loops(values: list[float], patience: int) -> None:
    pytest.importorskip("torch")
    from lib.training import WindowStopping

    rule = WindowStopping(patience)
    for place, value in enumerate(values):
        if rule.update(value, place, dict):
            break
    assert q.window_stop(values, patience) == place


def test_nothing_to_stop_by() -> None:
    with pytest.raises(InputError, match="no values"):
        q.patient_stop([], 3)


def test_regrets_of_every_rule(post: Post) -> None:
    """The best test accuracy is .82 at the third value; the rules end where the made-up series say."""
    found = q.regrets(post.runs("stopping").where(images=2000, alpha=10, seed=[0, 1]), patience=5)
    table = found[found["seed"] == 0].set_index("rule")
    expected = {
        "clean_accuracy": (0.0, 3 / 7),
        "clean_loss": (0.1, 4 / 7),
        "noisy_accuracy": (0.0, 3 / 7),
        "noisy_loss": (0.2, 2 / 7),
        "fixed": (0.0, 3 / 7),
        "none": (0.5, 1.0),
    }
    assert set(table.index) == set(q.RULES) == set(expected)
    for rule, (regret, share) in expected.items():
        assert table.loc[rule, "regret"] == pytest.approx(regret), rule
        assert table.loc[rule, "share"] == pytest.approx(share), rule
    assert table.loc["noisy_loss", "stopped"] == 1.0  # five without an improvement after the second


def test_a_fixed_budget_is_learnt_from_the_other_seeds(opened: Callable[..., Post]) -> None:
    late = WATCHED | {"accuracy": WATCHED["accuracy"][::-1], "noisy_accuracy": WATCHED["accuracy"]}
    config = {"images": 2000, "alpha": 10, "data": "mnist", "eval_every": 10, "max_steps": 70}
    own = [item for item in trainings((1, 2)) if (item.config["images"], item.config["alpha"]) == (2000, 10)]
    odd = spelt("stopping", config | {"seed": 0}, {"passes": 2.0}, series=late)
    runs = opened(odd, *own).runs("stopping")
    fixed = q.regrets(runs).query("rule == 'fixed'").set_index("seed")["share"]
    assert fixed[0] == pytest.approx(3 / 7)  # the others' best, not its own, which is the fifth
    alone = q.regrets(runs.where(seed=1))
    assert "fixed" not in set(alone["rule"])


def test_regret_for_claims(post: Post) -> None:
    at = {"images": 55_000, "alpha": 50}
    assert q.regret(post, rule="none", **at).to_dict() == pytest.approx(dict.fromkeys(range(5), 0.5))
    more = q.regret_difference(post, rule="none", over="clean_loss", **at)
    assert more.to_dict() == pytest.approx(dict.fromkeys(range(5), 0.4))
    with pytest.raises(InputError, match="no rule 'patience'; there are: clean_accuracy"):
        q.regret(post, rule="patience", **at)
    assert len(q.regret(post, rule="none", images=7, alpha=50)) == 0


def test_noisy_gap_and_averaging(post: Post) -> None:
    at = {"images": 55_000, "alpha": 10}
    assert q.noisy_gap(post, **at).to_dict() == pytest.approx(dict.fromkeys(range(5), 0.001))
    # the first of the best averaged validations counts, as for raw ones
    assert q.averaging_gain(post, **at).to_dict() == pytest.approx(dict.fromkeys(range(5), 0.88 - 0.82))


def test_watched_has_every_series_at_its_step(post: Post) -> None:
    frame = q.watched(post.runs("stopping").where(images=2000, alpha=10, seed=0))
    assert frame["step"].to_list() == [10, 20, 30, 40, 50, 60, 65]
    assert frame["loss"].to_list() == WATCHED["loss"]


# --- learning rates ------------------------------------------------------------------------------------------------


def test_rates_are_compared_in_powers_of_ten(post: Post) -> None:
    ones = dict.fromkeys(range(5), 1.0)
    at = {"network": "perceptron", "alpha": 50}
    drop = q.rate_drop_with_noise(post, network="perceptron", low=0, high=50, batch_size=128)
    assert drop.to_dict() == pytest.approx(ones)
    assert q.rate_rise_with_batch(post, **at, low=32, high=512).to_dict() == pytest.approx(ones)
    assert q.rate_rise_with_averaging(post, **at, batch_size=128).to_dict() == pytest.approx(ones)


def test_accuracy_by_rate_batch_and_weights(post: Post) -> None:
    frame = q.at_batch_size(post.runs("learning_rates").where(alpha=50, batch_size=128, seed=0))
    best = frame.loc[frame.groupby("weights")["accuracy"].idxmax()].set_index("weights")["rate"]
    assert best.to_dict() == {"averaged": 0.1, "raw": 0.01}


def test_learning_is_the_chosen_rates_series(post: Post) -> None:
    frame = q.learning(post.runs("noise_curve").where(network="mlp2", alpha=50, seed=0))
    assert frame["step"].to_list() == [400, 800, 1200, 1600, 2000, 2400, 2800]
    assert frame["accuracy"].max() == pytest.approx(0.89)


# --- other people's numbers ----------------------------------------------------------------------------------------


def test_the_papers_curves_fall_from_their_networks_and_are_fractions() -> None:
    paper = q.paper()
    assert len(paper) == 5 * 11 - 1
    assert paper["test_accuracy"].between(0.3, 1).all()
    at_50 = paper[paper["alpha"] == 50].set_index("network")["test_accuracy"]
    assert list(at_50[list(q.NETWORKS)]) == sorted(at_50)
    for _, part in paper.groupby("network"):
        assert np.diff(part["test_accuracy"]).max() <= 0.007 + 1e-9  # but for a wobble of Conv4 at 70


def test_the_original_is_below_the_paper_wherever_both_have_a_number_under_noise() -> None:
    both = q.paper().merge(q.original(), on=["network", "alpha"], suffixes=("_paper", "_original"))
    noisy = both[both["alpha"] > 0]
    assert len(noisy) == 5
    assert (noisy["test_accuracy_original"] < noisy["test_accuracy_paper"]).all()


def test_mnists_counts_give_the_published_thresholds_and_ceilings() -> None:
    assert (sum(q.TRAIN_COUNTS), sum(q.TEST_COUNTS)) == (60_000, 10_000)
    found = {
        digit: round(float(at), 1) for digit, at in enumerate(thresholds(q.TRAIN_COUNTS)) if np.isfinite(at)
    }
    assert found == {5: 45.4, 4: 66.7, 8: 67.3, 6: 72.8, 0: 73.3, 9: 75.7, 2: 76.5, 3: 98.2, 7: 125.8}
    ceilings = [
        round(ceiling(q.TRAIN_COUNTS, alpha, q.TEST_COUNTS), 3) for alpha in (0.0, 45.0, 50.0, 75.0, 100.0)
    ]
    assert ceilings == [1.0, 1.0, 0.911, 0.521, 0.216]


def test_mnists_counts_are_those_of_its_files(posts_data: Path) -> None:
    pytest.importorskip("torch")
    from lib.data import load as load_data

    data = load_data("mnist")
    counts = (np.bincount(split.labels.numpy()) for split in (data.train, data.test))
    assert [tuple(count.tolist()) for count in counts] == [q.TRAIN_COUNTS, q.TEST_COUNTS]


# --- the post ------------------------------------------------------------------------------------------------------


def test_every_claim_can_be_judged_and_follows_its_records(post: Post) -> None:
    found = {claim.id: judge(claim, post) for claim in load(ROOT, SLUG)}
    verdicts = {name: item.verdict for name, item in found.items()}
    expected = {
        "perceptron-falls": "reproduced",
        "bigger-is-more-robust": "reproduced",
        "noise-lowers-the-rate": "reproduced",
        "mlp2-as-in-the-paper": "inconclusive",  # these are no full runs
        "as-posted-falls-short": "reproduced",
        "uniform-beats-shifted": "reproduced",
        "carrying-over-costs": "not reproduced",  # here it helps
        "last-weights-cost": "reproduced",
        "ceiling-at-50": "not reproduced",  # here it is .9
        "below-the-ceiling": "reproduced",
        "fives-are-lost": "not reproduced",
        "mlp2-on-a-laptop": "reproduced",
        "conv4-at-50": "inconclusive",  # none ran
        "impatience-costs": "reproduced",
        "signed-inputs-cost": "inconclusive",  # none ran
        "clean-first-is-forgotten": "reproduced",
        "clean-first-ends-at-chance": "reproduced",
        "noisy-first-is-better": "reproduced",
        "adjacent-copies-cost": "reproduced",
        "not-stopping-costs": "reproduced",
        "noisy-loss-is-better-than-nothing": "reproduced",
        "clean-labels-stop-better": "inconclusive",  # here both stop at the same place
        "noisy-accuracy-is-a-line": "reproduced",
        "noise-lowers-the-rate-on-a-finer-grid": "reproduced",
        "larger-batches-want-larger-rates": "reproduced",
        "averaging-helps": "reproduced",
        "averaging-allows-higher-rates": "reproduced",
    }
    assert {name: verdicts[name] for name in expected} == expected
    assert (
        found["mlp2-as-in-the-paper"].claim.paper == "0.893" or found["mlp2-as-in-the-paper"].paper == "0.893"
    )


def test_claims_quote_the_numbers_of_paper_and_original() -> None:
    paper, original = (
        table.set_index(["network", "alpha"])["test_accuracy"] for table in (q.paper(), q.original())
    )
    claims = {claim.id: claim for claim in load(ROOT, SLUG)}
    for table, name in ((paper, "paper"), (original, "original")):
        if name == "paper":
            assert claims["conv4-at-100"].paper == pytest.approx(table["conv4", 100])
        assert getattr(claims["conv4-at-50"], name) == pytest.approx(table["conv4", 50])
        for identifier in ("mlp2-as-in-the-paper", "mlp2-on-a-laptop", "as-posted-falls-short"):
            assert getattr(claims[identifier], name) == pytest.approx(table["mlp2", 50])
        assert getattr(claims["perceptron-as-in-the-paper"], name) == pytest.approx(table["perceptron", 50])
        for network in ("perceptron", "mlp4"):
            fall = table[network, 0] - table[network, 50]
            assert getattr(claims[f"{network}-falls"], name) == pytest.approx(fall, abs=1e-6)
        lead = table["mlp2", 50] - table["perceptron", 50]
        assert getattr(claims["bigger-is-more-robust"], name) == pytest.approx(lead, abs=1e-6)
        lead = table["mlp4", 50] - table["mlp1", 50]
        assert getattr(claims["deeper-is-more-robust"], name) == pytest.approx(lead, abs=1e-6)


def test_the_quantities_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import lib.quantities.dl_massive_label_noise"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
