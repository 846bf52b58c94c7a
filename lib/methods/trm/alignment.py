"""Path independence: does a puzzle end in the same states wherever its states begin?

    found = asymptotic_alignment(settle, start)
    found.y, found.z               # cosine similarity of the final states, one a puzzle

The states settle twice: from `start`, and from the states in which *another* puzzle settled (those of its neighbour in the
batch). Where they settle in the same place the similarity, the asymptotic alignment score, is 1. States of one network are
similar even where answers are not, so that scores crowd close to 1: look at 1 − score on a logarithmic axis, and at whether
the answers agree.

Source: Anil et al. (2022), Path Independent Equilibrium Models Can Better Exploit Test-Time Computation, arXiv 2211.09961,
section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

States = tuple[Float[Tensor, "batch positions width"], Float[Tensor, "batch positions width"]]


@dataclass(frozen=True)
class Alignment:
    """Cosine similarity of the final y and z of both runs, one a puzzle; and those states."""

    y: Float[Tensor, " batch"]
    z: Float[Tensor, " batch"]
    first: States
    second: States


@torch.no_grad()
def asymptotic_alignment(settle: Callable[[States], States], start: States) -> Alignment:
    """Let states settle from `start` (y, z), and again from the final states of the puzzle before.

    settle: lets states run for as long as is wanted, on puzzles that are not given here. Raises ValueError for one puzzle.
    """
    if len(start[0]) < 2:
        raise ValueError("1 puzzle has no other whose states it could begin with; at least 2 are wanted")
    first = settle(start)
    second = settle((first[0].roll(1, 0), first[1].roll(1, 0)))
    y, z = (cosine(a, b) for a, b in zip(first, second, strict=True))
    return Alignment(y, z, first, second)


def cosine(
    a: Float[Tensor, "batch positions width"], b: Float[Tensor, "batch positions width"]
) -> Float[Tensor, " batch"]:
    """Cosine similarity of two states as one vector a puzzle; 1 where they are equal to the last bit.

    In double precision, where 1 − similarity still has digits.
    """
    a, b = a.flatten(1).double(), b.flatten(1).double()
    a = a / a.norm(dim=1, keepdim=True).clamp(min=1e-30)
    b = b / b.norm(dim=1, keepdim=True).clamp(min=1e-30)
    # |a − b|² = 2 − 2 cos, without the cancellation of 1 − cos
    return 1 - (a - b).square().sum(1) / 2
