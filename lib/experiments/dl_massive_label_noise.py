"""Deep Learning is Robust to Massive Label Noise: how accuracy falls with the number of noisy labels a clean one.

`noise_curve`: networks × α × seeds, four learning rates each, trained as one stack; the rate is chosen on validation.
`mistakes`: the original post's mistakes, each alone and all together, beside the corrected protocol.
`order`: one pass through the pairs, shuffled, clean first, noisy first, or with the copies of an image side by side.
`stopping`: all that a stopping rule could watch, over a whole training, with raw and with averaged weights (ours).
`learning_rates`: rates × batch sizes × α after the same number of examples, with raw and with averaged weights (ours).

The corrected protocol: inputs in [0, 1]; 5,000 training images held out as a clean validation set, noise on the others;
batch 128, Adadelta; the best weights by validation are kept and the rate is chosen by validation; every run starts from
fresh weights; the test set decides nothing. Weights, order and noise come from separate generators, derived from the
seed; the four rates of a run share all three, so that they are paired. A pass over the n (α + 1) pairs is 22,000
batches at α = 50: what the original calls an epoch is here an evaluation period of `eval_every` steps.

Source: Rolnick, Veit, Belongie and Shavit (2017), arXiv 1705.10694, sections 3 and 5; the original post's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial, singledispatch
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lib.convnets import conv4
from lib.core import Checkpoint, Config, Context, InputError, Profile, Result
from lib.methods.label_noise import (
    ORDERS,
    NoisyLabels,
    PairOrder,
    against_shares,
    label_shares,
    pair_order,
    shifted_labels,
    uniform_labels,
)
from lib.methods.noise_ceiling import ceiling
from lib.nets import StackedMLP
from lib.training import (
    Adadelta,
    Batches,
    Evaluation,
    Fit,
    Learner,
    ModuleLearner,
    Scaling,
    StackLearner,
    Stages,
    State,
    Stopping,
    WindowStopping,
    derived_generator,
    derived_seed,
    evaluate,
    fit,
    validator,
)

Network = Literal["perceptron", "mlp1", "mlp2", "mlp4"]
AnyNetwork = Literal["perceptron", "mlp1", "mlp2", "mlp4", "conv4"]
Arm = Literal["corrected", "shifted", "carried", "last", "as_posted"]

POST = "dl-massive-label-noise"
RATES = (0.01, 0.05, 0.1, 0.5)
HIDDEN = {"perceptron": (), "mlp1": (256,), "mlp2": (256, 128), "mlp4": (256, 128, 64)}
ARMS: tuple[Arm, ...] = ("corrected", "shifted", "carried", "last", "as_posted")
CLOSE_ARMS: tuple[Arm, ...] = ("corrected", "shifted", "last")
"""The arms that get the further seeds of a close place: the two of the claim, and one that costs nothing more."""
ORIGINAL_PATIENCE = 3
"""The original's `patience`, of which its rule made 1."""


class Training(Config, post=POST):
    """What every run of this post decides.

    lrs: learning rates, one network each. validation: training images held out. max_steps: batches at most.
    eval_every: batches between two validations. patience: validations without an improvement before a rate stops.
    """

    network: AnyNetwork
    alpha: int
    lrs: tuple[float, ...]
    data: str
    validation: int
    batch_size: int
    max_steps: int
    eval_every: int
    patience: int
    seed: int


class NoiseCurve(Training, experiment="noise_curve"):
    """The corrected protocol at one α."""

    network: Network


class Convolution(Training, experiment="noise_curve"):
    """The corrected protocol at one α for Conv4, whose rates are trained one after the other.

    widths, hidden: channels of the convolutions, units of the hidden layer. precision: of the forward and backward pass;
    weights and their updates are always float32.
    """

    network: Literal["conv4"]
    widths: tuple[int, ...]
    hidden: int
    precision: Literal["float32", "bfloat16"]


class Mistakes(Training, experiment="mistakes"):
    """One arm at one α.

    arm: `corrected`, or one mistake alone: `shifted` (noise from shifted labels), `carried` (networks never initialised
    again: one goes through all rates of all α up to this one, α outer), `last` (the last weights returned for the
    best). `as_posted` is all of these together, with the first 20 % of the test set as validation set and the rest as
    test set, the original's stopping rule, the rate chosen on the test set, and inputs in [−1, 1].
    through: the α that carried networks pass through, in order.
    """

    network: Network
    arm: Arm
    through: tuple[int, ...]


class Inputs(Training, experiment="mistakes"):
    """One more mistake alone: `signed`, inputs in [−1, 1], with everything else corrected."""

    network: Network
    arm: Literal["signed"]


class ByPass(Mistakes, experiment="mistakes"):
    """All mistakes together with the original's own epochs: `max_steps` and `eval_every` count passes over the pairs."""

    arm: Literal["as_posted"]


