"""Engression: what its claims and figures are made of.

    post = open_post("engression")
    advantage(post, function="cubic", placement="pre")      # one number a seed, for a claim
    curves(post.runs("figure_4").where(placement="pre"))    # long frames, for figures

Runs of a seed share data and order, and methods are paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.core import InputError
from lib.reading import Post, Runs
from lib.stats import Interval, ratio_interval, t_interval

FUNCTIONS = ("softplus", "square", "cubic", "log")
"""Figure 4's functions, in its order."""
METHODS = {"engression": "engression", "l1": "L1 regression"}
QUANTILES = (0.1, 0.5, 0.9)
STACKED = {
    "base": "quantile boosting",
    "cqr": "quantile boosting, conformalised",
    "head_in_sample": "head, in-sample predictions (as posted)",
    "head_held_out": "head, held-out predictions",
    "head_out_of_fold": "head, out-of-fold predictions",
    "head_and_features": "head, out-of-fold, and features",
    "head_conformal": "head, out-of-fold, conformalised",
    "plain": "engression on the features",
    "forest": "quantile regression forest",
}
"""The methods of `stacking`, for readers."""
TERMS = {"first": "first term only", "second": "second term only", "both": "both terms"}


def over_seeds(values: pd.Series) -> Interval:
    """Mean and interval over the seeds that have a number."""
    return t_interval(values.dropna())


def times(values: pd.Series) -> Interval:
    """Geometric mean of ratios and its interval, over the seeds that have a number."""
    return ratio_interval(values.dropna())


# --- the loss ------------------------------------------------------------------------------------------------------


def spread_ratio(post: Post, *, terms: str) -> pd.Series:
    """The spread of the learned samples over the true one, with these terms of the loss."""
    return post.runs("loss_terms").where(terms=terms).per_seed("spread_ratio")


def best_scale(post: Post, *, m: int | None) -> pd.Series:
    """The scale of a normal that minimises the loss without the factor m / (m − 1) (m None: with it); 1 is right."""
    return post.runs("distances").per_seed("best_scale" if m is None else f"best_scale_{m}")


def cdist_error(post: Post) -> pd.Series:
    """The largest error of a pair's distance by torch.cdist at the largest offset, in units of the spread."""
    return post.runs("distances").per_seed("cdist_error")


def densities(runs: Runs, most: int = 16) -> tuple[dict[str, dict[str, list[float]]], list[float]]:
    """Frames for the slider: by step, the density of each arm (means over seeds); and the places where it is.

    most: frames; where there are more steps, some in equal distances, the first and the last among them.
    """
    frames: dict[str, dict[str, list[float]]] = {}
    centre: list[float] = []
    for terms, name in TERMS.items():
        records = runs.where(terms=terms).records
        if not records:
            continue
        centre = [float(value) for value in records[0].arrays["centre"]]
        mean = np.mean([record.arrays["density"] for record in records], axis=0)
        steps = records[0].series["step"]
        for at in np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)):
            frames.setdefault(f"{steps[at]:.0f}", {})[name] = [float(value) for value in mean[at]]
    return frames, centre


# --- beyond the training range -------------------------------------------------------------------------------------


def error(
    post: Post, *, function: str, placement: str, method: str, where: str = "outside", arm: str = "corrected"
) -> pd.Series:
    """Mean |median − f| `inside` or `outside` the training range, in Figure 4."""
    runs = post.runs("figure_4").where(function=function, placement=placement, method=method, arm=arm)
    return runs.per_seed(f"{where}_error")


def advantage(post: Post, *, function: str, placement: str) -> pd.Series:
    """The outside error of L1 regression over engression's: above 1 where engression is better."""
    ours, theirs = (error(post, function=function, placement=placement, method=method) for method in METHODS)
    return theirs / ours


def mean_advantage(post: Post, *, placement: str) -> pd.Series:
    """`advantage`, the geometric mean over the four functions."""
    return _mean_ratio(advantage(post, function=name, placement=placement) for name in FUNCTIONS)


