"""Deep Learning is Robust to Massive Label Noise: what its claims and figures are made of.

    post = open_post("dl-massive-label-noise")
    fall(post, network="mlp4", low=0, high=50)             # one number a seed, for a claim
    paper(), original()                                    # the numbers that others published, as frames
    by_class(post.runs("mistakes"))                        # long frames, for figures

Everything that compares two runs is paired by seed: such runs share their first weights and the order of their images.

Sources: Rolnick, Veit, Belongie and Shavit (2017), arXiv 1705.10694, Figure 1, digitised (± 0.005); the original post's
figure, test set, best rate (± 0.005); MNIST's label files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from lib.core import InputError, Record
from lib.methods.noise_ceiling import noisy_accuracy
from lib.reading import Post, Runs
from lib.stats import Interval, t_interval

NETWORKS = {"perceptron": "Perceptron", "mlp1": "MLP1", "mlp2": "MLP2", "mlp4": "MLP4", "conv4": "Conv4"}
"""The networks' names for readers, smallest first."""
ARMS = {
    "corrected": "corrected",
    "last": "last weights",
    "carried": "carried networks",
    "shifted": "shifted labels",
    "signed": "inputs in [−1, 1]",
    "as_posted": "all, as posted",
}
"""The arms' names for readers."""
ORDERS = {
    "shuffled": "shuffled",
    "adjacent": "copies adjacent",
    "noisy_first": "noisy first",
    "clean_first": "clean first",
}
"""The orders' names for readers."""
RULES = {
    "clean_accuracy": "accuracy, clean labels",
    "clean_loss": "loss, clean labels",
    "noisy_accuracy": "accuracy, noisy labels",
    "noisy_loss": "loss, noisy labels",
    "fixed": "fixed budget",
    "none": "no stopping",
}
"""The stopping rules' names for readers."""
_WATCHED: Mapping[str, tuple[str, Literal["max", "min"]]] = {
    "clean_accuracy": ("accuracy", "max"),
    "clean_loss": ("loss", "min"),
    "noisy_accuracy": ("noisy_accuracy", "max"),
    "noisy_loss": ("noisy_loss", "min"),
}
PATIENCE = 5
"""Evaluations without an improvement after which a rule stops: that of the noise curve."""
SETTINGS = ("data", "validation", "batch_size", "max_steps", "eval_every", "patience")
"""Fields that the runs of a profile have in common."""

TRAIN_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
"""Images of each digit in MNIST's training set."""
TEST_COUNTS = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
"""Images of each digit in MNIST's test set."""

_PAPER_ALPHAS = tuple(range(0, 101, 10))
_PAPER: Mapping[str, tuple[float | None, ...]] = {
    "perceptron": (92.3, 84.8, 81.2, 76.7, 72.8, 68.4, 59.7, 59.0, 53.3, 47.0, 39.9),
    "mlp1": (98.2, 95.3, 93.5, 91.3, 89.2, 87.5, 83.4, 80.1, 78.0, 74.4, 69.7),
    "mlp2": (None, 95.3, 93.8, 93.1, 91.1, 89.3, 88.1, 86.0, 84.0, 81.5, 79.7),
    "mlp4": (98.6, 95.8, 94.3, 92.6, 91.6, 90.2, 87.5, 86.6, 84.8, 81.9, 80.6),
    "conv4": (99.5, 98.6, 98.2, 97.4, 97.1, 96.2, 95.2, 95.9, 95.8, 92.0, 91.0),
}
_ORIGINAL_ALPHAS = (0, 25, 50)
_ORIGINAL: Mapping[str, tuple[float, ...]] = {
    "perceptron": (0.916, 0.545, 0.363),
    "mlp1": (0.969, 0.816, 0.348),
    "mlp2": (0.971, 0.871, 0.481),
    "mlp4": (0.973, 0.899, 0.453),
    "conv4": (0.99, 0.96, 0.808),
}


# --- other people's numbers ----------------------------------------------------------------------------------------


def paper() -> pd.DataFrame:
    """The paper's Figure 1, uniform noise on MNIST: network, alpha, test_accuracy (a fraction).

    MLP2 at α = 0 cannot be told from its neighbours in the figure, and is left out.
    """
    return _long(_PAPER_ALPHAS, _PAPER, scale=100)


def original() -> pd.DataFrame:
    """The original post's accuracies on its test set: network, alpha, test_accuracy (a fraction)."""
    return _long(_ORIGINAL_ALPHAS, _ORIGINAL, scale=1)