class Further(Config, post=POST):
    """What every run of the further experiments decides.

    images: how many training images are used besides those held out. validation: training images held out.
    """

    network: Network
    alpha: int
    data: str
    images: int
    validation: int
    batch_size: int
    seed: int


class Order(Further, experiment="order"):
    """One pass through all pairs in an order.

    order: of `lib.methods.label_noise.pair_order`. lr: the one learning rate. evaluations: evenly through the pass.
    """

    order: PairOrder
    lr: float
    evaluations: int


class Watching(Further, experiment="stopping"):
    """One training to the end of its budget, with everything recorded that a stopping rule could watch.

    lr: the one learning rate. ema: decay of the averaged weights that are looked at beside the raw ones. max_steps,
    eval_every: batches.
    """

    lr: float
    ema: float
    max_steps: int
    eval_every: int


class LearningRates(Further, experiment="learning_rates"):
    """Several learning rates at one α and batch size, all after the same number of examples.

    lrs: learning rates, one network each. ema: decay of the averaged weights that are looked at beside the raw ones.
    examples: pairs that are trained on. evaluations: evenly through the training.
    """

    lrs: tuple[float, ...]
    ema: float
    examples: int
    evaluations: int


@dataclass(frozen=True)
class _Plan:
    """What a profile computes: networks × α × seeds of the curve, and the networks and α of the mistakes.

    close: seeds beyond those, at the places (network, α) where the verdicts of fewer left a claim open. signed: networks of
    the arm `signed`. passes: the most passes of `as_posted`, which then is validated once a pass; 0 for `budget`'s steps.
    conv_alphas: of Conv4's part of the curve; conv_budget: where that differs from `budget`.
    """

    networks: tuple[Network, ...]
    alphas: tuple[int, ...]
    seeds: int
    wrong_networks: tuple[Network, ...]
    wrong_alphas: tuple[int, ...]
    budget: dict[str, Any]
    close: dict[tuple[Network, int], int] = field(default_factory=dict)
    signed: tuple[Network, ...] = ()
    passes: int = 0
    conv_alphas: tuple[int, ...] = ()
    conv_budget: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Grid:
    """Configs of a further experiment: every combination of the values in `over`, each with so many seeds."""

    kind: type[Further]
    seeds: int
    over: dict[str, tuple[Any, ...]]
    common: dict[str, Any]

    def configs(self) -> Iterator[Config]:
        for values in product(*self.over.values()):
            for seed in range(self.seeds):
                yield self.kind(**self.common, **dict(zip(self.over, values, strict=True)), seed=seed)


# The ledger, in CPU-seconds on one thread of a 2.4 GHz EPYC. A batch of MLP2 costs 10 ms for four rates together (2.5 ms for
# one), of MLP1 9 ms, of MLP4 10.5 ms, of the perceptron 1 ms (1.2 ms for eight), of Conv4 55 ms for one, in bfloat16.
#
# laptop, 7,200 in all. Noise curve and mistakes: the budget was chosen by looking at validation alone, of one seed (MLP2 at
# α = 50: .770 after 8,000 batches, .784 after 14,000); about 8 s (perceptron) to 85 s (MLP2, MLP4) a run of the curve, 85 s
# (shifted), 50 to 85 s (carried), 25 to 35 s (as posted) a run of the mistakes, about 4,700 s with three seeds. Two more
# seeds where the first three left two verdicts open (MLP2 at α = 50): 380 s. Inputs in [−1, 1]: the perceptron, 75 s.
# Order: one pass over 20,000 images, 2 to 13 s a run, 340 s. Stopping: 25 s a run, 15 runs with all images, where a budget
# of 8,000 batches holds no image's noise twice from α = 25 on, and 15 with 2,000 images, where it passes 10 to 47 times:
# 700 s. Learning rates: the perceptron, whose best rate moves most, half of the curve's examples, about 26 s for three
# batch sizes, 380 s. Conv4: an eighth of the others' batches at one rate, the better of two for one seed on validation (.5;
# .1 too was tried), at α = 0 and 10, 75 s a run, 440 s; at α = 50 it had not left chance by then at either rate. What this
# leaves out is in full: Conv4's curve, the further experiments with MLP2 throughout, and longer trainings.
#
# full, on one GPU: not run yet. About 0.25 ms a batch of a stack and 1 ms of Conv4 would make it an hour to an hour and a
# half; every run goes on from its checkpoints.
PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        networks=("perceptron", "mlp1", "mlp2", "mlp4"),
        alphas=(0, 25, 50),
        seeds=2,
        wrong_networks=("mlp2",),
        wrong_alphas=(0, 25, 50),
        budget={
            "lrs": (0.1, 0.5),
            "data": "digits",
            "validation": 300,
            "batch_size": 128,
            "max_steps": 24,
            "eval_every": 8,
            "patience": 3,
        },
        signed=("perceptron",),
        conv_alphas=(0, 25),
        conv_budget={
            "widths": (4, 8, 8),
            "hidden": 16,
            "precision": "bfloat16",
            "max_steps": 8,
            "eval_every": 4,
        },
    ),
    "laptop": _Plan(
        networks=("perceptron", "mlp1", "mlp2", "mlp4"),
        alphas=(0, 10, 25, 50),
        seeds=3,
        wrong_networks=("perceptron", "mlp2"),
        wrong_alphas=(0, 25, 50),
        budget={
            "lrs": RATES,
            "data": "mnist",
            "validation": 5000,
            "batch_size": 128,
            "max_steps": 8000,
            "eval_every": 400,
            "patience": 5,
        },
        close={("mlp2", 50): 2, ("perceptron", 50): 2},
        signed=("perceptron",),
        conv_alphas=(0, 10),
        conv_budget={
            "widths": (32, 64, 128, 256),
            "hidden": 1000,
            "precision": "bfloat16",
            "lrs": (0.5,),
            "max_steps": 1000,
            "eval_every": 100,
            "patience": 10,
        },
    ),
    "full": _Plan(
        networks=("perceptron", "mlp1", "mlp2", "mlp4"),
        alphas=(0, 10, 20, 25, *range(30, 101, 10)),
        seeds=3,
        wrong_networks=("perceptron", "mlp2"),
        wrong_alphas=(0, 25, 50),
        budget={
            "lrs": RATES,
            "data": "mnist",
            "validation": 5000,
            "batch_size": 128,
            "max_steps": 60_000,
            "eval_every": 2000,
            "patience": 8,
        },
        signed=("perceptron", "mlp2"),
        passes=6,
        conv_alphas=(0, 10, 20, 25, *range(30, 101, 10)),
        conv_budget={
            "widths": (32, 64, 128, 256),
            "hidden": 1000,
            "precision": "bfloat16",
            "lrs": (0.1, 0.5),
        },
    ),
}