def less_after(post: Post) -> pd.Series:
    """The mean advantage with the noise before the function over that with the noise after it."""
    return mean_advantage(post, placement="pre") / mean_advantage(post, placement="post")


def posted_baseline(post: Post) -> pd.Series:
    """What the baseline's wrong data did: its outside error as posted over the right one's, post-additive; geometric mean."""
    fields = {"placement": "post", "method": "l1"}
    return _mean_ratio(
        error(post, function=name, arm="as_posted", **fields) / error(post, function=name, **fields)
        for name in FUNCTIONS
    )


def _mean_ratio(parts: Iterable[pd.Series]) -> pd.Series:
    """The geometric mean of ratios that are paired by seed."""
    return np.exp(pd.concat([np.log(part) for part in parts], axis=1).mean(axis=1, skipna=False))


def curves(runs: Runs) -> pd.DataFrame:
    """One row a run and point of the grid: function, placement, method, arm, seed, x, median, truth."""
    rows = []
    for record in runs.records:
        if "median" not in record.arrays:
            continue
        fields = {name: record.config[name] for name in ("function", "placement", "method", "arm", "seed")}
        part = pd.DataFrame({name: record.arrays[name] for name in ("x", "median", "truth")})
        rows.append(part.assign(**fields))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def scatter(runs: Runs, **fields: Any) -> np.ndarray:
    """Training examples (n, 2) of the first run that fits and kept some."""
    found = next(record for record in runs.where(**fields).records if "scatter" in record.arrays)
    return np.asarray(found.arrays["scatter"], dtype=float)


def errors_table(post: Post) -> pd.DataFrame:
    """Outside errors of both methods under both placements, and the advantage: geometric means; as text."""
    rows = []
    for placement, title in (("pre", "before f"), ("post", "after f")):
        for name in FUNCTIONS:
            values = [
                f"{times(error(post, function=name, placement=placement, method=method)):.2f}"
                for method in METHODS
            ]
            gain = times(advantage(post, function=name, placement=placement))
            rows.append((title, name, *values, f"{gain:.2f}"))
    return pd.DataFrame(rows, columns=["Noise", "f", "Engression", "L1", "L1 / engression"])


# --- samples an example, and the noise -----------------------------------------------------------------------------


def early_gain(post: Post, *, low: int, high: int, sigma: float) -> pd.Series:
    """The quantiles' error with `low` samples over that with `high`, a third of the way through."""
    runs = post.runs("m_sweep").where(arm="corrected", sigma=sigma)
    few, many = (runs.where(m=m).per_seed("early_error") for m in (low, high))
    return few / many


def steadier(post: Post, *, low: int, high: int, sigma: float) -> pd.Series:
    """The scatter of the loss from batch to batch with `low` samples over that with `high`, at the end."""
    runs = post.runs("m_sweep").where(arm="corrected", sigma=sigma)
    few, many = (runs.where(m=m).per_seed("loss_sd") for m in (low, high))
    return few / many


def tails_behind(post: Post, *, sigma: float) -> pd.Series:
    """Error of the outer quantiles minus that of the median, in units of σ, over training and all m."""
    runs = post.runs("m_sweep").where(arm="corrected", sigma=sigma)
    return runs.frame.groupby("seed")["tails_behind"].mean().astype(float)


def posted_error(post: Post) -> pd.Series:
    """The error of the quantiles at the end as the original measured it: over all m."""
    runs = post.runs("m_sweep").where(arm="as_posted")
    return runs.frame.groupby("seed")["posted_error"].mean().astype(float)


def training_mode(post: Post) -> pd.Series:
    """The as-posted runs' error when drawn in training mode over that in evaluation mode; geometric mean over m."""
    frame = post.runs("m_sweep").where(arm="as_posted").frame
    ratio = np.log(frame["error"] / frame["evaluated_error"])
    return np.exp(ratio.groupby(frame["seed"]).mean().astype(float))