def _long(alphas: Sequence[int], table: Mapping[str, Sequence[float | None]], scale: float) -> pd.DataFrame:
    rows = [
        {"network": network, "alpha": alpha, "test_accuracy": value / scale}
        for network, values in table.items()
        for alpha, value in zip(alphas, values, strict=True)
        if value is not None
    ]
    return pd.DataFrame(rows)


# --- for claims: one number a seed ---------------------------------------------------------------------------------


def accuracy(post: Post, *, network: str, alpha: int) -> pd.Series:
    """Test accuracy under uniform noise, with the rate and the weights that validation chose."""
    return post.runs("noise_curve").where(network=network, alpha=alpha).per_seed("test_accuracy")


def fall(post: Post, *, network: str, low: int, high: int, seeds: int | None = None) -> pd.Series:
    """How much accuracy is lost from α = `low` to α = `high`.

    seeds: only those below it, here and in what follows: where a place has more of them than the one it is compared with.
    """
    lost = accuracy(post, network=network, alpha=low) - accuracy(post, network=network, alpha=high)
    return _below(lost, seeds)


def _below(values: pd.Series, seeds: int | None) -> pd.Series:
    return values if seeds is None else values[values.index < seeds]


def lead(post: Post, *, network: str, over: str, alpha: int) -> pd.Series:
    """By how much `network` is more accurate than the network `over`."""
    return accuracy(post, network=network, alpha=alpha) - accuracy(post, network=over, alpha=alpha)


def rate_drop(post: Post, *, low: int, high: int, seeds: int | None = None) -> pd.Series:
    """By how many powers of ten the chosen rate is lower at α = `high` than at `low`: the mean over the networks.

    Networks with one rate to choose from do not count.

    With few rates to choose from it moves in steps; where a rate is chosen at both ends the network counts as 0.
    """
    rates = {}
    for alpha in (low, high):
        frame = post.runs("noise_curve").where(alpha=alpha).frame
        if len(frame):
            frame = frame[frame["lrs"].map(len) > 1]
        if not len(frame):
            return pd.Series([], index=pd.Index([], name="seed", dtype="int64"), dtype=float)
        rates[alpha] = np.log10(frame.pivot(index="seed", columns="network", values="lr").astype(float))
    drop = rates[low] - rates[high]
    drop = drop.loc[:, rates[low].columns.intersection(rates[high].columns)].mean(axis=1, skipna=False)
    return _below(drop, seeds)


def arm_accuracy(post: Post, *, arm: str, network: str, alpha: int) -> pd.Series:
    """Test accuracy of one arm of `mistakes`, as that arm reports it."""
    return _arm(post, arm, network, alpha).per_seed("test_accuracy")


def cost(post: Post, *, arm: str, network: str, alpha: int, seeds: int | None = None) -> pd.Series:
    """What a mistake costs: the corrected arm's accuracy minus that of `arm`."""
    right = arm_accuracy(post, arm="corrected", network=network, alpha=alpha)
    return _below(right - arm_accuracy(post, arm=arm, network=network, alpha=alpha), seeds)


def impatience(post: Post, *, network: str, alpha: int, patience: int = 3) -> pd.Series:
    """What the original's stopping rule alone costs: validation accuracy, best of the run minus best until it stops.

    The rule is put to the series of the chosen rate of the corrected run: it ends a run at the first value, from the
    fifth on, that does not beat each of the `patience` before it. NaN for a run that diverged.
    """
    found = {}
    for record in post.runs("noise_curve").where(network=network, alpha=alpha).records:
        values = _chosen_series(record)
        stop = window_stop(values.tolist(), patience)
        lost = np.nanmax(values) - np.nanmax(values[: stop + 1]) if len(values) else np.nan
        found[record.config["seed"]] = float(lost)
    return _by_seed(found, "impatience")


def flattery(post: Post, *, network: str, alpha: int) -> pd.Series:
    """What choosing the rate on the test set adds to the test accuracy that is reported, over choosing it on validation."""
    found = {}
    for record in post.runs("noise_curve").where(network=network, alpha=alpha).records:
        tested = np.asarray(record.arrays["test_accuracy"], dtype=float)
        chosen = record.metrics.get("test_accuracy", np.nan)
        best = np.nanmax(tested) if np.isfinite(tested).any() else np.nan
        found[record.config["seed"]] = float(best) - float(chosen)
    return _by_seed(found, "flattery")


