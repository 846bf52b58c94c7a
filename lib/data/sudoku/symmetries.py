"""Symmetries of sudokus for whole batches on any device: augmentation, and the check that a grid is a solution.

    moves = Symmetries.draw(768, shape, generator)         # one for each puzzle of a batch
    moves.apply(puzzles), moves.apply(solutions)           # digits renamed, bands, stacks, rows, columns moved
    moves.undo(predictions)                                # back to where they came from
    solves(predictions, puzzles, shape)                    # bool: valid, and as the clues say

A symmetry renames the digits, moves the bands, the rows within each band, the stacks, the columns within each stack, and,
where boxes are square, transposes. Each keeps validity, the number of clues, and the number of solutions. Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data.sudoku.grids import Shape


@dataclass(frozen=True)
class Symmetries:
    """One symmetry a row.

    cells: int64, batch × n²: from which cell each cell takes its digit. digits: int64, batch × (n + 1): the new name of
    each digit; blanks stay blanks.
    """

    cells: Tensor
    digits: Tensor

    @staticmethod
    def draw(batch: int, shape: Shape, generator: torch.Generator) -> Symmetries:
        """Uniformly random symmetries, drawn on the generator's device."""
        n, device = shape.n, generator.device
        bands, stacks = shape.box_columns, shape.box_rows
        rows = _order(batch, bands, shape.box_rows, generator)
        columns = _order(batch, stacks, shape.box_columns, generator)
        cells = rows[:, :, None] * n + columns[:, None, :]
        if shape.square:
            turned = torch.rand(batch, 1, 1, generator=generator, device=device) < 0.5
            cells = torch.where(turned, cells.mT, cells)
        names = torch.rand(batch, n, generator=generator, device=device).argsort(1) + 1
        digits = torch.cat([names.new_zeros(batch, 1), names], dim=1)
        return Symmetries(cells.reshape(batch, shape.cells), digits)

    def to(self, device: torch.device | str) -> Symmetries:
        """The same symmetries on another device."""
        return Symmetries(self.cells.to(device), self.digits.to(device))

    def apply(self, grids: Tensor) -> Tensor:
        """The symmetry of each row on each row of `grids` (batch × n², whole numbers), in the grids' type."""
        moved = grids.gather(1, self.cells).long()
        return self.digits.gather(1, moved).to(grids.dtype)

    def undo(self, grids: Tensor) -> Tensor:
        """What `apply` makes these `grids` of."""
        named = self.digits.argsort(1).gather(1, grids.long()).to(grids.dtype)
        return torch.empty_like(named).scatter_(1, self.cells, named)


def _order(batch: int, outer: int, inner: int, generator: torch.Generator) -> Tensor:
    """Random orders of `outer` groups of `inner` lines that keep the groups together, batch × (outer · inner)."""
    device = generator.device
    groups = torch.rand(batch, outer, generator=generator, device=device).argsort(1)
    within = torch.rand(batch, outer, inner, generator=generator, device=device).argsort(2)
    return (groups[:, :, None] * inner + within).reshape(batch, outer * inner)


def solves(grids: Tensor, puzzles: Tensor, shape: Shape) -> Tensor:
    """Whether each grid (… × n²) completes its puzzle (… × n²): every unit has every digit, every clue is kept; bool, ….

    No solution is needed for this, and any of several is good.
    """
    units = torch.tensor(shape.units, dtype=torch.int64, device=grids.device)
    bits = torch.ones_like(grids, dtype=torch.int64) << grids.long()
    # n powers of two add up to 2 + 4 + … + 2ⁿ only where they are all different
    valid = bits[..., units].sum(-1).eq(2 ** (shape.n + 1) - 2).all(-1)
    return valid & ((puzzles == 0) | (grids == puzzles)).all(-1)