_ORDER: dict[str, tuple[Any, ...]] = {"order": ORDERS, "alpha": (1, 5, 25)}
_FURTHER_RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SMOKE: dict[str, Any] = {"network": "mlp2", "data": "digits", "validation": 300}
_REAL: dict[str, Any] = {"network": "mlp2", "data": "mnist", "validation": 5000}
GRIDS: dict[Profile, tuple[_Grid, ...]] = {
    "smoke": (
        _Grid(Order, 2, _ORDER, _SMOKE | {"images": 200, "batch_size": 128, "lr": 0.1, "evaluations": 4}),
        _Grid(
            Watching,
            2,
            {"images": (200, 1000), "alpha": (10, 50)},
            _SMOKE | {"batch_size": 128, "lr": 0.1, "ema": 0.9, "max_steps": 24, "eval_every": 4},
        ),
        _Grid(
            LearningRates,
            2,
            {"batch_size": (32, 128), "alpha": (0, 50)},
            _SMOKE
            | {"network": "perceptron", "images": 1000, "lrs": (0.1, 0.5), "ema": 0.9}
            | {"examples": 2048, "evaluations": 4},
        ),
    ),
    "laptop": (
        _Grid(Order, 5, _ORDER, _REAL | {"images": 20_000, "batch_size": 128, "lr": 0.1, "evaluations": 12}),
        _Grid(
            Watching,
            5,
            {"images": (2000, 55_000), "alpha": (10, 25, 50)},
            _REAL | {"batch_size": 128, "lr": 0.1, "ema": 0.999, "max_steps": 8000, "eval_every": 400},
        ),
        _Grid(
            LearningRates,
            5,
            {"batch_size": (32, 128, 512), "alpha": (0, 10, 50)},
            _REAL
            | {"network": "perceptron", "images": 55_000, "lrs": _FURTHER_RATES, "ema": 0.999}
            | {"examples": 512_000, "evaluations": 20},
        ),
    ),
    "full": (
        _Grid(Order, 5, _ORDER, _REAL | {"images": 55_000, "batch_size": 128, "lr": 0.1, "evaluations": 12}),
        _Grid(
            Watching,
            5,
            {"images": (2000, 55_000), "alpha": (10, 25, 50)},
            _REAL | {"batch_size": 128, "lr": 0.1, "ema": 0.999, "max_steps": 24_000, "eval_every": 400},
        ),
        _Grid(
            LearningRates,
            3,
            {"network": ("perceptron", "mlp2"), "batch_size": (32, 128, 512), "alpha": (0, 10, 50, 100)},
            {name: value for name, value in _REAL.items() if name != "network"}
            | {
                "images": 55_000,
                "lrs": _FURTHER_RATES,
                "ema": 0.999,
                "examples": 1_024_000,
                "evaluations": 20,
            },
        ),
    ),
}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile; what others need the artifact of comes first.

    At the first α, which has no noise, the arm `shifted` would be the corrected one.
    """
    plan = PLANS[profile]

    def seeds(network: Network, alpha: int, arm: Arm = "corrected") -> range:
        more = plan.close.get((network, alpha), 0) if arm in CLOSE_ARMS else 0
        return range(plan.seeds + more)

    curve: list[Config] = [
        NoiseCurve(network=network, alpha=alpha, seed=seed, **plan.budget)
        for alpha in plan.alphas
        for network in plan.networks
        for seed in seeds(network, alpha)
    ]
    curve += [
        Convolution(network="conv4", alpha=alpha, seed=seed, **plan.budget | plan.conv_budget)
        for alpha in plan.conv_alphas
        for seed in range(plan.seeds)
    ]
    passes = plan.budget | {"max_steps": plan.passes, "eval_every": 1}
    wrong: list[Config] = [
        ByPass(network=network, alpha=alpha, seed=seed, arm=arm, through=plan.wrong_alphas, **passes)
        if arm == "as_posted" and plan.passes
        else Mistakes(
            network=network, alpha=alpha, seed=seed, arm=arm, through=plan.wrong_alphas, **plan.budget
        )
        for alpha in plan.wrong_alphas
        for arm in ARMS
        if alpha or arm != "shifted"
        for network in plan.wrong_networks
        for seed in seeds(network, alpha, arm)
    ]
    signed: list[Config] = [
        Inputs(network=network, alpha=alpha, seed=seed, arm="signed", **plan.budget)
        for alpha in plan.wrong_alphas
        for network in plan.signed
        for seed in range(plan.seeds)
    ]
    further = [config for grid in GRIDS[profile] for config in grid.configs()]
    return curve + wrong + signed + further


# --- one protocol --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sets:
    """Training, validation and test set of one protocol, with the scaling of the inputs."""

    images: Tensor
    labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    n_classes: int
    scaling: Scaling

    def ceiling(self, alpha: int, shifted: bool) -> float:
        """The best test accuracy that the noise allows; 1 for uniform noise."""
        counts = [
            torch.bincount(labels, minlength=self.n_classes).tolist()
            for labels in (self.labels, self.test_labels)
        ]
        return ceiling(counts[0] if shifted else [1] * self.n_classes, alpha, counts[1])


def _corrected_sets(config: Training | Further, context: Context) -> _Sets:
    """The last `validation` training images are held out; their order is random, so that any will do."""
    data = context.data(config.data)
    train, test = data.train, data.test
    kept = len(train.labels) - config.validation
    if config.validation < 1 or kept < 1:
        raise InputError(f"validation is {config.validation}; 1 to {len(train.labels) - 1} images are wanted")
    return _Sets(
        images=train.images[:kept],
        labels=train.labels[:kept],
        val_images=train.images[kept:],
        val_labels=train.labels[kept:],
        test_images=test.images,
        test_labels=test.labels,
        n_classes=len(data.classes),
        scaling=Scaling(),
    )


def _posted_sets(config: Training, context: Context) -> _Sets:
    """As the original: all training images, and 20 % of the test images to validate on; inputs in [−1, 1]."""
    data = context.data(config.data)
    train, test = data.train, data.test
    fifth = len(test.labels) // 5
    return _Sets(
        images=train.images,
        labels=train.labels,
        val_images=test.images[:fifth],
        val_labels=test.labels[:fifth],
        test_images=test.images[fifth:],
        test_labels=test.labels[fifth:],
        n_classes=len(data.classes),
        scaling=Scaling(0.5, 0.5),
    )


def _uniform(config: Training | Further, sets: _Sets, *purpose: int) -> Tensor:
    generator = derived_generator(config.seed, "noise", *purpose)
    return uniform_labels(len(sets.labels), config.alpha, sets.n_classes, generator).to(sets.labels.device)


def _shifted(config: Training, sets: _Sets, *purpose: int) -> Tensor:
    shift = derived_seed(config.seed, "shift", *purpose) % len(sets.labels)
    return shifted_labels(sets.labels, config.alpha, shift)


def _fresh(config: Training | Further, sets: _Sets, members: int) -> StackedMLP:
    """Networks with fresh weights, the same for every member."""
    sizes = (sets.images[0].numel(), *HIDDEN[config.network], sets.n_classes)
    stack = StackedMLP(sizes, members, device=sets.images.device)
    stack.initialise(derived_generator(config.seed, "weights"))
    return stack


def _test(stack: StackedMLP, states: list[State | None], sets: _Sets) -> Evaluation:
    """The test set with the given weights; NaN for a member that has none."""
    blank = {"parameters": torch.full_like(stack.parameters[0], math.nan)}
    stack.load(torch.stack([(state or blank)["parameters"] for state in states]))
    found = evaluate(stack.logits, sets.test_images, sets.test_labels, scaling=sets.scaling)
    missing = torch.tensor([state is None for state in states])
    found.accuracy[missing] = math.nan
    found.by_class[missing] = math.nan
    return found


# --- rates side by side --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What the rates of a run found: arrays with one row a rate, and the validation's series padded with NaN."""

    arrays: dict[str, np.ndarray]
    diverged: bool

    @staticmethod
    def of(found: Fit, best: Evaluation, last: Evaluation) -> _Found:
        length = max(map(len, found.series["accuracy"]))
        padded = [[*values, *[math.nan] * (length - len(values))] for values in found.series["accuracy"]]
        arrays = {
            "best_val_accuracy": np.array(found.best_value),
            "last_val_accuracy": np.array([values[-1] for values in found.series["accuracy"]]),
            "best_step": np.array(found.best_step),
            "steps": np.array(found.steps),
            "diverged": np.array(found.diverged),
            "test_accuracy": best.accuracy.numpy(),
            "last_test_accuracy": last.accuracy.numpy(),
            "by_class": best.by_class.numpy(),
            "last_by_class": last.by_class.numpy(),
            "val_accuracy": np.array(padded),
        }
        return _Found(arrays, all(found.diverged))

    @staticmethod
    def joined(parts: list[dict[str, np.ndarray]]) -> _Found:
        """Several runs of one rate each as one of several rates."""
        length = max(part["val_accuracy"].shape[1] for part in parts)
        for part in parts:
            short = length - part["val_accuracy"].shape[1]
            part["val_accuracy"] = np.pad(
                part["val_accuracy"], ((0, 0), (0, short)), constant_values=math.nan
            )
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return _Found(arrays, bool(arrays["diverged"].all()))