def _chosen_series(record: Record) -> np.ndarray:
    """Validation accuracies of the rate that a run of the curve chose; empty for one that diverged."""
    if "lr" not in record.metrics:
        return np.array([])
    return np.asarray(record.series[f"val_accuracy_{record.metrics['lr']:g}"], dtype=float)


def _by_seed(values: Mapping[int, float], name: str) -> pd.Series:
    index = pd.Index(list(values), name="seed", dtype="int64")
    return pd.Series(list(values.values()), index=index, name=name, dtype=float).sort_index()


def arm_ceiling(post: Post, *, arm: str, network: str, alpha: int) -> pd.Series:
    """The accuracy of whoever learns the arm's noisy labels perfectly, by the classes of the run's own images."""
    return _arm(post, arm, network, alpha).per_seed("ceiling")


def headroom(post: Post, *, arm: str, network: str, alpha: int) -> pd.Series:
    """How far an arm's accuracy stays below its ceiling."""
    runs = _arm(post, arm, network, alpha)
    return runs.per_seed("ceiling") - runs.per_seed("test_accuracy")


def class_accuracy(post: Post, *, arm: str, network: str, alpha: int, label: int) -> pd.Series:
    """The share of the test images of class `label` that an arm gets right; NaN for a run that diverged."""
    runs = _arm(post, arm, network, alpha)
    seeds = [record.config["seed"] for record in runs.records]
    values = [
        float(record.arrays["by_class"][label]) if "by_class" in record.arrays else np.nan
        for record in runs.records
    ]
    index = pd.Index(seeds, name="seed", dtype="int64")
    return pd.Series(values, index=index, name="class_accuracy", dtype=float).sort_index()


# the order of the pairs


def order_accuracy(post: Post, *, order: str, alpha: int) -> pd.Series:
    """Test accuracy at the end of one pass in this order, with the last weights."""
    return post.runs("order").where(order=order, alpha=alpha).per_seed("test_accuracy")


def order_cost(post: Post, *, order: str, alpha: int) -> pd.Series:
    """What an order costs against shuffled pairs, at the end of one pass; negative where it is better."""
    return order_accuracy(post, order="shuffled", alpha=alpha) - order_accuracy(
        post, order=order, alpha=alpha
    )


def forgetting(post: Post, *, order: str, alpha: int) -> pd.Series:
    """By how much the last weights of a pass are worse than its best ones, chosen on validation."""
    runs = post.runs("order").where(order=order, alpha=alpha)
    return runs.per_seed("best_test_accuracy") - runs.per_seed("test_accuracy")


# stopping


def regret(post: Post, *, rule: str, images: int, alpha: int) -> pd.Series:
    """By how much what a rule returns is worse on the test set than the best evaluation of the same training."""
    if rule not in RULES:
        raise InputError(f"no rule {rule!r}; there are: {', '.join(RULES)}")
    frame = regrets(post.runs("stopping").where(images=images, alpha=alpha))
    frame = frame[frame["rule"] == rule] if len(frame) else frame
    return _by_seed(
        {} if not len(frame) else dict(zip(frame["seed"], frame["regret"], strict=True)), "regret"
    )


def regret_difference(post: Post, *, rule: str, over: str, images: int, alpha: int) -> pd.Series:
    """By how much the regret of `rule` is larger than that of `over`, in the same trainings."""
    return regret(post, rule=rule, images=images, alpha=alpha) - regret(
        post, rule=over, images=images, alpha=alpha
    )


def noisy_gap(post: Post, *, images: int, alpha: int) -> pd.Series:
    """Accuracy on noisy validation labels minus (a + α / 10) / (1 + α) of that on clean ones; mean over a training."""
    found = {}
    for record in post.runs("stopping").where(images=images, alpha=alpha).records:
        clean, noisy = (np.asarray(record.series[name]) for name in ("accuracy", "noisy_accuracy"))
        found[record.config["seed"]] = float(np.mean(noisy - noisy_accuracy(clean, alpha)))
    return _by_seed(found, "noisy_gap")


def averaging_gain(post: Post, *, images: int, alpha: int) -> pd.Series:
    """What averaged weights gain over raw ones in test accuracy, each at its best clean validation accuracy."""
    found = {}
    for record in post.runs("stopping").where(images=images, alpha=alpha).records:
        raw, mean = (
            record.series[f"test_accuracy{tail}"][int(np.nanargmax(record.series[f"accuracy{tail}"]))]
            for tail in ("", "_ema")
        )
        found[record.config["seed"]] = mean - raw
    return _by_seed(found, "averaging_gain")


