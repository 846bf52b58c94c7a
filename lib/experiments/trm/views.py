"""Single puzzles as figures show them: states from several starts in a plane, answers step by step."""

from __future__ import annotations

import torch

from lib.core import Context, Result
from lib.experiments.trm.configs import Paths, Walk, run
from lib.experiments.trm.passes import trained
from lib.experiments.trm.training import start_of_tests, thinks
from lib.methods.trm import stream, trajectory


@run.register
def paths(config: Paths, context: Context) -> Result:
    """y and z of one puzzle from random starts, one a cell, whatever the network was trained with."""
    if "diverged" in context.artifact(config.training):
        return Result(outcome="diverged")
    model, sets = trained(config.training, config.snapshot, context)
    puzzle = sets.parts["test"][0][config.puzzle].repeat(config.starts, 1)
    generator = stream(config.seed, "paths", 0, context.device)
    states = model.initial(config.starts, "cell", generator)
    seen = [states]
    with torch.no_grad():
        steps = trajectory(model, puzzle, thinks(config.training), steps=config.steps, states=states)
        seen += [(y, z) for _, _, y, z in steps]
    arrays = {}
    for name, series in zip("yz", zip(*seen, strict=True), strict=True):
        points = (
            torch.stack(series, dim=1).flatten(2).double().cpu()
        )  # (starts, 1 + steps, positions · width)
        flat = points.flatten(0, 1)
        flat = flat - flat.mean(0)
        left, sizes, _ = torch.linalg.svd(flat, full_matrices=False)
        plane = (left * sizes)[:, :2]
        plane = plane * torch.where(plane.sum(0) < 0, -1.0, 1.0)  # a component's sign is arbitrary
        arrays[name] = plane.view(config.starts, -1, 2).float().numpy()
        arrays[f"{name}_share"] = (sizes.square() / sizes.square().sum())[:2].float().numpy()
    return Result(arrays=arrays)


@run.register
def walk(config: Walk, context: Context) -> Result:
    """One puzzle as a reader sees it: digits and probabilities of each cell after each step, and the head's probability."""
    if "diverged" in context.artifact(config.training):
        return Result(outcome="diverged")
    model, sets = trained(config.training, config.snapshot, context)
    puzzle, solution = (grids[config.puzzle][None] for grids in sets.parts["test"])
    start = model.initial(1, start_of_tests(config.training), stream(config.seed, "walk", 0, context.device))
    digits, sure, halt = [], [], []
    steps = trajectory(model, puzzle, thinks(config.training), steps=config.steps, states=start)
    for logits, halting, _, _ in steps:
        probabilities = logits[0].softmax(-1)
        digits.append((probabilities.argmax(-1) + 1).to(torch.uint8))
        sure.append(probabilities.gather(1, solution[0].long()[:, None] - 1)[:, 0])
        halt.append(halting.sigmoid().item())
    arrays = {
        "puzzle": puzzle[0].cpu().numpy(),
        "solution": solution[0].cpu().numpy(),
        "digits": torch.stack(digits).cpu().numpy(),
        "probability": torch.stack(sure).float().cpu().numpy(),
    }
    return Result(series={"confidence": halt}, arrays=arrays)
