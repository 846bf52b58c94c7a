"""Approximate Nearest Cosine Neighbors: random hyperplanes, how they should be drawn, and what the codes are good for.

`walk`: the original's five points, with its seed. `orientation`, `spread`: its planes in two dimensions; how nearly
orthogonal independent normals are. `bits`: agreement of a bit against 1 − θ/π. `probing`: recall of fixed-radius probing
against its exact prediction, over plane sets. `arms`: six ways to draw the planes. `tradeoff`: recall against queries a
second, beside other people's indexes. `size`: cost against n. `reach`: candidates needed for a recall, by way of probing.

Vectors are images of 784 pixels as they are; queries are test images, the database training images; the true neighbours
are the k largest cosines, computed exactly.

A query's time is processor time on one thread, the smallest of several passes, with the methods taking turns: other work
on the machine disturbs it less than wall time. The wall time is kept beside it.

Sources: the original post's code; Charikar (2002), STOC; Bawa, Condie and Ganesan (2005), WWW; Lv, Josephson, Wang,
Charikar and Li (2007), VLDB.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from functools import partial, singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lib.core import Config, Context, InputError, Profile, Result
from lib.methods.lsh import CosineLSH, LSHForest
from lib.methods.lsh.planes import Planes, by_code, hyperplanes, signs, unit
from lib.methods.lsh.theory import agreement, agreement_2d, probing_recall

POST = "lsh"

Arm = Literal["as_posted", "rand", "normal", "normal centred", "orthogonal", "orthogonal centred"]
ARMS: dict[Arm, tuple[Planes, bool]] = {
    "as_posted": ("shifted", False),
    "rand": ("uniform", False),
    "normal": ("normal", False),
    "normal centred": ("normal", True),
    "orthogonal": ("orthogonal", False),
    "orthogonal centred": ("orthogonal", True),
}
"""How planes are drawn, and whether the mean of the data is subtracted first. `as_posted`: standard normal minus ½, the
original's; `rand`: uniform minus ½, which it may have meant."""
Way = Literal["rings", "directed", "tables", "tables directed", "buckets", "forest"]
WAYS: tuple[Way, ...] = ("rings", "directed", "tables", "tables directed", "buckets", "forest")
Method = Literal[
    "lsh",
    "torch",
    "faiss flat",
    "faiss lsh",
    "faiss lsh refined",
    "faiss ivf",
    "hnswlib",
    "faiss hnsw",
    "annoy",
    "pynndescent",
    "scikit-learn",
]


class Walk(Config, post=POST, experiment="walk"):
    """The original's demo: points, planes, buckets, a query. seed: torch's."""

    points: int
    planes: int
    seed: int


class Orientation(Config, post=POST, experiment="orientation"):
    """Agreement of the original's planes in two dimensions, by where a pair at `degrees` lies; `sets` planes are drawn."""

    shift: float
    degrees: float
    steps: int
    sets: int
    seed: int


class Spread(Config, post=POST, experiment="spread"):
    """Cosines between independent normals, by dimension."""

    dimensions: tuple[int, ...]
    normals: int
    seed: int


class Bits(Config, post=POST, experiment="bits"):
    """How often a plane leaves a pair together, by the angle between the two (after centring, where the arm centres)."""

    arm: Arm
    pairs: int
    planes: int
    data: str
    seed: int


class Probing(Config, post=POST, experiment="probing"):
    """Recall of all buckets within each radius from 0 to `radius`, over `sets` plane sets of `tables` tables.

    others: random points of the database, for the share of it that is looked at.
    """

    bits: int
    tables: int
    radius: int
    sets: int
    queries: int
    others: int
    k: int
    data: str
    seed: int


class Arms(Config, post=POST, experiment="arms"):
    """One way to draw the planes: buckets, balance, and recall of `candidates` by Hamming distance."""

    arm: Arm
    bits: int
    bucket_bits: int
    candidates: int
    queries: int
    k: int
    data: str
    seed: int


class Tradeoff(Config, post=POST, experiment="tradeoff"):
    """Recall and queries a second of several methods, which take turns in one process. n: points at most."""

    methods: tuple[Method, ...]
    n: int
    queries: int
    singles: int
    k: int
    repeats: int
    data: str
    seed: int


