"""Approximate Nearest Cosine Neighbors: what its claims and figures are made of.

    post = open_post("lsh")
    speedup(post, method="lsh", over=["torch", "faiss flat"], recall=0.95)     # one number a seed, for a claim
    curves(post.runs("tradeoff"))                                              # long frames, for figures
    scene(post.runs("walk").one())                                             # the figure that a reader drags

Everything that compares two arms is paired by seed. Speeds are by processor time (`lib.experiments.lsh`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.core import InputError, Record
from lib.reading import Missing, Post, Runs
from lib.stats import Interval, number, t_interval

ARMS = {
    "as_posted": "as posted",
    "rand": "uniform",
    "normal": "normal",
    "orthogonal": "orthogonal",
    "normal centred": "normal, centred",
    "orthogonal centred": "orthogonal, centred",
}
"""The arms' names for readers."""
WAYS = {
    "rings": "1 table, Hamming",
    "directed": "1 table, directed",
    "tables": "10 tables, Hamming",
    "tables directed": "10 tables, directed",
    "forest": "forest of 10 trees",
    "buckets": "10 tables, own bucket",
}
"""The ways of probing, for readers."""
METHODS = {
    "lsh": "CosineLSH (ours)",
    "torch": "brute force, torch",
    "faiss flat": "brute force, faiss",
    "faiss lsh": "faiss LSH",
    "faiss lsh refined": "faiss LSH, re-ranked",
    "faiss ivf": "faiss IVF",
    "faiss hnsw": "faiss HNSW",
    "hnswlib": "hnswlib (HNSW)",
    "annoy": "Annoy",
    "pynndescent": "PyNNDescent",
    "scikit-learn": "brute force, scikit-learn",
}
"""The methods' names for readers."""


def _series(values: dict[int, float]) -> pd.Series:
    index = pd.Index(list(values), name="seed", dtype="int64")
    return pd.Series(list(values.values()), index=index, dtype=float).sort_index()


def over_seeds(values: pd.Series) -> Interval:
    """Mean and interval over the seeds that have a number; NaN where none has, as with times that never cross."""
    known = values.dropna()
    return t_interval(known) if len(known) else Interval(np.nan, -np.inf, np.inf, 0)


# --- for claims: one number a seed ---------------------------------------------------------------------------------


def orientation_range(post: Post, *, shift: float) -> pd.Series:
    """In two dimensions: how much the agreement of a 60° pair differs between the places where it may lie."""
    return post.runs("orientation").where(shift=shift).per_seed("range")


def scaled_spread(post: Post) -> pd.Series:
    """√d times the standard deviation of the cosine of two independent normals, in the largest dimension."""
    return post.runs("spread").per_seed("last_scaled")


def bit_bias(post: Post, *, arm: str) -> pd.Series:
    """Mean over pairs: the share of planes that leave a pair together, minus 1 − θ/π."""
    return post.runs("bits").where(arm=arm).per_seed("bias")


def recall_difference(post: Post, *, bits: int, tables: int) -> pd.Series:
    """Recall within two flipped bits, mean over plane sets, minus the prediction."""
    return post.runs("probing").where(bits=bits, tables=tables).per_seed("difference")


def more_tables(post: Post, *, bits: int, tables: int) -> pd.Series:
    """What so many tables gain over one in recall within two flipped bits."""
    runs = post.runs("probing").where(bits=bits)
    return runs.where(tables=tables).per_seed("recall") - runs.where(tables=1).per_seed("recall")


def arm(post: Post, *, arm: str, bits: int, metric: str) -> pd.Series:
    """One metric of an arm."""
    return post.runs("arms").where(arm=arm, bits=bits).per_seed(metric)


def arm_gain(post: Post, *, arm: str, over: str, bits: int) -> pd.Series:
    """By how much an arm's recall is above another's, at the same number of candidates."""
    runs = post.runs("arms").where(bits=bits)
    return runs.where(arm=arm).per_seed("recall") - runs.where(arm=over).per_seed("recall")


def more_bits(post: Post, *, arm: str, bits: int, over: int) -> pd.Series:
    """What more hyperplanes gain in recall, at the same number of candidates."""
    runs = post.runs("arms").where(arm=arm)
    return runs.where(bits=bits).per_seed("recall") - runs.where(bits=over).per_seed("recall")


def fastest(record: Record, method: str, recall: float, how: str = "batch_cpu") -> float:
    """Queries a second of a method's fastest setting whose recall is at least `recall`; NaN where none reaches it."""
    if f"{method}: recall" not in record.arrays:
        reason = record.metrics.get(f"{method}: skipped")
        raise Missing(
            f"no {method} in the run of seed {record.config['seed']}" + f" ({reason})" * bool(reason)
        )
    reached = np.asarray(record.arrays[f"{method}: recall"]) >= recall
    speeds = np.asarray(record.arrays[f"{method}: {how}_qps"])[reached]
    return float(speeds.max()) if len(speeds) else math.nan


