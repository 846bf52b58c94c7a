"""The inner loops of `CosineLSH`, compiled: XOR, popcount and selection in one pass, and exact cosines.

Codes lie word by word, (words, capacity), so that eight points are compared in one vector instruction where the processor
has them (AVX-512 VPOPCNTDQ); elsewhere LLVM writes the same out in what there is. The capacity is a multiple of 64.

`nearest_codes` keeps a histogram of the distances that are still in play and the largest distance T with which the nearest
`wanted` are surely caught; a block of 64 points costs one comparison with T, and only points within it are looked at. What
is left at the end is exactly the points within the distance of the `wanted`-th: ties are kept, so the order of the points
does not matter.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, BLOCK = 8, 2048
"""Points compared at once; points whose distances are kept before they are selected from. BLOCK is a multiple of 64."""
SLACK = 2048
"""Places for points beyond those wanted, before they are thinned out."""

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


# --- what LLVM can do and Python cannot say ------------------------------------------------------------------------


@no_type_check
def _splat(builder, value, kind):
    """`value` in every lane of a vector."""
    undefined = ir.Constant(kind, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, zeros)


@intrinsic
@no_type_check
def _distances_of_64(typingctx, codes, query, first, out, at):
    """out[at : at + 64] = Hamming distances of points `first` to `first + 63` from the query."""
    signature = types.void(codes, query, types.int64, out, types.int64)

    def build(context, builder, signature, args):
        wide = ir.VectorType(ir.IntType(64), LANES)
        narrow = ir.VectorType(ir.IntType(16), LANES)
        popcount = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(wide, [wide]), f"llvm.ctpop.v{LANES}i64"
        )
        points, asked, found = (
            context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 1, 3)
        )
        words, capacity = cgutils.unpack_tuple(builder, points.shape, 2)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(wide, None)) for _ in range(64 // LANES)]
        for total in sums:
            builder.store(ir.Constant(wide, None), total)
        with cgutils.for_range(builder, words) as loop:
            word = _splat(builder, builder.load(builder.gep(asked.data, [loop.index])), wide)
            row = builder.add(builder.mul(loop.index, capacity), args[2])
            for i, total in enumerate(sums):
                place = builder.gep(points.data, [builder.add(row, ir.Constant(row.type, LANES * i))])
                value = builder.load(builder.bitcast(place, wide.as_pointer()), align=8)
                differ = builder.call(popcount, [builder.xor(value, word)])
                builder.store(builder.add(builder.load(total), differ), total)
        for i, total in enumerate(sums):
            place = builder.gep(found.data, [builder.add(args[4], ir.Constant(args[4].type, LANES * i))])
            short = builder.trunc(builder.load(total), narrow)
            builder.store(short, builder.bitcast(place, narrow.as_pointer()), align=2)
        return context.get_dummy_value()

    return signature, build


@intrinsic
@no_type_check
def _within(typingctx, distances, at, limit):
    """64 bits: bit j says whether distances[at + j] ≤ limit."""
    signature = types.uint64(distances, types.int64, types.uint16)

    def build(context, builder, signature, args):
        kind = ir.VectorType(ir.IntType(16), 64)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.bitcast(builder.gep(array.data, [args[1]]), kind.as_pointer())
        inside = builder.icmp_unsigned("<=", builder.load(place, align=2), _splat(builder, args[2], kind))
        return builder.bitcast(inside, ir.IntType(64))

    return signature, build


@intrinsic
@no_type_check
def _lowest(typingctx, mask):
    """The number of the lowest bit that is set; `mask` is not 0."""

    def build(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


@intrinsic
@no_type_check
def _prefetch(typingctx, rows, i, j):
    """Ask for rows[i, j] to be brought near."""

    def build(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        _, width = cgutils.unpack_tuple(builder, array.shape, 2)
        place = builder.gep(array.data, [builder.add(builder.mul(args[1], width), args[2])])
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer, number, number, number]),
            "llvm.prefetch.p0i8",
        )
        options = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(function, [builder.bitcast(place, pointer), *options])
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.int64), build


# --- selection -----------------------------------------------------------------------------------------------------


@njit(**OPTIONS)
@no_type_check
def _thinned(places, distances, count, limit):
    """Keep what lies within `limit`, in order; how many that are."""
    kept = 0
    for i in range(count):
        if distances[i] <= limit:
            places[kept] = places[i]
            distances[kept] = distances[i]
            kept += 1
    return kept


@njit(**OPTIONS)
@no_type_check
def nearest_codes(codes, n, queries, wanted, places, distances, counts):
    """The `wanted` points nearest to each query by Hamming distance, and all that tie with the last of them.

    codes: uint64 (words, capacity), the first n of each row in use. queries: uint64 (m, words). places, distances: int32
    (m, wanted + SLACK or more), filled in ascending order of the place. counts: int64 (m,), how many there are; −1 where
    ties did not fit.
    """
    words, m, room = codes.shape[0], len(queries), places.shape[1]
    block = np.empty(BLOCK, np.uint16)
    tally = np.zeros((m, 64 * words + 1), np.int64)
    limits = np.full(m, 64 * words, np.int64)
    inside = np.zeros(m, np.int64)
    counts[:] = 0
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        whole = (size + 63) // 64 * 64
        # the block's codes stay near while every query passes over them
        for query in range(m):
            if counts[query] < 0:
                continue
            for at in range(0, whole, 64):
                _distances_of_64(codes, queries[query], start + at, block, at)
            block[size:whole] = 65535
            limit, count, total, histogram = limits[query], counts[query], inside[query], tally[query]
            for at in range(0, whole, 64):
                mask = _within(block, at, np.uint16(limit))
                while mask != 0:
                    i = at + _lowest(mask)
                    mask &= mask - np.uint64(1)
                    distance = np.int64(block[i])
                    if distance > limit:
                        continue
                    if count == room:
                        count = _thinned(places[query], distances[query], count, limit)
                        if count == room:
                            count = -1
                            break
                    places[query, count] = start + i
                    distances[query, count] = distance
                    count += 1
                    histogram[distance] += 1
                    total += 1
                    while total - histogram[limit] >= wanted:
                        total -= histogram[limit]
                        limit -= 1
                if count < 0:
                    break
            limits[query], counts[query], inside[query] = limit, count, total
    for query in range(m):
        if counts[query] >= 0:
            counts[query] = _thinned(places[query], distances[query], counts[query], limits[query])


# --- exact cosines -------------------------------------------------------------------------------------------------


@njit(fastmath=True, **OPTIONS)
@no_type_check
def _dot(a, b):
    total = np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@njit(**OPTIONS)
@no_type_check
def best(units, ids, queries, places, counts, k, out_ids, out_cosines):
    """The k largest cosines among each query's points, ties by the smaller id; −1 and −∞ where there are fewer.

    units: float32 (capacity, dimension), queries: float32 (m, dimension), both of length 1; ids: int64 (capacity,).
    """
    dimension = units.shape[1]
    for query in range(len(queries)):
        found = 0
        for i in range(counts[query]):
            point = places[query, i]
            if i + 1 < counts[query]:
                following = np.int64(places[query, i + 1])
                for j in range(0, dimension, 16):
                    _prefetch(units, following, j)
            cosine = _dot(units[point], queries[query])
            name = ids[point]
            if found == k and (
                cosine < out_cosines[query, k - 1]
                or (cosine == out_cosines[query, k - 1] and name > out_ids[query, k - 1])
            ):
                continue
            place = min(found, k - 1)
            while place > 0 and (
                out_cosines[query, place - 1] < cosine
                or (out_cosines[query, place - 1] == cosine and out_ids[query, place - 1] > name)
            ):
                out_cosines[query, place] = out_cosines[query, place - 1]
                out_ids[query, place] = out_ids[query, place - 1]
                place -= 1
            out_cosines[query, place] = cosine
            out_ids[query, place] = name
            found = min(found + 1, k)
        for place in range(found, k):
            out_ids[query, place] = -1
            out_cosines[query, place] = -np.inf
