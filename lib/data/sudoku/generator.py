"""Minimal puzzles of any shape, decided by a seed: no clue can be left out without a second solution.

    puzzles, solutions = generate(1000, SHAPES["6x6"], seed=0)

Puzzle i depends on the seed and on i alone, on every machine alike. A random full grid is found by guessing random digits
in the most constrained cell, then clues are taken out in random order, as long as the solution stays the only one. Neither
step draws uniformly from all grids or all puzzles. Source: ours.
"""

from __future__ import annotations

import numpy as np

from lib.core import InputError
from lib.data.sudoku.grids import Grids, Shape


def generate(n: int, shape: Shape, seed: int, *, first: int = 0) -> tuple[Grids, Grids]:
    """Puzzles `first` to `first + n` of a seed, with their solutions: two arrays, n × cells, uint8.

    Raises InputError for a negative count or seed.
    """
    if n < 0 or first < 0 or seed < 0:
        raise InputError(f"n is {n}, first {first}, seed {seed}; none may be negative")
    from lib.data.sudoku.kernels import generate_many

    seeds = np.random.SeedSequence(entropy=seed, spawn_key=(shape.box_rows, shape.box_columns))
    base = seeds.generate_state(1, np.uint64)[0]
    own = base + np.arange(first, first + n, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)  # wraps around
    puzzles, solutions = np.zeros((n, shape.cells), np.uint8), np.zeros((n, shape.cells), np.uint8)
    generate_many(own, puzzles, solutions, shape.units, shape.units_of, shape.peers)
    return puzzles, solutions
