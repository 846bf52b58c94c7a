"""One network: its training, its validation as it goes, its tests at the end; and arms that report it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.core import Context, Result
from lib.data.sudoku.grids import Shape
from lib.data.sudoku.symmetries import solves
from lib.experiments.trm.configs import Compared, Training, run
from lib.experiments.trm.puzzles import Sets, draw
from lib.methods.trm import (
    AdamATan2,
    Average,
    DeepSupervision,
    KStep,
    Limit,
    Nested,
    Recursion,
    Start,
    TinyRecursiveModel,
    asymptotic_alignment,
    cell_mode,
    centred,
    explore,
    most_confident,
    single,
    stream,
    trajectory,
)


def network(config: Training, shape: Shape, device: str) -> TinyRecursiveModel:
    """A network with the weights of the config's seed."""
    model = TinyRecursiveModel(
        cells=shape.cells,
        digits=shape.n,
        width=config.width,
        layers=config.layers,
        expansion=config.expansion,
        multiple=config.multiple,
        mixing=config.mixing,
        heads=config.heads,
        registers=config.registers,
        two_headed=config.k > 0,
        generator=stream(config.seed, "weights", 0),
    ).to(device)
    if config.compiled:
        model.core.compile()
    return model


def thinks(config: Training) -> Recursion:
    """The recursion of tests, and of training where nothing is random."""
    return KStep(config.k) if config.k else Nested(config.n, config.T, config.m)


def thinking(config: Training) -> Callable[[int], Recursion]:
    """The recursion of each training step: random depths around the fixed ones, or a curriculum of them."""
    fixed = thinks(config)
    if config.k:
        return lambda step: fixed
    n = centred(config.n, config.n_width, config.seed, "n")
    T = centred(config.T, config.T_width, config.seed, "T")
    if config.n_width or config.T_width:
        return lambda step: Nested(n(step), T(step), config.m)

    def scheduled(step: int) -> Recursion:
        for until, n_now, T_now in config.curriculum:
            if step < until:
                return Nested(n_now, T_now, config.m)
        return fixed

    return scheduled


def start_of_tests(config: Training) -> Start:
    return "zeros" if config.start == "mixed" else config.start


def _supervision(config: Training, sets: Sets, device: str) -> DeepSupervision:
    model = network(config, sets.shape, device)
    if config.optimizer == "atan2":
        optimizer: torch.optim.Optimizer = AdamATan2(
            model.parameters(), config.lr, (0.9, 0.95), config.weight_decay
        )
    else:
        fused = device.startswith("cuda")
        optimizer = torch.optim.AdamW(
            model.parameters(),
            config.lr,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=fused,
            foreach=not fused,
        )
    return DeepSupervision(
        model,
        optimizer,
        draw(config, sets),
        think=thinking(config),
        limit=Limit(config.limit, config.limit_width),
        seed=config.seed,
        lr=config.lr,
        warmup=config.warmup,
        start=config.start,
        act=config.act,
        exploration=config.exploration,
        halting_weight=config.halting_weight,
        average=Average(model, config.average),
        autocast=torch.bfloat16 if config.precision == "bfloat16" else None,
    )


SERIES = ("answer_loss", "halting_loss", "solved", "steps", "val_single", "val_cell_mode", "val_confidence")


@run.register
def training(config: Training, context: Context) -> Result:
    """Train, validate as it goes, then look at the test set. The artifact has the kept weights and all that was found."""
    sets = Sets.of(config.puzzles, context)
    work = _supervision(config, sets, context.device)
    shadow = network(config, sets.shape, context.device)
    kept: dict[str, Any] = {
        "series": {name: [] for name in SERIES},
        "weights": {},
        "ended": 0.0,
        "taken": 0.0,
    }
    state = context.checkpoint.load()
    if state is not None:
        work.load_state_dict(state["work"])
        kept = state["kept"]
    diverged = False
    while work.taken < config.steps and not diverged:
        work.step()
        last = work.taken == config.steps
        if work.taken % config.eval_every == 0 or last:
            diverged = not _validate(config, work, shadow, sets, kept)
        if work.taken in config.snapshots:
            kept["weights"][str(work.taken)] = _weights(work)
        if work.taken % 10 == 0 or last:
            note = f"{kept['series']['val_single'][-1]:.1%} solved" if kept["series"]["val_single"] else ""
            context.progress(work.taken, config.steps, note)
        if context.checkpoint.due() and not last:
            context.checkpoint.save({"work": work.state_dict(), "kept": kept})
    if diverged:
        return Result(series=kept["series"], artifact={"diverged": np.array(True)}, outcome="diverged")
    kept["weights"][str(config.steps)] = _weights(work)
    metrics, arrays = _tested(config, work, shadow, sets, context.device)
    metrics |= {
        "val_solved": max(kept["series"]["val_single"]),
        "best_step": _best(kept["series"]["val_single"]) * config.eval_every,
        "passes": work.passes,
        "realised_steps": kept["taken"] / kept["ended"] if kept["ended"] else math.nan,
        "puzzles_seen": kept["ended"],
        "parameters": work.model.parameter_count,
    }
    artifact = {f"metric.{name}": np.array(value) for name, value in metrics.items()}
    artifact |= {f"series.{name}": np.array(values) for name, values in kept["series"].items()}
    artifact |= {f"array.{name}": array for name, array in arrays.items()}
    for step, weights in kept["weights"].items():
        artifact |= {f"weights.{step}.{name}": tensor.cpu().numpy() for name, tensor in weights.items()}
    return Result(metrics, kept["series"], arrays, artifact)