def _with(post: Post, methods: Sequence[str]) -> list[Record]:
    """The runs in which all of the methods took turns, one a seed."""
    found = [
        record for record in post.runs("tradeoff").records if set(methods) <= set(record.config["methods"])
    ]
    if not found:
        raise Missing(f"no run compares {', '.join(methods)}")
    return found


def speedup(
    post: Post, *, method: str, over: Sequence[str], recall: float, how: str = "batch_cpu"
) -> pd.Series:
    """How many times the queries a second of the best of `over` a method answers, each at its fastest with that recall."""
    values = {}
    for record in _with(post, (method, *over)):
        best = max(fastest(record, other, recall, how) for other in over)
        values[record.config["seed"]] = fastest(record, method, recall, how) / best
    return _series(values)


def build_seconds(record: Record, method: str) -> float:
    """Processor seconds to build one index of a method; where its settings have several code lengths, their mean."""
    labels = str(record.metrics[f"{method}: settings"]).split(" · ")
    kinds = {re.sub(r"( bits), \d+", r"\1", label) for label in labels if " bits" in label}
    return float(record.metrics[f"{method}: build_s"]) / max(1, len(kinds))


def build_ratio(post: Post, *, method: str, over: str) -> pd.Series:
    """How many times as long as `over` a method takes to build one index."""
    found = _with(post, (method, over))
    return _series({r.config["seed"]: build_seconds(r, method) / build_seconds(r, over) for r in found})


def exponent(post: Post, *, method: str, how: str = "batch", least: int = 1000) -> pd.Series:
    """The slope of log seconds a query against log n, by least squares over all n from `least` on, where these are several."""
    frame = post.runs("size").frame
    if not len(frame):
        return _series({})
    if frame.loc[frame["n"] >= least, "n"].nunique() > 1:
        frame = frame[frame["n"] >= least]
    values = {}
    for seed, part in frame.groupby("seed"):
        values[int(seed)] = float(np.polyfit(np.log(part["n"]), np.log(part[f"{method}_{how}_s"]), 1)[0])
    return _series(values)


def crossing(post: Post, *, how: str = "batch") -> pd.Series:
    """From which n on our index is faster than brute force, between the sizes that were tried; NaN where it never is.

    Where it is faster from the start: the smallest n.
    """
    frame = post.runs("size").frame
    if not len(frame):
        return _series({})
    values = {}
    for seed, part in frame.groupby("seed"):
        part = part.sort_values("n")
        lead = np.log(part[f"brute_{how}_s"].to_numpy()) - np.log(part[f"lsh_{how}_s"].to_numpy())
        values[int(seed)] = _zero(np.log(part["n"].to_numpy(dtype=float)), lead)
    return _series(values)


def _zero(x: np.ndarray, y: np.ndarray) -> float:
    """exp of where y last rises through 0, piecewise linear in x."""
    behind = np.flatnonzero(y < 0)
    if not len(behind):
        return float(np.exp(x[0]))
    last = int(behind[-1])
    if last == len(y) - 1:
        return math.nan
    return float(np.exp(x[last] + (x[last + 1] - x[last]) * -y[last] / (y[last + 1] - y[last])))


def needed(record: Record, recall: float) -> float:
    """Mean candidates at which a way of probing reaches `recall`, linear in the logarithm; NaN where it does not."""
    counts, recalls = np.asarray(record.arrays["candidates"]), np.asarray(record.arrays["recall"])
    above = np.flatnonzero(recalls >= recall)
    if not len(above):
        return math.nan
    first = int(above[0])
    if first == 0:
        return float(counts[0])
    share = (recall - recalls[first - 1]) / (recalls[first] - recalls[first - 1])
    return float(np.exp((1 - share) * np.log(counts[first - 1]) + share * np.log(counts[first])))


def candidates_needed(post: Post, *, way: str, recall: float) -> pd.Series:
    """Mean candidates that a way of probing needs for a recall."""
    return _series({r.config["seed"]: needed(r, recall) for r in post.runs("reach").where(way=way).records})


def candidates_ratio(post: Post, *, way: str, over: str, recall: float) -> pd.Series:
    """Candidates that a way of probing needs, as a multiple of what another one needs."""
    return candidates_needed(post, way=way, recall=recall) / candidates_needed(post, way=over, recall=recall)


# --- for figures and tables: frames --------------------------------------------------------------------------------


