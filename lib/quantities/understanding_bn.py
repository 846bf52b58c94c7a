"""Quantities of the post on batch normalisation, each one number a seed, and the tables behind its figures.

    lead(post, of={"bn": True, "lr": 0.1}, over={"bn": False, "lr": 1e-4})     # of accuracies, paired by seed
    gradient_ratio(post, architecture="cifar")                                 # log10 of the sd without over that with
    table = gradients(post)                                                    # a frame for the figure

Ratios are logarithms to base 10, so that 2 is a factor of a hundred, and 0 no difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.core import InputError
from lib.reading import Post, Runs
from lib.stats import Interval, t_interval

ARMS: dict[tuple[bool, float], str] = {
    (False, 1e-4): "no BN, rate 1e-4",
    (True, 1e-4): "BN, rate 1e-4",
    (True, 0.003): "BN, rate .003",
    (True, 0.1): "BN, rate .1",
}
"""The four trainings of the paper's Figure 1, as figures call them."""

NETWORKS = {"cifar": "ResNet-110 for CIFAR", "imagenet": "ResNet-101 for ImageNet"}
WEIGHTS = {
    "xavier_uniform": "Xavier, uniform",
    "kaiming_uniform": "Kaiming, uniform",
    "kaiming_normal": "Kaiming, normal",
    "kaiming_normal_fan_out": "Kaiming, normal, fan-out",
}
LAST = {True: "all layers", False: "convolutions only"}


def log10(values: pd.Series) -> pd.Series:
    """Logarithms to base 10; NaN where there is none."""
    return np.log10(values.where(values > 0))


def over_seeds(values: pd.Series) -> Interval:
    """Mean and 95 % t interval over seeds."""
    return t_interval(values.to_numpy(dtype=float))


def between(values: pd.Series) -> str:
    """The smallest and the largest over seeds, in words, to two digits."""
    found = values.dropna()
    if not len(found):
        return "not to be had"
    low, high = (f"{number:#.2g}".rstrip(".") for number in (found.min(), found.max()))
    return low if low == high else f"{low} to {high}"


# --- one number a seed ---------------------------------------------------------------------------------------------


def accuracy(
    post: Post, *, bn: bool, lr: float, arm: str = "corrected", name: str = "test_accuracy"
) -> pd.Series:
    """A number of `learning_curves`, by default test accuracy after the last epoch."""
    return post.runs("learning_curves").where(arm=arm, bn=bn, lr=lr).per_seed(name)