def _result(
    config: Training,
    found: _Found,
    ceiling: float,
    *,
    choose_on: str = "best_val_accuracy",
    weights: Literal["best", "last"] = "best",
    artifact: dict[str, np.ndarray] | None = None,
) -> Result:
    """Choose the rate by `choose_on` and report it, with the arrays of all rates."""
    arrays = found.arrays
    returned = arrays["test_accuracy" if weights == "best" else "last_test_accuracy"]
    score = arrays[choose_on]
    series = {
        f"val_accuracy_{lr:g}": _unpadded(row)
        for lr, row in zip(config.lrs, arrays["val_accuracy"], strict=True)
    }
    kept = {
        "test_accuracy": returned,
        "best_val_accuracy": arrays["best_val_accuracy"],
        "last_test_accuracy": arrays["last_test_accuracy"],
        "best_step": arrays["best_step"],
        "steps": arrays["steps"],
        "diverged": arrays["diverged"],
    }
    if np.isnan(score).all():
        return Result({"ceiling": ceiling}, series, kept, artifact, "diverged")
    chosen = int(np.nanargmax(score))
    kept["by_class"] = arrays["by_class" if weights == "best" else "last_by_class"][chosen]
    metrics = {
        "lr": config.lrs[chosen],
        "val_accuracy": arrays["best_val_accuracy"][chosen],
        "test_accuracy": returned[chosen],
        "last_test_accuracy": arrays["last_test_accuracy"][chosen],
        "best_step": arrays["best_step"][chosen],
        "steps": arrays["steps"][chosen],
        "ceiling": ceiling,
    }
    return Result(metrics, series, kept, artifact, "diverged" if found.diverged else "done")