def budget_gain(post: Post, *, low: int, high: int) -> pd.Series:
    """At a fixed product of m and epochs: the error with `high` samples over that with `low` and more epochs."""
    runs = post.runs("m_budget")
    few, many = (runs.where(m=m).per_seed("error") for m in (low, high))
    return many / few


def more_noise(post: Post, *, width: int, few: int, many: int) -> pd.Series:
    """The outside error with `few` entries of noise over that with `many`."""
    runs = post.runs("noise_size").where(width=width)
    errors = [runs.where(noise_dim=entries).per_seed("outside_error") for entries in (few, many)]
    return errors[0] / errors[1]


def roughness(runs: Runs, scale: float, noise: str = "normal") -> pd.Series:
    """Mean absolute second difference of the learned median over x."""
    found = {}
    for record in runs.where(noise_scale=scale, noise=noise).records:
        median = np.asarray(record.arrays["quantiles"], dtype=float)[1]
        found[record.config["seed"]] = float(np.abs(np.diff(median, 2)).mean())
    return pd.Series(found, dtype=float).rename_axis("seed").sort_index()


def smoother(post: Post, *, small: float, large: float) -> pd.Series:
    """How much rougher the learned median is with noise of scale `small` than with `large`: above 0, larger smooths."""
    runs = post.runs("noise_scale")
    return roughness(runs, small) - roughness(runs, large)


def uniform_effect(post: Post) -> pd.Series:
    """The quantiles' error with uniform noise over that with normal noise, at scale 1."""
    runs = post.runs("noise_scale").where(noise_scale=1.0)
    errors = [runs.where(noise=law).per_seed("error") for law in ("uniform", "normal")]
    return errors[0] / errors[1]


def paths(runs: Runs, names: Sequence[str]) -> pd.DataFrame:
    """One row a run and evaluation: m, sigma, arm, seed, step, and the series called `names`."""
    rows = []
    for record in runs.records:
        fields = {name: record.config[name] for name in ("m", "sigma", "arm", "seed")}
        part = pd.DataFrame({name: record.series[name] for name in ("step", *names)})
        rows.append(part.assign(**fields))
    return pd.concat(rows, ignore_index=True)


# --- before or after? ----------------------------------------------------------------------------------------------


def simulated(post: Post) -> Runs:
    """The runs of `pre_or_post` on pairs whose noise is known."""
    return _pre_or_post(post, lambda record: bool(record.config["pairs"]))


def real(post: Post) -> Runs:
    """The runs on a table's pairs."""
    return _pre_or_post(post, lambda record: not record.config["pairs"])


def _pre_or_post(post: Post, fits: Callable[[Any], bool]) -> Runs:
    runs = post.runs("pre_or_post")
    return runs.of(record for record in runs.records if fits(record))


def calls(post: Post, *, kind: str) -> pd.Series:
    """How many of the eight simulated pairs are called `right` or `wrong` (|z| above 2)."""
    return simulated(post).per_seed(kind)


def share(post: Post, *, kind: str) -> pd.Series:
    """The share of the table's ordered pairs that a placement wins (|z| above 2): `pre_wins` or `post_wins`."""
    return real(post).per_seed(kind)


def general_gain(post: Post) -> pd.Series:
    """How much lower the general model's held-out score is than the better of the two, over the table's pairs."""
    return real(post).per_seed("general_gain")


def pair_names(runs: Runs) -> list[str]:
    """The pairs of the runs, in the order of their arrays."""
    config = runs.records[0].config
    if config["pairs"]:
        return list(config["pairs"])
    names = config["variables"]
    return [f"{first}:{second}" for first in names for second in names if first != second]


def z_table(runs: Runs) -> pd.DataFrame:
    """One row a pair: pair, first, second, z (mean over seeds), low and high (least and most), agree (share of seeds with |z| > 2 of one sign)."""
    z = np.array([record.arrays["z"] for record in runs.records], dtype=float)
    rows = []
    for i, name in enumerate(pair_names(runs)):
        column = z[:, i]
        rows.append(
            {
                "pair": name,
                "first": name.split(":")[0],
                "second": name.split(":")[1],
                "z": column.mean(),
                "low": column.min(),
                "high": column.max(),
                "pre": (column > 2).mean(),
                "post": (column < -2).mean(),
            }
        )
    return pd.DataFrame(rows)


