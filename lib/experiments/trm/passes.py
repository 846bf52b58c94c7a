"""Several passes of a trained network over a puzzle, and what is made of their answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.core import Context, InputError, Result
from lib.data.sudoku.symmetries import Symmetries, solves
from lib.experiments.trm.configs import Aggregation, SeveralSolutions, Training, run
from lib.experiments.trm.puzzles import Sets
from lib.experiments.trm.training import network, start_of_tests, thinks
from lib.methods.trm import (
    Answers,
    TinyRecursiveModel,
    cell_mode,
    explore,
    first_valid,
    most_confident,
    puzzle_mode,
    single,
    stream,
)

AGGREGATORS = (
    "single",
    "cell_mode",
    "puzzle_mode",
    "confidence",
    "confidence_all",
    "check",
    "check_all",
    "oracle",
)
"""How one answer is made of k passes: the axis of `solved`. `…_all`: of every step so far. `oracle`: any is right."""
BINS = 10
"""Of the halting head's probability, for its calibration."""


def trained(config: Training, snapshot: int, context: Context) -> tuple[TinyRecursiveModel, Sets]:
    """The network with the weights of a snapshot, 0 being the best by validation. Raises InputError where there is none."""
    made = context.artifact(config)
    sets = Sets.of(config.puzzles, context)
    prefix = f"weights.{snapshot}."
    weights = {name.removeprefix(prefix): array for name, array in made.items() if name.startswith(prefix)}
    if not weights:
        raise InputError(f"snapshot is {snapshot}; there are 0 (the best) and {config.snapshots}")
    model = network(config.replace(compiled=False), sets.shape, context.device)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return model, sets


@run.register(Aggregation)
def aggregation(config: Aggregation, context: Context) -> Result:
    """Solve rates by aggregator, passes and depth; how much passes differ; the halting head's calibration."""
    if "diverged" in context.artifact(config.training):
        return Result(outcome="diverged")
    model, sets = trained(config.training, config.snapshot, context)
    several = isinstance(config, SeveralSolutions)
    puzzles = (sets.several if several else sets.parts["test"][0])[: config.puzzles]
    solved = torch.zeros(len(AGGREGATORS), len(config.passes), len(config.depths), dtype=torch.float64)
    calibrated = torch.zeros(3, BINS, dtype=torch.float64)
    distinct = 0.0
    width = max(1, (256 if context.device == "cpu" else 8192) // max(config.passes))
    for i, part in enumerate(puzzles.split(width)):
        answers = answers_of(config, model, sets, part, i)
        valid = solves(answers.grids, part, sets.shape)  # (passes, steps, part)
        for b, k in enumerate(config.passes):
            for c, depth in enumerate(config.depths):
                for a, chosen in enumerate(_chosen(answers, valid, k, depth)):
                    right = chosen if chosen.dtype == torch.bool else solves(chosen, part, sets.shape)
                    solved[a, b, c] += right.sum().item()
        at = min(config.training.limit, max(config.depths)) - 1
        calibrated += calibration(answers.confidence[:, at], valid[:, at]).cpu()
        distinct += sum(len(answers.grids[:, at, p].unique(dim=0)) for p in range(len(part)))
        context.progress(i + 1, math.ceil(len(puzzles) / width))
    counts = calibrated[0].clamp(min=1)
    error = (calibrated[1] / counts - calibrated[2] / counts).abs() @ calibrated[0] / calibrated[0].sum()
    return Result(
        metrics={"distinct": distinct / len(puzzles), "calibration_error": error.item()},
        arrays={"solved": (solved / len(puzzles)).numpy(), "calibration": calibrated.numpy()},
    )


def answers_of(
    config: Aggregation, model: TinyRecursiveModel, sets: Sets, puzzles: Tensor, number: int
) -> Answers:
    """All passes over some puzzles, different from each other in the way that the config says."""
    generator = stream(config.seed, f"{config.diversity} {config.sigma}", number, puzzles.device)

    def views(wide: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        moves = Symmetries.draw(len(wide), sets.shape, generator)
        return moves.apply(wide), moves.undo

    enabled = config.training.precision == "bfloat16"
    with torch.autocast(puzzles.device.type, dtype=torch.bfloat16, enabled=enabled):
        return explore(
            model,
            puzzles,
            thinks(config.training),
            steps=max(config.depths),
            passes=max(config.passes),
            start=start_of_tests(config.training),
            sigma=config.sigma,
            generator=generator,
            views=views if config.diversity == "symmetry" else None,
        )


def _chosen(answers: Answers, valid: Tensor, k: int, depth: int) -> list[Tensor]:
    """What each of AGGREGATORS makes of the first k passes at a depth: grids, or for the oracle whether one is right."""
    last = answers.grids[:k, depth - 1], answers.confidence[:k, depth - 1]
    every, sure = answers.upto(k, depth)
    return [
        single(*last),
        cell_mode(*last),
        puzzle_mode(*last),
        most_confident(*last),
        most_confident(every, sure),
        first_valid(*last, valid[:k, depth - 1]),
        first_valid(every, sure, valid[:k, :depth].flatten(0, 1)),
        valid[:k, depth - 1].any(0),
    ]


def calibration(confidence: Tensor, right: Tensor) -> Tensor:
    """By bins of the halting head's probability: answers, the sum of their probabilities, how many are right; 3 × BINS."""
    probability = confidence.double().sigmoid().flatten()
    place = (probability * BINS).long().clamp(max=BINS - 1)
    columns = torch.stack([torch.ones_like(probability), probability, right.flatten().double()])
    return torch.zeros(3, BINS, dtype=torch.float64, device=place.device).index_add_(1, place, columns)
