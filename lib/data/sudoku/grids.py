"""Sudokus of any size: how the cells are numbered, which of them exclude each other, and puzzles as text.

A grid has n digits, n rows, n columns and n boxes of `box_rows` × `box_columns` cells. It is an array of n² small integers,
row by row, 0 for a blank::

    shape = SHAPES["9x9"]
    puzzles = parse(["98.7..6..75..4......3..8.7..."], shape)     # uint8, puzzles × 81
    text(puzzles[0])

A *band* is a row of boxes, a *stack* a column of boxes; a *unit* is a row, a column or a box.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lib.core import InputError

Grids = NDArray[np.uint8]
"""Puzzles or solutions, n × cells; 0 is a blank."""


@dataclass(frozen=True)
class Shape:
    """The size of a box; everything else follows."""

    box_rows: int
    box_columns: int

    def __post_init__(self) -> None:
        if self.box_rows < 1 or self.box_columns < 1 or not 2 <= self.n <= 16:
            raise InputError(
                f"boxes of {self.box_rows} × {self.box_columns} cells; 2 to 16 cells a box are wanted"
            )

    @property
    def n(self) -> int:
        """Digits, rows, columns, boxes, cells of a unit."""
        return self.box_rows * self.box_columns

    @property
    def cells(self) -> int:
        return self.n**2

    @property
    def name(self) -> str:
        return f"{self.n}x{self.n}"

    @property
    def square(self) -> bool:
        """Whether a grid may be transposed: boxes are as wide as they are high."""
        return self.box_rows == self.box_columns

    @property
    def symmetries(self) -> int:
        """How many ways there are to move the cells: bands, stacks, rows, columns, transposition."""
        from math import factorial

        bands, stacks = self.box_columns, self.box_rows
        rows = factorial(bands) * factorial(self.box_rows) ** bands
        columns = factorial(stacks) * factorial(self.box_columns) ** stacks
        return rows * columns * (2 if self.square else 1)

    @property
    def units(self) -> NDArray[np.int32]:
        """The cells of each unit, 3n × n: rows, then columns, then boxes."""
        return _tables(self)[0]

    @property
    def units_of(self) -> NDArray[np.int32]:
        """The three units of each cell, n² × 3."""
        return _tables(self)[1]

    @property
    def peers(self) -> NDArray[np.int32]:
        """The cells that cannot have the digit of a cell, n² × (3n − box_rows − box_columns − 1)."""
        return _tables(self)[2]


SHAPES = {shape.name: shape for shape in (Shape(2, 2), Shape(2, 3), Shape(3, 3))}
"""The shapes that have data sets: 4x4, 6x6 (boxes of 2 rows and 3 columns), 9x9."""


def shape_of(name: str) -> Shape:
    """The shape called `name`. Raises InputError naming those that there are."""
    if name not in SHAPES:
        raise InputError(f"no sudoku of shape {name!r}; there are: {', '.join(SHAPES)}")
    return SHAPES[name]


@cache
def _tables(shape: Shape) -> tuple[NDArray[np.int32], ...]:
    n, cells = shape.n, np.arange(shape.cells).reshape(shape.n, shape.n)
    tiles = cells.reshape(shape.box_columns, shape.box_rows, shape.box_rows, shape.box_columns)
    boxes = tiles.swapaxes(1, 2).reshape(n, n)
    units = np.concatenate([cells, cells.T, boxes])
    belongs = (units[:, :, None] == np.arange(shape.cells)).any(1)  # 3n × n²
    units_of = np.stack([np.flatnonzero(column) for column in belongs.T])
    peers = np.stack([np.setdiff1d(units[units_of[cell]].ravel(), [cell]) for cell in range(shape.cells)])
    tables = tuple(np.ascontiguousarray(table, np.int32) for table in (units, units_of, peers))
    for table in tables:
        table.setflags(write=False)
    return tables


# --- text ----------------------------------------------------------------------------------------------------------


def parse(lines: Iterable[str], shape: Shape) -> Grids:
    """Puzzles from lines of n² signs: digits, `.` or `0` for a blank; blank lines and lines with `#` are no puzzles.

    Raises InputError naming the line that is no puzzle.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        row = np.frombuffer(line.replace(".", "0").encode("ascii", "replace"), np.uint8) - ord("0")
        if len(row) != shape.cells or row.max() > shape.n:
            raise InputError(
                f"line {number}, {line[:24]!r}, is no {shape.name} puzzle: {shape.cells} digits up to {shape.n}, "
                "with . or 0 for a blank, are wanted"
            )
        rows.append(row)
    return np.stack(rows) if rows else np.empty((0, shape.cells), np.uint8)


def text(grid: Grids) -> str:
    """One puzzle or solution as a line, with `.` for a blank."""
    return "".join("." if digit == 0 else str(int(digit)) for digit in grid)


def checked(grids: Grids, shape: Shape, what: str = "puzzles") -> Grids:
    """`grids` as contiguous uint8, n × cells. Raises InputError for another shape or digits that there are not."""
    grids = np.asarray(grids)
    if grids.ndim != 2 or grids.shape[1] != shape.cells:
        raise InputError(f"{what} have shape {grids.shape}; n × {shape.cells} is wanted for {shape.name}")
    if grids.size and not (grids.min() >= 0 and grids.max() <= shape.n):
        raise InputError(f"{what} hold {grids.min()} to {grids.max()}; 0 to {shape.n} are wanted")
    return np.ascontiguousarray(grids, np.uint8)