# --- stacking, tails, several steps --------------------------------------------------------------------------------


def crps(post: Post, *, method: str, split: str) -> pd.Series:
    """The CRPS of a method on the test rows, from pinball losses at 19 levels."""
    return post.runs("stacking").where(split=split).per_seed(f"crps_{method}")


def crps_gain(post: Post, *, method: str, over: str, split: str) -> pd.Series:
    """By how much the CRPS of `method` is lower than that of `over`."""
    return crps(post, method=over, split=split) - crps(post, method=method, split=split)


def split_effect(post: Post, *, method: str) -> pd.Series:
    """How much higher the CRPS of a method is on the temporal split than on the random one."""
    return crps(post, method=method, split="temporal") - crps(post, method=method, split="random")


def coverage(post: Post, *, method: str, split: str) -> pd.Series:
    """The share of test rows between the 5 % and the 95 % quantile."""
    return post.runs("stacking").where(split=split).per_seed(f"coverage_{method}")


def stacked(runs: Runs) -> pd.DataFrame:
    """One row a run and method: split, seed, method, crps, coverage."""
    rows = []
    for record in runs.records:
        for method in STACKED:
            if f"crps_{method}" in record.metrics:
                fields = {name: record.config[name] for name in ("split", "seed")}
                found = {kind: record.metrics[f"{kind}_{method}"] for kind in ("crps", "coverage")}
                rows.append({**fields, "method": method, **found})
    return pd.DataFrame(rows)


def stacked_table(runs: Runs) -> pd.DataFrame:
    """CRPS and coverage of each method on both splits, with intervals over seeds; as text."""
    frame = stacked(runs)
    rows = []
    for method, title in STACKED.items():
        part = frame[frame["method"] == method]
        if not len(part):
            continue
        row = [title]
        for split in ("random", "temporal"):
            of = part[part["split"] == split]
            row += [f"{t_interval(of['crps']):.1f}", f"{t_interval(of['coverage']):.0%}"]
        rows.append(row)
    columns = ["Method", "CRPS, random", "coverage", "CRPS, temporal", "coverage "]
    return pd.DataFrame(rows, columns=columns)


def tail_gain(post: Post, *, level: float) -> pd.Series:
    """How much smaller the excess of the score above a quantile is with the threshold-weighted loss than without."""
    return _tail(post, 1.0, 0.0, level) - _tail(post, 1.0, 4.0, level)


def _tail(post: Post, beta: float, weight: float, level: float | None) -> pd.Series:
    name = "excess" if level is None else f"excess_{level}"
    return post.runs("tails").where(beta=beta, weight=weight).per_seed(name)


def step_gain(post: Post, *, law: str, steps: int, metric: str = "excess") -> pd.Series:
    """How much smaller the excess of the score (or the share of samples in the hole) is with `steps` than with one."""
    runs = post.runs("multi_step").where(law=law)
    return runs.where(steps=1).per_seed(metric) - runs.where(steps=steps).per_seed(metric)


# --- text ----------------------------------------------------------------------------------------------------------


def intervals(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Mean and 95 % t interval of a column over seeds for each group: `by`, mean, low, high, n.

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
        rows.append({**fields, "mean": found.mean, "low": low, "high": high, "n": found.n})
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])


def settings(runs: Runs, names: Sequence[str]) -> Mapping[str, Any]:
    """What all runs have in common. Raises InputError where they differ."""
    found = {name: set(runs.frame[name]) for name in names}
    for name, values in found.items():
        if len(values) != 1:
            raise InputError(
                f"{runs.experiment}: {len(values)} values of {name}; its runs have one in common"
            )
    return {name: values.pop() for name, values in found.items()}
