"""A sudoku solver that counts: one solution, none, or several.

    found = solve(puzzles, shape)              # up to two solutions of each are looked for
    found.unique                               # bool, puzzles
    found.solutions[found.unique]              # uint8, puzzles × cells

Masks of candidates; naked and hidden singles; then a guess in the most constrained cell, both ways. Compiled on first use
(some seconds; numba keeps the result). Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.core import InputError
from lib.data.sudoku.grids import Grids, Shape, checked


@dataclass(frozen=True)
class Solved:
    """What the solver found of each puzzle.

    solutions: uint8, n × cells, the first solution; zeros where there is none. counts: solutions, at most `limit`.
    guesses: how often a digit was guessed until all of that was proved: a measure of difficulty.
    """

    solutions: Grids
    counts: NDArray[np.int64]
    guesses: NDArray[np.int64]

    @property
    def unique(self) -> NDArray[np.bool_]:
        """Which puzzles have exactly one solution (where `limit` was 2 or more)."""
        return self.counts == 1


def solve(puzzles: Grids, shape: Shape, *, limit: int = 2) -> Solved:
    """Solve puzzles (n × cells), counting up to `limit` solutions of each: 2 proves uniqueness.

    Raises InputError for arrays of another shape, and for a limit below 1.
    """
    puzzles = checked(puzzles, shape)
    if limit < 1:
        raise InputError(f"limit is {limit}; at least 1 solution has to be looked for")
    from lib.data.sudoku.kernels import solve_many

    solutions = np.zeros_like(puzzles)
    counts, guesses = np.zeros(len(puzzles), np.int64), np.zeros(len(puzzles), np.int64)
    solve_many(puzzles, limit, solutions, counts, guesses, shape.units, shape.units_of, shape.peers)
    return Solved(solutions, counts, guesses)


def waves(puzzles: Grids, shape: Shape) -> NDArray[np.int64]:
    """In which wave of propagation singles fix each cell, n × cells: 0 for clues, −1 for cells that they never fix.

    A wave places every naked and every hidden single that the digits before it allow, all at once.
    """
    puzzles = checked(puzzles, shape)
    from lib.data.sudoku.kernels import waves_many

    found = np.zeros(puzzles.shape, np.int64)
    waves_many(puzzles, found, shape.units, shape.units_of, shape.peers)
    return found
