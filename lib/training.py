"""The one supervised training loop: resident data, batched everything, early stopping that keeps the best, exact resumption.

    batches = Batches(images, labels, batch_size=128, seed=seed)              # uint8 images in, scaled floats out
    learner = ModuleLearner(net, torch.optim.SGD(net.parameters(), lr=0.1))   # any network, any torch optimiser
    learner = StackLearner(stack, Adadelta(stack, lrs))                       # or several MLPs at once
    found = fit(learner, batches, validator(images, labels), max_steps=10_000, eval_every=500,
                stopping=lambda: Stopping(patience=5), checkpoint=context.checkpoint, progress=context.progress)
    learner.restore(found.best)                                               # the best weights by validation

The loop knows a *learner* (what is trained: one or several members), *batches* (a function from step to batch, so that
any step can be returned to) and a *validation* (numbers for each member). A member that has stopped improving leaves
the stack; a member whose loss leaves the finite numbers leaves it too, and the others go on.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from lib.core import Checkpoint, InputError, NoCheckpoint, canonical, sha256
from lib.nets import StackedMLP

State = dict[str, Tensor]
"""A copy of one member's weights."""


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A seed of its own for each purpose ("weights", "order", …), so that one choice never moves another."""
    return int(sha256(canonical([seed, *purpose]))[:15], 16)


def derived_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


# --- data ----------------------------------------------------------------------------------------------------------


class Scaling:
    """uint8 pixels to floats: (pixel / 255 − mean) / std, with one mean and std for all channels or one for each.

    The default gives [0, 1]; `Scaling(0.5, 0.5)` gives [−1, 1].
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0) -> None:
        means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        if not (stds > 0).all():
            raise ValueError(f"std is {std!r}; positive numbers are wanted")
        self.factor, self.offset = (
            value.float().view(-1, 1, 1) for value in (1 / (255 * stds), -means / stds)
        )
        self.plain = self.factor.numel() == 1 and self.offset.numel() == 1
        self.shifts = bool((self.offset != 0).any())

    def __call__(
        self, images: UInt8[Tensor, "batch c h w"], out: Tensor | None = None
    ) -> Float[Tensor, "batch c h w"]:
        """The scaled images, in `out` where it is given."""
        floats = images.to(torch.float32) if out is None else out.copy_(images)
        if self.plain:
            floats.mul_(self.factor.item())
            return floats.add_(self.offset.item()) if self.shifts else floats
        if self.factor.device != floats.device:
            self.factor, self.offset = self.factor.to(floats.device), self.offset.to(floats.device)
        return floats.mul_(self.factor).add_(self.offset)


class Pairs(Protocol):
    """Which image and which label each training example is; `lib.methods.label_noise.NoisyLabels` is one."""

    def __len__(self) -> int: ...

    def take(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Image indices and labels of the given examples."""


class Labelled:
    """The usual pairs: each image once, with its label."""

    def __init__(self, labels: Int64[Tensor, " n"]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, pairs: Int64[Tensor, " batch"]) -> tuple[Int64[Tensor, " batch"], Int64[Tensor, " batch"]]:
        return pairs, self.labels[pairs]


class SoftLabelled:
    """Pairs with a distribution over the classes for each image (or any other row of numbers), once each."""

    def __init__(self, targets: Float[Tensor, "n n_classes"]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def take(
        self, pairs: Int64[Tensor, " batch"]
    ) -> tuple[Int64[Tensor, " batch"], Float[Tensor, "batch n_classes"]]:
        return pairs, self.targets[pairs]


def relabelled(
    batches: Callable[[int], tuple[Tensor, Tensor]], relabel: Callable[[Tensor, Tensor], Any]
) -> Callable[[int], tuple[Tensor, Any]]:
    """Batches whose labels are made from the very inputs that are trained on: `relabel(inputs, labels)`.

    So a teacher labels each crop. What it answers goes to the learner's loss as it is.
    """

    def batch(step: int) -> tuple[Tensor, Any]:
        inputs, labels = batches(step)
        return inputs, relabel(inputs, labels)

    return batch


class Batches:
    """The batch of any step: a pass goes through all examples in an order of its own, drawn from (seed, pass).

    images: resident uint8 tensor, on the device that trains. examples: labels, or pairs. The last batch of a pass may
    be smaller, unless `drop_last`. augment: called with the scaled batch and a CPU generator seeded by (seed, step).

    The inputs of a step live in one buffer, which the next step overwrites: fresh memory for each batch costs more
    than the gathering (its pages are made one by one).
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        examples: Int64[Tensor, " n"] | Pairs,
        *,
        batch_size: int,
        seed: int,
        scaling: Scaling | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        drop_last: bool = False,
    ) -> None:
        self.images, self.seed, self.batch_size, self.augment = images, seed, batch_size, augment
        self.scaling = scaling or Scaling()
        self.pairs: Pairs = Labelled(examples) if isinstance(examples, Tensor) else examples
        count = len(self.pairs)
        self.per_pass = count // batch_size if drop_last else math.ceil(count / batch_size)
        if batch_size < 1 or self.per_pass < 1:
            raise InputError(f"batch_size is {batch_size} for {count} examples; 1 to {count} is wanted")
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)
        self._inputs = torch.empty(batch_size, *images.shape[1:], device=images.device)

    def __call__(self, step: int) -> tuple[Float[Tensor, "batch c h w"], Int64[Tensor, " batch"]]:
        """Scaled images and labels of step `step` (from 0)."""
        number, position = divmod(step, self.per_pass)
        if number != self._pass:
            generator = derived_generator(self.seed, "pass", number)
            order = torch.randperm(len(self.pairs), generator=generator)
            self._pass, self._order = number, order.to(self.images.device)
        picked = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        index, labels = self.pairs.take(picked)
        inputs = self.scaling(self.images.index_select(0, index), out=self._inputs[: len(index)])
        if self.augment is not None:
            inputs = self.augment(inputs, derived_generator(self.seed, "augment", step))
        return inputs, labels