def _unpadded(row: np.ndarray) -> list[float]:
    """A padded series without its padding (a NaN inside it stays)."""
    known = np.flatnonzero(~np.isnan(row))
    return row[: known[-1] + 1].tolist() if len(known) else []


def _fit(
    config: Training,
    context: Context,
    sets: _Sets,
    stack: StackedMLP,
    noise: Tensor,
    *,
    lrs: tuple[float, ...],
    stopping: Callable[[], Stopping],
    checkpoint: Any,
    purpose: tuple[int, ...] = (),
    done: int = 0,
    total: int = 1,
) -> tuple[Fit, _Found]:
    """Train the stack, and look at the test set with its best and its last weights."""
    batches = Batches(
        sets.images,
        NoisyLabels(sets.labels, noise),
        batch_size=config.batch_size,
        seed=derived_seed(config.seed, "order", *purpose),
        scaling=sets.scaling,
    )
    found = fit(
        StackLearner(stack, Adadelta(stack, lrs)),
        batches,
        validator(sets.val_images, sets.val_labels, scaling=sets.scaling),
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        stopping=stopping,
        checkpoint=checkpoint,
        progress=lambda step, steps, note: context.progress(done * steps + step, total * steps, note),
    )
    return found, _Found.of(found, _test(stack, found.best, sets), _test(stack, [*found.last], sets))


def _rates_together(config: Training, context: Context, sets: _Sets, noise: Tensor) -> _Found:
    """All rates as one stack: fresh weights, the best kept."""
    stack = _fresh(config, sets, len(config.lrs))
    stopping = lambda: Stopping(config.patience)  # noqa: E731
    return _fit(
        config, context, sets, stack, noise, lrs=config.lrs, stopping=stopping, checkpoint=context.checkpoint
    )[1]


# --- the original's order of things --------------------------------------------------------------------------------