# learning rates


def log_rate(post: Post, *, network: str, alpha: int, batch_size: int, averaged: bool = False) -> pd.Series:
    """log10 of the learning rate that validation chose, for raw or for averaged weights."""
    runs = post.runs("learning_rates").where(network=network, alpha=alpha, batch_size=batch_size)
    return np.log10(runs.per_seed("ema_lr" if averaged else "lr"))


def rate_drop_with_noise(
    post: Post, *, network: str, low: int, high: int, batch_size: int, averaged: bool = False
) -> pd.Series:
    """By how many powers of ten the best rate is lower at α = `high` than at `low`."""
    at: dict[str, Any] = {"network": network, "batch_size": batch_size, "averaged": averaged}
    return log_rate(post, alpha=low, **at) - log_rate(post, alpha=high, **at)


def rate_rise_with_batch(post: Post, *, network: str, alpha: int, low: int, high: int) -> pd.Series:
    """By how many powers of ten the best rate is higher with batches of `high` than of `low`."""
    at: dict[str, Any] = {"network": network, "alpha": alpha}
    return log_rate(post, batch_size=high, **at) - log_rate(post, batch_size=low, **at)


def rate_rise_with_averaging(post: Post, *, network: str, alpha: int, batch_size: int) -> pd.Series:
    """By how many powers of ten the best rate is higher for averaged than for raw weights."""
    at: dict[str, Any] = {"network": network, "alpha": alpha, "batch_size": batch_size}
    return log_rate(post, averaged=True, **at) - log_rate(post, **at)


def _arm(post: Post, arm: str, network: str, alpha: int) -> Runs:
    return post.runs("mistakes").where(arm=arm, network=network, alpha=alpha)


# --- stopping rules ------------------------------------------------------------------------------------------------


def patient_stop(
    values: Sequence[float], patience: int, mode: Literal["max", "min"] = "max"
) -> tuple[int, int]:
    """Where a rule stops, and the place of the best value until then, which it returns.

    It stops at the first value after which `patience` in a row were no improvement, else at the end; as
    `lib.training.Stopping` does while it trains. A NaN is never an improvement. Raises InputError without values.
    """
    if not len(values):
        raise InputError("no values to stop by")
    best, sign = -1, 1 if mode == "max" else -1
    for place, value in enumerate(values):
        if not np.isnan(value) and (best < 0 or sign * value > sign * values[best]):
            best = place
        if place - best >= patience:
            return place, max(best, 0)
    return len(values) - 1, max(best, 0)


def window_stop(values: Sequence[float], patience: int) -> int:
    """Where the original's rule stops: the first value, after `patience` + 1, that does not beat each of those just before."""
    for place in range(patience + 1, len(values)):
        if not values[place] > max(values[place - patience : place]):
            return place
    return len(values) - 1


def regrets(runs: Runs, patience: int = PATIENCE) -> pd.DataFrame:
    """One row a training and rule of `stopping`: images, alpha, seed, rule, regret, share, stopped.

    regret: the best test accuracy of the training minus that of what the rule returns. share: of the budget, where the
    returned weights are from; stopped: where the rule stopped. `none` returns the last weights. `fixed` has no validation
    set: it returns the weights after as many batches as were best, by clean accuracy on average, for the other seeds.
    """
    rows = []
    for (images, alpha), group in _grouped(runs, ("images", "alpha")):
        curves = {record.config["seed"]: np.asarray(record.series["accuracy"]) for record in group}
        for record in group:
            seed, tested = record.config["seed"], np.asarray(record.series["test_accuracy"])
            last = len(tested) - 1
            ends = {
                rule: patient_stop(record.series[name], patience, mode)
                for rule, (name, mode) in _WATCHED.items()
            }
            others = [curve for other, curve in curves.items() if other != seed and len(curve) == len(tested)]
            if others:
                known = int(np.argmax(np.mean(others, axis=0)))
                ends["fixed"] = (known, known)
            ends["none"] = (last, last)
            rows += [
                {
                    "images": images,
                    "alpha": alpha,
                    "seed": seed,
                    "rule": rule,
                    "regret": float(np.nanmax(tested) - tested[returned]),
                    "share": (returned + 1) / len(tested),
                    "stopped": (stopped + 1) / len(tested),
                }
                for rule, (stopped, returned) in ends.items()
            ]
    return pd.DataFrame(rows)


