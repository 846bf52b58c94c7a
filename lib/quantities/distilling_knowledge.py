"""Quantities of the distillation post: test errors in 10,000, gaps between arms, slopes; and the sources' numbers.

    errors(post, experiment="transfer", arm=["soft", 4.0, 0.9])            # one number a seed, per 10,000 test images
    gap(post, of={...}, over={...})                                        # by how many errors `of` is below `over`
    long(post.runs("temperature"))                                         # a frame for the figure

An arm is (kind, temperature, weight), as configs have it. `where` narrows runs by fields of their config; a teacher's are
`teacher.epochs` and so on. Errors are scaled to 10,000 test images, as MNIST has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from lib.core import InputError, Record
from lib.reading import Post, Runs
from lib.stats import t_interval

Bias = Literal["none", "matched", "best"]
ARRAYS: dict[str, str] = {"none": "errors", "matched": "matched_errors", "best": "best_errors"}

PAPER = {
    "teacher": 67,
    "hard": 146,
    "soft": 74,
    "no_3": 206,
    "no_3_best": 109,
    "no_3_on_3": 133,
    "no_3_best_on_3": 14,
}
"""Test errors of 10,000 in the paper's section 3."""

ORIGINAL = {"teacher": 0.9901, "hard": 0.9833, "soft": 0.9891, "no_3_hard": 0.8882, "no_3_soft": 0.9869}
"""Test accuracies of the original post."""

KINDS = {
    "hard": "hard labels",
    "soft": "soft labels",
    "smoothed": "label smoothing",
    "shuffled": "soft labels, shuffled",
    "matched": "logits matched",
    "mutual": "mutual learning",
    "hint": "soft labels and hints",
}


def arm_name(kind: str, temperature: float, weight: float) -> str:
    """As figures call an arm."""
    if kind in ("soft", "shuffled", "hint"):
        share = "" if kind == "hint" else f", a = {weight:g}"
        return f"{KINDS[kind]}, T = {temperature:g}{share}"
    return KINDS[kind]


# --- one number a seed ---------------------------------------------------------------------------------------------


def _series(runs: Runs, values: Iterable[tuple[int, float]], name: str) -> pd.Series:
    found = list(values)
    out = pd.Series(
        [value for _, value in found],
        index=pd.Index([seed for seed, _ in found], name="seed", dtype="int64"),
        name=name,
        dtype=float,
    )
    if not out.index.is_unique:
        raise InputError(f"{runs.experiment}: a seed has several runs; narrow them first")
    return out.sort_index()


def _row(record: Record, arm: Sequence[Any]) -> int | None:
    """Which row of a run's arrays an arm has; None where it has none, or where the run diverged before a validation."""
    arms = [tuple(one) for one in record.config["arms"]]
    if tuple(arm) not in arms or "errors" not in record.arrays:
        return None
    return arms.index(tuple(arm))


def _count(record: Record, row: int, bias: str, digits: Sequence[int] | None) -> float:
    by_class = np.asarray(record.arrays[ARRAYS[bias]][row], dtype=float)
    chosen = by_class if digits is None else by_class[list(digits)]
    return 10_000 * float(chosen.sum()) / float(record.metrics["test_images"])


def errors(
    post: Post,
    *,
    experiment: str,
    arm: Sequence[Any],
    bias: Bias = "none",
    digits: Sequence[int] | None = None,
    where: Mapping[str, Any] | None = None,
) -> pd.Series:
    """Test errors in 10,000 of one arm: all, or those on images of some digits; with biases as trained, matched, or best.

    Runs without the arm are passed over. Raises InputError for an unknown bias.
    """
    if bias not in ARRAYS:
        raise InputError(f"bias is {bias!r}; one of {', '.join(ARRAYS)} is wanted")
    runs = post.runs(experiment).where(**dict(where or {}))
    rows = [(record, _row(record, arm)) for record in runs.records]
    return _series(
        runs,
        (
            (record.config["seed"], _count(record, row, bias, digits))
            for record, row in rows
            if row is not None
        ),
        "errors",
    )


def gap(post: Post, *, of: Mapping[str, Any], over: Mapping[str, Any]) -> pd.Series:
    """By how many errors in 10,000 `of` is below `over`; both as arguments of `errors`."""
    return errors(post, **over) - errors(post, **of)


def main_teachers(runs: Runs) -> Runs:
    """The teachers of the corrected protocol: all images, all epochs, chosen on images as they are."""
    chosen = runs.where(jittered_validation=False)
    for name in ("images", "hidden", "epochs"):
        most = max((record.config[name] for record in chosen.records), default=0)
        chosen = chosen.where(**{name: most})
    return chosen


def _scaled(record: Record, name: str = "test_errors") -> float:
    value = record.metrics.get(name, np.nan)
    return 10_000 * float(value) / float(record.metrics.get("test_images", np.nan))


def teacher_errors(post: Post) -> pd.Series:
    """Test errors in 10,000 of the teachers."""
    runs = main_teachers(post.runs("teacher"))
    return _series(runs, ((r.config["seed"], _scaled(r)) for r in runs.records), "errors")


def teacher_quality(post: Post, *, arm: Sequence[Any]) -> pd.Series:
    """By how many errors students of the longest-trained teacher are below those of the shortest-trained, for equal epochs."""
    runs = post.runs("teacher_quality")
    epochs = sorted({record.config["teacher"]["config"]["epochs"] for record in runs.records})
    if not epochs:
        return _series(runs, (), "gap")
    at = {"experiment": "teacher_quality", "arm": arm}
    worst, best = ({**at, "where": {"teacher.epochs": one}} for one in (epochs[0], epochs[-1]))
    return gap(post, of=best, over=worst)