def by_angle(runs: Runs) -> pd.DataFrame:
    """One row a run and bin of angles: arm, seed, degrees, measured, expected."""
    rows = [
        {"arm": r.config["arm"], "seed": r.config["seed"], "degrees": d, "measured": m, "expected": e}
        for r in runs.records
        for d, m, e in zip(r.arrays["degrees"], r.arrays["measured"], r.arrays["expected"], strict=True)
    ]
    return pd.DataFrame(rows)


def by_radius(runs: Runs) -> pd.DataFrame:
    """One row a run and radius: bits, tables, seed, radius, recall, predicted, sd (over plane sets), share."""
    names = ("radius", "recall", "predicted", "sd", "share")
    rows = [
        {name: r.config[name] for name in ("bits", "tables", "seed")} | dict(zip(names, values, strict=True))
        for r in runs.records
        for values in zip(*(r.arrays[name] for name in names), strict=True)
    ]
    return pd.DataFrame(rows)


def curves(runs: Runs, how: str = "batch_cpu") -> pd.DataFrame:
    """One row a run, method and setting: method, run (its key), seed, setting, recall, qps, and whether on the frontier.

    A setting is on its method's frontier where no other setting of the run has both more recall and more queries a second.
    """
    rows = []
    for r in runs.records:
        for method in r.config["methods"]:
            if f"{method}: recall" not in r.arrays:
                continue
            labels = str(r.metrics[f"{method}: settings"]).split(" · ")
            recalls, speeds = r.arrays[f"{method}: recall"], r.arrays[f"{method}: {how}_qps"]
            for label, recall, qps in zip(labels, recalls, speeds, strict=True):
                beaten = ((recalls >= recall) & (speeds > qps)).any()
                rows.append(
                    {
                        "method": method,
                        "run": r.key,
                        "seed": r.config["seed"],
                        "setting": label,
                        "recall": float(recall),
                        "qps": float(qps),
                        "frontier": not beaten,
                    }
                )
    return pd.DataFrame(rows)


def skipped(runs: Runs) -> dict[str, str]:
    """Methods that a run was to compare and could not, with the reason."""
    return {
        name.removesuffix(": skipped"): str(reason)
        for r in runs.records
        for name, reason in r.metrics.items()
        if name.endswith(": skipped")
    }


def beside(runs: Runs, recall: float) -> pd.DataFrame:
    """At a recall, as text: Method, Setting, Recall, Batch, Single (queries a second), Build (seconds); fastest first.

    Means over the seeds of the method's runs; a dash where no setting reaches the recall.
    """
    batch, single = curves(runs), curves(runs, "single_cpu")
    rows = []
    for method in METHODS:
        mine = [r for r in runs.records if f"{method}: recall" in r.arrays]
        if not mine:
            continue
        reached = batch[(batch["method"] == method) & (batch["recall"] >= recall)]
        if not len(reached):
            rows.append((-1.0, METHODS[method], "–", "–", "–", "–", "–"))
            continue
        means = reached.groupby("setting").agg(
            qps=("qps", "mean"), recall=("recall", "mean"), n=("qps", "size")
        )
        means = means[means["n"] == means["n"].max()]
        label = str(means["qps"].idxmax())
        alone = single[(single["method"] == method) & (single["setting"] == label)]["qps"].mean()
        build = np.mean([build_seconds(r, method) for r in mine])
        speed = float(means.loc[label, "qps"])
        rows.append(
            (
                speed,
                METHODS[method],
                label,
                f"{means.loc[label, 'recall']:.3f}",
                f"{speed:,.0f}",
                f"{alone:,.0f}",
                f"{build:,.1f}" if build >= 0.05 else "0",
            )
        )
    rows.sort(key=lambda row: -row[0])
    names = ["Method", "Setting", "Recall", "Batch", "Single", "Build"]
    return pd.DataFrame([row[1:] for row in rows], columns=names)


def arm_table(runs: Runs, bits: int) -> pd.DataFrame:
    """Each arm as text: Planes, Largest bucket, Buckets, Imbalance, Recall, Candidates; means over seeds, with intervals."""
    rows = []
    for name, title in ARMS.items():
        part = runs.where(arm=name, bits=bits)
        if not len(part):
            continue

        def value(metric: str, spec: str, part: Runs = part) -> str:
            return f"{over_seeds(part.per_seed(metric)):{spec}}"

        rows.append(
            (
                title,
                value("largest_bucket", ".1%"),
                f"{part.per_seed('buckets').mean():,.0f}",
                value("imbalance", ".3f"),
                value("recall", ".3f"),
                f"{part.per_seed('mean_candidates').mean():,.0f}",
            )
        )
    names = ["Planes", "Largest bucket", "Buckets", "Imbalance", "Recall", "Candidates"]
    return pd.DataFrame(rows, columns=names)