def _grouped(runs: Runs, names: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], list[Record]]]:
    """The records of done runs by the values of some fields, in the order of the runs."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in runs.records:
        if record.outcome == "done":
            groups.setdefault(tuple(record.config[name] for name in names), []).append(record)
    yield from groups.items()


# --- for figures and tables: frames --------------------------------------------------------------------------------


def present(frame: pd.DataFrame) -> list[str]:
    """The networks of a frame, smallest first."""
    return [name for name in NETWORKS if name in set(frame["network"])]


def settings(runs: Runs) -> dict[str, object]:
    """What all runs have in common (`SETTINGS`), with `rates` as a text. Raises InputError where they differ."""
    found = {name: set(runs.frame[name]) for name in (*SETTINGS, "lrs")}
    for name, values in found.items():
        if len(values) != 1:
            raise InputError(
                f"{runs.experiment}: {len(values)} values of {name}; its runs have one in common"
            )
    common = {name: values.pop() for name, values in found.items()}
    rates = ", ".join(f"{rate:g}" for rate in common.pop("lrs"))
    return {**common, "rates": rates}


def votes(runs: Runs) -> pd.DataFrame:
    """One row a network, α and chosen learning rate: network, alpha, lr, seeds, mean.

    seeds: how many chose it. mean: the geometric mean of the rates chosen at that network and α.
    """
    frame = runs.frame.dropna(subset=["lr"])
    place = [frame["network"], frame["alpha"]]
    frame = frame.assign(mean=np.exp(np.log(frame["lr"]).groupby(place).transform("mean")))
    return frame.groupby(["network", "alpha", "lr", "mean"]).size().reset_index(name="seeds")


def by_rate(runs: Runs) -> pd.DataFrame:
    """One row a run and learning rate: network, alpha, seed, rate, val_accuracy (best), loss_to_best.

    loss_to_best: how far the rate stays behind the best of its run, on validation. A rate that diverged before its
    first validation has NaN.
    """
    rows = []
    for record in runs.records:
        values = np.asarray(record.arrays["best_val_accuracy"], dtype=float)
        best = np.nanmax(values) if np.isfinite(values).any() else np.nan
        fields = {name: record.config[name] for name in ("network", "alpha", "seed")}
        rows += [
            {**fields, "rate": rate, "val_accuracy": value, "loss_to_best": best - value}
            for rate, value in zip(record.config["lrs"], values, strict=True)
        ]
    return pd.DataFrame(rows)


def learning(runs: Runs) -> pd.DataFrame:
    """One row a run of the curve and validation: network, alpha, seed, step (batches), accuracy, of the chosen rate."""
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("network", "alpha", "seed")}
        every, most = record.config["eval_every"], record.config["max_steps"]
        rows += [
            {**fields, "step": min(place * every, most), "accuracy": float(value)}
            for place, value in enumerate(_chosen_series(record), 1)
        ]
    return pd.DataFrame(rows)


def along(runs: Runs) -> pd.DataFrame:
    """One row a run of `order` and evaluation: order, alpha, seed, share (of the pass), accuracy (on validation)."""
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("order", "alpha", "seed")}
        steps = int(record.metrics["steps"])
        every = max(1, steps // record.config["evaluations"])
        rows += [
            {**fields, "share": min(place * every, steps) / steps, "accuracy": float(value)}
            for place, value in enumerate(record.series["accuracy"], 1)
        ]
    return pd.DataFrame(rows)


def watched(runs: Runs) -> pd.DataFrame:
    """One row a training of `stopping` and evaluation: images, alpha, seed, step, and every series by name."""
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("images", "alpha", "seed")}
        every, most = record.config["eval_every"], record.config["max_steps"]
        names = sorted(record.series)
        for place, values in enumerate(zip(*(record.series[name] for name in names), strict=True), 1):
            rows.append({**fields, "step": min(place * every, most), **dict(zip(names, values, strict=True))})
    return pd.DataFrame(rows)


def at_batch_size(runs: Runs) -> pd.DataFrame:
    """One row a run of `learning_rates`, rate and kind of weights: network, alpha, batch_size, seed, rate, weights, accuracy.

    accuracy: the best on validation; weights: `raw` or `averaged`.
    """
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("network", "alpha", "batch_size", "seed")}
        for weights, prefix in (("raw", ""), ("averaged", "ema_")):
            values = np.asarray(record.arrays[f"{prefix}best_val_accuracy"], dtype=float)
            rows += [
                {**fields, "rate": rate, "weights": weights, "accuracy": float(value)}
                for rate, value in zip(record.config["lrs"], values, strict=True)
            ]
    return pd.DataFrame(rows)


def by_class(runs: Runs) -> pd.DataFrame:
    """One row a run and class: arm, network, alpha, seed, label, accuracy, place.

    place: 0 for the class that is rarest in MNIST's training set, 9 for the most frequent.
    """
    places = np.argsort(np.argsort(TRAIN_COUNTS))
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("arm", "network", "alpha", "seed")}
        values = record.arrays.get("by_class", ())
        rows += [
            {**fields, "label": label, "accuracy": float(value), "place": int(places[label])}
            for label, value in enumerate(values)
        ]
    return pd.DataFrame(rows)


def intervals(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Mean and 95 % t interval of a column over seeds for each group: `by`, mean, low, high, n, interval.

    Where there is one seed, low and high are the mean. A group without any number is left out.
    """
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        numbers = group[value].dropna().to_numpy(dtype=float)
        if not len(numbers):
            continue
        found = t_interval(numbers)
        low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
        fields = dict(zip(by, key, strict=True))
        rows.append({**fields, "mean": found.mean, "low": low, "high": high, "n": found.n, "interval": found})
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n", "interval"])


