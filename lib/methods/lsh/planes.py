"""Random hyperplanes through the origin, and the side of each on which a vector lies, as bits.

    normals = hyperplanes(128, 784, "orthogonal", np.random.default_rng(0))   # (128, 784)
    sides = signs(X, normals)                                                  # (n, 128), True where v · x ≥ 0
    codes = packed(sides)                                                      # (n, 2), 64 bits a word
    hamming(codes[0], codes)                                                   # (n,), planes that part two vectors
    by_code(sides[:, :2])                                                      # {(True, False): [0, 1, 4], …}

A plane is given by its normal v. Where v is drawn from a distribution that no rotation changes, a random plane parts two
vectors with probability θ/π, θ the angle between them (`lib.methods.lsh.theory`).

Sources: Charikar (2002), Similarity estimation techniques from rounding algorithms, STOC, section 3; Ji, Li, Yan, Zhang
and Tian (2012), Super-bit locality-sensitive hashing, NeurIPS (orthogonal planes); the original post's code (`shifted`).
"""

from __future__ import annotations

import typing
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt64

from lib.core import InputError

Planes = Literal["orthogonal", "normal", "uniform", "shifted"]
PLANES: tuple[Planes, ...] = typing.get_args(Planes)
WORD = 64
"""Bits in a word of a code."""


def hyperplanes(
    bits: int, dimension: int, kind: Planes, rng: np.random.Generator
) -> Float32[np.ndarray, "bits dimension"]:
    """Normals of `bits` random hyperplanes.

    kind: `normal`, independent standard normal entries: directions uniform on the sphere. `orthogonal`, the same
    directions made orthonormal in groups of `dimension` planes, each still uniform on the sphere. `uniform`, entries
    uniform on [−½, ½]: the corners of the cube are favoured. `shifted`, standard normal entries minus ½, as the original
    post has them: directions lean away from (1, …, 1).

    Raises InputError for counts below 1 and for an unknown kind.
    """
    if bits < 1 or dimension < 1:
        raise InputError(f"{bits} hyperplanes in {dimension} dimensions: both must be 1 or more")
    if kind == "uniform":
        drawn = rng.random((bits, dimension)) - 0.5
    elif kind in ("normal", "shifted", "orthogonal"):
        drawn = rng.standard_normal((bits, dimension))
        if kind == "shifted":
            drawn -= 0.5
        if kind == "orthogonal":
            groups = range(0, bits, dimension)
            drawn = np.concatenate([_orthonormal(drawn[i : i + dimension]) for i in groups])
    else:
        raise InputError(f"no hyperplanes {kind!r}; there are: {', '.join(PLANES)}")
    return drawn.astype(np.float32)


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows; distributed as the first rows of a uniformly random rotation (Mezzadri 2007: the signs of R)."""
    q, r = np.linalg.qr(rows.T)
    return (q * np.where(np.diag(r) < 0, -1.0, 1.0)).T


def signs(
    X: Float[np.ndarray, "n dimension"],
    normals: Float[np.ndarray, "bits dimension"],
    offsets: Float[np.ndarray, " bits"] | None = None,
) -> Bool[np.ndarray, "n bits"]:
    """On which side of each plane a vector lies: v · x ≥ 0, or v · x ≥ offset."""
    return (0 if offsets is None else offsets) <= X @ normals.T


def packed(sides: Bool[np.ndarray, "n bits"]) -> UInt64[np.ndarray, "n words"]:
    """Codes of ⌈bits / 64⌉ words; plane j is bit j % 64 of word j // 64, and bits beyond the last plane are 0."""
    n, bits = sides.shape
    words = -(-bits // WORD)
    out = np.zeros((n, words * WORD // 8), np.uint8)
    filled = np.packbits(sides, axis=1, bitorder="little")
    out[:, : filled.shape[1]] = filled
    return out.view("<u8").astype(np.uint64, copy=False)


def unpacked(codes: UInt64[np.ndarray, "n words"], bits: int) -> Bool[np.ndarray, "n bits"]:
    """The inverse of `packed`."""
    as_bytes = np.ascontiguousarray(codes.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, count=bits, bitorder="little").astype(bool)


def hamming(
    code: UInt64[np.ndarray, " words"], codes: UInt64[np.ndarray, "n words"]
) -> Int64[np.ndarray, " n"]:
    """In how many bits each of `codes` differs from `code`."""
    return np.bitwise_count(code ^ codes).sum(axis=1, dtype=np.int64)


def by_code(sides: Bool[np.ndarray, "n bits"]) -> dict[tuple[bool, ...], list[int]]:
    """The rows in each bucket, by the sides that they share; buckets in order of their first row."""
    out: dict[tuple[bool, ...], list[int]] = {}
    for i, row in enumerate(sides.tolist()):
        out.setdefault(tuple(row), []).append(i)
    return out


def unit(X: Any, what: str = "X") -> Float32[np.ndarray, "n dimension"]:
    """The rows of a matrix, each divided by its length.

    Raises InputError for another number of dimensions, for entries that are no finite numbers, and for a row of zeros,
    which has no direction; `what` names the matrix in the message.
    """
    try:
        given = np.asarray(X)
        if given.dtype == object or given.dtype.kind not in "fiub":
            raise TypeError
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is no matrix of real numbers") from error
    if given.ndim != 2 or given.shape[1] == 0:
        raise InputError(f"{what} has shape {given.shape}; (n, dimension) is wanted")
    out = np.empty(given.shape, np.float32)
    for start in range(0, len(given), _CHUNK):
        rows = given[start : start + _CHUNK].astype(np.float64)
        # the largest entry first, so that no square overflows or vanishes
        largest = np.abs(rows).max(axis=1)
        if not np.isfinite(largest).all():
            bad = start + int(np.flatnonzero(~np.isfinite(largest))[0])
            raise InputError(f"row {bad} of {what} holds NaN or an infinity; finite numbers are wanted")
        if not largest.all():
            bad = start + int(np.flatnonzero(largest == 0)[0])
            raise InputError(f"row {bad} of {what} is all zeros: it has no direction, so no cosine")
        rows /= largest[:, None]
        rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        out[start : start + _CHUNK] = rows
    return out


_CHUNK = 4096
"""Rows that are worked on at a time, so that no second copy of the data is made."""