# --- evaluation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """What each member does on a whole set: accuracy, mean cross-entropy, and accuracy by class."""

    accuracy: Float[Tensor, " members"]
    loss: Float[Tensor, " members"]
    by_class: Float[Tensor, "members n_classes"]


def evaluate(
    logits: Callable[[Tensor], Tensor],
    images: UInt8[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    *,
    scaling: Scaling | None = None,
    batch_size: int = 1000,
) -> Evaluation:
    """Every example counts once, whatever the size of the last batch. `logits` answers (members, batch, n_classes).

    A class that does not occur has the accuracy NaN.
    """
    scaling = scaling or Scaling()
    right: list[Tensor] = []
    loss: Tensor | float = 0.0
    for start in range(0, len(images), batch_size):
        truth = labels[start : start + batch_size]
        out = logits(scaling(images[start : start + batch_size])).float()
        right.append(out.argmax(-1) == truth)
        index = truth[None, :, None].expand(len(out), -1, -1)
        loss = loss - torch.log_softmax(out, -1).gather(-1, index).sum((1, 2), dtype=torch.float64)
    correct = torch.cat(right, dim=1).double()  # (members, n)
    by_class = torch.zeros(len(correct), out.shape[-1], dtype=torch.float64, device=correct.device)
    counts = torch.bincount(labels, minlength=out.shape[-1])
    by_class = by_class.index_add_(1, labels, correct) / counts
    return Evaluation(correct.mean(1).cpu(), (loss / len(images)).cpu(), by_class.cpu())  # type: ignore[union-attr]


def validator(
    images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"], *, scaling: Scaling | None = None
) -> Callable[[Learner], dict[str, list[float]]]:
    """A validation for `fit`: `accuracy` and `loss` of each member on a held-out set."""

    def validate(learner: Learner) -> dict[str, list[float]]:
        found = evaluate(learner.logits, images, labels, scaling=scaling)
        return {"accuracy": found.accuracy.tolist(), "loss": found.loss.tolist()}

    return validate


# --- early stopping ------------------------------------------------------------------------------------------------


class Stopping:
    """Watches one number, keeps a copy of the state at its best, and says when to stop.

    patience: evaluations in a row without an improvement after which to stop; None never stops. min_delta: by how much
    a value must beat the best to count. mode: whether more or less is better. A NaN is never an improvement.
    """

    def __init__(
        self, patience: int | None, min_delta: float = 0.0, mode: Literal["max", "min"] = "max"
    ) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience is {patience}; 1 or more evaluations, or None, is wanted")
        self.patience, self.min_delta, self.mode = patience, min_delta, mode
        self.values: list[float] = []
        self.best_value = math.nan
        self.best_step = 0
        self.best_index = -1
        self.best: State | None = None

    def update(self, value: float, step: int, snapshot: Callable[[], State]) -> bool:
        """Take in the value at `step`; True says stop. `snapshot` is called where the value is the best so far."""
        self.values.append(value)
        if self._better(value):
            self.best_value, self.best_step, self.best_index = value, step, len(self.values) - 1
            self.best = {name: tensor.detach().clone() for name, tensor in snapshot().items()}
        return self.exhausted()

    def exhausted(self) -> bool:
        """Whether the values so far are reason to stop."""
        return self.patience is not None and len(self.values) - 1 - self.best_index >= self.patience

    def _better(self, value: float) -> bool:
        if math.isnan(value) or math.isnan(self.best_value):
            return not math.isnan(value)
        gain = value - self.best_value if self.mode == "max" else self.best_value - value
        return gain > self.min_delta

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        names = ("values", "best_value", "best_step", "best_index", "best")
        return {name: copy.copy(getattr(self, name)) for name in names}

    def load(self, state: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
        """Go on from a checkpoint's state."""
        for name, value in state.items():
            setattr(self, name, copy.copy(value))
        if self.best is not None:
            self.best = {name: tensor.to(device) for name, tensor in self.best.items()}


class WindowStopping(Stopping):
    """Stops at the first value that does not beat each of the `patience` values just before it.

    The rule of the original post (`epoch > patience and val_acc <= max(last patience values)`): named a patience, it
    forgives no evaluation at all once `patience` + 1 have passed.
    """

    def exhausted(self) -> bool:
        patience = self.patience
        if patience is None or len(self.values) < patience + 2:
            return False
        window = [self.values[-1], *self.values[-patience - 1 : -1]]
        latest, *before = window if self.mode == "max" else [-value for value in window]
        return not latest > max(before)


# --- learners ------------------------------------------------------------------------------------------------------


class Learner(ABC):
    """What the loop trains: one or several members that see the same batches.

    ema: None, or the decay of an exponential moving average of the weights, which is evaluated beside the raw ones. It
    is warmed up: at step t the decay is at most (1 + t) / (10 + t).
    """

    device: torch.device

    def __init__(self, ema: float | None = None) -> None:
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"ema is {ema}; a decay between 0 and 1, or None, is wanted")
        self.ema = ema
        self.average: list[Tensor] | None = None

    @property
    @abstractmethod
    def members(self) -> int:
        """How many networks are in training."""

    @abstractmethod
    def step(self, inputs: Tensor, labels: Tensor, factor: float) -> Float[Tensor, " members"]:
        """One update with the learning rates times `factor`; the mean loss of each member before it."""

    @abstractmethod
    def logits(self, inputs: Tensor) -> Float[Tensor, "members batch n_classes"]:
        """Answers for evaluation."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """All floating-point tensors that make up the networks, for the average."""

    @abstractmethod
    def snapshot(self, member: int) -> State:
        """The weights of one member; the caller copies."""

    @abstractmethod
    def restore(self, states: Sequence[State]) -> None:
        """Become the networks with these weights, as many as there are; the optimiser's state is left behind."""

    @abstractmethod
    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Weights and optimiser, for a checkpoint."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, exactly."""

    def update_average(self, step: int) -> None:
        """Move the average towards the weights after step `step` (from 0)."""
        if self.ema is None:
            return
        if self.average is None:
            self.average = [tensor.detach().clone() for tensor in self.tensors()]
            return
        weight = max(1 - self.ema, 9 / (10 + step))
        torch._foreach_lerp_(self.average, [tensor.detach() for tensor in self.tensors()], weight)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the networks have the averaged weights."""
        if self.average is None:
            raise RuntimeError("there is no average: the learner was made without ema, or has made no step")
        raw = [tensor.detach().clone() for tensor in self.tensors()]
        with torch.no_grad():
            torch._foreach_copy_(self.tensors(), self.average)
            try:
                yield
            finally:
                torch._foreach_copy_(self.tensors(), raw)


class ModuleLearner(Learner):
    """Any module with any torch optimiser, as a learner with one member.

    loss: from logits and labels to a scalar. autocast: a lower-precision dtype for the forward pass, or None.
    channels_last: memory format of images and convolutions.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        ema: float | None = None,
    ) -> None:
        super().__init__(ema)
        self.module, self.optimizer, self.loss = module, optimizer, loss
        self.device = next(module.parameters()).device
        self.autocast, self.format = (
            autocast,
            torch.channels_last if channels_last else torch.contiguous_format,
        )
        if channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rates = [group["lr"] for group in optimizer.param_groups]

    @property
    def members(self) -> int:
        return 1

    def _forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.contiguous(memory_format=self.format)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.module(inputs)

    def step(self, inputs: Tensor, labels: Tensor, factor: float) -> Float[Tensor, " members"]:
        if not self.module.training:
            self.module.train()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self._forward(inputs).float(), labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()[None]

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Float[Tensor, "members batch n_classes"]:
        if self.module.training:
            self.module.eval()
        return self._forward(inputs).float()[None]

    def tensors(self) -> list[Tensor]:
        return [tensor for tensor in self.module.state_dict().values() if tensor.is_floating_point()]

    def snapshot(self, member: int) -> State:
        return dict(self.module.state_dict())

    def restore(self, states: Sequence[State]) -> None:
        (state,) = states
        self.module.load_state_dict(state)

    def keep(self, members: Sequence[int]) -> None:
        if list(members) != [0]:
            raise ValueError(f"members is {members}; a module is one member")

    def state(self) -> dict[str, Any]:
        return {
            "module": dict(self.module.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.average,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = _to(state["ema"], self.device)


class Adadelta:
    """Zeiler's Adadelta (arXiv 1212.5701) for a stack, with a learning rate for each member.

    The update is that of `torch.optim.Adadelta` to rounding, in nine passes over one tensor and with one square root
    instead of two.
    """

    def __init__(
        self, stack: StackedMLP, lrs: Sequence[float], *, rho: float = 0.9, eps: float = 1e-6
    ) -> None:
        if len(lrs) != stack.members or min(lrs) < 0:
            raise ValueError(
                f"lrs is {lrs!r}; {stack.members} learning rates, one a member, none negative, are wanted"
            )
        self.rho, self.eps = rho, eps
        self.lrs = torch.tensor(lrs, dtype=torch.float32, device=stack.parameters.device)[
            :, None
        ]  # (members, 1)
        self.squares, self.deltas = torch.zeros_like(stack.parameters), torch.zeros_like(stack.parameters)
        self._ratio, self._scratch = torch.empty_like(stack.parameters), torch.empty_like(stack.parameters)

    def step(self, parameters: Tensor, gradients: Tensor, factor: float = 1.0) -> None:
        """One update in place; all tensors are (members, parameters)."""
        rho, ratio, scratch = self.rho, self._ratio, self._scratch
        # E[g²] ← ρ E[g²] + (1 − ρ) g²
        self.squares.mul_(rho).addcmul_(gradients, gradients, value=1 - rho)
        # Δ = g √((E[Δ²] + ε) / (E[g²] + ε))
        torch.add(self.squares, self.eps, out=scratch)
        torch.add(self.deltas, self.eps, out=ratio)
        delta = ratio.div_(scratch).sqrt_().mul_(gradients)
        # E[Δ²] ← ρ E[Δ²] + (1 − ρ) Δ²
        self.deltas.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        # x ← x − lr Δ
        if len(self.lrs) == 1:
            parameters.add_(delta, alpha=-factor * self.lrs.item())
        else:
            parameters.addcmul_(delta, self.lrs, value=-factor)

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""
        self.load({name: getattr(self, name)[list(members)] for name in ("lrs", "squares", "deltas")})

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"lrs": self.lrs, "squares": self.squares, "deltas": self.deltas}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's state, or from a part of another."""
        device = self.squares.device
        self.lrs, self.squares, self.deltas = (
            state[k].to(device, copy=True) for k in ("lrs", "squares", "deltas")
        )
        self._ratio, self._scratch = torch.empty_like(self.squares), torch.empty_like(self.squares)


class StackLearner(Learner):
    """A stack of MLPs with an optimiser for stacks."""

    def __init__(self, stack: StackedMLP, optimizer: Adadelta, *, ema: float | None = None) -> None:
        super().__init__(ema)
        self.stack, self.optimizer, self.device = stack, optimizer, stack.parameters.device

    @property
    def members(self) -> int:
        return self.stack.members

    def step(self, inputs: Tensor, labels: Tensor, factor: float) -> Float[Tensor, " members"]:
        losses = self.stack.backward(inputs, labels)
        self.optimizer.step(self.stack.parameters, self.stack.gradients, factor)
        return losses

    def logits(self, inputs: Tensor) -> Float[Tensor, "members batch n_classes"]:
        return self.stack.logits(inputs)

    def tensors(self) -> list[Tensor]:
        return [self.stack.parameters]

    def snapshot(self, member: int) -> State:
        return {"parameters": self.stack.parameters[member]}

    def restore(self, states: Sequence[State]) -> None:
        self.stack.load(torch.stack([state["parameters"] for state in states]))

    def keep(self, members: Sequence[int]) -> None:
        self.stack.keep(members)
        self.optimizer.keep(members)
        if self.average is not None:
            self.average = [tensor[list(members)] for tensor in self.average]

    def state(self) -> dict[str, Any]:
        return {"parameters": self.stack.parameters, "optimizer": self.optimizer.state(), "ema": self.average}

    def load(self, state: Mapping[str, Any]) -> None:
        self.stack.load(state["parameters"])
        self.optimizer.load(state["optimizer"])
        self.average = _to(state["ema"], self.device)


def _to(tensors: Sequence[Tensor] | None, device: torch.device) -> list[Tensor] | None:
    return None if tensors is None else [tensor.to(device, copy=True) for tensor in tensors]


# --- the loop ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """What training found, one entry a member, in the order they began.

    best: the weights with the best watched value (None where there was never a finite one). last: the weights when the
    member stopped. steps: how many it was trained. diverged: whether its loss left the finite numbers. series: name →
    one list a member, one value an evaluation (`train_loss`, and what the validation gives). averages: as `best`, for
    the averaged weights, or empty.
    """

    best: list[State | None]
    best_value: list[float]
    best_step: list[int]
    last: list[State]
    steps: list[int]
    diverged: list[bool]
    series: dict[str, list[list[float]]]
    averages: list[State | None]
    average_value: list[float]


def fit(
    learner: Learner,
    batches: Callable[[int], tuple[Tensor, Tensor]],
    validate: Callable[[Learner], Mapping[str, Sequence[float]]],
    *,
    max_steps: int,
    eval_every: int,
    stopping: Callable[[], Stopping] = lambda: Stopping(None),
    watch: str = "accuracy",
    schedule: Callable[[int], float] | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every: int = 1000,
    progress: Callable[[float, float, str], None] | None = None,
    seed: int = 0,
) -> Fit:
    """Train until every member has stopped or `max_steps` are done.

    validate: numbers for each member of the learner, by name; `watch` names the one that `stopping()` (one object a
    member) follows. schedule: from step to the factor of the learning rates. The checkpoint is asked every
    `checkpoint_every` steps and after every evaluation; a run that goes on from one gives the same numbers as one that
    was never interrupted. seed: of torch's global generator (dropout), which is left as it was.
    """
    if max_steps < 1 or eval_every < 1:
        raise InputError(
            f"max_steps is {max_steps} and eval_every is {eval_every}; 1 or more is wanted of both"
        )
    slot = checkpoint or NoCheckpoint()
    with torch.random.fork_rng([learner.device] if learner.device.type == "cuda" else []):
        torch.manual_seed(derived_seed(seed, "global"))
        run = _Run(learner, validate, [stopping() for _ in range(learner.members)], watch)
        if (saved := slot.load()) is not None:
            run.load(saved)
        while run.active and run.step < max_steps:
            inputs, labels = batches(run.step)
            run.train_step(inputs, labels, 1.0 if schedule is None else schedule(run.step))
            evaluated = run.step % eval_every == 0 or run.step == max_steps
            if evaluated:
                run.evaluate()
                if progress is not None:
                    progress(run.step, max_steps, run.note())
            if (evaluated or run.step % checkpoint_every == 0) and slot.due():
                slot.save(run.state())
        return run.finish()


class _Run:
    """The state of a training run, and what changes it."""

    def __init__(
        self,
        learner: Learner,
        validate: Callable[[Learner], Mapping[str, Sequence[float]]],
        stops: list[Stopping],
        watch: str,
    ) -> None:
        self.learner, self.validate, self.stops, self.watch = learner, validate, stops, watch
        members = len(stops)
        self.averages = [Stopping(None, mode=stop.mode) for stop in stops] if learner.ema is not None else []
        self.step = 0
        self.active = list(range(members))
        self.losses = torch.zeros(members, device=learner.device)  # sums since the last evaluation
        self.since = 0
        self.series: dict[str, list[list[float]]] = {}
        self.last: list[State] = [{} for _ in stops]
        self.steps = [0] * members
        self.diverged = [False] * members

    def train_step(self, inputs: Tensor, labels: Tensor, factor: float) -> None:
        self.losses += self.learner.step(inputs, labels, factor)
        self.learner.update_average(self.step)
        self.step += 1
        self.since += 1

    def evaluate(self) -> None:
        """Validate, remember the best, and let members go that have stopped improving or left the finite numbers."""
        losses = (self.losses / self.since).tolist()
        self.losses.zero_()
        self.since = 0
        found = {"train_loss": losses, **self.validate(self.learner)}
        averaged: Mapping[str, Sequence[float]] = {}
        if self.averages:
            with self.learner.averaged():
                averaged = self.validate(self.learner)
                for place, member in enumerate(self.active):
                    value = averaged[self.watch][place]
                    self.averages[member].update(value, self.step, partial(self.learner.snapshot, place))
        staying = []
        for place, member in enumerate(self.active):
            for name, values in (
                *found.items(),
                *((f"{name}_ema", values) for name, values in averaged.items()),
            ):
                self.series.setdefault(name, [[] for _ in self.stops])[member].append(values[place])
            self.steps[member] = self.step
            if not math.isfinite(losses[place]):
                self.diverged[member] = True
                stop = True
            else:
                value = found[self.watch][place]
                stop = self.stops[member].update(value, self.step, partial(self.learner.snapshot, place))
            if stop:
                self._leave(place, member)
            else:
                staying.append(place)
        if len(staying) < len(self.active):
            self.active = [self.active[place] for place in staying]
            self.losses = self.losses[staying]
            if staying:
                self.learner.keep(staying)

    def _leave(self, place: int, member: int) -> None:
        self.last[member] = {
            name: tensor.detach().clone() for name, tensor in self.learner.snapshot(place).items()
        }

    def note(self) -> str:
        values = [stop.best_value for stop in self.stops if not math.isnan(stop.best_value)]
        best = (max if self.stops[0].mode == "max" else min)(values, default=math.nan)
        return f"{self.watch} {best:.4f}, {len(self.active)} of {len(self.stops)} in training"

    def finish(self) -> Fit:
        for place, member in enumerate(self.active):
            self._leave(place, member)
        return Fit(
            best=[stop.best for stop in self.stops],
            best_value=[stop.best_value for stop in self.stops],
            best_step=[stop.best_step for stop in self.stops],
            last=self.last,
            steps=self.steps,
            diverged=self.diverged,
            series=self.series,
            averages=[stop.best for stop in self.averages],
            average_value=[stop.best_value for stop in self.averages],
        )

    def state(self) -> dict[str, Any]:
        own = ("step", "active", "losses", "since", "series", "last", "steps", "diverged")
        return {
            **{name: getattr(self, name) for name in own},
            "learner": self.learner.state(),
            "stops": [stop.state() for stop in self.stops],
            "averages": [stop.state() for stop in self.averages],
            "rng": _rng_state(self.learner.device),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        rest = copy.deepcopy(dict(state))
        device = self.learner.device
        for stop, saved in zip(self.stops, rest.pop("stops"), strict=True):
            stop.load(saved, device)
        for stop, saved in zip(self.averages, rest.pop("averages"), strict=True):
            stop.load(saved, device)
        self.learner.load(rest.pop("learner"))
        _set_rng_state(rest.pop("rng"), device)
        for name, value in rest.items():
            setattr(self, name, value)
        self.losses = self.losses.to(device)
        self.last = [{name: tensor.to(device) for name, tensor in one.items()} for one in self.last]


def _rng_state(device: torch.device) -> list[Tensor]:
    """The global generators that a network may draw from."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def _set_rng_state(states: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


class Stages(Checkpoint):
    """One checkpoint slot for several fits in a row: what each finished one left, and the state of the one under way.

    stages = Stages(context.checkpoint)
    for number in range(4):
        if number < len(stages.done):
            continue                                   # its result is stages.done[number]
        found = fit(..., checkpoint=stages)
        stages.finish({...})
    """

    def __init__(self, slot: Checkpoint) -> None:
        self.slot = slot
        saved = slot.load()
        self.done: list[Any] = [] if saved is None else list(saved["done"])
        self._under_way: Any | None = None if saved is None else saved["under_way"]

    def load(self) -> Any | None:
        return self._under_way

    def due(self) -> bool:
        return self.slot.due()

    def save(self, state: Any) -> None:
        self.slot.save({"done": self.done, "under_way": state})

    def finish(self, result: Any) -> None:
        """The fit under way has ended and left `result` (what a checkpoint can hold)."""
        self.done.append(result)
        self._under_way = None
