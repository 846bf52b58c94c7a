"""Puzzles of a seed: drawn from the sources, divided, solved; and what training draws from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.core import Context, InputError, Result
from lib.data.sudoku.grids import Shape
from lib.data.sudoku.sets import PuzzleSet, divide, thinned
from lib.data.sudoku.solver import solve, waves
from lib.data.sudoku.symmetries import Symmetries
from lib.experiments.trm.configs import Puzzles, Training, run
from lib.methods.trm import Batch, stream

PARTS = ("train", "val", "test")


@run.register
def puzzles(config: Puzzles, context: Context) -> Result:
    """Draw from the sources in proportion, divide, solve. The artifact has all that training and tests need."""
    if len(config.sources) != len(config.shares) or not math.isclose(sum(config.shares), 1):
        raise InputError(
            f"sources {config.sources} have the shares {config.shares}; one each, together 1, is wanted"
        )
    sizes = {"train": config.train, "val": config.val, "test": config.test}
    pool = _pool([context.data(name) for name in config.sources], config, 2 * sum(sizes.values()))
    parts = divide(pool, sizes, config.seed)
    shape = pool.shape
    several = thinned(parts["test"], config.seed)
    if config.several:
        found = context.data(config.several).puzzles
        several = found[np.random.default_rng([config.seed, 7]).permutation(len(found))[: config.test]]
    solved = solve(parts["test"].puzzles, shape)
    arrays = {
        "box": np.array([shape.box_rows, shape.box_columns]),
        "train_waves": waves(parts["train"].puzzles, shape).astype(np.int8),
        "several": several,
    }
    for name, part in parts.items():
        arrays |= {f"{name}_puzzles": part.puzzles, f"{name}_solutions": part.solutions}
    metrics = {
        "clues": float((parts["test"].puzzles > 0).sum(1).mean()),
        "guesses": float(solved.guesses.mean()),
        "by_singles": float((solved.guesses == 0).mean()),
        "waves": float(arrays["train_waves"].max(1).mean()),
    }
    return Result(metrics, artifact=arrays)


def _pool(sets: list[PuzzleSet], config: Puzzles, wanted: int) -> PuzzleSet:
    """Random puzzles of each set in proportion to its share, as one set; all of a set that is the only one."""
    if len(sets) == 1:
        return sets[0]
    rng = np.random.default_rng([config.seed, 5])
    chosen = []
    for each, share in zip(sets, config.shares, strict=True):
        count = round(share * wanted)
        if count > len(each):
            raise InputError(f"{each.name} has {len(each)} puzzles; a share of {share:g} is {count}")
        chosen.append(each.puzzles[rng.permutation(len(each))[:count]])
    return PuzzleSet("+".join(config.sources), "a mixture", sets[0].shape, np.concatenate(chosen))


@dataclass(frozen=True)
class Sets:
    """The puzzles of a run on its device."""

    shape: Shape
    parts: dict[str, tuple[Tensor, Tensor]]
    waves: Tensor
    several: Tensor

    @staticmethod
    def of(config: Puzzles, context: Context) -> Sets:
        arrays = context.artifact(config)
        on = {name: torch.from_numpy(np.array(array)).to(context.device) for name, array in arrays.items()}
        rows, columns = map(int, arrays["box"])
        parts = {name: (on[f"{name}_puzzles"], on[f"{name}_solutions"]) for name in PARTS}
        return Sets(Shape(rows, columns), parts, on["train_waves"], on["several"])


def draw(config: Training, sets: Sets) -> Callable[[int], Batch]:
    """Training puzzles at random, each under a random symmetry, with the steps from which their cells are due."""
    puzzles, solutions = sets.parts["train"]
    due = due_steps(config, sets)
    device = puzzles.device

    def draw(step: int) -> Batch:
        generator = stream(config.seed, "puzzles", step, device)
        chosen = torch.randint(len(puzzles), (config.batch,), generator=generator, device=device)
        moves = Symmetries.draw(config.batch, sets.shape, generator)
        steps = None if due is None else due[chosen].gather(1, moves.cells)
        return Batch(moves.apply(puzzles[chosen]), moves.apply(solutions[chosen]), steps)

    return draw


def due_steps(config: Training, sets: Sets) -> Tensor | None:
    """From which supervision step each cell of each training puzzle is supervised: its wave, the limit at the latest."""
    if config.milestones == "final":
        return None
    found = sets.waves.long()
    due = torch.where(found < 0, config.limit, found).clamp(max=config.limit)
    if config.milestones == "waves":
        return due
    # the same waves for other blanks: blanks in random order take the waves of the blanks in order
    blank = found != 0
    keys = torch.rand(found.shape, generator=stream(config.seed, "shuffle", 0)).to(found.device)
    there = torch.where(blank, keys, 2.0).argsort(1)
    here = (~blank).long().argsort(dim=1, stable=True)
    return torch.zeros_like(due).scatter_(1, there, due.gather(1, here))