def _carried(
    config: Mistakes,
    context: Context,
    sets: _Sets,
    noise: Callable[..., Tensor],
    stopping: Callable[[], Stopping],
    weights: Literal["best", "last"],
) -> tuple[_Found, dict[str, np.ndarray]]:
    """One network through all rates, from where the α before left it; each with noise and an order of its own.

    Returns what the rates found, and the weights that the next α begins with.
    """
    network = {"parameters": _start(config, context, sets)}
    stages = Stages(context.checkpoint)
    for number in range(len(config.lrs)):
        if number < len(stages.done):
            continue
        if number:
            network = stages.done[number - 1]["network"]
        stack = _fresh(config, sets, 1)
        stack.load(network["parameters"][None])
        found, part = _fit(
            config,
            context,
            sets,
            stack,
            noise(config, sets, config.alpha, number),
            lrs=config.lrs[number : number + 1],
            stopping=stopping,
            checkpoint=stages,
            purpose=(config.alpha, number),
            done=number,
            total=len(config.lrs),
        )
        best = found.best[0] if weights == "best" else None
        stages.finish({"network": best or found.last[0], "arrays": part.arrays})
    left = stages.done[-1]["network"]["parameters"]
    return _Found.joined([stage["arrays"] for stage in stages.done]), {"parameters": left.cpu().numpy()}


def _start(config: Mistakes, context: Context, sets: _Sets) -> Tensor:
    """The weights that a carried network begins with: fresh at the first α, else what the α before left."""
    if config.alpha not in config.through:
        raise InputError(
            f"alpha is {config.alpha}; for the arm {config.arm} it must be one of {config.through}"
        )
    place = config.through.index(config.alpha)
    if place == 0:
        return _fresh(config, sets, 1).parameters[0]
    before = context.artifact(config.replace(alpha=config.through[place - 1]))
    return torch.from_numpy(before["parameters"]).to(sets.images.device)


class _Passes(Context):
    """The context of a run whose steps were given as passes: an artifact that it asks for is that of the config in passes."""

    def __init__(self, inner: Context, config: ByPass) -> None:
        self.inner, self.config, self.device = inner, config, inner.device

    def data(self, name: str) -> Any:
        return self.inner.data(name)

    def artifact(self, config: Config) -> dict[str, np.ndarray]:
        if not isinstance(config, Mistakes):
            raise InputError(f"{config.label()} is not counted in passes")
        return self.inner.artifact(self.config.replace(alpha=config.alpha))

    @property
    def checkpoint(self) -> Checkpoint:
        return self.inner.checkpoint

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.inner.progress(done, total, note)


# --- further experiments -------------------------------------------------------------------------------------------


class _InOrder:
    """Batches that go through the pairs once, in a given order; the last one may be smaller."""

    def __init__(self, sets: _Sets, pairs: NoisyLabels, order: Tensor, batch_size: int) -> None:
        self.sets, self.pairs, self.order, self.batch_size = sets, pairs, order, batch_size
        self.steps = math.ceil(len(order) / batch_size)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Scaled images and labels of step `step` (from 0)."""
        picked = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        index, labels = self.pairs.take(picked)
        return self.sets.scaling(self.sets.images.index_select(0, index)), labels


def _fewer(config: Further, context: Context) -> _Sets:
    """The corrected protocol's sets with the first `images` of the training images that are not held out."""
    sets = _corrected_sets(config, context)
    if not 1 <= config.images <= len(sets.labels):
        raise InputError(f"images is {config.images}; 1 to {len(sets.labels)} are wanted")
    return replace(sets, images=sets.images[: config.images], labels=sets.labels[: config.images])


def _watch(sets: _Sets, noise: Tensor | None = None) -> Callable[[Learner], dict[str, list[float]]]:
    """A validation that sees the held-out images, where `noise` is given with their noisy labels too, and the test set.

    `accuracy` and `loss` are on clean labels, `noisy_accuracy` and `noisy_loss` on all labels of the images, and
    `test_accuracy` is measured without deciding anything.
    """
    own = label_shares(
        sets.val_labels, sets.val_labels.new_empty(len(sets.val_labels), 0).byte(), sets.n_classes
    )
    targets = {"": own}
    if noise is not None:
        targets["noisy_"] = label_shares(sets.val_labels, noise, sets.n_classes)

    def validate(learner: Learner) -> dict[str, list[float]]:
        chunks = sets.val_images.split(1000)
        logits = torch.cat([learner.logits(sets.scaling(chunk)).float() for chunk in chunks], dim=1)
        found: dict[str, list[float]] = {}
        for name, shares in targets.items():
            accuracy, loss = against_shares(logits, shares)
            found |= {f"{name}accuracy": accuracy.tolist(), f"{name}loss": loss.tolist()}
        test = evaluate(learner.logits, sets.test_images, sets.test_labels, scaling=sets.scaling)
        return found | {"test_accuracy": test.accuracy.tolist()}

    return validate


def _outcome(found: Fit) -> Literal["done", "diverged"]:
    return "diverged" if all(found.diverged) else "done"


# --- runs ----------------------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")


