"""`CosineLSH`: an index for nearest neighbours by cosine, from codes of random hyperplanes and exact re-ranking.

    index = CosineLSH(256, seed=0).fit(X)                     # X: (n, dimension), any real type
    ids, cosines = index.query(Q, k=10, candidates=100)       # (m, 10) each; for one vector, (10,) each
    index.add(more, ids=[…]); index.remove([3, 17])
    index.save("vectors.lsh"); CosineLSH.load("vectors.lsh")

A query is compared with every code (XOR and popcount), the `candidates` nearest by Hamming distance are looked up, and their
cosines are computed exactly in float32.

`probe` is the classical use of the same codes as a hash table: it looks into buckets, nearest first, until it has k points.

Sources: Charikar (2002), Similarity estimation techniques from rounding algorithms, STOC; Lv, Josephson, Wang, Charikar and
Li (2007), Multi-probe LSH, VLDB, section 4 (`directed`).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from lib.core import InputError
from lib.methods.lsh import kernels
from lib.methods.lsh.planes import PLANES, WORD, Planes, by_code, hyperplanes, packed, unit, unpacked
from lib.methods.lsh.probing import directed_flips, hamming_flips

FORMAT, VERSION = "lib.methods.lsh.CosineLSH", 1
QUERIES = 64
"""Queries that are worked on at a time."""
MOST_PROBED = 64
"""Bits of a code that can be probed bucket by bucket."""

Order = Literal["hamming", "directed"]


class Neighbours(NamedTuple):
    """ids: int64, cosines: float32, both (k,) or (m, k), best first, ties by the smaller id; −1 and −∞ where there is none."""

    ids: np.ndarray
    cosines: np.ndarray


class Probed(NamedTuple):
    """What `probe` found: ids and cosines as in `Neighbours`, the buckets looked into, the distinct points met there."""

    ids: np.ndarray
    cosines: np.ndarray
    buckets: int
    candidates: int


class CosineLSH:
    """Nearest neighbours by cosine among n vectors of d dimensions.

    bits: hyperplanes in a table; 256 serve well at d in the hundreds. tables: independent sets of planes, whose candidates
    are united. planes: how normals are drawn (`lib.methods.lsh.planes.hyperplanes`). centre: hash x − μ for x of length 1,
    μ the mean at `fit`, so that the planes cut through the data; cosines are those of the vectors as given. seed: decides
    the planes.

    Memory, in bytes: 4 n d for the vectors at length 1, 8 n for ids, 8 n ⌈bits/64⌉ for each table, and 4 bits (d + 1) for
    each table's planes (`nbytes` says it exactly). At 60,000 × 784 and 256 bits that is 191 MB, 188 of them the vectors. `fit`
    works on 4,096 rows at a time and needs little beside that; after `add` up to half as much again is kept free for more.

    The same data, seed and queries give the same answer; the order of the points does not matter. A zero vector, NaN, an
    infinity, and another dimension raise InputError. Not safe for queries while another thread adds or removes.
    """

    def __init__(
        self,
        bits: int = 256,
        tables: int = 1,
        planes: Planes = "orthogonal",
        centre: bool = True,
        seed: int = 0,
    ) -> None:
        for name, value, least in (("bits", bits, 1), ("tables", tables, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name} is {value!r}; a whole number of {least} or more is wanted")
        if bits > 1 << 14:
            raise InputError(f"bits is {bits}; at most {1 << 14} are wanted")
        if planes not in PLANES:
            raise InputError(f"no hyperplanes {planes!r}; there are: {', '.join(PLANES)}")
        self.bits, self.tables, self.planes = int(bits), int(tables), planes
        self.centre, self.seed = bool(centre), int(seed)
        self._n = -1
        self._ids = np.empty(0, np.int64)
        self._tables_of_buckets: list[dict[int, np.ndarray]] | None = None

    def __len__(self) -> int:
        return max(self._n, 0)

    def __repr__(self) -> str:
        shape = f"{len(self):,} × {self.dimension}" if self._n >= 0 else "not fitted"
        return (
            f"<CosineLSH {shape}, {self.bits} bits × {self.tables}, {self.planes}{', centred' * self.centre}>"
        )

    @property
    def dimension(self) -> int:
        """Dimensions of the vectors."""
        self._fitted()
        return int(self._units.shape[1])

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """The points' ids, ascending."""
        self._fitted()
        return np.sort(self._ids[: self._n])

    @property
    def normals(self) -> Float32[np.ndarray, "tables bits dimension"]:
        """The planes' normals."""
        self._fitted()
        return self._normals

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds, free places included."""
        self._fitted()
        return sum(array.nbytes for array in self._arrays().values())

    @property
    def buckets(self) -> tuple[dict[tuple[bool, ...], list[int]], ...]:
        """For each table the ids in each bucket, by the side of every plane."""
        self._fitted()
        order = np.argsort(self._ids[: self._n], kind="stable")
        names = self._ids[order]
        out = []
        for table in range(self.tables):
            sides = unpacked(np.ascontiguousarray(self._codes[table, :, order]), self.bits)
            out.append({side: names[rows].tolist() for side, rows in by_code(sides).items()})
        return tuple(out)

    # --- points ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any) -> CosineLSH:
        """Draw the planes and index the rows of X (n, dimension), with ids 0 to n − 1; this index, for chaining."""
        units = unit(X)
        if not len(units):
            raise InputError(f"X has shape {units.shape}; at least one row is wanted to fit")
        dimension = units.shape[1]
        rng = np.random.default_rng(self.seed)
        self._normals = np.stack(
            [hyperplanes(self.bits, dimension, self.planes, rng) for _ in range(self.tables)]
        )
        mean = units.mean(axis=0, dtype=np.float64) if self.centre else np.zeros(dimension)
        self._mean = mean.astype(np.float32)
        self._offsets = (self._normals @ self._mean).astype(np.float32)
        self._n = 0
        self._room(len(units), units=units)
        self._put(units, np.arange(len(units)))
        return self

    def add(self, X: Any, ids: Sequence[int] | np.ndarray | None = None) -> CosineLSH:
        """Index more rows (m, dimension) under the given ids (default: on from the largest there is).

        The planes and the centre stay those of `fit`. Raises InputError for an id that is taken or given twice.
        """
        self._fitted()
        units = self._checked(X, "X")
        if ids is None:
            first = int(self._ids[: self._n].max()) + 1 if self._n else 0
            names = np.arange(first, first + len(units))
        else:
            names = _names(ids)
            if len(names) != len(units):
                raise InputError(f"{len(names)} ids are given for {len(units)} rows")
            if len(np.unique(names)) != len(names):
                raise InputError("an id is given twice; ids are unique")
            if len(taken := np.intersect1d(names, self._ids[: self._n])):
                raise InputError(f"id {taken[0]} is taken; remove it first")
        self._room(self._n + len(units))
        self._put(units, names)
        return self

    def remove(self, ids: Sequence[int] | np.ndarray) -> CosineLSH:
        """Forget the points with these ids. Raises InputError, and forgets none, where one is not there."""
        self._fitted()
        names = np.unique(_names(ids))
        there = self._ids[: self._n]
        if len(missing := np.setdiff1d(names, there)):
            raise InputError(f"there is no id {missing[0]} to remove")
        gone = np.isin(there, names)
        left = self._n - int(gone.sum())
        # points from the end move into the holes
        holes, movers = np.flatnonzero(gone[:left]), left + np.flatnonzero(~gone[left:])
        self._units[holes] = self._units[movers]
        self._codes[:, :, holes] = self._codes[:, :, movers]
        self._ids[holes] = self._ids[movers]
        self._n = left
        self._tables_of_buckets = None
        return self

    def _room(self, n: int, units: np.ndarray | None = None) -> None:
        """Places for n points: half as many again where the index grows; `units` to be taken as they are, not copied."""
        there = len(self._ids) if self._n > 0 else 0
        if self._n > 0 and n <= there:
            return
        capacity = n if units is not None else max(n, there + there // 2)
        whole = -(-capacity // WORD) * WORD
        dimension, words = self._normals.shape[2], -(-self.bits // WORD)
        old, n_old = (self._arrays() if self._n > 0 else {}), self._n
        self._units = np.empty((capacity, dimension), np.float32) if units is None else units
        self._ids = np.empty(capacity, np.int64)
        self._codes = np.zeros((self.tables, words, whole), np.uint64)
        if old:
            self._units[:n_old], self._ids[:n_old] = old["units"][:n_old], old["ids"][:n_old]
            self._codes[:, :, :n_old] = old["codes"][:, :, :n_old]

    def _put(self, units: np.ndarray, names: np.ndarray) -> None:
        """Append rows of length 1; there is room."""
        for start in range(0, len(units), 4096):
            rows = units[start : start + 4096]
            at = slice(self._n, self._n + len(rows))
            if self._units is not units:
                self._units[at] = rows
            self._ids[at] = names[start : start + 4096]
            for table in range(self.tables):
                self._codes[table, :, at] = packed(self._projections(rows, table) >= 0).T
            self._n += len(rows)
        self._tables_of_buckets = None

    def _projections(self, units: np.ndarray, table: int) -> np.ndarray:
        return units @ self._normals[table].T - self._offsets[table]

    # --- queries ---------------------------------------------------------------------------------------------------

    def query(self, Q: Any, k: int = 10, *, candidates: int | None = None) -> Neighbours:
        """The k nearest of the candidates of each query, by exact cosine.

        Q: (m, dimension), or one vector (dimension,). candidates: points by Hamming distance whose cosines are computed, in
        each table, with all that tie with the last of them; 10 k where it is not given. With candidates of
        n or more it is brute force.

        Where there are fewer than k points, the rest of the row is id −1 with cosine −∞. Raises InputError for k below 1 and
        for candidates below k.
        """
        self._fitted()
        _whole("k", k)
        candidates = 10 * k if candidates is None else candidates
        _whole("candidates", candidates)
        if candidates < k:
            raise InputError(f"candidates is {candidates}, below k, which is {k}")
        asked = np.asarray(Q)
        units = self._checked(asked[None] if asked.ndim == 1 else asked, "Q")
        ids = np.empty((len(units), k), np.int64)
        cosines = np.empty((len(units), k), np.float32)
        for start in range(0, len(units), QUERIES):
            at = slice(start, start + QUERIES)
            places, counts = self._candidates(units[at], min(candidates, self._n))
            kernels.best(self._units, self._ids, units[at], places, counts, k, ids[at], cosines[at])
        return Neighbours(ids[0], cosines[0]) if asked.ndim == 1 else Neighbours(ids, cosines)

    def candidates(self, Q: Any, candidates: int) -> list[np.ndarray]:
        """The ids, ascending, whose cosines `query` would compute, for each row of Q (m, dimension)."""
        self._fitted()
        _whole("candidates", candidates)
        units = self._checked(Q, "Q")
        found = []
        for start in range(0, len(units), QUERIES):
            places, counts = self._candidates(units[start : start + QUERIES], min(candidates, self._n))
            found += [np.sort(self._ids[row[:count]]) for row, count in zip(places, counts, strict=True)]
        return found

    def _candidates(self, units: np.ndarray, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """Places (m, room) of the candidates of all tables, and how many there are."""
        parts = [self._of_table(units, table, candidates) for table in range(self.tables)]
        if len(parts) == 1:
            return parts[0]
        united = [
            np.unique(np.concatenate([places[i, : counts[i]] for places, counts in parts]))
            for i in range(len(units))
        ]
        counts = np.array([len(row) for row in united], np.int64)
        places = np.zeros((len(units), int(counts.max(initial=1))), np.int32)
        for row, found in zip(places, united, strict=True):
            row[: len(found)] = found
        return places, counts

    def _of_table(self, units: np.ndarray, table: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        queries = packed(self._projections(units, table) >= 0)
        room = min(self._n, wanted + kernels.SLACK)
        while True:
            places = np.empty((len(units), room), np.int32)
            distances, counts = np.empty_like(places), np.zeros(len(units), np.int64)
            kernels.nearest_codes(self._codes[table], self._n, queries, wanted, places, distances, counts)
            if (counts >= 0).all():
                return places, counts
            room = self._n  # more ties than there is slack

    # --- buckets ---------------------------------------------------------------------------------------------------

    def probe(
        self,
        q: Any,
        k: int = 10,
        *,
        order: Order = "hamming",
        radius: int | None = None,
        most_buckets: int = 10_000,
        least_cosine: float = -1.0,
    ) -> Probed:
        """Look into buckets until k points are found; re-rank these, and whatever shares a bucket, by exact cosine.

        q: one vector (dimension,). order: `hamming`, all buckets one flipped bit away, then two, …: a ring is finished once
        it is begun; `directed`, the bits first whose planes the query is close to, one bucket of each table at a time.
        radius: flipped bits at most. most_buckets: buckets of a table looked into at most. least_cosine: points below it
        are dropped. At most 64 bits can be probed.
        """
        self._fitted()
        _whole("k", k)
        _whole("most_buckets", most_buckets)
        if order not in typing.get_args(Order):
            raise InputError(f"no order {order!r}; there are: {', '.join(typing.get_args(Order))}")
        if radius is not None and (isinstance(radius, bool) or not isinstance(radius, int) or radius < 0):
            raise InputError(f"radius is {radius!r}; a whole number of 0 or more is wanted")
        asked = np.asarray(q)
        if asked.ndim != 1:
            raise InputError(f"q has shape {asked.shape}; one vector ({self.dimension},) is wanted")
        units = self._checked(asked[None], "q")
        found: list[np.ndarray] = []
        met: set[int] = set()
        looked = 0
        for flips in self._rings(units, order, self.bits if radius is None else min(radius, self.bits)):
            if looked >= most_buckets * self.tables:
                break
            for table, code in flips:
                looked += 1
                rows = self._bucket(table, code)
                if len(rows):
                    found.append(rows)
                    met.update(rows.tolist())
            if len(met) >= k:
                break
        places = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
        ids, cosines = np.empty((1, k), np.int64), np.empty((1, k), np.float32)
        kernels.best(
            self._units,
            self._ids,
            units,
            places[None].astype(np.int32),
            np.array([len(places)]),
            k,
            ids,
            cosines,
        )
        dropped = cosines[0] < least_cosine
        ids[0, dropped], cosines[0, dropped] = -1, -np.inf
        return Probed(ids[0], cosines[0], looked, len(places))

    def _rings(self, units: np.ndarray, order: Order, radius: int) -> Iterator[list[tuple[int, int]]]:
        """(table, code) of the buckets to look into, as many together as are finished once begun."""
        if self.bits > MOST_PROBED:
            raise InputError(f"codes of {self.bits} bits cannot be probed; {MOST_PROBED} bits at most can")
        projections = [self._projections(units, table)[0] for table in range(self.tables)]
        codes = [int(packed((row >= 0)[None])[0, 0]) for row in projections]
        if order == "hamming":
            for ring in hamming_flips(self.bits, radius):
                yield [(table, code ^ flips) for table, code in enumerate(codes) for flips in ring]
            return
        orders = [directed_flips(np.abs(row), radius) for row in projections]
        for step in zip(*orders, strict=True):
            yield [(table, codes[table] ^ flips) for table, flips in enumerate(step)]

    def _bucket(self, table: int, code: int) -> np.ndarray:
        """Places of the points with this code."""
        if self._tables_of_buckets is None:
            self._tables_of_buckets = [_grouped(codes[0, : self._n]) for codes in self._codes]
        return self._tables_of_buckets[table].get(code, _NONE)

    # --- files -----------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The whole index as safetensors, with format and version in the metadata; it does not depend on free places."""
        from safetensors.numpy import save

        self._fitted()
        n = self._n
        arrays = {
            "units": self._units[:n],
            "ids": self._ids[:n],
            "codes": self._codes[:, :, :n],
            "normals": self._normals,
            "offsets": self._offsets,
            "mean": self._mean,
        }
        settings = {name: getattr(self, name) for name in _SETTINGS}
        # one entry: the order of several is not the same each time
        metadata = {"index": json.dumps({"format": FORMAT, "version": VERSION, "settings": settings})}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "this") -> CosineLSH:
        """The index in what `to_bytes` gave; `name` says in messages what it was.

        Raises InputError for anything else: another format or version, a truncated file, arrays that do not fit.
        """
        settings, arrays = _read(content, name)
        try:
            index = cls(**{key: settings[key] for key in _SETTINGS})
            n, dimension = arrays["units"].shape
            words = -(-index.bits // WORD)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{name} is damaged: its settings cannot be read") from error
        wanted: dict[str, tuple[tuple[int, ...], Any]] = {
            "units": ((n, dimension), np.float32),
            "ids": ((n,), np.int64),
            "codes": ((index.tables, words, n), np.uint64),
            "normals": ((index.tables, index.bits, dimension), np.float32),
            "offsets": ((index.tables, index.bits), np.float32),
            "mean": ((dimension,), np.float32),
        }
        for key, (shape, kind) in wanted.items():
            if key not in arrays or arrays[key].shape != shape or arrays[key].dtype != kind:
                raise InputError(
                    f"{name} is damaged: {key} is missing or of another shape than its settings say"
                )
        for key in ("units", "normals", "offsets", "mean"):
            if not np.isfinite(arrays[key]).all():
                raise InputError(f"{name} is damaged: {key} holds NaN or an infinity")
        if len(np.unique(arrays["ids"])) != n:
            raise InputError(f"{name} is damaged: an id is there twice")
        index._normals, index._offsets, index._mean = (arrays[k] for k in ("normals", "offsets", "mean"))
        index._n = 0
        index._room(n, units=arrays["units"])
        index._n = n
        index._ids[:] = arrays["ids"]
        index._codes[:, :, :n] = arrays["codes"]
        index._tables_of_buckets = None
        return index

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_bytes` to a file: beside it first, so that the file is the old one or whole.

        Raises InputError where it cannot be written.
        """
        content, target = self.to_bytes(), Path(path)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            part.write_bytes(content)
            os.replace(part, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise InputError(f"cannot write {target}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CosineLSH:
        """The index that `save` wrote. Raises InputError for a file that is not there, foreign, truncated or damaged."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        return cls.from_bytes(content, str(path))

    # --- checks ----------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, f"_{name}") for name in _ARRAYS}

    def _fitted(self) -> None:
        if self._n < 0:
            raise InputError("this index is empty: fit(X) comes first")

    def _checked(self, X: Any, what: str) -> np.ndarray:
        units = unit(X, what)
        if units.shape[1] != self.dimension:
            raise InputError(f"{what} has {units.shape[1]} dimensions; the index has {self.dimension}")
        return units


_ARRAYS = ("units", "ids", "codes", "normals", "offsets", "mean")
_SETTINGS = ("bits", "tables", "planes", "centre", "seed")
_NONE = np.empty(0, np.int64)


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}; a whole number of 1 or more is wanted")


def _names(ids: Any) -> np.ndarray:
    names = np.asarray(ids)
    if names.size == 0:
        return np.empty(0, np.int64)
    if names.ndim != 1 or names.dtype.kind not in "iu" or int(names.min()) < 0:
        raise InputError("ids are whole numbers of 0 or more, in one row")
    return names.astype(np.int64)


def _grouped(codes: np.ndarray) -> dict[int, np.ndarray]:
    """Places by code."""
    if not len(codes):
        return {}
    order = np.argsort(codes, kind="stable")
    values, starts = np.unique(codes[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def _read(content: bytes, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Settings and arrays of a safetensors file of our format and version."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]) if 0 < length <= len(content) - 8 else None
        if not isinstance(header, dict):
            raise ValueError
    except ValueError as error:
        raise InputError(f"{name} is no index of {FORMAT}: it is not whole safetensors") from error
    try:
        head = json.loads(header["__metadata__"]["index"])
        if head["format"] != FORMAT:
            raise KeyError("format")
        version, settings = head["version"], head["settings"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name} is safetensors, but no index of {FORMAT}") from error
    if version != VERSION:
        raise InputError(f"{name} is an index of version {version}; this code reads version {VERSION}")
    try:
        return settings, load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{name} is truncated or damaged: {' '.join(str(error).split())}") from error
