"""Training by deep supervision: each step improves the answers of a batch once, learns from how right they are, and goes on.

    training = DeepSupervision(model, optimizer, draw, think=lambda step: Nested(6, 3), limit=Limit(16), seed=0)
    for _ in range(10_000):
        training.step()
    training.summary()                     # losses, solve rate, steps a puzzle, since the last summary

A batch is a row of slots. In each step every slot thinks once (`lib.methods.trm.recursion`) about its puzzle, from where
the last step left its states, detached; then the loss is taken and the optimiser moves. A puzzle leaves its slot when the
halting head says that the answer is right (adaptive computation time), or after `limit` steps, and a fresh puzzle comes in
with fresh states. Nothing waits for the device: which slots are done is decided there.

The loss is the cross-entropy of the cells, plus half the binary cross-entropy of the halting head, whose target is whether
the answer is right in *all* of its cells.

Everything random is drawn from (seed, purpose, step), so that a training that is stopped and resumed from `state_dict`
goes on exactly.

Source: Jolicoeur-Martineau (2025), arXiv 2510.04871, figure 3 and section 4.6 (ACT). Exploration (a puzzle's least steps):
Wang et al. (2025), Hierarchical Reasoning Model, arXiv 2506.21734, section 3; drawn once a puzzle here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from lib.core import canonical, sha256
from lib.methods.trm.network import Start, TinyRecursiveModel
from lib.methods.trm.optimisation import Average, warm_up
from lib.methods.trm.recursion import Recursion

Cells = Integer[Tensor, "batch cells"]


@dataclass(frozen=True)
class Batch:
    """Puzzles with their solutions. due: from which supervision step on each cell is supervised; None: from the first."""

    puzzles: Cells
    solutions: Cells
    due: Cells | None = None


@dataclass(frozen=True)
class Limit:
    """Supervision steps that a puzzle may take: `steps` ± up to `half_width`, drawn uniformly when it comes in."""

    steps: int
    half_width: int = 0

    def __post_init__(self) -> None:
        centred_range(self.steps, self.half_width)

    def draw(self, batch: int, generator: torch.Generator) -> Integer[Tensor, " batch"]:
        """One limit a puzzle, on the generator's device."""
        low, high = centred_range(self.steps, self.half_width)
        return torch.randint(low, high + 1, (batch,), generator=generator, device=generator.device)


def centred_range(mean: int, half_width: int) -> tuple[int, int]:
    """The ends of the whole numbers from mean − half_width to mean + half_width.

    A uniform draw from them has the mean `mean`, so that randomised depths cost what fixed ones cost. Raises ValueError
    where they go below 1: cutting them off there would move the mean.
    """
    if half_width < 0 or mean - half_width < 1:
        raise ValueError(f"{mean} ± {half_width} goes below 1; a half-width of 0 to {mean - 1} is wanted")
    return mean - half_width, mean + half_width


