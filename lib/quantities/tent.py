"""Quantities of the TENT post: errors, leads, costs, calibration and forgetting, each one number a seed, and reference numbers.

    lead(post, arm="tent", over="norm")                          # of by_corruption, all 15, paired by seed
    lead(post, arm="tent", over="norm", corruption="fog", first=1000)
    stream(post, "error", arm="norm", order="sorted")
    table = by_corruption(post)                                  # a frame for the figure

Errors are fractions of all images of a stream. Arrays of a run have a row for each arm and a column for each corruption.

Sources of the reference numbers: the README of the reference implementation (WRN-28-10 of RobustBench, severity 5, batch
200), TENT's Table 2 for R-26, and the later methods' numbers on the same network in one continual stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lib.core import InputError, Record
from lib.reading import Post, Runs
from lib.stats import t_interval

CORRUPTIONS = {
    "gaussian_noise": "Gaussian noise",
    "shot_noise": "shot noise",
    "impulse_noise": "impulse noise",
    "defocus_blur": "defocus blur",
    "glass_blur": "glass blur",
    "motion_blur": "motion blur",
    "zoom_blur": "zoom blur",
    "snow": "snow",
    "frost": "frost (substitute)",
    "fog": "fog",
    "brightness": "brightness",
    "contrast": "contrast",
    "elastic_transform": "elastic",
    "pixelate": "pixelate",
    "jpeg_compression": "JPEG",
}
"""As figures call them, in the benchmark's order."""

ARMS = {
    "source": "source",
    "norm": "Norm",
    "norm_prior": "Norm, prior of 64",
    "tent": "TENT",
    "pseudo": "pseudo-labels",
    "eta": "EATA without anchor",
    "eata": "EATA",
    "sar": "SAR",
    "lame": "LAME",
    "memo": "MEMO",
    "unfrozen": "nothing frozen",
    "slow": "rate 1e-5",
    "as_posted": "as posted",
    "posted_norm": "Norm as posted",
    "posted_norm_reset": "Norm as posted, statistics reset",
}

# Errors in per cent at severity 5, WRN-28-10, in the order of CORRUPTIONS.
_WRN = {
    "source": "72.3 65.7 72.9 46.9 54.3 34.8 42.0 25.1 41.3 26.0 9.3 46.7 26.6 58.5 30.3",
    "norm": "28.1 26.1 36.3 12.8 35.3 14.2 12.1 17.3 17.4 15.3 8.4 12.6 23.8 19.7 27.3",
    "tent": "24.8 23.5 33.0 12.0 31.8 13.7 10.8 15.9 16.2 13.7 7.9 12.1 22.0 17.3 24.2",
}

CONTINUAL = {"EATA": 17.9, "SAR": 20.4, "CoTTA": 16.5, "RoTTA": 19.3, "LAME": 64.3}
"""Mean error in per cent of other methods on WRN-28-10 in one continual stream."""