def reaches(runs: Runs) -> pd.DataFrame:
    """One row a run and number wanted: way, seed, wanted, candidates, recall."""
    rows = [
        {"way": r.config["way"], "seed": r.config["seed"], "wanted": int(w), "candidates": c, "recall": v}
        for r in runs.records
        for w, c, v in zip(r.arrays["wanted"], r.arrays["candidates"], r.arrays["recall"], strict=True)
    ]
    return pd.DataFrame(rows)


# --- the figure that a reader drags --------------------------------------------------------------------------------


def region(record: Record, direction: np.ndarray) -> tuple[bool, ...]:
    """The side of each of the walk's planes on which a vector (2,) lies."""
    return tuple((np.asarray(record.arrays["planes"], float) @ direction >= 0).tolist())


def wedge(record: Record, side: tuple[bool, ...], radius: float) -> list[tuple[float, float]]:
    """The bucket as a polygon: the origin, and an arc of directions with these sides; empty where no direction has them."""
    planes = np.asarray(record.arrays["planes"], float)
    edges = np.sort(
        np.mod(np.arctan2(planes[:, 1], planes[:, 0])[:, None] + [np.pi / 2, -np.pi / 2], 2 * np.pi).ravel()
    )
    for start, end in zip(edges, [*edges[1:], edges[0] + 2 * np.pi], strict=True):
        middle = (start + end) / 2
        if region(record, np.array([math.cos(middle), math.sin(middle)])) == side:
            arc = np.linspace(start, end, 13)
            return [(0.0, 0.0), *((radius * math.cos(a), radius * math.sin(a)) for a in arc)]
    return []


def outline(record: Record, side: tuple[bool, ...], radius: float) -> list[tuple[float, float]]:
    """The border of a bucket: its polygon, closed."""
    corners = wedge(record, side, radius)
    return [*corners, *corners[:1]]


def asked(record: Record, degrees: float) -> dict[str, Any]:
    """What a query in this direction meets: its bucket, the buckets by what their flipped bits cost, the true neighbour.

    side; bucket: ids in it; probes: (side, ids) of the other buckets that exist in the plane, in the order of directed
    probing; nearest: the id with the largest cosine, cosine; flips: its bits that differ; until: buckets looked into until
    it is met, the own one included.
    """
    angle = math.radians(degrees)
    query = np.array([math.cos(angle), math.sin(angle)])
    points = np.asarray(record.arrays["points"], float)
    planes = np.asarray(record.arrays["planes"], float)
    sides = [region(record, point) for point in points]
    own = region(record, query)
    margins = (planes @ query) ** 2
    there = [tuple(bool(code >> j & 1) for j in range(len(planes))) for code in range(1 << len(planes))]
    there = [side for side in there if wedge(record, side, 1.0)]
    cost = {side: sum(m for m, a, b in zip(margins, side, own, strict=True) if a != b) for side in there}
    order = sorted(there, key=lambda side: (cost[side], side != own, side))
    cosines = points @ query / np.linalg.norm(points, axis=1)
    nearest = int(cosines.argmax())
    return {
        "query": query,
        "side": own,
        "bucket": [i for i, side in enumerate(sides) if side == own],
        "probes": [(side, [i for i, s in enumerate(sides) if s == side]) for side in order if side != own],
        "nearest": nearest,
        "cosine": float(cosines[nearest]),
        "flips": sum(a != b for a, b in zip(sides[nearest], own, strict=True)),
        "until": order.index(sides[nearest]) + 1,
    }


def said(found: dict[str, Any]) -> str:
    """One sentence about what `asked` found."""
    bits = "".join("1" if side else "0" for side in found["side"])
    held = _names(found["bucket"])
    truth = f"The nearest is point {found['nearest']} (cosine {number(found['cosine'], '.2f')})"
    if found["flips"] == 0:
        return f"Bucket {bits} holds {held}. {truth}, in this bucket."
    flips = "one flipped bit" if found["flips"] == 1 else f"{found['flips']} flipped bits"
    return f"Bucket {bits} holds {held}. {truth}, {flips} away: met in bucket {found['until']} of those looked into."


def _names(ids: Sequence[int]) -> str:
    if not ids:
        return "no point"
    names = list(map(str, ids))
    return "point " + names[0] if len(names) == 1 else f"points {', '.join(names[:-1])} and {names[-1]}"


def listed(values: Sequence[float]) -> str:
    """Numbers for a sentence: `−0.42, −0.02 and −0.27`."""
    texts = [number(value, ".2f") for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def start_degrees(record: Record) -> float:
    """The direction of the original's query."""
    x, y = np.asarray(record.arrays["query"], float)
    if not (x or y):
        raise InputError("the query is the zero vector: it has no direction")
    return math.degrees(math.atan2(y, x)) % 360
