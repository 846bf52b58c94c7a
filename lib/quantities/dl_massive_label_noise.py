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

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.core import InputError
from lib.reading import Post, Runs
from lib.stats import Interval, t_interval

NETWORKS = {"perceptron": "Perceptron", "mlp1": "MLP1", "mlp2": "MLP2", "mlp4": "MLP4", "conv4": "Conv4"}
"""The networks' names for readers, smallest first."""
ARMS = {
    "corrected": "corrected",
    "last": "last weights",
    "carried": "carried networks",
    "shifted": "shifted labels",
    "as_posted": "all, as posted",
}
"""The arms' names for readers."""
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


def fall(post: Post, *, network: str, low: int, high: int) -> pd.Series:
    """How much accuracy is lost from α = `low` to α = `high`."""
    return accuracy(post, network=network, alpha=low) - accuracy(post, network=network, alpha=high)


def lead(post: Post, *, network: str, over: str, alpha: int) -> pd.Series:
    """By how much `network` is more accurate than the network `over`."""
    return accuracy(post, network=network, alpha=alpha) - accuracy(post, network=over, alpha=alpha)


def rate_drop(post: Post, *, low: int, high: int) -> pd.Series:
    """By how many powers of ten the chosen rate is lower at α = `high` than at `low`: the mean over the networks.

    With few rates to choose from it moves in steps; where a rate is chosen at both ends the network counts as 0.
    """
    rates = {}
    for alpha in (low, high):
        frame = post.runs("noise_curve").where(alpha=alpha).frame
        if not len(frame):
            return pd.Series([], index=pd.Index([], name="seed", dtype="int64"), dtype=float)
        rates[alpha] = np.log10(frame.pivot(index="seed", columns="network", values="lr").astype(float))
    drop = rates[low] - rates[high]
    return drop.loc[:, rates[low].columns.intersection(rates[high].columns)].mean(axis=1, skipna=False)


def arm_accuracy(post: Post, *, arm: str, network: str, alpha: int) -> pd.Series:
    """Test accuracy of one arm of `mistakes`, as that arm reports it."""
    return _arm(post, arm, network, alpha).per_seed("test_accuracy")


def cost(post: Post, *, arm: str, network: str, alpha: int) -> pd.Series:
    """What a mistake costs: the corrected arm's accuracy minus that of `arm`."""
    right = arm_accuracy(post, arm="corrected", network=network, alpha=alpha)
    return right - arm_accuracy(post, arm=arm, network=network, alpha=alpha)


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


def _arm(post: Post, arm: str, network: str, alpha: int) -> Runs:
    return post.runs("mistakes").where(arm=arm, network=network, alpha=alpha)


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


def costs(post: Post, *, network: str) -> pd.DataFrame:
    """What each mistake costs a network at each α with noise, paired by seed; as text, in points.

    Columns: Arm, then `α = …` for each α; a dash where an arm has no number.
    """
    runs = post.runs("mistakes").where(network=network)
    alphas = sorted(alpha for alpha in set(runs.frame["alpha"]) if alpha > 0)
    rows = []
    for arm in ARMS:
        if arm == "corrected":
            continue
        texts = []
        for alpha in alphas:
            values = cost(post, arm=arm, network=network, alpha=alpha).dropna()
            texts.append(f"{t_interval(100 * values):.1f}" if len(values) else "–")
        rows.append((ARMS[arm], *texts))
    return pd.DataFrame(rows, columns=["Arm", *(f"α = {alpha}" for alpha in alphas)])


def over_seeds(values: pd.Series) -> Interval:
    """Mean and interval over the seeds that have a number."""
    return t_interval(values.dropna())
