"""Sudokus: puzzles with one solution, generated or from real lists, their symmetries, and a solver that proves uniqueness.

    from lib import data
    from lib.data.sudoku import SHAPES, divide, generate, solve

    puzzles, solutions = generate(1000, SHAPES["6x6"], seed=0)     # minimal puzzles
    solve(puzzles, SHAPES["6x6"]).unique.all()                     # True
    divide(data.load("sudoku-hardest"), {"train": 1000, "test": 5000}, seed=0)

`grids`: shapes and texts. `solver`, `generator`, `equivalence`: compiled with numba on first use, NumPy arrays in and out.
`symmetries`: whole batches of tensors on any device. `sets`: the data sets by name, and how they are divided.
"""

from lib.data.sudoku.equivalence import canonical, classes, signature
from lib.data.sudoku.generator import generate
from lib.data.sudoku.grids import SHAPES, Shape, parse, shape_of, text
from lib.data.sudoku.sets import Part, PuzzleSet, divide, thinned
from lib.data.sudoku.solver import Solved, solve, waves

__all__ = [
    "SHAPES",
    "Part",
    "PuzzleSet",
    "Shape",
    "Solved",
    "canonical",
    "classes",
    "divide",
    "generate",
    "parse",
    "shape_of",
    "signature",
    "solve",
    "text",
    "thinned",
    "waves",
]