class Size(Config, post=POST, experiment="size"):
    """Cost of a query at n points; beyond the set's own they are its images moved by a pixel."""

    n: int
    bits: int
    candidates: int
    queries: int
    singles: int
    k: int
    repeats: int
    data: str
    seed: int


class Reach(Config, post=POST, experiment="reach"):
    """Recall of at least each number of candidates in `wanted`, by one way of probing codes of `bits`.

    rings: one table, by flipped bits; directed: one table, by the squared margins of the flipped bits; with `tables` of
    them in step, each point by its best table; buckets: the query's own buckets in as many tables, all with the first so
    many bits, the same for all queries; forest: as many prefix trees, which decide that number for each point.
    """

    way: Way
    bits: int
    tables: int
    wanted: tuple[int, ...]
    queries: int
    k: int
    data: str
    seed: int


# --- profiles ------------------------------------------------------------------------------------------------------

CHEAP: tuple[Method, ...] = (
    "lsh",
    "torch",
    "faiss flat",
    "faiss lsh",
    "faiss lsh refined",
    "faiss ivf",
    "hnswlib",
)
DEAR: tuple[Method, ...] = ("lsh", "faiss hnsw", "annoy", "pynndescent", "scikit-learn")

# The ledger, in CPU-seconds on one thread of a 2.6 GHz EPYC, laptop, measured: walk, orientation and spread 2; bits 20;
# probing 34; arms 110; reach 110; size 80; tradeoff 3 × 90 with what is quick to build and hnswlib, and one of 300 with graphs
# and trees that are not (one seed: no claim is about them). In all about 900. `full` has four times the plane sets, five times
# the queries, and every method at three seeds.


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile."""
    if profile == "smoke":
        return _listed(
            "digits", seeds=2, n=1437, sets=10, queries=60, sizes=(200, 700, 1437), methods=[("lsh", "torch")]
        )
    if profile == "laptop":
        sizes = (250, 500, 1000, 2000, 4000, 8000, 15_000, 30_000, 60_000, 120_000, 240_000)
        return _listed("mnist", seeds=5, n=60_000, sets=100, queries=200, sizes=sizes, methods=[CHEAP, DEAR])
    sizes = (250, 500, 1000, 2000, 4000, 8000, 15_000, 30_000, 60_000, 120_000, 240_000)
    everything = (*CHEAP, *DEAR[1:])
    return _listed("mnist", seeds=5, n=60_000, sets=400, queries=1000, sizes=sizes, methods=[everything])


def _listed(
    data: str,
    *,
    seeds: int,
    n: int,
    sets: int,
    queries: int,
    sizes: Sequence[int],
    methods: Sequence[tuple[Method, ...]],
) -> list[Config]:
    small = data == "digits"
    # timings take long: three seeds of them, and one where the methods are no subject of a claim
    timed = min(seeds, 3)
    wanted = tuple(m for m in (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if m <= n // 3)
    at: dict[str, Any] = {"data": data, "k": 10}
    out: list[Config] = [Walk(points=5, planes=2, seed=42)]
    for seed in range(seeds):
        out += [
            Orientation(shift=shift, degrees=60.0, steps=72, sets=2000 if small else 100_000, seed=seed)
            for shift in (0.5, 0.0)
        ]
        out.append(
            Spread(
                dimensions=(2, 4, 8, 16, 32, 64, 128, 256, 512, 784), normals=40 if small else 200, seed=seed
            )
        )
        out += [
            Bits(arm=arm, pairs=200 if small else 2000, planes=100 if small else 1000, data=data, seed=seed)
            for arm in ARMS
        ]
        out += [
            Probing(
                bits=bits,
                tables=tables,
                radius=min(bits, 6),
                sets=sets,
                queries=queries // 2,
                others=n // 30 if not small else 200,
                seed=seed,
                **at,
            )
            for bits in (8, 16, 24)
            for tables in (1, 4)
        ]
        out += [
            Arms(arm=arm, bits=bits, bucket_bits=16, candidates=100, queries=queries, seed=seed, **at)
            for arm in ARMS
            for bits in (64, 256)
        ]
        out += [
            Reach(way=way, bits=32, tables=10, wanted=wanted, queries=queries, seed=seed, **at)
            for way in WAYS
        ]
    for seed in range(timed):
        out += [
            Size(
                n=size,
                bits=256,
                candidates=100,
                queries=queries,
                singles=queries // 4,
                repeats=1 if small else 3,
                seed=seed,
                **at,
            )
            for size in sizes
        ]
    for place, some in enumerate(methods):
        out += [
            Tradeoff(
                methods=some,
                n=n,
                queries=queries * 5 if not small else queries,
                singles=queries // 2,
                repeats=1 if small else 3,
                seed=seed,
                **at,
            )
            for seed in range(timed if place == 0 else 1)
        ]
    return out


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")


# --- the data ------------------------------------------------------------------------------------------------------


class Vectors(NamedTuple):
    """Images as rows of floats, (n, d) and (m, d)."""

    points: np.ndarray
    queries: np.ndarray


def vectors(context: Context, data: str, n: int | None = None, queries: int | None = None) -> Vectors:
    """The first `n` training images and the first `queries` test images; their order is random.

    Raises InputError where there are fewer queries than asked for. Beyond the training images come the same ones moved
    one pixel to the right, down, left, up, in turn (pixels that leave the image are lost).
    """
    found = context.data(data)
    images = found.train.images.cpu().numpy()
    asked = found.test.images.cpu().numpy()[:queries]
    if queries is not None and len(asked) < queries:
        raise InputError(f"{data} has {len(asked)} test images; {queries} queries are wanted")
    n = len(images) if n is None else n
    moves = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    if n > len(images) * len(moves):
        raise InputError(
            f"n is {n}; {data} has {len(images)} images, moved {len(images) * len(moves)} at most"
        )
    parts: list[np.ndarray] = []
    for move in moves:
        left = n - sum(len(part) for part in parts)
        if left > 0:
            parts.append(_moved(images[:left], *move))
    points = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return Vectors(points.reshape(n, -1), asked.reshape(len(asked), -1))


def _moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    if not (down or right):
        return images
    out = np.zeros_like(images)
    h, w = images.shape[2:]
    rows, columns = slice(max(down, 0), h + min(down, 0)), slice(max(right, 0), w + min(right, 0))
    old_rows, old_columns = slice(max(-down, 0), h + min(-down, 0)), slice(max(-right, 0), w + min(-right, 0))
    out[:, :, rows, columns] = images[:, :, old_rows, old_columns]
    return out


def nearest(points: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and cosines (m, k) of the k largest cosines: rows of length 1, one matrix product for each 256 queries."""
    ids, cosines = [], []
    database = torch.from_numpy(points).T
    for start in range(0, len(queries), 256):
        found = torch.topk(torch.from_numpy(queries[start : start + 256]) @ database, k)
        ids.append(found.indices.numpy())
        cosines.append(found.values.numpy())
    return np.concatenate(ids), np.concatenate(cosines)


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """The share of the true ids (m, k) that are among those found in the same row (m, any)."""
    return float(np.mean([np.isin(right, row).mean() for row, right in zip(found, true, strict=True)]))