@run.register
def noise_curve(config: NoiseCurve, context: Context) -> Result:
    """The corrected protocol. Its artifact is what all rates found, for the arms that differ only in what is reported."""
    sets = _corrected_sets(config, context)
    found = _rates_together(config, context, sets, _uniform(config, sets))
    return _result(config, found, sets.ceiling(config.alpha, shifted=False), artifact=found.arrays)


@run.register
def mistakes(config: Mistakes, context: Context) -> Result:
    """One arm. `corrected` and `last` are two reports of the same training, the noise curve's."""
    if config.arm in ("corrected", "last"):
        shared = {name: value for name, value in _fields(config) if name not in ("arm", "through")}
        arrays = dict(context.artifact(NoiseCurve(**shared)))
        found = _Found(arrays, bool(arrays["diverged"].all()))
        return _result(config, found, 1.0, weights="best" if config.arm == "corrected" else "last")
    if config.arm == "shifted":
        sets = _corrected_sets(config, context)
        found = _rates_together(config, context, sets, _shifted(config, sets))
        return _result(config, found, sets.ceiling(config.alpha, shifted=True))
    if config.arm == "carried":
        sets = _corrected_sets(config, context)
        found, left = _carried(config, context, sets, _uniform, lambda: Stopping(config.patience), "best")
        return _result(config, found, sets.ceiling(config.alpha, shifted=False), artifact=left)
    sets = _posted_sets(config, context)
    found, left = _carried(config, context, sets, _shifted, lambda: WindowStopping(ORIGINAL_PATIENCE), "last")
    ceiling = sets.ceiling(config.alpha, shifted=True)
    return _result(config, found, ceiling, choose_on="last_test_accuracy", weights="last", artifact=left)


@run.register
def convolution(config: Convolution, context: Context) -> Result:
    """The corrected protocol for Conv4: noise, order and first weights are the same for each rate; the best are kept."""
    sets = _corrected_sets(config, context)
    noise = _uniform(config, sets)
    device = sets.images.device
    stages = Stages(context.checkpoint)
    for number in range(len(stages.done), len(config.lrs)):
        _, channels, side, _ = sets.images.shape
        network = conv4(
            config.widths,
            config.hidden,
            n_classes=sets.n_classes,
            in_channels=channels,
            image_size=side,
            generator=derived_generator(config.seed, "weights"),
        ).to(device)
        learner = ModuleLearner(
            network,
            torch.optim.Adadelta(network.parameters(), lr=config.lrs[number]),
            autocast=torch.bfloat16 if config.precision == "bfloat16" else None,
            channels_last=True,
        )
        found = fit(
            learner,
            Batches(
                sets.images,
                NoisyLabels(sets.labels, noise),
                batch_size=config.batch_size,
                seed=derived_seed(config.seed, "order"),
                scaling=sets.scaling,
            ),
            validator(sets.val_images, sets.val_labels, scaling=sets.scaling),
            max_steps=config.max_steps,
            eval_every=config.eval_every,
            stopping=lambda: Stopping(config.patience),
            checkpoint=stages,
            checkpoint_every=200,
            progress=partial(_one_of, context, number, len(config.lrs)),
        )
        tested = [_test_module(learner, state, sets) for state in (found.best[0], found.last[0])]
        stages.finish({"arrays": _Found.of(found, *tested).arrays})
    joined = _Found.joined([stage["arrays"] for stage in stages.done])
    return _result(config, joined, sets.ceiling(config.alpha, shifted=False))


def _one_of(context: Context, number: int, total: int, step: float, steps: float, note: str) -> None:
    """The progress of one training as that of several of the same length."""
    context.progress(number * steps + step, total * steps, note)


def _test_module(learner: ModuleLearner, state: State | None, sets: _Sets) -> Evaluation:
    """The test set with the given weights; NaN where there are none."""
    if state is None:
        nothing = torch.full((1,), math.nan)
        return Evaluation(nothing, nothing, torch.full((1, sets.n_classes), math.nan))
    learner.restore([state])
    return evaluate(learner.logits, sets.test_images, sets.test_labels, scaling=sets.scaling)


@run.register
def by_pass(config: ByPass, context: Context) -> Result:
    """All mistakes together, validated once in a pass over the n (α + 1) pairs."""
    pairs = len(context.data(config.data).train.labels) * (config.alpha + 1)
    steps = math.ceil(pairs / config.batch_size)
    fields = dict(_fields(config)) | {
        "max_steps": config.max_steps * steps,
        "eval_every": config.eval_every * steps,
    }
    return mistakes(Mistakes(**fields), _Passes(context, config))


@run.register
def signed_inputs(config: Inputs, context: Context) -> Result:
    """The corrected protocol with inputs in [−1, 1]."""
    sets = replace(_corrected_sets(config, context), scaling=Scaling(0.5, 0.5))
    found = _rates_together(config, context, sets, _uniform(config, sets))
    return _result(config, found, sets.ceiling(config.alpha, shifted=False))


