"""Which puzzles are the same but for a symmetry: names of the digits, bands, stacks, rows, columns, transposition.

    classes(puzzles, solutions, shape)         # one number a puzzle, the same for equivalent ones and only for them

Test puzzles are kept only where no training puzzle is equivalent, since training meets every symmetry of its puzzles.
Puzzles of one solution each are equivalent exactly when their canonical forms are equal: the smallest, read row by row, of
all forms that a solved puzzle with marked clues can take. That form is expensive at 9 × 9 (milliseconds), so
it is computed only for puzzles whose `signature`, a sum of hashes that no symmetry changes, is shared. Source: ours.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from lib.core import InputError
from lib.data.sudoku.grids import Grids, Shape, checked


def canonical(puzzles: Grids, solutions: Grids, shape: Shape) -> Grids:
    """The smallest form equivalent to each puzzle, n × cells: twice the digits of its solution, plus 1 where it has a clue.

    Raises InputError where a solution has another digit than a clue, or a blank.
    """
    puzzles, solutions = _pair(puzzles, solutions, shape)
    from lib.data.sudoku.kernels import canonical_many

    out = np.zeros_like(puzzles)
    canonical_many(puzzles, solutions, _column_orders(shape), shape.box_rows, out)
    return out


def classes(puzzles: Grids, solutions: Grids, shape: Shape) -> NDArray[np.int64]:
    """A number for each puzzle (n,): equal for two puzzles exactly when a symmetry leads from one to the other."""
    puzzles, solutions = _pair(puzzles, solutions, shape)
    _, first, group, sizes = np.unique(
        signature(puzzles, solutions, shape), return_index=True, return_inverse=True, return_counts=True
    )
    shared = np.flatnonzero(sizes[group] > 1)
    names: NDArray[np.int64] = first[group].astype(np.int64)
    if len(shared):
        forms = canonical(puzzles[shared], solutions[shared], shape)
        _, first, group = np.unique(forms, axis=0, return_index=True, return_inverse=True)
        names[shared] = shared[first][group.reshape(-1)]
    return names


def signature(puzzles: Grids, solutions: Grids, shape: Shape) -> NDArray[np.uint64]:
    """A hash of each puzzle (n,) that no symmetry changes; two puzzles with different ones are not equivalent.

    Colours of cells are refined by the colours of their row and column (in no order), box, digit, band and stack.
    """
    puzzles, solutions = _pair(puzzles, solutions, shape)
    p, n = len(puzzles), shape.n
    rows, columns = np.divmod(np.arange(shape.cells), n)
    bands, stacks = rows // shape.box_rows, columns // shape.box_columns
    boxes = bands * shape.box_rows + stacks
    colour = _mixed((puzzles > 0).astype(np.uint64))
    for _ in range(4):
        row, column, band, stack, box = (
            _by(colour, np.broadcast_to(places, colour.shape), n)
            for places in (rows, columns, bands, stacks, boxes)
        )
        digit = _by(colour, solutions.astype(np.int64) - 1, n)
        lines = _mixed(row + np.uint64(3) * band) + _mixed(column + np.uint64(3) * stack)
        colour = _mixed(colour + np.uint64(5) * lines + np.uint64(7) * box + np.uint64(11) * digit)
    return colour.sum(1, dtype=np.uint64) if p else np.zeros(0, np.uint64)


def _by(colour: NDArray[np.uint64], places: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """For each cell the hash of the colours of all cells with its place, in no order."""
    sums = np.zeros((len(colour), n), np.uint64)
    index = np.arange(len(colour))[:, None]
    np.add.at(sums, (np.broadcast_to(index, places.shape), places), colour)
    return _mixed(sums)[index, places]


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's scrambling of each number; products wrap around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


@cache
def _column_orders(shape: Shape) -> NDArray[np.int64]:
    """All orders of the columns that keep the stacks together, m × n."""
    width = shape.box_columns
    orders = [
        [stack * width + column for stack, inner in zip(outer, inners, strict=True) for column in inner]
        for outer in permutations(range(shape.box_rows))
        for inners in product(list(permutations(range(width))), repeat=shape.box_rows)
    ]
    return np.array(orders, np.int64)


def _pair(puzzles: Grids, solutions: Grids, shape: Shape) -> tuple[Grids, Grids]:
    puzzles, solutions = checked(puzzles, shape), checked(solutions, shape, "solutions")
    if len(puzzles) != len(solutions):
        raise InputError(f"{len(puzzles)} puzzles cannot be paired with {len(solutions)} solutions")
    wrong = ((puzzles > 0) & (puzzles != solutions)).any(1) | (solutions == 0).any(1)
    if wrong.any():
        raise InputError(f"solution {int(np.flatnonzero(wrong)[0])} does not complete its puzzle")
    return puzzles, solutions