# --- planes --------------------------------------------------------------------------------------------------------


@run.register
def walk(config: Walk, context: Context) -> Result:
    """The original's lines, one after the other: whatever is drawn is drawn in its order."""
    generator = torch.Generator().manual_seed(config.seed)
    points = torch.randn((config.points, 2), generator=generator)
    planes = torch.randn((config.planes, 2), generator=generator) - 0.5
    query = torch.randn((2,), generator=generator)
    regions = signs(points.numpy(), planes.numpy())
    asked = signs(query[None].numpy(), planes.numpy())[0]
    bucket = by_code(regions).get(tuple(asked.tolist()), [])
    cosines = torch.nn.functional.cosine_similarity(points, query[None]).numpy()
    best = int(cosines.argmax())
    metrics = {
        "bucket_size": len(bucket),
        "buckets": len(by_code(regions)),
        "best": best,
        "best_cosine": float(cosines[best]),
        "best_flips": int((regions[best] != asked).sum()),
        "best_in_bucket_cosine": float(max((cosines[i] for i in bucket), default=math.nan)),
    }
    arrays = {
        "points": points.numpy(),
        "planes": planes.numpy(),
        "query": query.numpy(),
        "regions": regions.astype(np.uint8),
        "query_region": asked.astype(np.uint8),
        "bucket": np.array(bucket),
        "cosines": cosines,
    }
    return Result(metrics, arrays=arrays)


