"""Answers at test time: to any depth, several passes side by side, and how one answer is made of them.

    found = explore(model, puzzles, Nested(6, 3), steps=32, passes=8, sigma=0.3, generator=generator)
    at = 15                                                         # after 16 supervision steps
    votes = most_confident(found.grids[:, at], found.confidence[:, at])
    valid = solves(found.grids[:, at], puzzles, shape)              # lib.data.sudoku.symmetries: needs no solution
    best = first_valid(found.grids[:, at], found.confidence[:, at], valid)

Passes differ by where their states begin, by noise that is added to them in every step, or by a symmetry of the puzzle.

Sources: the original post (random starts, cell-wise mode, confidence); Jolicoeur-Martineau (2025), arXiv 2510.04871 (votes
with ties by confidence); the constraint check: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from lib.methods.trm.network import Start, TinyRecursiveModel
from lib.methods.trm.recursion import Recursion

Grids = UInt8[Tensor, "passes batch cells"]
Confidence = Float[Tensor, "passes batch"]
Chosen = UInt8[Tensor, "batch cells"]


@dataclass(frozen=True)
class Answers:
    """What each pass answers after each step.

    grids: uint8, passes × steps × batch × cells. confidence: logits of being right, passes × steps × batch.
    """

    grids: Tensor
    confidence: Tensor

    def upto(self, passes: int, steps: int) -> tuple[Tensor, Tensor]:
        """All answers of the first passes in the first steps, as if each were a pass: (p · s) × batch × cells, and × batch."""
        return self.grids[:passes, :steps].flatten(0, 1), self.confidence[:passes, :steps].flatten(0, 1)


def trajectory(
    model: TinyRecursiveModel,
    puzzles: Integer[Tensor, "batch cells"],
    think: Recursion,
    *,
    steps: int,
    states: tuple[Tensor, Tensor],
    sigma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(logits, halt, y, z) after each of `steps` supervision steps, from `states`, without halting.

    sigma: standard deviation of the normal noise that is added to both states before each step; the states' cells have a
    root mean square of 1.
    """
    with torch.no_grad():
        x = model.embed(puzzles)
    y, z = states
    for _ in range(steps):
        with torch.no_grad():
            if sigma:
                y, z = (_noisy(state, sigma, generator) for state in (y, z))
            y, z = think(model, x, y, z)
            logits, halt = model.read(y)
        yield logits, halt, y, z


def _noisy(state: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    noise = torch.randn(state.shape, generator=generator, device=state.device)
    return state + sigma * noise.to(state.dtype)


@torch.no_grad()
def explore(
    model: TinyRecursiveModel,
    puzzles: Integer[Tensor, "batch cells"],
    think: Recursion,
    *,
    steps: int,
    passes: int = 1,
    start: Start = "static",
    sigma: float = 0.0,
    generator: torch.Generator | None = None,
    views: Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]] | None = None,
) -> Answers:
    """All passes at once, `passes` · batch puzzles wide.

    start: of the states, drawn anew for each pass where it draws (`batch`: one vector a pass). sigma: noise in each step.
    views: makes of (passes · batch) puzzles what the model sees, and a function that takes its answers back (symmetries).
    generator: on the model's device.
    """
    if steps < 1 or passes < 1:
        raise ValueError(f"steps is {steps} and passes {passes}; at least 1 of each is wanted")
    batch = len(puzzles)
    wide = puzzles.repeat(passes, 1)
    back: Callable[[Tensor], Tensor] = lambda grids: grids  # noqa: E731
    if views is not None:
        wide, back = views(wide)
    if start == "batch":
        drawn = [model.initial(batch, start, generator) for _ in range(passes)]
        states = (torch.cat([y for y, _ in drawn]), torch.cat([z for _, z in drawn]))
    else:
        states = model.initial(passes * batch, start, generator)
    grids, confidence = [], []
    for logits, halt, _, _ in trajectory(
        model, wide, think, steps=steps, states=states, sigma=sigma, generator=generator
    ):
        grids.append(back((logits.argmax(-1) + 1).to(torch.uint8)).view(passes, batch, -1))
        confidence.append(halt.view(passes, batch))
    return Answers(torch.stack(grids, dim=1), torch.stack(confidence, dim=1))


# --- one answer of several -------------------------------------------------------------------------------------------


def single(grids: Grids, confidence: Confidence) -> Chosen:
    """The first pass."""
    return grids[0]


def cell_mode(grids: Grids, confidence: Confidence) -> Chosen:
    """The most frequent digit of each cell on its own, the smallest of equally frequent ones.

    Cells are not independent: the result may be an answer that no pass gave.
    """
    digits = int(grids.max()) + 1
    counts = torch.zeros(*grids.shape[1:], digits, dtype=torch.int16, device=grids.device)
    for grid in grids:
        counts.scatter_add_(2, grid.long()[..., None], torch.ones_like(counts[..., :1]))
    return counts.argmax(-1).to(torch.uint8)


def puzzle_mode(grids: Grids, confidence: Confidence) -> Chosen:
    """The most frequent whole answer; of equally frequent ones, the one that some pass is most confident in."""
    same = (grids[:, None] == grids[None]).all(-1)  # (passes, passes, batch)
    votes = same.sum(1)
    best = torch.where(same, confidence[None], -torch.inf).amax(1)
    return _take(grids, torch.where(votes == votes.amax(0), best, -torch.inf).argmax(0))


def most_confident(grids: Grids, confidence: Confidence) -> Chosen:
    """The answer that its pass is most confident in."""
    return _take(grids, confidence.argmax(0))


def first_valid(grids: Grids, confidence: Confidence, valid: Bool[Tensor, "passes batch"]) -> Chosen:
    """An answer that is known to be valid, where there is one (the most confident of them); else the most confident."""
    among = torch.where(valid, confidence, -torch.inf).argmax(0)
    return _take(grids, torch.where(valid.any(0), among, confidence.argmax(0)))


def _take(grids: Tensor, which: Tensor) -> Tensor:
    return grids[which, torch.arange(grids.shape[1], device=grids.device)]
