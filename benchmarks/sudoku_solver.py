"""Solving the hardest known sudokus, with uniqueness proved: our solver against an independent one.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

The peer is python-sat (Glucose 4, one clause for each rule) where it is installed, else HiGHS, the exact integer programming
solver in scipy. Both answer the same two questions of each puzzle: what solves it, and whether anything else does; the peer
by a second call that excludes the first answer. They must agree on every one of the compared puzzles. Numba's compile time
is apart: a first puzzle is solved before the clock starts.

The puzzles are divided into as many blocks as repeats, the two sides take turns and swap who goes first; ratios are by
block. Ours alone then solves the whole list.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lib import data
from lib.core import InputError, PostsError
from lib.data.sudoku import Shape, solve

NAME = "sudoku_solver"
TITLE = "Sudokus solved and shown to be unique"
COMPARED = 2_000
"""Puzzles that both sides solve."""

Answer = tuple[np.ndarray, bool]
"""A solution (cells,), and whether it is the only one."""


# --- the peers -------------------------------------------------------------------------------------------------------


def by_satisfiability(shape: Shape) -> Callable[[np.ndarray], Answer]:
    """python-sat: a variable for each cell and digit, clauses for the rules, clues as assumptions."""
    solvers = importlib.import_module("pysat.solvers")
    n = shape.n

    def variable(cell: int, digit: int) -> int:
        return int(cell) * n + int(digit)

    rules = [[variable(cell, d) for d in range(1, n + 1)] for cell in range(shape.cells)]
    for d in range(1, n + 1):
        rules += [[variable(cell, d) for cell in unit] for unit in shape.units]
        rules += [
            [-variable(cell, d), -variable(peer, d)]
            for cell in range(shape.cells)
            for peer in shape.peers[cell]
            if peer > cell
        ]
    rules += [
        [-variable(cell, d), -variable(cell, e)]
        for cell in range(shape.cells)
        for d in range(1, n + 1)
        for e in range(1, d)
    ]

    def answer(puzzle: np.ndarray) -> Answer:
        clues = [variable(cell, puzzle[cell]) for cell in np.flatnonzero(puzzle)]
        with solvers.Glucose4(bootstrap_with=rules) as solver:
            if not solver.solve(assumptions=clues):
                raise PostsError("the peer finds no solution")
            true = [literal for literal in solver.get_model() if literal > 0]
            solver.add_clause([-literal for literal in true])
            unique = not solver.solve(assumptions=clues)
        return np.array(sorted(true)).reshape(shape.cells) - n * np.arange(shape.cells), unique

    return answer


def by_integer_programming(shape: Shape) -> Callable[[np.ndarray], Answer]:
    """HiGHS: a 0/1 variable for each cell and digit, equations for the rules, clues as bounds."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, vstack

    n, cells = shape.n, shape.cells
    groups = [[cell * n + d for d in range(n)] for cell in range(cells)]
    groups += [[int(cell) * n + d for cell in unit] for unit in shape.units for d in range(n)]
    rows = np.repeat(np.arange(len(groups)), n)
    rules = coo_array((np.ones(len(rows)), (rows, np.ravel(groups))), (len(groups), cells * n)).tocsr()
    nothing, whole = np.zeros(cells * n), np.ones(cells * n)

    def answer(puzzle: np.ndarray) -> Answer:
        lower = np.zeros((cells, n))
        known = np.flatnonzero(puzzle)
        lower[known, puzzle[known].astype(int) - 1] = 1
        bounds = Bounds(lower.ravel(), 1)
        found = milp(nothing, integrality=whole, bounds=bounds, constraints=LinearConstraint(rules, 1, 1))
        if found.status != 0:
            raise PostsError(f"the peer finds no solution: {found.message}")
        chosen = found.x.reshape(cells, n).argmax(1)
        own = coo_array(
            (np.ones(cells), (np.zeros(cells, int), np.arange(cells) * n + chosen)), (1, cells * n)
        )
        both = vstack([rules, own.tocsr()])
        low = np.append(np.ones(len(groups)), 0)
        high = np.append(np.ones(len(groups)), cells - 1)
        other = milp(nothing, integrality=whole, bounds=bounds, constraints=LinearConstraint(both, low, high))
        if other.status not in (0, 2):
            raise PostsError(f"the peer cannot tell: {other.message}")
        return chosen + 1, other.status == 2

    return answer


# --- side by side ----------------------------------------------------------------------------------------------------


def run(*, repeats: int = 5, threads: int = 1, compared: int = COMPARED) -> dict[str, Any]:
    """Compare on `compared` puzzles of the hardest list, then time ours on all of it.

    Raises InputError where the list is not here, PostsError where the two do not agree.
    """
    if repeats < 1 or compared < repeats:
        raise InputError(
            f"repeats is {repeats} and compared {compared}; at least one puzzle a repeat is wanted"
        )
    found = data.load("sudoku-hardest")
    shape = found.shape
    order = np.random.default_rng(0).permutation(len(found))[:compared]
    puzzles = found.puzzles[order]
    satisfiability = importlib.util.find_spec("pysat") is not None
    peer = (by_satisfiability if satisfiability else by_integer_programming)(shape)
    name = "python-sat's Glucose 4" if satisfiability else "HiGHS (scipy.optimize.milp)"
    started = time.process_time()
    solve(puzzles[:1], shape)
    compiled = time.process_time() - started
    peer(puzzles[0])
    seconds = np.empty((2, repeats))
    for block, part in enumerate(np.array_split(puzzles, repeats)):
        answers: dict[int, Any] = {}
        for side in (0, 1) if block % 2 == 0 else (1, 0):
            started = time.process_time()
            answers[side] = solve(part, shape) if side == 0 else [peer(puzzle) for puzzle in part]
            seconds[side, block] = (time.process_time() - started) / len(part)
        for i, (solution, unique) in enumerate(answers[1]):
            if (solution != answers[0].solutions[i]).any() or unique != bool(answers[0].unique[i]):
                raise PostsError(f"the solvers do not agree on puzzle {block}.{i}")
    ratios = seconds[1] / seconds[0]
    draws = np.random.default_rng(0).integers(repeats, size=(10_000, repeats))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    started = time.process_time()
    whole = solve(found.puzzles, shape)
    total = time.process_time() - started
    if not whole.unique.all():
        raise PostsError(f"{int((~whole.unique).sum())} puzzles of the list do not have one solution")
    row = {
        "case": f"{compared:,} of the forum's hardest",
        "ours": 1e3 * float(np.median(seconds[0])),
        "peer": 1e3 * float(np.median(seconds[1])),
        "unit": "ms",
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "n": repeats,
    }
    notes = [
        f"Processor time a puzzle, solution and proof that it is the only one; the peer is {name}. "
        f"Both gave the same answer to all {compared:,} puzzles.",
        f"Ours solves the whole list, {len(found):,} puzzles, in {total:.1f} CPU-seconds, each shown to have one solution; "
        f"numba's compilation (or reading what it kept) took {compiled:.1f} s before that.",
    ]
    import scipy

    return {"rows": [row], "notes": notes, "versions": {"scipy": scipy.__version__}}