@run.register
def orientation(config: Orientation, context: Context) -> Result:
    """Pairs at one angle, turned in steps: the share of planes that leave them together, measured and exact."""
    rng = np.random.default_rng([config.seed, 1])
    normals = rng.standard_normal((config.sets, 2)) - config.shift
    theta = math.radians(config.degrees)
    starts = np.arange(config.steps) * 2 * np.pi / config.steps
    first = np.stack([np.cos(starts), np.sin(starts)], axis=1)
    second = np.stack([np.cos(starts + theta), np.sin(starts + theta)], axis=1)
    measured = (signs(first, normals) == signs(second, normals)).mean(axis=1)
    exact = np.array([agreement_2d(float(start), theta, config.shift) for start in starts])
    metrics = {
        "least": measured.min(),
        "most": measured.max(),
        "range": measured.max() - measured.min(),
        "exact_least": exact.min(),
        "exact_most": exact.max(),
        "ideal": float(agreement(theta)),
    }
    return Result(metrics, arrays={"start": starts, "measured": measured, "exact": exact})


@run.register
def spread(config: Spread, context: Context) -> Result:
    """The standard deviation of the cosine of two independent normals, times √d: 1 where they are uniform directions."""
    rng = np.random.default_rng([config.seed, 2])
    rows = []
    for d in config.dimensions:
        units = unit(hyperplanes(config.normals, d, "normal", rng)).astype(np.float64)
        cosines = (units @ units.T)[np.triu_indices(config.normals, 1)]
        rows.append(np.sqrt(np.mean(cosines**2)))
    sd = np.array(rows)
    scaled = sd * np.sqrt(config.dimensions)
    metrics = {"last_scaled": scaled[-1], "mean_scaled": scaled.mean(), "last_sd": sd[-1]}
    return Result(metrics, arrays={"dimension": np.array(config.dimensions), "sd": sd})