def jitter_gap(post: Post) -> pd.Series:
    """Validation accuracy on images as they are minus that on jittered ones, of the teachers that were chosen by the latter."""
    runs = post.runs("teacher").where(jittered_validation=True)
    return runs.per_seed("clean_val_accuracy") - runs.per_seed("val_accuracy")


def jitter_cost(post: Post) -> pd.Series:
    """Test errors in 10,000 of a teacher chosen on jittered images, minus those of one of the same training chosen on plain ones."""
    runs = post.runs("teacher").where(jittered_validation=True)
    posted = _series(runs, ((r.config["seed"], _scaled(r)) for r in runs.records), "errors")
    return posted - teacher_errors(post).reindex(posted.index)


def slope(post: Post, *, name: str) -> pd.Series:
    """A metric of `slopes`: `slope_fixed`, `slope_teacher`, `rows_moved`, `answers_lost`."""
    return post.runs("slopes").per_seed(name)


# --- for figures and tables: frames --------------------------------------------------------------------------------


def long(runs: Runs) -> pd.DataFrame:
    """One row a run and arm: fields of the config, kind, temperature, weight, arm (its name), and errors in 10,000.

    errors, matched, best: by bias; on_omitted, matched_on_omitted, best_on_omitted: those on the omitted digits. NaN where
    nothing was omitted. teacher_errors: of the run's teacher.
    """
    rows = []
    for record in runs.records:
        config, teacher = record.config, record.config["teacher"]["config"]
        fields = {name: config[name] for name in ("seed", "hidden", "jitter", "images", "epochs")}
        fields |= {f"teacher_{name}": teacher[name] for name in ("epochs", "images", "hidden")}
        fields["omitted"] = tuple(config["omitted"])
        fields["teacher_errors"] = _scaled(record, "teacher_errors")
        seen: set[Any] = set()
        for arm in config["arms"]:
            row = _row(record, arm)
            if row is None or tuple(arm) in seen:
                continue
            seen.add(tuple(arm))
            found = {"errors": _count(record, row, "none", None)}
            for bias in ("none", "matched", "best"):
                known = bool(config["omitted"])
                head = "" if bias == "none" else f"{bias}_"
                found[f"{head}on_omitted"] = _count(record, row, bias, config["omitted"]) if known else np.nan
                if bias != "none":
                    found[bias] = _count(record, row, bias, None) if known else np.nan
            kind, temperature, weight = arm
            about = {"kind": kind, "temperature": temperature, "weight": weight, "arm": arm_name(*arm)}
            rows.append({**fields, **about, **found})
    return pd.DataFrame(rows)


def spread(frame: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds of a column for each group: `by`, mean, low, high, n, interval.

    Where there is one seed, low and high are the mean. A group without any number is left out.
    """
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        values = group[value].dropna().to_numpy(dtype=float)
        if len(values):
            found = t_interval(values)
            low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
            fields = dict(zip(by, key, strict=True))
            rows.append(
                {**fields, "mean": found.mean, "low": low, "high": high, "n": found.n, "interval": found}
            )
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n", "interval"])


def mean_sd(values: Iterable[float], spec: str = ".1f") -> str:
    """`115.2 ± 6.1 (5)`: mean, standard deviation over seeds, and their number; a dash where there is none."""
    known = np.array([value for value in values if np.isfinite(value)], dtype=float)
    if not len(known):
        return "–"
    sd = f" ± {known.std(ddof=1):{spec}}" if len(known) > 1 else ""
    return f"{known.mean():{spec}}{sd} ({len(known)})"


def beside(post: Post, *, soft: Sequence[Any]) -> pd.DataFrame:
    """Test errors of the paper, the original and ours (mean ± sd, n), for teacher, small and distilled; as text."""
    ours = {
        "teacher": teacher_errors(post),
        "hard": errors(post, experiment="transfer", arm=["hard", 1.0, 0.0]),
        "soft": errors(post, experiment="transfer", arm=soft),
    }
    titles = {"teacher": "large", "hard": "small, hard labels", "soft": f"small, {arm_name(*soft)}"}
    rows = [
        (title, str(PAPER[name]), f"{10_000 * (1 - ORIGINAL[name]):.0f}", mean_sd(ours[name]))
        for name, title in titles.items()
    ]
    return pd.DataFrame(rows, columns=["Network", "Paper", "Original", "Ours"])


def without_three(post: Post, *, arms: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Errors of students that never saw a 3 (mean ± sd, n), by arm and bias: all, and those on 3s; as text."""
    table = long(post.runs("omitted_digit").where(omitted=(3,), jitter=0))
    rows = []
    for arm in arms:
        part = table[table["arm"] == arm_name(*arm)]
        for bias, title in (
            ("none", "as trained"),
            ("matched", "matched to the prior"),
            ("best", "best on test"),
        ):
            head = "" if bias == "none" else f"{bias}_"
            every, own = part["errors" if bias == "none" else bias], part[f"{head}on_omitted"]
            rows.append((arm_name(*arm), title, mean_sd(every), mean_sd(own)))
    return pd.DataFrame(rows, columns=["Student", "Bias of 3", "Errors", "Of these on 3s"])
