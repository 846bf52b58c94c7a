"""Quantities of the post on label refinery: accuracies, gains over hard labels, declines along chains; the originals' numbers.

    accuracy(post, experiment="refine", arm="dynamic_soft", generation=2, crops="strong")      # one number a seed
    gain(post, experiment="overlap", arm="dynamic_soft", overlap=1.0)       # over hard labels, same updates and weights
    decline(post, fixed="nothing")                                          # R₁ minus the last network of a chain

All are fractions, paired by seed: arms of one seed and generation begin with the same weights and see the same crops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.core import InputError
from lib.reading import Post, Runs
from lib.stats import t_interval

ARMS = {
    "labels": "hard labels",
    "smoothed": "label smoothing",
    "static_full": "static, whole image",
    "static_frozen": "static, frozen copies",
    "dynamic_soft": "dynamic, soft",
    "dynamic_hard": "dynamic, hard",
    "oracle": "known labels",
}
"""As figures call them."""

FIXES = {
    "nothing": "as posted",
    "stem": "stem for small images",
    "stopping": "no early stopping",
    "restore": "best weights kept",
    "optimizer": "SGD with a cycle",
    "updates": "a third of the updates",
    "labels": "labels made anew",
    "copies": "no copies (augment = 0)",
}

CHANGES = {
    "nothing": "as in refine",
    "teacher": "wider teacher",
    "mode": "teacher in training mode",
    "temperature": "labels at T = 2",
    "images": "a tenth of the images",
    "noise": "a fifth of the labels random",
}

_TABLE = {
    ("CIFAR-10", 0): ("62.9 ± 6.7", "44.2 ± 20", "32.3 ± 22"),
    ("CIFAR-10", 1): ("68.7 ± 4.5", "64.2 ± 11", "59.0 ± 12"),
    ("SVHN", 0): ("88.1 ± 2.7", "73.1 ± 30", "73.9 ± 31"),
    ("SVHN", 1): ("91.0 ± 2.1", "91.5 ± 1.3", "91.5 ± 1.2"),
}

BY_VALIDATION = {
    ("CIFAR-10", 0): (67.1, 58.9, 41.7),
    ("CIFAR-10", 1): (71.9, 70.2, 62.6),
    ("SVHN", 1): (92.7, 91.3, 91.1),
}
"""The original's own runs, in per cent, had the epoch with the best validation been kept: from its logs."""

IMAGENET = {
    "AlexNet": (57.93, 61.37),
    "AlexNet, by ResNet-50": (57.93, 66.28),
    "MobileNet": (68.53, 73.39),
    "ResNet-50": (75.7, 76.5),
    "VGG16": (70.1, 75.0),
}
"""The paper's top-1 accuracies in per cent, before and after."""


def original() -> pd.DataFrame:
    """The original's Table 1: data, augment, generation, mean, sd; fractions."""
    rows = []
    for (data, augment), line in _TABLE.items():
        for generation, text in enumerate(line, 1):
            mean, sd = (float(value) / 100 for value in text.split(" ± "))
            rows.append((data, augment, generation, mean, sd))
    return pd.DataFrame(rows, columns=["data", "augment", "generation", "mean", "sd"])


# --- one number a seed ---------------------------------------------------------------------------------------------


def _where(runs: Runs, **fields: Any) -> Runs:
    return runs.where(**{name: value for name, value in fields.items() if value is not None})


def value(post: Post, name: str, *, experiment: str, **fields: Any) -> pd.Series:
    """A metric of the one link a seed that has these fields."""
    runs = _where(post.runs(experiment), **fields)
    if not runs.records:
        return pd.Series([], index=pd.Index([], name="seed", dtype="int64"), name=name, dtype=float)
    return runs.per_seed(name)


def accuracy(post: Post, *, experiment: str, **fields: Any) -> pd.Series:
    """Test accuracy of a link."""
    return value(post, "test_accuracy", experiment=experiment, **fields)


def difference(
    post: Post, *, of: dict[str, Any], over: dict[str, Any], name: str = "test_accuracy"
) -> pd.Series:
    """A metric of one link minus that of another; both as arguments of `accuracy`."""
    return value(post, name, **of) - value(post, name, **over)


def gain(
    post: Post, *, arm: str, experiment: str = "refine", over: str = "labels", **fields: Any
) -> pd.Series:
    """Test accuracy of an arm at generation 2 minus that of another one there: same updates, weights and crops."""
    at = {"experiment": experiment, "generation": 2, **fields}
    return difference(post, of={**at, "arm": arm}, over={**at, "arm": over})


def overlap_growth(post: Post, *, arm: str, over: str = "labels") -> pd.Series:
    """The gain of an arm where all images hold several digits minus its gain where none does."""
    levels = _levels(post)
    high, low = (gain(post, arm=arm, experiment="overlap", over=over, overlap=level) for level in levels)
    return high - low


def divergence_fall(post: Post, *, arm: str, over: str = "labels") -> pd.Series:
    """By how much an arm's labels diverge less from the known ones than those of another arm, where all images overlap."""
    at = {"experiment": "overlap", "generation": 2, "overlap": _levels(post)[0]}
    return difference(post, of={**at, "arm": over}, over={**at, "arm": arm}, name="label_divergence")


def _levels(post: Post) -> tuple[float, float]:
    """The highest and the lowest overlap."""
    found = sorted({record.config["overlap"] for record in post.runs("overlap").records})
    if len(found) < 2:
        raise InputError("overlap has one level; two or more are wanted")
    return found[-1], found[0]