@run.register
def bits(config: Bits, context: Context) -> Result:
    """Pairs of a query and one of its neighbours or any other point; the angle is that of what is hashed."""
    rng = np.random.default_rng([config.seed, 3])
    found = vectors(context, config.data, queries=config.pairs // 20 if config.pairs >= 20 else 1)
    points, queries = unit(found.points), unit(found.queries)
    kind, centred = ARMS[config.arm]
    mean = points.mean(axis=0, dtype=np.float64) if centred else np.zeros(points.shape[1])
    half = config.pairs // 2
    close, _ = nearest(points, queries, 10)
    first = np.concatenate(
        [np.repeat(queries, 10, axis=0)[:half], queries[rng.integers(len(queries), size=half)]]
    )
    second = np.concatenate([points[close.ravel()[:half]], points[rng.integers(len(points), size=half)]])
    first, second = first - mean, second - mean
    cosines = np.einsum("ij,ij->i", unit(first).astype(np.float64), unit(second).astype(np.float64))
    theta = np.arccos(np.clip(cosines, -1, 1))
    normals = hyperplanes(config.planes, points.shape[1], kind, rng).astype(np.float64)
    measured = (signs(first, normals) == signs(second, normals)).mean(axis=1)
    expected = np.asarray(agreement(theta))
    places = np.clip((np.degrees(theta) / 10).astype(int), 0, 17)
    there = np.unique(places)
    by = {
        "degrees": np.array([np.degrees(theta[places == p]).mean() for p in there]),
        "measured": np.array([measured[places == p].mean() for p in there]),
        "expected": np.array([expected[places == p].mean() for p in there]),
        "pairs": np.array([(places == p).sum() for p in there]),
    }
    metrics = {
        "bias": float((measured - expected).mean()),
        "error": float(np.sqrt(((measured - expected) ** 2).mean())),
        "balance": float(signs(first, normals).mean()),
    }
    return Result(metrics, arrays=by)


@run.register
def probing(config: Probing, context: Context) -> Result:
    """Mean over plane sets; a point counts as found where its code is within the radius in any table."""
    rng = np.random.default_rng([config.seed, 4, config.bits, config.tables])
    found = vectors(context, config.data, queries=config.queries)
    points, queries = unit(found.points), unit(found.queries)
    close, cosines = nearest(points, queries, config.k)
    theta = np.arccos(np.clip(cosines.astype(np.float64), -1, 1)).ravel()
    others = points[rng.choice(len(points), size=config.others, replace=False)]
    radii = np.arange(config.radius + 1)
    neighbours = points[close.ravel()]
    recalls, shares = [], []
    for _ in range(config.sets):
        nearest_table = np.full(neighbours.shape[0], config.bits)
        other_table = np.full((len(queries), len(others)), config.bits)
        for _ in range(config.tables):
            normals = hyperplanes(config.bits, points.shape[1], "normal", rng)
            asked = signs(queries, normals)
            apart = (signs(neighbours, normals) != np.repeat(asked, config.k, axis=0)).sum(axis=1)
            nearest_table = np.minimum(nearest_table, apart)
            signed = np.where(asked, 1, -1).astype(np.float32)
            product = signed @ np.where(signs(others, normals), 1, -1).astype(np.float32).T
            other_table = np.minimum(other_table, ((config.bits - product) / 2).round().astype(int))
        recalls.append([(nearest_table <= r).mean() for r in radii])
        shares.append([(other_table <= r).mean() for r in radii])
    measured = np.array(recalls)
    exact = [probing_recall(theta, int(r), config.bits, config.tables).mean() for r in radii]
    middle = min(2, config.radius)
    metrics = {
        "recall": measured[:, middle].mean(),
        "predicted": exact[middle],
        "difference": measured[:, middle].mean() - exact[middle],
        "sd": measured[:, middle].std(ddof=1),
        "largest_difference": float(np.abs(measured.mean(axis=0) - exact).max()),
    }
    arrays = {
        "radius": radii,
        "recall": measured.mean(axis=0),
        "sd": measured.std(axis=0, ddof=1),
        "predicted": np.array(exact),
        "share": np.mean(shares, axis=0),
    }
    return Result(metrics, arrays=arrays)


@run.register
def arms(config: Arms, context: Context) -> Result:
    """Buckets of the first `bucket_bits` planes, how evenly a plane divides the points, recall of the candidates."""
    found = vectors(context, config.data, queries=config.queries)
    points, queries = unit(found.points), unit(found.queries)
    true, _ = nearest(points, queries, config.k)
    kind, centre = ARMS[config.arm]
    index = CosineLSH(config.bits, planes=kind, centre=centre, seed=config.seed).fit(found.points)
    mean = points.mean(axis=0, dtype=np.float64).astype(np.float32) if centre else np.float32(0)
    sides = signs(points - mean, index.normals[0])
    sizes = np.array([len(rows) for rows in by_code(sides[:, : config.bucket_bits]).values()])
    shares = sizes / len(points)
    on = sides.mean(axis=0)
    hit = index.query(found.queries, config.k, candidates=config.candidates).ids
    candidates = np.mean([len(row) for row in index.candidates(found.queries, config.candidates)])
    metrics = {
        "recall": recall(hit, true),
        "buckets": len(sizes),
        "largest_bucket": float(shares.max()),
        "entropy_bits": float(-(shares * np.log2(shares)).sum()),
        "imbalance": float(np.abs(on - 0.5).mean()),
        "constant_planes": float(((on == 0) | (on == 1)).mean()),
        "mean_candidates": float(candidates),
    }
    return Result(metrics, arrays={"balance": np.sort(on)})


# --- recall against time -------------------------------------------------------------------------------------------

Search = Callable[[np.ndarray], np.ndarray]
"""From queries of length 1, (m, d), to ids (m, k)."""


class Built(NamedTuple):
    """A method ready to be asked: settings by label, each a search; and the processor seconds that building took."""

    searches: dict[str, Search]
    seconds: float


def _ask(index: CosineLSH, k: int, candidates: int, Q: np.ndarray) -> np.ndarray:
    return index.query(Q, k, candidates=candidates).ids


def _ask_faiss(index: Any, k: int, holder: Any, settings: dict[str, float], Q: np.ndarray) -> np.ndarray:
    """Search with attributes of `holder` (the index, or its graph) set first."""
    for name, value in settings.items():
        setattr(holder, name, value)
    return index.search(Q, k)[1]


def _lsh(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    out: dict[str, Search] = {}
    for width, several in (
        (128, (100, 200, 300, 600)),
        (256, (30, 60, 100, 150, 300)),
        (384, (30, 50, 60, 80, 120, 250)),
        (512, (30, 50, 80, 150)),
    ):
        index = CosineLSH(width, seed=seed).fit(points)
        for candidates in several:
            out[f"{width} bits, {candidates}"] = partial(_ask, index, k, candidates)
    return out


def _torch(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    return {"exact": lambda Q: nearest(points, Q, k)[0]}


EFS = (10, 12, 15, 20, 30, 50, 100)
"""Widths of a graph's search; close together around the recall at which methods are compared, as are the others' settings."""


def _faiss() -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


def _faiss_flat(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    index = _faiss().IndexFlatIP(points.shape[1])
    index.add(points)
    return {"exact": partial(_ask_faiss, index, k, index, {})}


def _faiss_lsh(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    out: dict[str, Search] = {}
    for width in (256, 512):
        index = _faiss().IndexLSH(points.shape[1], width)
        index.add(points)
        out[f"{width} bits"] = partial(_ask_faiss, index, k, index, {})
    return out


def _faiss_lsh_refined(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    """Without and with its trained thresholds, which stand for our centring."""
    faiss = _faiss()
    out: dict[str, Search] = {}
    for trained in (False, True):
        for width, several in ((256, (60, 100, 150, 300)), (512, (30, 50, 60, 80, 150))):
            index = faiss.IndexLSH(points.shape[1], width, True, trained)
            index.train(points)
            index.add(points)
            refined = faiss.IndexRefineFlat(index, faiss.swig_ptr(points))
            for candidates in several:
                label = f"{width} bits, {candidates}" + ", thresholds" * trained
                out[label] = partial(_ask_faiss, refined, k, refined, {"k_factor": candidates / k})
    return out


def _faiss_ivf(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    faiss = _faiss()
    lists = max(4, round(math.sqrt(len(points))))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(points.shape[1]), points.shape[1], lists, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = seed + 1
    index.train(points)
    index.add(points)
    return {
        f"{lists} lists, {probes}": partial(_ask_faiss, index, k, index, {"nprobe": probes})
        for probes in (1, 2, 4, 5, 6, 8, 16)
    }


def _hnswlib(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=points.shape[1])
    index.init_index(max_elements=len(points), M=16, ef_construction=100, random_seed=seed)
    index.set_num_threads(1)
    index.add_items(points, num_threads=1)

    def search(ef: int, Q: np.ndarray) -> np.ndarray:
        index.set_ef(ef)
        return index.knn_query(Q, k, num_threads=1)[0]

    return {f"M 16, ef {ef}": partial(search, ef) for ef in EFS}


def _faiss_hnsw(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(points.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(points)
    return {f"M 16, ef {ef}": partial(_ask_faiss, index, k, index.hnsw, {"efSearch": ef}) for ef in EFS}


def _annoy(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    import annoy

    index = annoy.AnnoyIndex(points.shape[1], "angular")
    index.set_seed(seed + 1)
    for i, row in enumerate(points):
        index.add_item(i, row)
    index.build(30, n_jobs=1)

    def search(looked: int, Q: np.ndarray) -> np.ndarray:
        return np.array([index.get_nns_by_vector(row, k, search_k=looked) for row in Q])

    return {f"30 trees, {looked}": partial(search, looked) for looked in (500, 1000, 2000, 4000, 8000)}


def _pynndescent(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    import pynndescent

    index = pynndescent.NNDescent(points, metric="cosine", n_neighbors=15, random_state=seed, n_jobs=1)
    index.prepare()

    def search(epsilon: float, Q: np.ndarray) -> np.ndarray:
        return index.query(Q, k, epsilon=epsilon)[0]

    return {f"15 neighbours, ε {epsilon}": partial(search, epsilon) for epsilon in (0.05, 0.1, 0.15, 0.3)}


def _sklearn(points: np.ndarray, k: int, seed: int) -> dict[str, Search]:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute", n_jobs=1).fit(points)
    return {"exact": lambda Q: index.kneighbors(Q, return_distance=False)}


BUILDERS: dict[Method, tuple[str, Callable[[np.ndarray, int, int], dict[str, Search]]]] = {
    "lsh": ("numba", _lsh),
    "torch": ("torch", _torch),
    "faiss flat": ("faiss", _faiss_flat),
    "faiss lsh": ("faiss", _faiss_lsh),
    "faiss lsh refined": ("faiss", _faiss_lsh_refined),
    "faiss ivf": ("faiss", _faiss_ivf),
    "hnswlib": ("hnswlib", _hnswlib),
    "faiss hnsw": ("faiss", _faiss_hnsw),
    "annoy": ("annoy", _annoy),
    "pynndescent": ("pynndescent", _pynndescent),
    "scikit-learn": ("sklearn", _sklearn),
}
"""Each method's package, and what builds it."""


@run.register
def tradeoff(config: Tradeoff, context: Context) -> Result:
    """Build all methods, then let their settings take turns; a method whose package is not there is skipped, with the reason."""
    found = vectors(context, config.data, config.n, config.queries)
    points, queries = unit(found.points), unit(found.queries)
    true, _ = nearest(points, queries, config.k)
    metrics: dict[str, Any] = {}
    built: dict[Method, Built] = {}
    for done, method in enumerate(config.methods):
        package, build = BUILDERS[method]
        if importlib.util.find_spec(package) is None:
            metrics[f"{method}: skipped"] = f"{package} is not installed"
            continue
        start = time.process_time()
        ready = build(points, config.k, config.seed)
        built[method] = Built(ready, time.process_time() - start)
        context.progress(done + 1, 2 * len(config.methods), f"{method} built")
    searches: dict[tuple[Method, str], Search] = {
        (method, label): search for method, made in built.items() for label, search in made.searches.items()
    }
    recalls = {place: recall(search(queries), true) for place, search in searches.items()}
    batch = _timed(searches, queries, config.repeats)
    single = _timed(
        {place: _one_by_one(search) for place, search in searches.items()},
        queries[: config.singles],
        max(1, config.repeats // 2),
    )
    arrays = {}
    for method, made in built.items():
        places = [place for place in searches if place[0] == method]
        metrics[f"{method}: settings"] = " · ".join(label for _, label in places)
        metrics[f"{method}: build_s"] = made.seconds
        arrays[f"{method}: recall"] = np.array([recalls[place] for place in places])
        for name, times in (("batch", batch), ("single", single)):
            for kind, column in (("cpu", 0), ("wall", 1)):
                arrays[f"{method}: {name}_{kind}_qps"] = np.array(
                    [1 / times[place][column] for place in places]
                )
    return Result(metrics, arrays=arrays)


def _one_by_one(search: Search) -> Search:
    def one_by_one(Q: np.ndarray) -> np.ndarray:
        return np.concatenate([search(row[None]) for row in Q])

    return one_by_one


def _timed(searches: dict[Any, Search], queries: np.ndarray, repeats: int) -> dict[Any, tuple[float, float]]:
    """Processor and wall seconds a query, the smallest of `repeats` rounds in which the searches take turns."""
    best: dict[Any, tuple[float, float]] = {}
    for search in searches.values():
        search(queries[:2])  # whatever is compiled is compiled before the clock starts
    for _ in range(repeats):
        for place, search in searches.items():
            wall, cpu = time.perf_counter(), time.process_time()
            search(queries)
            spent = (time.process_time() - cpu) / len(queries), (time.perf_counter() - wall) / len(queries)
            last = best.get(place, spent)
            best[place] = min(last[0], spent[0]), min(last[1], spent[1])
    return best


@run.register
def size(config: Size, context: Context) -> Result:
    """Our index and one matrix product over all points, in batches and one by one, at one n."""
    found = vectors(context, config.data, config.n, config.queries)
    points, queries = unit(found.points), unit(found.queries)
    start = time.process_time()
    index = CosineLSH(config.bits, seed=config.seed).fit(found.points)
    seconds = time.process_time() - start
    searches: dict[str, Search] = {
        "lsh": lambda Q: index.query(Q, config.k, candidates=config.candidates).ids,
        "brute": lambda Q: nearest(points, Q, config.k)[0],
    }
    true = searches["brute"](queries)
    batch = _timed(searches, queries, config.repeats)
    alone = {name: _one_by_one(search) for name, search in searches.items()}
    single = _timed(alone, queries[: config.singles], max(1, config.repeats // 2))
    metrics: dict[str, Any] = {
        "recall": recall(searches["lsh"](queries), true),
        "build_s": seconds,
        "index_mb": index.nbytes / 2**20,
        "codes_mb": (index.nbytes - points.nbytes) / 2**20,
    }
    for name in searches:
        metrics[f"{name}_batch_s"], metrics[f"{name}_batch_wall_s"] = batch[name]
        metrics[f"{name}_single_s"], metrics[f"{name}_single_wall_s"] = single[name]
    return Result(metrics)


# --- candidates needed ---------------------------------------------------------------------------------------------


@run.register
def reach(config: Reach, context: Context) -> Result:
    """For each number of candidates wanted: how many are met (a ring, a bucket or a level is finished), and their recall.

    Probing on without end visits the points in the order of what their buckets cost: the bits that differ, or the sum of
    the squared margins of these bits. So the order of the points is computed, not the buckets.
    """
    found = vectors(context, config.data, queries=config.queries)
    points, queries = unit(found.points), unit(found.queries)
    true, _ = nearest(points, queries, config.k)
    met = np.zeros((len(config.wanted), len(queries)))
    hits = np.zeros_like(met)
    if config.way == "forest":
        forest = LSHForest(config.tables, config.bits, seed=config.seed).fit(found.points)
        for i, query in enumerate(found.queries):
            for j, wanted in enumerate(config.wanted):
                ids, _ = forest.candidates(query, wanted)
                met[j, i], hits[j, i] = len(ids), np.isin(true[i], ids).mean()
    elif config.way == "buckets":
        shared = _shared_prefixes(points, queries, config)
        counts = np.stack([(shared >= length).sum(axis=1) for length in range(config.bits + 1)])
        for j, wanted in enumerate(config.wanted):
            length = int(np.flatnonzero(counts.mean(axis=1) >= wanted)[-1])
            met[j] = counts[length]
            hits[j] = [(row[right] >= length).mean() for row, right in zip(shared, true, strict=True)]
    else:
        costs = _costs(points, queries, config)
        for i, cost in enumerate(costs):
            ordered = np.sort(cost)
            for j, wanted in enumerate(config.wanted):
                limit = ordered[wanted - 1]
                met[j, i] = np.searchsorted(ordered, limit, side="right")
                hits[j, i] = (cost[true[i]] <= limit).mean()
    arrays = {"wanted": np.array(config.wanted), "candidates": met.mean(axis=1), "recall": hits.mean(axis=1)}
    return Result({"last_recall": arrays["recall"][-1], "first_recall": arrays["recall"][0]}, arrays=arrays)


def _costs(points: np.ndarray, queries: np.ndarray, config: Reach) -> np.ndarray:
    """(m, n): what it costs to reach the bucket of each point from each query, in its best table."""
    rng = np.random.default_rng(config.seed)
    mean = points.mean(axis=0, dtype=np.float64)
    tables = config.tables if config.way.startswith("tables") else 1
    best = np.full((len(queries), len(points)), np.inf)
    for _ in range(tables):
        normals = hyperplanes(config.bits, points.shape[1], "orthogonal", rng)
        offsets = (normals @ mean).astype(np.float32)
        margins = queries @ normals.T - offsets
        weights = (
            margins.astype(np.float64) ** 2 if config.way.endswith("directed") else np.ones_like(margins)
        )
        side = np.where(signs(points, normals, offsets), 1.0, -1.0)
        # Σ w [s ≠ t] = (Σ w − Σ w s t) / 2 for sides ±1; rounded, so that points of one bucket tie
        signed = weights * np.where(margins >= 0, 1, -1)
        cost = (weights.sum(axis=1, keepdims=True) - signed @ side.T) / 2
        np.minimum(best, cost.round(9), out=best)
    return best


def _shared_prefixes(points: np.ndarray, queries: np.ndarray, config: Reach) -> np.ndarray:
    """(m, n): how many bits each point shares with each query from the front, in the table where these are most."""
    rng = np.random.default_rng(config.seed)
    mean = points.mean(axis=0, dtype=np.float64)
    place = 2 ** np.arange(config.bits - 1, -1, -1)  # the first plane in the highest bit
    best = np.zeros((len(queries), len(points)), np.int64)
    for _ in range(config.tables):
        normals = hyperplanes(config.bits, points.shape[1], "orthogonal", rng)
        offsets = (normals @ mean).astype(np.float32)
        codes = signs(points, normals, offsets) @ place
        for row, asked in zip(best, signs(queries, normals, offsets) @ place, strict=True):
            _, length = np.frexp((codes ^ asked).astype(np.float64))  # of what differs, in bits
            np.maximum(row, config.bits - length, out=row)
    return best
