"""LSH Forest: prefix trees over codes, in which each point's label is as long as it takes to tell it from the others.

    forest = LSHForest(trees=10, depth=32, seed=0).fit(X)
    ids, cosines = forest.query(q, k=10, candidates=100)
    forest.labels(0)                       # {(True, False, …): [ids]}: the leaves of the first tree

A plain table has to fix the number of bits beforehand: too few, and buckets overflow; too many, and they are empty. A tree
decides that for each point. A query descends as far as its bits lead in every tree, then all trees ascend together, a bit
at a time, until the nodes that they have reached hold enough distinct points.

A tree is kept as the sorted codes; the points below a node, which share a prefix, are a contiguous range.

Source: Bawa, Condie and Ganesan (2005), LSH Forest: self-tuning indexes for similarity search, WWW, sections 3 and 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from lib.core import InputError
from lib.methods.lsh import kernels
from lib.methods.lsh.planes import Planes, hyperplanes, packed, signs, unit

DEEPEST = 64


class LSHForest:
    """Prefix trees over codes of random hyperplanes, for nearest neighbours by cosine.

    trees: independent trees, each with planes of its own. depth: bits of the longest label, at most 64; points that share
    all of them share a leaf. planes, centre, seed: as in `CosineLSH`. Memory, in bytes: 4 n d for the vectors, and 16 n for
    each tree. Zero vectors, NaN and another dimension raise InputError.
    """

    def __init__(
        self,
        trees: int = 10,
        depth: int = 32,
        planes: Planes = "orthogonal",
        centre: bool = True,
        seed: int = 0,
    ) -> None:
        if trees < 1 or not 1 <= depth <= DEEPEST:
            raise InputError(
                f"{trees} trees of depth {depth}: 1 tree or more, of depth 1 to {DEEPEST}, are wanted"
            )
        self.trees, self.depth, self.planes, self.centre, self.seed = trees, depth, planes, centre, seed

    def fit(self, X: Any) -> LSHForest:
        """Index the rows of X (n, dimension), with ids 0 to n − 1; this forest, for chaining."""
        self._units = unit(X)
        if not len(self._units):
            raise InputError("X has no rows; at least one is wanted to fit")
        dimension = self._units.shape[1]
        rng = np.random.default_rng(self.seed)
        mean = self._units.mean(axis=0, dtype=np.float64) if self.centre else np.zeros(dimension)
        self._normals = [hyperplanes(self.depth, dimension, self.planes, rng) for _ in range(self.trees)]
        self._offsets = [(normals @ mean).astype(np.float32) for normals in self._normals]
        self._orders, self._codes = [], []
        for tree in range(self.trees):
            codes = self._hashed(self._units, tree)
            order = np.argsort(codes, kind="stable")
            self._orders.append(order)
            self._codes.append(codes[order])
        return self

    def _hashed(self, units: np.ndarray, tree: int) -> np.ndarray:
        """uint64 codes with the first plane in the highest bit, so that codes with a common prefix lie together."""
        sides = signs(units, self._normals[tree], self._offsets[tree])
        padded = np.zeros((len(units), DEEPEST), bool)
        padded[:, DEEPEST - self.depth :] = sides[:, ::-1]  # plane 0 in bit 63, plane 1 in bit 62, …
        return packed(padded)[:, 0]

    def _ranges(self, code: np.uint64, tree: int) -> tuple[np.ndarray, np.ndarray]:
        """For each length x from 0 to `depth`, where the codes that share the first x bits begin and end."""
        codes = self._codes[tree]
        lows, highs = [], []
        for length in range(self.depth + 1):
            free = (1 << (DEEPEST - length)) - 1
            low = int(code) & ~free & ((1 << DEEPEST) - 1)
            lows.append(low)
            highs.append(low | free)
        starts = np.searchsorted(codes, np.array(lows, np.uint64), side="left")
        ends = np.searchsorted(codes, np.array(highs, np.uint64), side="right")
        return starts, ends

    def labels(self, tree: int) -> dict[tuple[bool, ...], list[int]]:
        """The leaves of a tree: the shortest prefix that no other point shares (or all `depth` bits), and the ids there."""
        self._fitted()
        if not 0 <= tree < self.trees:
            raise InputError(f"there is no tree {tree}; there are {self.trees}")
        codes, order = self._codes[tree], self._orders[tree]
        # how many bits each code shares with its neighbours in order
        shared = np.zeros(len(codes) + 1, np.int64)
        for i in range(1, len(codes)):
            shared[i] = min(self.depth, DEEPEST - int(codes[i - 1] ^ codes[i]).bit_length())
        out: dict[tuple[bool, ...], list[int]] = {}
        for i, code in enumerate(codes):
            length = min(self.depth, max(shared[i], shared[i + 1]) + 1) if len(codes) > 1 else 0
            label = tuple(bool(int(code) >> (DEEPEST - 1 - bit) & 1) for bit in range(length))
            out.setdefault(label, []).append(int(order[i]))
        return out

    def candidates(self, q: Any, candidates: int) -> tuple[Int64[np.ndarray, " found"], int]:
        """The distinct ids, ascending, below the nodes that all trees have reached once there are enough; and their level.

        q: one vector (dimension,). Enough is `candidates`, or all points there are. Trees ascend together (the paper's
        synchronous ascent), and a level is finished once it is begun.
        """
        self._fitted()
        if candidates < 1:
            raise InputError(f"candidates is {candidates}; 1 or more is wanted")
        units = self._checked(q)
        ranges = [self._ranges(self._hashed(units, tree)[0], tree) for tree in range(self.trees)]
        # a leaf is where fewer than two points are left: no label goes further
        reached = [
            int(np.argmax(ends - starts <= 1)) if (ends - starts <= 1).any() else self.depth
            for starts, ends in ranges
        ]
        for level in range(max(reached), -1, -1):
            found = [
                order[starts[level] : ends[level]]
                for (starts, ends), order, deepest in zip(ranges, self._orders, reached, strict=True)
                if deepest >= level
            ]
            ids = np.unique(np.concatenate(found))
            if len(ids) >= candidates or level == 0:
                return ids, level
        raise AssertionError("level 0 holds every point")

    def query(self, q: Any, k: int = 10, *, candidates: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """ids and exact cosines (k,) of the best among at least `candidates` points (default 10 k), as `CosineLSH.query`."""
        if k < 1:
            raise InputError(f"k is {k}; 1 or more is wanted")
        places, _ = self.candidates(q, 10 * k if candidates is None else candidates)
        ids, cosines = np.empty((1, k), np.int64), np.empty((1, k), np.float32)
        names = np.arange(len(self._units))
        rows = places[None].astype(np.int32)
        kernels.best(self._units, names, self._checked(q), rows, np.array([len(places)]), k, ids, cosines)
        return ids[0], cosines[0]

    def _fitted(self) -> None:
        if not hasattr(self, "_units"):
            raise InputError("this forest is empty: fit(X) comes first")

    def _checked(self, q: Any) -> np.ndarray:
        asked = np.asarray(q)
        if asked.ndim != 1 or len(asked) != self._units.shape[1]:
            raise InputError(f"q has shape {asked.shape}; one vector ({self._units.shape[1]},) is wanted")
        return unit(asked[None], "q")