def lead(post: Post, *, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """One accuracy minus another; both as arguments of `accuracy`."""
    return accuracy(post, **of) - accuracy(post, **over)


def gradient(
    post: Post,
    name: str = "sd",
    *,
    bn: bool,
    architecture: str = "cifar",
    weights: str = "xavier_uniform",
    linear: bool = True,
) -> pd.Series:
    """A number of the middle layer's gradient: `sd`, `kurtosis` or `largest`."""
    runs = post.runs("initial_gradients")
    return runs.where(architecture=architecture, weights=weights, linear=linear, bn=bn).per_seed(name)


def gradient_ratio(post: Post, *, name: str = "sd", **fields: Any) -> pd.Series:
    """log10 of a number of the gradient without batch norm over that with it, paired by seed."""
    return log10(gradient(post, name, bn=False, **fields) / gradient(post, name, bn=True, **fields))


def network_effect(post: Post, **fields: Any) -> pd.Series:
    """`gradient_ratio` in the paper's network minus that in the original's, with the same rule for the weights."""
    return gradient_ratio(post, architecture="cifar", **fields) - gradient_ratio(
        post, architecture="imagenet", **fields
    )


def useful_step(post: Post, *, bn: bool, batch: int, arm: str = "gradient") -> pd.Series:
    """The largest step up to which each one lowers the loss, before update `batch`."""
    return post.runs("step_sizes").where(bn=bn, arm=arm).per_seed(f"largest_{batch}")


def step_ratio(post: Post, *, batch: int, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """log10 of one largest useful step over another; both as arguments of `useful_step`."""
    return log10(useful_step(post, batch=batch, **of) / useful_step(post, batch=batch, **over))


def growth(post: Post, *, bn: bool) -> pd.Series:
    """log10 of the channels' mean variance at the last convolution over that at the first."""
    runs = post.runs("activations").where(bn=bn)
    found = runs.arrays("variance")
    values = [found[record.key][-1] / found[record.key][0] for record in runs.records]
    index = pd.Index([record.config["seed"] for record in runs.records], name="seed", dtype="int64")
    return log10(pd.Series(values, index, dtype=float, name="growth")).sort_index()


def growth_gap(post: Post) -> pd.Series:
    """`growth` without batch norm minus that with it."""
    return growth(post, bn=False) - growth(post, bn=True)


def bias(post: Post, name: str, *, bn: bool) -> pd.Series:
    """`concentration`, `top_share` or `mean_entropy` at initialisation."""
    return post.runs("class_bias").where(bn=bn).per_seed(name)


def bias_gap(post: Post, *, name: str) -> pd.Series:
    """A number of `class_bias` without batch norm minus that with it."""
    return bias(post, name, bn=False) - bias(post, name, bn=True)


def diverged(post: Post, *, bn: bool, lr: float) -> pd.Series:
    """1 where the first updates end in a loss that is not finite, else 0."""
    return post.runs("divergence").where(bn=bn, lr=lr).per_seed("diverged")


def fall(post: Post, *, bn: bool, lr: float) -> pd.Series:
    """log10 of the first loss over the last one of the first updates: above 0 where it fell; NaN where it diverged."""
    runs = post.runs("divergence").where(bn=bn, lr=lr)
    seeds = pd.Index([record.config["seed"] for record in runs.records], name="seed", dtype="int64")
    values = [record.series["loss"][0] / record.series["loss"][-1] for record in runs.records]
    return log10(pd.Series(values, seeds, dtype=float, name="fall")).sort_index()


def rate_gap(post: Post, *, depth: int) -> pd.Series:
    """log10 of the largest rate that trains, with batch norm minus without."""
    runs = post.runs("largest_rate").where(depth=depth)
    return runs.where(bn=True).per_seed("log_rate") - runs.where(bn=False).per_seed("log_rate")


def rate_gap_growth(post: Post, *, deep: int, shallow: int) -> pd.Series:
    """`rate_gap` at one depth minus that at another."""
    return rate_gap(post, depth=deep) - rate_gap(post, depth=shallow)


# --- for figures and tables ----------------------------------------------------------------------------------------


def curves(runs: Runs) -> pd.DataFrame:
    """One row a run and epoch of `learning_curves`: arm, call (as in ARMS), seed, share (of the training), train and test accuracy."""
    rows = []
    for record in runs.records:
        config = record.config
        call = ARMS.get((config["bn"], config["lr"]))
        if call is None:
            raise InputError(f"no name for bn={config['bn']} and lr={config['lr']}")
        both = zip(record.series["train_accuracy"], record.series["test_accuracy"], strict=True)
        for epoch, (train, test) in enumerate(both, 1):
            share = 100 * epoch / config["epochs"]
            rows.append(
                {"arm": config["arm"], "call": call, "seed": config["seed"], "share": share, "train": train, "test": test}
            )  # fmt: skip
    return pd.DataFrame(rows)


def gradients(runs: Runs) -> pd.DataFrame:
    """One row for each network, weights and last layer: geometric mean over seeds of sd and mean of kurtosis, without and with BN."""
    table = runs.frame.copy()
    table["log"] = np.log10(table["sd"])
    rows = []
    for (architecture, weights, linear), part in table.groupby(
        ["architecture", "weights", "linear"], sort=False
    ):
        row: dict[str, Any] = {"architecture": architecture, "weights": weights, "linear": linear}
        for bn, name in ((True, "with"), (False, "without")):
            half = part[part["bn"] == bn]
            row |= {f"sd_{name}": 10 ** half["log"].mean(), f"kurtosis_{name}": half["kurtosis"].mean()}
            row["seeds"] = half["seed"].nunique()
        rows.append(row)
    return pd.DataFrame(rows)


def two_by_two(post: Post) -> pd.DataFrame:
    """log10 of the ratio of deviations by network and weights, the paper's and the original's; as text, with its smallest value."""
    choices: dict[str, dict[str, Any]] = {
        "Xavier, all layers": {"weights": "xavier_uniform", "linear": True},
        "Kaiming fan-out, convolutions only": {"weights": "kaiming_normal_fan_out", "linear": False},
    }
    rows = []
    for title, fields in choices.items():
        for architecture, network in NETWORKS.items():
            values = gradient_ratio(post, architecture=architecture, **fields).dropna()
            if not len(values):
                continue
            found = over_seeds(values)
            low, high = (f"{end:+.2f}" if found.known else "–" for end in (found.low, found.high))
            rows.append(
                (
                    title,
                    network,
                    f"{found.mean:+.2f}",
                    f"{low} to {high}",
                    f"{values.min():+.2f}",
                    len(values),
                )
            )
    columns = ["Weights", "Network", "log₁₀ ratio", "95 % interval", "Smallest", "Seeds"]
    return pd.DataFrame(rows, columns=columns).replace({r"(?<!\w)-(?=\d)": "−"}, regex=True)


def histogram(runs: Runs, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Edges and shares of the gradients' histogram of one run."""
    record = runs.one(seed=seed)
    counts = record.arrays["counts"]
    return record.arrays["edges"], counts / counts.sum()


def depths(runs: Runs, name: str) -> pd.DataFrame:
    """One row a run and convolution of `activations`: bn, seed, convolution (from 1), value."""
    rows = []
    for record in runs.records:
        for layer, value in enumerate(record.arrays[name], 1):
            rows.append(
                {"bn": record.config["bn"], "seed": record.config["seed"], "convolution": layer, "value": float(value)}
            )  # fmt: skip
    return pd.DataFrame(rows)