def stream(seed: int, purpose: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for each purpose and step."""
    return torch.Generator(device).manual_seed(int(sha256(canonical([seed, purpose, step]))[:15], 16))


def centred(mean: int, half_width: int, seed: int, purpose: str) -> Callable[[int], int]:
    """A function of the step: whole numbers drawn uniformly from mean ± half_width."""
    low, high = centred_range(mean, half_width)
    return lambda step: int(torch.randint(low, high + 1, (), generator=stream(seed, purpose, step)))


def answer_loss(
    logits: Float[Tensor, "batch cells digits"],
    solutions: Cells,
    due: Bool[Tensor, "batch cells"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy a cell, over all cells or the ones that are due, averaged over puzzles."""
    classes = (solutions.long() - 1).flatten()
    losses = functional.cross_entropy(logits.flatten(0, 1), classes, reduction="none").view_as(solutions)
    if due is None:
        return losses.mean()
    return ((losses * due).sum(1) / due.sum(1).clamp(min=1)).mean()


def halting_target(logits: Float[Tensor, "batch cells digits"], solutions: Cells) -> Float[Tensor, " batch"]:
    """1 where every cell of a puzzle is right, else 0."""
    return (logits.argmax(-1) + 1 == solutions).all(1).float()


@dataclass
class Slots:
    """What is in work: a puzzle a row, its states, how many steps it has had, may have, and must have; whether it is done."""

    puzzles: Tensor
    solutions: Tensor
    due: Tensor
    y: Tensor
    z: Tensor
    steps: Tensor
    limits: Tensor
    least: Tensor
    done: Tensor


class DeepSupervision:
    """Deep supervision of a model.

    draw: a batch of fresh puzzles for a step, on the model's device. think: the recursion of a step. start: of the states.
    act: whether the halting head ends puzzles. exploration: share of the puzzles whose least steps are drawn from 2 to
    the limit. halting_weight: of the halting head's loss. lr, warmup: steps to the full learning rate. average: kept up
    to date where given. autocast: a type to compute in, such as torch.bfloat16.
    """

    def __init__(
        self,
        model: TinyRecursiveModel,
        optimizer: torch.optim.Optimizer,
        draw: Callable[[int], Batch],
        *,
        think: Callable[[int], Recursion],
        limit: Limit,
        seed: int,
        lr: float,
        warmup: int = 0,
        start: Start = "static",
        act: bool = True,
        exploration: float = 0.1,
        halting_weight: float = 0.5,
        average: Average | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        if not 0 <= exploration <= 1:
            raise ValueError(f"exploration is {exploration}; a share from 0 to 1 is wanted")
        self.model, self.optimizer, self.draw, self.think = model, optimizer, draw, think
        self.limit, self.seed, self.lr, self.warmup = limit, seed, lr, warmup
        self.start, self.act, self.exploration = start, act, exploration
        self.halting_weight, self.average, self.autocast = halting_weight, average, autocast
        self.device = model.tokens.device
        self.taken = 0
        self.passes = 0
        self.slots: Slots | None = None
        self.totals = torch.zeros(6, dtype=torch.float64, device=self.device)

    def casting(self) -> AbstractContextManager[Any]:
        """Within it the model computes in the type that was asked for."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def refill(self, step: int) -> Slots:
        """The slots of a step: those that are done get a fresh puzzle, the others stay as they are."""
        fresh = self.draw(step)
        batch = len(fresh.puzzles)
        generator = stream(self.seed, "slots", step, self.device)
        y, z = self.model.initial(batch, self.start, generator)
        limits = self.limit.draw(batch, generator)
        explores = torch.rand(batch, generator=generator, device=self.device) < self.exploration
        share = torch.rand(batch, generator=generator, device=self.device)
        least = torch.where(explores, 2 + (share * (limits - 1)).long(), 1)
        due = torch.zeros_like(fresh.puzzles) if fresh.due is None else fresh.due
        zeros = torch.zeros_like(limits)
        new = Slots(fresh.puzzles, fresh.solutions, due, y, z, zeros, limits, least, zeros.bool())
        old = self.slots
        if old is None:
            return new
        done = old.done
        pick = {
            name: torch.where(done.view(-1, *[1] * (value.ndim - 1)), value, getattr(old, name))
            for name, value in vars(new).items()
        }
        return Slots(**pick)

    def step(self) -> None:
        """One supervision step of every slot, and one of the optimiser."""
        warm_up(self.optimizer, self.lr, self.taken, self.warmup)
        think = self.think(self.taken)
        with self.casting():
            slots = self.refill(self.taken)
            steps = slots.steps + 1
            x = self.model.embed(slots.puzzles)
            y, z = think(self.model, x, slots.y, slots.z)
            logits, halt = self.model.read(y)
        answer = answer_loss(logits, slots.solutions, slots.due <= steps[:, None])
        right = halting_target(logits.detach(), slots.solutions)
        halting = functional.binary_cross_entropy_with_logits(halt, right)
        self.optimizer.zero_grad(set_to_none=True)
        (answer + self.halting_weight * halting).backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update()

        done = steps >= slots.limits
        if self.act:
            done = done | ((halt.detach() > 0) & (steps >= slots.least))
        slots.y, slots.z, slots.steps, slots.done = y.detach(), z.detach(), steps, done
        self.slots = slots
        self.taken += 1
        self.passes += think.passes
        ended = done.double()
        self.totals += torch.stack(
            [
                torch.ones_like(ended[0]),
                answer.detach().double(),
                halting.detach().double(),
                ended.sum(),
                (ended * right).sum(),
                (ended * steps).sum(),
            ]
        )

    def summary(self) -> dict[str, float]:
        """Since the last summary: losses, and of the puzzles that left: the share solved, and their steps, on average.

        NaN where no step was taken, or no puzzle left.
        """
        steps, answer, halting, ended, solved, total = self.totals.tolist()
        self.totals.zero_()
        nan = float("nan")
        return {
            "answer_loss": answer / steps if steps else nan,
            "halting_loss": halting / steps if steps else nan,
            "ended": ended,
            "solved": solved / ended if ended else nan,
            "steps": total / ended if ended else nan,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "slots": None if self.slots is None else dict(vars(self.slots)),
            "totals": self.totals,
            "taken": self.taken,
            "passes": self.passes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        slots = state["slots"]
        self.slots = None if slots is None else Slots(**{k: v.to(self.device) for k, v in slots.items()})
        self.totals = state["totals"].to(self.device).clone()
        self.taken, self.passes = state["taken"], state["passes"]
