"""Quantities of the post on memorization, each one number a seed, and the tables behind its figures.

    dispersion(post, kind="real", part="train", when="first")      # 1 where all examples are equally hard
    csr_gap(post, of={"kind": "randx"}, over={"kind": "real"})     # of critical sample ratios around fresh examples
    table = courses(post.runs("csr"), "own")                       # a frame for the figure

Accuracies and ratios are fractions. `paper()` has the paper's Figure 9, read off the print, good to half a point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lib.reading import Post, Runs
from lib.stats import Interval, t_interval

KINDS = {"real": "real data", "randx": "RandX", "randx_unit": "RandX, N(0, 1)", "randy": "RandY"}
"""As figures call them."""
CHANCE = 0.1
"""Accuracy of a guess among ten classes."""
REGULARISERS = {
    "none": "none",
    "dropout": "dropout",
    "weight_decay": "weight decay",
    "input_noise": "input noise",
}

_EPOCHS = "0 10 20 30 50 70 100 140"
_PAPER = {
    "real": "0 .160 .191 .203 .198 .200 .206 .203",
    "randx": "0 .572 .565 .758 .761 .761 .762 .762",
    "randy": "0 .136 .241 .439 .632 .703 .726 .737",
}


def paper() -> pd.DataFrame:
    """The paper's critical sample ratios: kind, epoch, csr."""
    rows = [
        (kind, int(epoch), float(value))
        for kind, line in _PAPER.items()
        for epoch, value in zip(_EPOCHS.split(), line.split(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["kind", "epoch", "csr"])


def over_seeds(values: pd.Series) -> Interval:
    """Mean and 95 % t interval over seeds."""
    return t_interval(values.to_numpy(dtype=float))


# --- one number a seed ---------------------------------------------------------------------------------------------


def dispersion(post: Post, *, kind: str, part: str = "train", when: str = "first") -> pd.Series:
    """Observed over binomial variance of the share correct; part: train or test; when: first (epoch) or last."""
    return post.runs("p_correct").where(kind=kind).per_seed(f"dispersion_{part}_{when}")


def dispersion_gap(
    post: Post, *, kind: str, over: str, part: str = "train", when: str = "first"
) -> pd.Series:
    """`dispersion` of one kind minus that of another."""
    fields = {"part": part, "when": when}
    return dispersion(post, kind=kind, **fields) - dispersion(post, kind=over, **fields)


def smoothness_gap(post: Post) -> pd.Series:
    """How much neighbouring weights of first-layer filters agree, trained on real labels minus on random ones."""
    runs = post.runs("filters")
    return runs.where(kind="real").per_seed("smoothness") - runs.where(kind="randy").per_seed("smoothness")


def csr(post: Post, *, kind: str, name: str = "own_last") -> pd.Series:
    """A critical sample ratio after the last epoch: around fresh examples (`own_last`), real ones (`real_last`), or `posted`."""
    return post.runs("csr").where(kind=kind).per_seed(name)


def csr_gap(post: Post, *, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """One ratio minus another; both as arguments of `csr`."""
    return csr(post, **of) - csr(post, **over)


def csr_off_paper(post: Post, *, kind: str) -> pd.Series:
    """The ratio after the last epoch minus the paper's at epoch 140."""
    table = paper()
    theirs = table[(table["kind"] == kind) & (table["epoch"] == 140)]["csr"].iloc[0]
    return csr(post, kind=kind) - float(theirs)


def moments(post: Post, *, kind: str, name: str) -> pd.Series:
    """A number of `randx_moments`: `own`, `on_real`, `posted_own`, `posted_on_real`, `top_share_on_real`, `train_accuracy`."""
    return post.runs("randx_moments").where(kind=kind).per_seed(name)


def moments_gap(post: Post, *, of: dict[str, Any], over: dict[str, Any]) -> pd.Series:
    """One number of `randx_moments` minus another; both as arguments of `moments`."""
    return moments(post, **of) - moments(post, **over)


def accuracy(post: Post, *, kind: str, regulariser: str = "none", strength: float = 0.0) -> pd.Series:
    """On random labels seen in training (`randy`), or on real data not seen (`real`)."""
    runs = post.runs("regularisation").where(kind=kind, regulariser=regulariser, strength=strength)
    return runs.per_seed("train_accuracy" if kind == "randy" else "test_accuracy")


def hindrance(post: Post, *, regulariser: str, strength: float) -> pd.Series:
    """The share of memorizing that a regulariser takes minus the share of generalising; of what either has above chance.

    Without a number where the network without a regulariser has nothing above chance.
    """
    lost = {}
    for kind in ("randy", "real"):
        there = accuracy(post, kind=kind) - CHANCE
        left = accuracy(post, kind=kind, regulariser=regulariser, strength=strength) - CHANCE
        lost[kind] = 1 - left / there.where(there > 0)
    return lost["randy"] - lost["real"]


def fall(post: Post, *, share: float) -> pd.Series:
    """The best test accuracy in the course of training minus the last, with a share of the labels random."""
    return post.runs("partial_noise").where(share=share).per_seed("fall")


def fall_gap(post: Post, *, share: float) -> pd.Series:
    """`fall` with a share of random labels minus that with none."""
    return fall(post, share=share) - fall(post, share=0.0)


# --- for figures and tables ----------------------------------------------------------------------------------------


def sorted_shares(runs: Runs, *, part: str, when: int) -> pd.DataFrame:
    """One row a kind and example of the first seed: kind, rank (share of the examples), p (share of networks that are right).

    when: 0 after the first epochs, 1 at the end. `binomial` is a kind too: what RandX's mean gives if all are equally hard.
    """
    frames = []
    members = int(runs.records[0].config["members"])
    for record in runs.where(seed=0).records:
        p = np.sort(record.arrays[part][when] / members)
        frames.append(_ranked(record.config["kind"], p))
        if record.config["kind"] == "randx":
            drawn = np.random.default_rng(0).binomial(members, p.mean(), len(p)) / members
            frames.append(_ranked("binomial", np.sort(drawn)))
    return pd.concat(frames, ignore_index=True)


def _ranked(kind: str, p: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"kind": kind, "rank": (np.arange(len(p)) + 0.5) / len(p), "p": p})


def courses(runs: Runs, name: str) -> pd.DataFrame:
    """One row a run and evaluation: kind or share, seed, epoch, value of the series `name`."""
    rows = []
    for record in runs.records:
        config = record.config
        values = record.series[name]
        for i, value in enumerate(values, 1):
            epoch = min(i * config["interval"], config["epochs"])
            rows.append(
                {"group": config.get("kind", config.get("share")), "seed": config["seed"], "epoch": epoch, "value": value}
            )  # fmt: skip
    return pd.DataFrame(rows)


def grid(runs: Runs) -> pd.DataFrame:
    """One row a run, radius and budget of the search at the end of `csr`: kind, seed, r, iterations, value."""
    rows = []
    for record in runs.records:
        config = record.config
        for i, r in enumerate(config["radii"]):
            for j, budget in enumerate(config["budgets"]):
                rows.append(
                    {"kind": config["kind"], "seed": config["seed"], "r": r, "iterations": budget, "value": record.arrays["grid"][i, j]}
                )  # fmt: skip
    return pd.DataFrame(rows)


def trade(runs: Runs) -> pd.DataFrame:
    """One row a regulariser and strength of `regularisation`: memorized and generalised, means over seeds."""
    frame = runs.frame
    rows = []
    for (regulariser, strength), part in frame.groupby(["regulariser", "strength"], sort=False):
        halves = {kind: part[part["kind"] == kind] for kind in ("randy", "real")}
        rows.append(
            {
                "regulariser": regulariser,
                "strength": strength,
                "memorized": halves["randy"]["train_accuracy"].mean(),
                "generalised": halves["real"]["test_accuracy"].mean(),
                "seeds": halves["real"]["seed"].nunique(),
            }
        )
    return pd.DataFrame(rows)