def beside(post: Post) -> pd.DataFrame:
    """The paper's accuracies, the original's and ours at the α of our curve that the original has; as text.

    Columns: Network, α, Paper, Original, Ours; a dash where there is no number.
    """
    frame = post.runs("noise_curve").frame
    ours = intervals(frame, "test_accuracy", ("network", "alpha")).set_index(["network", "alpha"])["interval"]
    theirs = [table.set_index(["network", "alpha"])["test_accuracy"] for table in (paper(), original())]
    rows = []
    for network in present(frame):
        for alpha in sorted(set(frame["alpha"]) & set(_ORIGINAL_ALPHAS)):
            place = (network, alpha)
            texts = [f"{100 * table[place]:.1f}" if place in table.index else "–" for table in theirs]
            mine = f"{ours[place]:.1%}".replace("\N{NO-BREAK SPACE}%", "") if place in ours.index else "–"
            rows.append((NETWORKS[network], alpha, *texts, mine))
    return pd.DataFrame(rows, columns=["Network", "α", "Paper", "Original", "Ours"])


def costs(post: Post, *, networks: Sequence[str]) -> pd.DataFrame:
    """What each mistake costs each network at each α with noise, paired by seed; as text, in points.

    Columns: Arm, then `MLP2, α = …` for each network and α; a dash where an arm has no number. An arm that none of the
    networks has is left out. Two rows at the end are no arms: what the original's rule of stopping costs alone (validation
    accuracy), and what choosing the rate on the test set adds, which is written as a negative cost.
    """
    runs = post.runs("mistakes").where(network=list(networks))
    alphas = sorted(alpha for alpha in set(runs.frame["alpha"]) if alpha > 0)
    places = [(network, alpha) for network in networks for alpha in alphas]
    measures: dict[str, Callable[[str, int], pd.Series]] = {
        name: partial(_cost_at, post, arm)
        for arm, name in ARMS.items()
        if arm != "corrected" and arm in set(runs.frame["arm"])
    }
    measures["patience in effect 1"] = lambda network, alpha: impatience(post, network=network, alpha=alpha)
    measures["rate chosen on test"] = lambda network, alpha: -flattery(post, network=network, alpha=alpha)
    rows = []
    for name, measure in measures.items():
        found = [measure(*place).dropna() for place in places]
        rows.append((name, *(f"{t_interval(100 * values):.1f}" if len(values) else "–" for values in found)))
    return pd.DataFrame(
        rows, columns=["Arm", *(f"{NETWORKS[network]}, α = {alpha}" for network, alpha in places)]
    )


def _cost_at(post: Post, arm: str, network: str, alpha: int) -> pd.Series:
    return cost(post, arm=arm, network=network, alpha=alpha)


def over_seeds(values: pd.Series) -> Interval:
    """Mean and interval over the seeds that have a number."""
    return t_interval(values.dropna())