def _weights(work: DeepSupervision) -> dict[str, Tensor]:
    """The averaged weights, and the static start, as they are now."""
    average = work.average.state_dict() if work.average else dict(work.model.named_parameters())
    return {name: tensor.detach().clone() for name, tensor in (average | {"first": work.model.first}).items()}


def _best(values: list[float]) -> int:
    """The number of the first of the best validations, from 1."""
    return 1 + int(np.argmax(values))


def _validate(
    config: Training, work: DeepSupervision, shadow: TinyRecursiveModel, sets: Sets, kept: dict[str, Any]
) -> bool:
    """Add what training and validation say to the series, keep the weights if they are the best; False where it diverged."""
    found = work.summary()
    series = kept["series"]
    if not math.isfinite(found["answer_loss"]):
        return False
    for name in ("answer_loss", "halting_loss", "solved", "steps"):
        series[name].append(found[name])
    if found["ended"]:
        kept["ended"] += found["ended"]
        kept["taken"] += found["ended"] * found["steps"]
    assert work.average is not None
    work.average.copy_to(shadow)
    puzzles = sets.parts["val"][0][: config.val_puzzles]
    start = start_of_tests(config)
    with work.casting():
        answers = explore(
            shadow,
            puzzles,
            thinks(config),
            steps=config.limit,
            passes=config.val_passes if start in ("batch", "puzzle", "cell") else 1,
            start=start,
            generator=stream(config.seed, "validation", work.taken, puzzles.device),
        )
    last = answers.grids[:, -1], answers.confidence[:, -1]
    for name, choose in (("single", single), ("cell_mode", cell_mode), ("confidence", most_confident)):
        right = solves(choose(*last), puzzles, sets.shape)
        series[f"val_{name}"].append(right.float().mean().item())
    if _best(series["val_single"]) == len(series["val_single"]):
        kept["weights"]["0"] = _weights(work)
    return True


def _tested(
    config: Training, work: DeepSupervision, shadow: TinyRecursiveModel, sets: Sets, device: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The last averaged weights on the test set: one pass to every depth, and the alignment score, in single precision."""
    assert work.average is not None
    work.average.copy_to(shadow)
    puzzles = sets.parts["test"][0][: config.test_puzzles]
    right = []
    with work.casting():
        for i, part in enumerate(puzzles.split(512)):
            answers = explore(
                shadow,
                part,
                thinks(config),
                steps=max(config.depths),
                start=start_of_tests(config),
                generator=stream(config.seed, "test", i, device),
            )
            right.append(solves(answers.grids[0], part, sets.shape))  # (steps, part)
    solved = torch.cat(right, dim=1).float().mean(1).cpu().numpy()
    at = {depth: float(solved[depth - 1]) for depth in config.depths}
    metrics: dict[str, Any] = {f"solved_{depth}": value for depth, value in at.items()}
    found, second = _aligned(config, shadow, puzzles[: config.aligned], device)
    return metrics | found, {"solved_by_step": solved, "gap_by_step": second}


def _aligned(
    config: Training, model: TinyRecursiveModel, puzzles: Tensor, device: str
) -> tuple[dict[str, float], np.ndarray]:
    """Alignment of y, z and answers after `settling` steps, and 1 − alignment of y after each step of the second run."""
    think = thinks(config)
    history: list[list[Tensor]] = []

    def settle(states: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        history.append([])
        for _, _, y, z in trajectory(model, puzzles, think, steps=config.settling, states=states):
            states = y, z
            history[-1].append(y)
        return states

    with torch.no_grad():
        start = model.initial(
            len(puzzles), start_of_tests(config), stream(config.seed, "alignment", 0, device)
        )
        found = asymptotic_alignment(settle, start)
        answers = [model.read(y)[0].argmax(-1) for y in (found.first[0], found.second[0])]
        final = found.first[0].flatten(1).double()
        gaps = [(1 - torch.cosine_similarity(final, y.flatten(1).double())).mean().item() for y in history[1]]
    same = answers[0] == answers[1]
    metrics = {
        "aas_y": found.y.mean().item(),
        "aas_z": found.z.mean().item(),
        "gap_y": (1 - found.y).clamp(min=1e-12).log10().mean().item(),
        "gap_z": (1 - found.z).clamp(min=1e-12).log10().mean().item(),
        "aas_cells": same.float().mean().item(),
        "aas_puzzles": same.all(1).float().mean().item(),
    }
    return metrics, np.array(gaps)


@run.register(Compared)
def compared(config: Compared, context: Context) -> Result:
    """What the training of this arm found."""
    made = context.artifact(config.training)
    if "diverged" in made:
        return Result(outcome="diverged")
    groups: dict[str, dict[str, Any]] = {"metric": {}, "series": {}, "array": {}}
    for name, array in made.items():
        kind, _, rest = name.partition(".")
        if kind in groups:
            groups[kind][rest] = array
    metrics = {name: array.item() for name, array in groups["metric"].items()}
    return Result(
        metrics, {name: array.tolist() for name, array in groups["series"].items()}, groups["array"]
    )