def reference() -> pd.DataFrame:
    """The reference implementation's errors: corruption, arm, error (a fraction)."""
    rows = [
        (corruption, arm, float(value) / 100)
        for arm, line in _WRN.items()
        for corruption, value in zip(CORRUPTIONS, line.split(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["corruption", "arm", "error"])


# --- one number a seed ---------------------------------------------------------------------------------------------


def _of(record: Record, name: str, arm: str, corruption: str | None, first: int | None) -> float:
    """A number of one arm of a run: of one corruption, or the mean over its corruptions; NaN where the run lacks it.

    first: of the first so many images only (errors of whole batches).
    """
    arms, corruptions = list(record.config["arms"]), list(record.config["corruptions"])
    if arm not in arms or (corruption is not None and corruption not in corruptions):
        return float("nan")
    columns = slice(None) if corruption is None else [corruptions.index(corruption)]
    if first is None:
        return float(np.mean(record.arrays[name][arms.index(arm), columns]))
    batches = record.arrays["batches"][arms.index(arm), columns]
    count = max(1, first // int(record.config["batch_size"]))
    if name != "error":
        raise InputError(f"{name} is not known batch by batch; error is")
    return float(np.mean(batches[:, :count]))


def _series(runs: Runs, values: Iterable[float], name: str) -> pd.Series:
    seeds = [record.config["seed"] for record in runs.records]
    found = pd.Series(list(values), index=pd.Index(seeds, name="seed", dtype="int64"), name=name, dtype=float)
    if not found.index.is_unique:
        raise InputError(f"{runs.experiment}: a seed has several runs; narrow them first")
    return found.sort_index()


def _value(
    runs: Runs, name: str, arm: str, corruption: str | None = None, first: int | None = None
) -> pd.Series:
    return _series(runs, (_of(record, name, arm, corruption, first) for record in runs.records), name)


def error(post: Post, *, arm: str, corruption: str | None = None) -> pd.Series:
    """Error of an arm of `by_corruption`: of one corruption, or the mean over all."""
    return _value(post.runs("by_corruption"), "error", arm, corruption)


def lead(
    post: Post, *, arm: str, over: str, corruption: str | None = None, first: int | None = None
) -> pd.Series:
    """By how much the error of `arm` is below that of `over`; `first`: on the first so many images of each stream."""
    runs = post.runs("by_corruption")
    return _value(runs, "error", over, corruption, first) - _value(runs, "error", arm, corruption, first)


def lead_growth(post: Post, *, first: int) -> pd.Series:
    """TENT's lead over Norm on the whole streams minus that on their first images."""
    return lead(post, arm="tent", over="norm") - lead(post, arm="tent", over="norm", first=first)


def lead_beside_mean(post: Post, *, corruption: str) -> pd.Series:
    """TENT's lead over Norm on one corruption minus its mean lead."""
    return lead(post, arm="tent", over="norm", corruption=corruption) - lead(post, arm="tent", over="norm")


def rise(post: Post, *, name: str, arm: str, over: str) -> pd.Series:
    """By how much `entropy`, `ece`, `confidence` or `clean_error` of `arm` is above that of `over`, mean over all 15."""
    runs = post.runs("by_corruption")
    return _value(runs, name, arm) - _value(runs, name, over)


def rank_correlation(post: Post) -> pd.Series:
    """Spearman's correlation of mean entropy and mean loss over corruptions and severities."""
    return post.runs("entropy").per_seed("rank_correlation")


def entropy_error_gap(post: Post) -> pd.Series:
    """Error of the twentieth of the predictions with the highest entropy minus that of the lowest twentieth."""
    runs = post.runs("entropy")
    return _series(
        runs, (float(r.arrays["bin_error"][-1] - r.arrays["bin_error"][0]) for r in runs.records), "gap"
    )


def entropy_rise(post: Post, *, name: str) -> pd.Series:
    """Mean `entropy` or `loss` over corruptions at the highest severity minus that at the lowest."""
    runs = post.runs("entropy")
    values = []
    for record in runs.records:
        severity = record.arrays["severity"]
        values.append(
            float(
                record.arrays[name][severity == severity.max()].mean()
                - record.arrays[name][severity == 1].mean()
            )
        )
    return _series(runs, values, name)


def trainable_share(post: Post, *, as_posted: bool) -> pd.Series:
    """Share of the network's parameter tensors that adapt, after the original's freezing or after ours."""
    runs = post.runs("demo")
    name = "trainable_as_posted" if as_posted else "trainable"
    return _series(runs, (r.metrics[name] / r.metrics["tensors"] for r in runs.records), "share")  # type: ignore[operator]


def cost(post: Post, *, arm: str, over: str, corruption: str | None = None, name: str = "error") -> pd.Series:
    """What an arm of `mistakes` costs: its number minus that of the arm `over`."""
    runs = post.runs("mistakes")
    return _value(runs, name, arm, corruption) - _value(runs, name, over, corruption)


def weighting(post: Post, *, arm: str) -> pd.Series:
    """The mean of the batches' errors minus the error in which every image counts once."""
    runs = post.runs("mistakes")
    return _value(runs, "posted_error", arm) - _value(runs, "error", arm)


def cell(
    post: Post,
    *,
    batch: int,
    rate: float | None,
    name: str = "error",
    parameters: str = "affine",
    optimizer: str = "adam",
) -> pd.Series:
    """A number of `sensitivity` at one batch size and rate; Norm where the rate is None."""
    runs = post.runs("sensitivity").where(batch_size=batch, parameters=parameters, optimizer=optimizer)
    values = []
    for record in runs.records:
        labels = [None] * len(record.config["arms"]) + list(record.config["rates"])
        values.append(float(record.arrays[name][labels.index(rate)].mean()) if rate in labels else np.nan)
    return _series(runs, values, name)


def cell_gap(
    post: Post,
    *,
    batch: int,
    rate: float | None,
    other_batch: int,
    other_rate: float | None,
    name: str = "error",
) -> pd.Series:
    """A number of one cell of `sensitivity` minus that of another."""
    return cell(post, batch=batch, rate=rate, name=name) - cell(
        post, batch=other_batch, rate=other_rate, name=name
    )


def stream(
    post: Post,
    name: str = "error",
    *,
    arm: str,
    mode: str = "online",
    order: str = "random",
    delta: float = 0.0,
) -> pd.Series:
    """A number of an arm of `streams`."""
    return _value(post.runs("streams").where(mode=mode, order=order, delta=delta), name, arm)


def stream_gap(post: Post, *, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """The error of one arm and stream minus that of another; both as arguments of `stream`."""
    return stream(post, **of) - stream(post, **over)


def method_gap(post: Post, *, arm: str, over: str) -> pd.Series:
    """The error of an arm of `methods` minus that of another, on the same images (MEMO: on the first batch)."""
    runs = post.runs("methods")
    if "memo" in (arm, over):
        values = []
        for record in runs.records:
            arms = list(record.config["arms"])
            firsts = [record.arrays["batches"][arms.index(name), :, 0].mean() for name in (arm, over)]
            values.append(float(firsts[0] - firsts[1]))
        return _series(runs, values, "gap")
    return _value(runs, "error", arm) - _value(runs, "error", over)


def source_lead(
    post: Post, *, experiment: str, arm: str = "tent", over: str = "norm", **fields: Any
) -> pd.Series:
    """The lead of an arm with one source; fields of the source network: `width=16`, `epochs=2`."""
    runs = post.runs(experiment).where(**{f"source.{name}": value for name, value in fields.items()})
    return _value(runs, "error", over) - _value(runs, "error", arm)


def source_lead_gap(post: Post, *, experiment: str, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """TENT's lead over Norm with one source minus that with another."""
    return source_lead(post, experiment=experiment, **of) - source_lead(post, experiment=experiment, **over)


def lead_by_pass(post: Post, *, turn: int) -> pd.Series:
    """TENT's lead over Norm in one pass of `length`, from 0."""
    runs = post.runs("length")
    values = []
    for record in runs.records:
        arms = list(record.config["arms"])
        passes = np.array_split(record.arrays["batches"], record.config["passes"], axis=2)
        part = passes[turn] if turn < len(passes) else np.full_like(passes[0], np.nan)
        values.append(float(part[arms.index("norm")].mean() - part[arms.index("tent")].mean()))
    return _series(runs, values, "lead")


def pass_gap(post: Post) -> pd.Series:
    """TENT's lead in the last pass of `length` minus that in the first."""
    passes = {record.config["passes"] for record in post.runs("length").records}
    return lead_by_pass(post, turn=max(passes, default=1) - 1) - lead_by_pass(post, turn=0)


# --- for figures and tables: frames --------------------------------------------------------------------------------


def long(runs: Runs, name: str = "error") -> pd.DataFrame:
    """One row a run, arm and corruption: fields of the config, arm, corruption, seed, and the number `name`."""
    rows = []
    for record in runs.records:
        fields = {key: record.config[key] for key in ("seed", "batch_size", "mode", "order", "delta")}
        fields |= {
            f"source_{key}": record.config["source"]["config"][key] for key in ("network", "width", "epochs")
        }
        for i, arm in enumerate(record.config["arms"]):
            for j, corruption in enumerate(record.config["corruptions"]):
                rows.append(
                    {**fields, "arm": arm, "corruption": corruption, name: float(record.arrays[name][i, j])}
                )
    return pd.DataFrame(rows)


def grid(runs: Runs, name: str = "error") -> pd.DataFrame:
    """One row a run and rate of `sensitivity`: seed, batch_size, parameters, optimizer, rate (NaN: Norm), and the number."""
    rows = []
    for record in runs.records:
        fields = {key: record.config[key] for key in ("seed", "batch_size", "parameters", "optimizer")}
        labels = [np.nan] * len(record.config["arms"]) + list(record.config["rates"])
        rows += [
            {**fields, "rate": rate, name: float(record.arrays[name][row].mean())}
            for row, rate in enumerate(labels)
        ]
    return pd.DataFrame(rows)


def growth(runs: Runs) -> pd.DataFrame:
    """One row a run and batch: seed, images (so far), lead of TENT over Norm on all images so far."""
    rows = []
    for record in runs.records:
        arms, batches = list(record.config["arms"]), record.arrays["batches"].astype(float)
        gap = (batches[arms.index("norm")] - batches[arms.index("tent")]).mean(0)  # (batches,)
        so_far = np.cumsum(gap) / np.arange(1, len(gap) + 1)
        rows += [
            {
                "seed": record.config["seed"],
                "images": (i + 1) * record.config["batch_size"],
                "lead": float(value),
            }
            for i, value in enumerate(so_far)
        ]
    return pd.DataFrame(rows)


def spread(frame: pd.DataFrame, value: str, by: list[str]) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds of a column for each group: `by`, mean, low, high, n, interval."""
    rows = []
    for key, group in frame.groupby(by, sort=False):
        per_seed = group.groupby("seed")[value].mean().dropna()
        if len(per_seed):
            found = t_interval(per_seed.to_numpy(dtype=float))
            low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
            rows.append(
                {
                    **dict(zip(by, key, strict=True)),
                    "mean": found.mean,
                    "low": low,
                    "high": high,
                    "n": found.n,
                }
                | {"interval": found}
            )
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n", "interval"])


def beside(post: Post) -> pd.DataFrame:
    """Mean errors of source, Norm and TENT over all corruptions: the paper's, the reference's and ours, as text."""
    paper = {"source": 40.8, "norm": 17.3, "tent": 14.3}
    means = reference().groupby("arm")["error"].mean() * 100
    rows = []
    for arm, theirs in paper.items():
        ours = error(post, arm=arm).dropna()
        mine = f"{t_interval(100 * ours):.1f}" if len(ours) else "–"
        rows.append((ARMS[arm], f"{theirs:.1f}", f"{means[arm]:.1f}", mine))
    return pd.DataFrame(rows, columns=["Arm", "Paper, R-26", "Reference, WRN-28-10", "Ours"])


def table(
    frame: pd.DataFrame, value: str, rows: str, order: list[str], columns: str | None = None
) -> pd.DataFrame:
    """Means over seeds with intervals, in per cent, as text: a row for each of `order`, named in the first column, and a column for each of
    `columns`."""
    by = [rows] if columns is None else [rows, columns]
    found = spread(frame, value, by)
    found["text"] = [f"{100 * i.mean:.1f} ± {100 * (i.high - i.mean):.1f}" if i.known else f"{100 * i.mean:.1f}"
                     for i in found["interval"]]  # fmt: skip
    if columns is None:
        wide = found.set_index(rows)[["text"]]
    else:
        wide = found.pivot(index=rows, columns=columns, values="text")[list(dict.fromkeys(found[columns]))]
    chosen = wide.reindex([one for one in order if one in wide.index]).fillna("–")
    return chosen.rename_axis(columns=None).rename_axis(rows).reset_index()