@run.register
def one_order(config: Order, context: Context) -> Result:
    """One network, one pass; its accuracy on the way, and at the end, where no stopping rule hides what the order did."""
    sets = _fewer(config, context)
    pairs = NoisyLabels(sets.labels, _uniform(config, sets))
    drawn = pair_order(
        config.order, len(sets.labels), config.alpha, derived_generator(config.seed, "order", config.order)
    )
    batches = _InOrder(sets, pairs, drawn.to(sets.images.device), config.batch_size)
    stack = _fresh(config, sets, 1)
    found = fit(
        StackLearner(stack, Adadelta(stack, (config.lr,))),
        batches,
        _watch(sets),
        max_steps=batches.steps,
        eval_every=max(1, batches.steps // config.evaluations),
        checkpoint=context.checkpoint,
        progress=context.progress,
    )
    kept = {name: values[0] for name, values in found.series.items()}
    last = evaluate(stack.logits, sets.test_images, sets.test_labels, scaling=sets.scaling)
    best = int(np.nanargmax(kept["accuracy"])) if not np.isnan(kept["accuracy"]).all() else 0
    metrics = {
        "test_accuracy": kept["test_accuracy"][-1],
        "val_accuracy": kept["accuracy"][-1],
        "best_test_accuracy": kept["test_accuracy"][best],
        "best_val_accuracy": kept["accuracy"][best],
        "steps": batches.steps,
    }
    return Result(metrics, kept, {"by_class": last.by_class[0].numpy()}, outcome=_outcome(found))


@run.register
def watching(config: Watching, context: Context) -> Result:
    """One network, trained to the end; each rule's stop is told from the series afterwards.

    The held-out images have noisy labels of their own, α each, as a noisy set that is split would have.
    """
    sets = _fewer(config, context)
    generator = derived_generator(config.seed, "validation noise")
    noise = uniform_labels(len(sets.val_labels), config.alpha, sets.n_classes, generator)
    stack = _fresh(config, sets, 1)
    found = fit(
        StackLearner(stack, Adadelta(stack, (config.lr,)), ema=config.ema),
        Batches(
            sets.images,
            NoisyLabels(sets.labels, _uniform(config, sets)),
            batch_size=config.batch_size,
            seed=derived_seed(config.seed, "order"),
            scaling=sets.scaling,
        ),
        _watch(sets, noise.to(sets.labels.device)),
        max_steps=config.max_steps,
        eval_every=config.eval_every,
        checkpoint=context.checkpoint,
        progress=context.progress,
    )
    kept = {name: values[0] for name, values in found.series.items()}
    metrics = {
        "test_accuracy": kept["test_accuracy"][-1],
        "ema_test_accuracy": kept["test_accuracy_ema"][-1],
        "best_test_accuracy": max(kept["test_accuracy"]),
        "ema_best_test_accuracy": max(kept["test_accuracy_ema"]),
        "passes": config.max_steps * config.batch_size / (len(sets.labels) * (config.alpha + 1)),
    }
    return Result(metrics, kept, outcome=_outcome(found))


@run.register
def rates_at_batch_size(config: LearningRates, context: Context) -> Result:
    """All rates as one stack, with raw and with averaged weights; the best of each on validation."""
    sets = _fewer(config, context)
    steps = config.examples // config.batch_size
    stack = _fresh(config, sets, len(config.lrs))
    found = fit(
        StackLearner(stack, Adadelta(stack, config.lrs), ema=config.ema),
        Batches(
            sets.images,
            NoisyLabels(sets.labels, _uniform(config, sets)),
            batch_size=config.batch_size,
            seed=derived_seed(config.seed, "order"),
            scaling=sets.scaling,
        ),
        validator(sets.val_images, sets.val_labels, scaling=sets.scaling),
        max_steps=steps,
        eval_every=max(1, steps // config.evaluations),
        checkpoint=context.checkpoint,
        progress=context.progress,
    )
    arrays: dict[str, np.ndarray] = {"diverged": np.array(found.diverged)}
    metrics: dict[str, float] = {"steps": steps}
    for prefix, values, states in (
        ("", found.best_value, found.best),
        ("ema_", found.average_value, found.averages),
    ):
        # A diverged network's average has no finite weights either, but still answers something.
        lost = np.array(found.diverged)
        score = np.where(lost, math.nan, np.array(values))
        tested = np.where(lost, math.nan, _test(stack, states, sets).accuracy.numpy())
        arrays |= {f"{prefix}best_val_accuracy": score, f"{prefix}test_accuracy": tested}
        if not np.isnan(score).all():
            chosen = int(np.nanargmax(score))
            metrics |= {
                f"{prefix}lr": config.lrs[chosen],
                f"{prefix}val_accuracy": score[chosen],
                f"{prefix}test_accuracy": tested[chosen],
            }
    return Result(metrics, {}, arrays, outcome=_outcome(found))


def _fields(config: Config) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(config, name)) for name in config.to_dict())