def decline(post: Post, *, fixed: str, data: str | None = None) -> pd.Series:
    """Test accuracy of R₁ minus that of the last network of a chain of `mistakes`."""
    runs = _where(post.runs("mistakes"), fixed=fixed, data=data)
    last = max((record.config["generation"] for record in runs.records), default=1)
    at: dict[str, Any] = {"experiment": "mistakes", "fixed": fixed, "data": data}
    return accuracy(post, generation=1, **at) - accuracy(post, generation=last, **at)


def mended(post: Post, *, fixed: str) -> pd.Series:
    """By how much a fix lowers the decline."""
    return decline(post, fixed="nothing") - decline(post, fixed=fixed)


def unkept(post: Post, *, generation: int) -> pd.Series:
    """As posted: the best validation accuracy of a training minus that of the weights that it kept, the last."""
    runs = post.runs("mistakes").where(fixed="nothing", generation=generation)
    found = {
        record.config["seed"]: max(series) - series[-1]
        for record in runs.records
        if (series := record.series.get("val_accuracy_by_epoch"))
    }
    return pd.Series(found, dtype=float, name="unkept").rename_axis("seed").sort_index()


def shared(post: Post, *, data: str, name: str | None = None) -> pd.Series:
    """Share of crops of house numbers that show a part of the next one, beyond what crops far apart give; or one of `houses`."""
    runs = post.runs("houses").where(data=data)
    return runs.per_seed("next") - runs.per_seed("further") if name is None else runs.per_seed(name)


def variant_gain(post: Post, *, changed: str) -> pd.Series:
    """Gain of dynamic soft labels over hard ones with one thing changed; hard labels of the same images and noise."""
    plain: dict[str, Any] = {"experiment": "refine", "generation": 2, "crops": "strong"}
    if changed == "nothing":
        return gain(post, arm="dynamic_soft", crops="strong")
    own: dict[str, Any] = {"experiment": "variants", "changed": changed}
    runs = post.runs("variants").where(changed=changed, arm="labels")
    over = own if runs.records else plain
    return difference(post, of={**own, "arm": "dynamic_soft"}, over={**over, "arm": "labels"})


# --- for figures and tables: frames --------------------------------------------------------------------------------


def long(runs: Runs) -> pd.DataFrame:
    """One row a link: seed, arm, generation, crops, overlap, fixed, changed, and its metrics."""
    frame = runs.frame
    names = ("seed", "arm", "generation", "crops", "overlap", "fixed", "changed", "data")
    metrics = ("test_accuracy", "nll", "ece", "train_accuracy", "label_divergence")
    frame = frame[[name for name in (*names, *metrics) if name in frame]].copy()
    frame["gap"] = frame["train_accuracy"] - frame["test_accuracy"]
    return frame


def spread(frame: pd.DataFrame, column: str, by: Sequence[str]) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds of a column for each group: `by`, mean, low, high, n, interval."""
    rows = []
    for key, group in frame.groupby(list(by), sort=False):
        values = group[column].dropna().to_numpy(dtype=float)
        if len(values):
            found = t_interval(values)
            low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
            fields = dict(zip(by, key, strict=True))
            rows.append(
                {**fields, "mean": found.mean, "low": low, "high": high, "n": found.n, "interval": found}
            )
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n", "interval"])


def mean_sd(values: Iterable[float], scale: float = 100, spec: str = ".1f") -> str:
    """`68.7 ± 4.5 (5)`: mean, standard deviation over seeds, and their number; a dash where there is none."""
    known = scale * np.array([one for one in values if np.isfinite(one)], dtype=float)
    if not len(known):
        return "–"
    sd = f" ± {known.std(ddof=1):{spec}}" if len(known) > 1 else ""
    return f"{known.mean():{spec}}{sd} ({len(known)})"


def beside(post: Post) -> pd.DataFrame:
    """The original's Table 1 beside our replica of its set-up, in per cent; as text."""
    frame = post.runs("mistakes").frame
    ours = {
        key: mean_sd(group["test_accuracy"]) for key, group in frame.groupby(["data", "fixed", "generation"])
    }
    own = next(data for data in frame["data"] if data != "svhn")
    columns = {"Network": ["R1", "R2", "R3"]}
    for (data, augment), line in _TABLE.items():
        place = ("svhn" if data == "SVHN" else own, "nothing" if augment else "copies")
        title = f"{data}, augment = {augment}"
        columns[title] = list(line)
        columns[f"Ours: {title}"] = [ours.get((*place, generation), "–") for generation in (1, 2, 3)]
    return pd.DataFrame(columns)


def calibrated(runs: Runs, crops: str) -> pd.DataFrame:
    """Accuracy, loss, calibration error and train–test gap of the networks of a kind of crop (mean ± sd, n); as text."""
    frame = long(runs)
    frame = frame[frame["crops"] == crops]
    rows = []
    for arm, title in ARMS.items():
        for generation, part in frame[frame["arm"] == arm].groupby("generation"):
            texts = [
                mean_sd(part[name], scale)
                for name, scale in (("test_accuracy", 100), ("ece", 100), ("gap", 100))
            ]
            rows.append((title, f"R{generation}", texts[0], mean_sd(part["nll"], 1, ".3f"), *texts[1:]))
    return pd.DataFrame(
        rows, columns=["Labels", "Network", "Accuracy", "Loss", "Calibration error", "Train − test"]
    )
