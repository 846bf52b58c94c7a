"""Understanding Batch Normalization: larger rates, gradients and activations at initialisation, and the loss along the gradient.

`learning_curves`: accuracy over a whole training, four arms of (batch norm, learning rate), and the original's mistakes.
`initial_gradients`: gradients of the middle layer at initialisation, by network, initial weights and batch norm.
`step_sizes`: the loss after one step of each size along the gradient, at three of the first batches.
`activations`: mean and variance of every channel by depth, at initialisation.
`class_bias`: the gradient of the logits of a batch, at initialisation.
`divergence`: activations and loss step by step while a network without batch norm diverges.
`largest_rate`: the largest learning rate that trains, by depth, with and without batch norm.

The network is the paper's ResNet-110 for CIFAR (109 convolutions), with Xavier's uniform weights, or a shallower one of the
same family where the config says so; the original post used torchvision's ResNet-101 for ImageNet. Images are normalised
by channel with the moments of the training images; training batches are cropped from 4 pixels of padding, and flipped.
Nothing is chosen on the test set: trainings have a fixed length, and their last weights are reported.

Source: Bjorck, Gomes, Selman and Weinberger (2018), arXiv 1806.02375; the original post's code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch
from itertools import product
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from lib.augment import AugmentedBatches
from lib.convnets import disable_bn, initialise, resnet
from lib.core import Config, Context, InputError, Profile, Result
from lib.methods.probes import activations, logits_gradient, losses_along_gradient, moments, weight_gradients
from lib.schedules import stepped
from lib.training import (
    Batches,
    Learner,
    ModuleLearner,
    Scaling,
    Stopping,
    derived_generator,
    derived_seed,
    evaluate,
    fit,
)

POST = "understanding-bn"
Architecture = Literal["cifar", "imagenet"]
"""`cifar`: He's network of the config's depth; `imagenet`: torchvision's ResNet-101, the original post's."""
Weights = Literal[
    "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "kaiming_normal_fan_out"
]
MOMENTUM, WEIGHT_DECAY, PADDING = 0.9, 5e-4, 4
BINS = 81
"""Bins of a histogram of gradients, from −8 to 8 standard deviations."""


# --- configs -------------------------------------------------------------------------------------------------------


class Setting(Config, post=POST):
    """What every run of this post decides.

    depth, width: of the CIFAR network (6n + 2; channels of its first stage). bn: with batch norm. data, images: data set, and how many of its training images are
    used (None: all).
    """

    depth: int
    width: int
    bn: bool
    data: str
    images: int | None
    batch_size: int
    seed: int


class LearningCurves(Setting, experiment="learning_curves"):
    """One training. arm: `corrected`, or a mistake of the original alone: `rate_kept` (the schedule is handed the validation
    loss for the epoch, so that the rate never drops), `stopped_early` (20 epochs without a better validation loss end it,
    drops or not). evaluated: how many images of each set are looked at after each epoch.
    """

    arm: Literal["corrected", "rate_kept", "stopped_early"]
    lr: float
    epochs: int
    evaluated: int


class InitialGradients(Setting, experiment="initial_gradients"):
    """Gradients of the weights of convolution `layer` (from 1) for one batch at initialisation.

    linear: whether the last layer is drawn by `weights` too, or left as torch draws it.
    """

    architecture: Architecture
    weights: Weights
    linear: bool
    layer: int


class StepSizes(Setting, experiment="step_sizes"):
    """Relative losses along the gradient before some of the first updates.

    arm: `gradient`, or `as_posted`, through an optimiser with momentum and weight decay. lr: of the updates in between.
    batches: which (from 0). steps: how many sizes, evenly on a log scale from 10^low to 10^high.
    """

    arm: Literal["gradient", "as_posted"]
    lr: float
    batches: tuple[int, ...]
    steps: int
    low: float
    high: float


class Activations(Setting, experiment="activations"):
    """Moments of all channels behind each convolution at initialisation, for one batch."""


class ClassBias(Setting, experiment="class_bias"):
    """The gradient of the logits for one batch at initialisation, and what many images are predicted to be."""


class Divergence(Setting, experiment="divergence"):
    """The first updates at a rate. steps: how many at most; it ends at the first loss that is not finite."""

    lr: float
    steps: int


class LargestRate(Setting, experiment="largest_rate"):
    """The largest rate at which the loss after `steps` updates is finite and below that of chance, log 10, by bisection.

    low, high: powers of ten between which it lies. halvings: how often the interval is halved.
    """

    steps: int
    low: float
    high: float
    halvings: int


@dataclass(frozen=True)
class _Plan:
    """What a profile computes; `common` is shared by all configs."""

    data: str
    depth: int
    width: int
    layer: int
    gradient_seeds: int
    architectures: tuple[Architecture, ...]
    curves: dict[str, Any]
    curve_seeds: int
    arms: tuple[str, ...]
    seeds: int
    bias_seeds: int
    step_sizes: int
    divergence_steps: int
    depths: tuple[int, ...]
    rate_steps: int
    rate_seeds: int
    halvings: int


CURVES: tuple[tuple[bool, float], ...] = ((False, 1e-4), (True, 1e-4), (True, 0.003), (True, 0.1))
"""Batch norm and initial learning rate of the four curves of Figure 1."""
DIVERGENT: tuple[tuple[bool, float], ...] = ((False, 1e-4), (False, 0.003), (True, 0.1))
LINEARS: tuple[bool, ...] = (True, False)
WEIGHTS: tuple[Weights, ...] = (
    "xavier_uniform",
    "kaiming_uniform",
    "kaiming_normal",
    "kaiming_normal_fan_out",
)

PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        data="shapes",
        depth=14,
        width=4,
        layer=7,
        gradient_seeds=2,
        architectures=("cifar",),
        curves={"depth": 8, "images": 128, "epochs": 4, "evaluated": 128},
        curve_seeds=2,
        arms=("corrected", "rate_kept", "stopped_early"),
        seeds=2,
        bias_seeds=2,
        step_sizes=10,
        divergence_steps=6,
        depths=(8, 14),
        rate_steps=3,
        rate_seeds=2,
        halvings=2,
    ),
    "laptop": _Plan(
        data="cifar10-jpeg",
        depth=110,
        width=16,
        layer=55,
        gradient_seeds=5,
        architectures=("cifar", "imagenet"),
        curves={"depth": 56, "images": 5000, "epochs": 24, "evaluated": 5000},
        curve_seeds=3,
        arms=("corrected",),
        seeds=5,
        bias_seeds=20,
        step_sizes=80,
        divergence_steps=8,
        depths=(20, 32, 56, 110),
        rate_steps=8,
        rate_seeds=3,
        halvings=4,
    ),
    "full": _Plan(
        data="cifar10",
        depth=110,
        width=16,
        layer=55,
        gradient_seeds=5,
        architectures=("cifar", "imagenet"),
        curves={"depth": 110, "images": None, "epochs": 165, "evaluated": 10_000},
        curve_seeds=3,
        arms=("corrected", "rate_kept", "stopped_early"),
        seeds=10,
        bias_seeds=20,
        step_sizes=80,
        divergence_steps=30,
        depths=(20, 32, 56, 110),
        rate_steps=50,
        rate_seeds=5,
        halvings=6,
    ),
}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile."""
    return list(_configs(PLANS[profile], 64 if profile == "smoke" else 128))


def _configs(plan: _Plan, batch_size: int) -> Iterator[Config]:
    common: dict[str, Any] = {"data": plan.data, "width": plan.width, "batch_size": batch_size}
    deep = {**common, "depth": plan.depth, "images": None}
    for arm, (bn, lr), seed in product(plan.arms, CURVES, range(plan.curve_seeds)):
        yield LearningCurves(arm=cast(Any, arm), bn=bn, lr=lr, seed=seed, **common, **plan.curves)
    for architecture, bn, seed in product(plan.architectures, (True, False), range(plan.gradient_seeds)):
        for weights, linear in product(WEIGHTS, LINEARS):
            # The puzzle is 2 × 2 of network × (Xavier, the original's choice); the other draws get one seed less often.
            decisive = (weights, linear) in (("xavier_uniform", True), ("kaiming_normal_fan_out", False))
            if decisive or seed < 2:
                yield InitialGradients(
                    architecture=architecture, weights=weights, linear=linear, layer=plan.layer, bn=bn, seed=seed, **deep
                )  # fmt: skip
    for arm, (bn, lr), seed in product(
        ("gradient", "as_posted"), ((True, 0.1), (False, 1e-4)), range(plan.seeds)
    ):
        yield StepSizes(
            arm=cast(Any, arm), bn=bn, lr=lr, batches=(1, 4, 7), steps=plan.step_sizes, low=-5.5, high=0.5, seed=seed, **deep
        )  # fmt: skip
    for bn, seed in product((True, False), range(max(plan.seeds, plan.bias_seeds // 2))):
        yield Activations(bn=bn, seed=seed, **deep)
    for bn, seed in product((True, False), range(plan.bias_seeds)):
        yield ClassBias(bn=bn, seed=seed, **deep)
    for (bn, lr), seed in product(DIVERGENT, range(plan.seeds)):
        yield Divergence(bn=bn, lr=lr, steps=plan.divergence_steps, seed=seed, **deep)
    for depth, bn, seed in product(plan.depths, (True, False), range(plan.rate_seeds)):
        yield LargestRate(
            **{**deep, "depth": depth}, bn=bn, steps=plan.rate_steps, low=-5.0, high=1.0, halvings=plan.halvings, seed=seed
        )  # fmt: skip


# --- what runs share -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sets:
    """Training and test images, with the scaling by the training images' moments."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    n_classes: int
    scaling: Scaling


def _sets(config: Setting, context: Context) -> _Sets:
    data = context.data(config.data)
    count = len(data.train.labels) if config.images is None else config.images
    if not config.batch_size <= count <= len(data.train.labels):
        raise InputError(
            f"images is {config.images}; {config.batch_size} to {len(data.train.labels)} are wanted"
        )
    images, labels = data.train.images[:count], data.train.labels[:count]
    mean, std = channel_moments(images)
    return _Sets(images, labels, data.test.images, data.test.labels, len(data.classes), Scaling(mean, std))


def channel_moments(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 images, on the scale from 0 to 1."""
    variance, mean = torch.var_mean(images.double() / 255, dim=[0, 2, 3], correction=0)
    return mean.tolist(), variance.sqrt().tolist()


def _network(config: Setting, sets: _Sets) -> nn.Module:
    """The paper's network with Xavier's weights, with or without batch norm: the same weights for both."""
    network = resnet(
        config.depth,
        width=config.width,
        n_classes=sets.n_classes,
        in_channels=sets.images.shape[1],
        init="xavier_uniform",
        linear=None,
        generator=derived_generator(config.seed, "weights"),
    )
    return (network if config.bn else disable_bn(network)).to(sets.images.device)


def _batches(config: Setting, sets: _Sets, *, augmented: bool) -> Batches:
    seed = derived_seed(config.seed, "order")
    options: dict[str, Any] = {"batch_size": config.batch_size, "seed": seed, "scaling": sets.scaling}
    if not augmented:
        return Batches(sets.images, sets.labels, drop_last=True, **options)
    return AugmentedBatches(sets.images, sets.labels, padding=PADDING, flips="random", **options)


def _optimiser(network: nn.Module, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _first(config: Setting, sets: _Sets) -> tuple[Tensor, Tensor]:
    """One batch of training images, not augmented."""
    inputs, labels = _batches(config, sets, augmented=False)(0)
    return inputs.clone(), labels


# --- runs ----------------------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")


@run.register
def learning_curves(config: LearningCurves, context: Context) -> Result:
    """Trained to the end, or as long as the arm's mistake lets it; accuracy once an epoch, with the rate that was used.

    Test accuracy decides nothing, except in the arm that stops by it, as the original did.
    """
    sets = _sets(config, context)
    network = _network(config, sets)
    batches = _batches(config, sets, augmented=True)
    epoch = batches.per_pass
    drops = [epoch * (config.epochs // 2), epoch * (config.epochs * 3 // 4)]
    schedule = (lambda step: 1.0) if config.arm == "rate_kept" else stepped(drops)
    patience = max(1, config.epochs * 20 // 165)
    found = fit(
        ModuleLearner(network, _optimiser(network, config.lr), channels_last=True),
        batches,
        _accuracies(sets, config.evaluated),
        max_steps=config.epochs * epoch,
        eval_every=epoch,
        stopping=lambda: _StopByLoss(patience if config.arm == "stopped_early" else None),
        watch="test_loss",
        schedule=schedule,
        checkpoint=context.checkpoint,
        checkpoint_every=epoch,
        progress=context.progress,
    )
    series = {name: values[0] for name, values in found.series.items()}
    rates = [config.lr * schedule(step * epoch) for step in range(len(series["test_accuracy"]))]
    metrics = {
        "test_accuracy": series["test_accuracy"][-1],
        "train_accuracy": series["train_accuracy"][-1],
        "best_test_accuracy": float(np.nanmax(series["test_accuracy"])),
        "epochs": len(rates),
        "last_rate": rates[-1],
    }
    return Result(metrics, {**series, "rate": rates}, outcome="diverged" if found.diverged[0] else "done")


def _accuracies(sets: _Sets, count: int) -> Callable[[Learner], dict[str, list[float]]]:
    """Accuracy on test images and on as many training images, not augmented; the test images' loss."""

    def validate(learner: Learner) -> dict[str, list[float]]:
        images, labels = sets.test_images[:count], sets.test_labels[:count]
        test = evaluate(learner.logits, images, labels, scaling=sets.scaling)
        train = evaluate(learner.logits, sets.images[:count], sets.labels[:count], scaling=sets.scaling)
        return {
            "test_accuracy": test.accuracy.tolist(),
            "test_loss": test.loss.tolist(),
            "train_accuracy": train.accuracy.tolist(),
        }

    return validate


class _StopByLoss(Stopping):
    """Watches a loss: less is better."""

    def __init__(self, patience: int | None) -> None:
        super().__init__(patience, mode="min")


@run.register
def initial_gradients(config: InitialGradients, context: Context) -> Result:
    """Moments and histogram of the gradient of one convolution's weights."""
    sets = _sets(config, context)
    network = _initial(config, sets)
    inputs, labels = _first(config, sets)
    layers = _forward_order(network, inputs)
    if not 1 <= config.layer <= len(layers):
        raise InputError(f"layer is {config.layer}; 1 to {len(layers)} is wanted")
    gradient = weight_gradients(network.train(), inputs, labels)[f"{layers[config.layer - 1]}.weight"]
    values = gradient.flatten().double().cpu()
    sd = values.std(correction=0)
    z = (values - values.mean()) / sd
    metrics = {
        "sd": sd.item(),
        "kurtosis": (z**4).mean().item(),  # 3 for a Gaussian
        "largest": values.abs().max().item(),
        "weights": len(values),
        "layers": len(layers),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    edges = torch.linspace(-8, 8, BINS + 1, dtype=torch.float64)
    counts = torch.histogram(z.clamp(-8, 8), edges).hist
    outcome: Literal["done", "diverged"] = "done" if math.isfinite(metrics["sd"]) else "diverged"
    return Result(metrics, {}, {"edges": (edges * sd).numpy(), "counts": counts.numpy()}, outcome=outcome)


def _initial(config: InitialGradients, sets: _Sets) -> nn.Module:
    generator = derived_generator(config.seed, "weights")
    linear = None if config.linear else "torch"
    if config.architecture == "cifar":
        network: nn.Module = resnet(
            config.depth,
            width=config.width,
            n_classes=sets.n_classes,
            in_channels=sets.images.shape[1],
            generator=generator,
        )
    else:
        from lib.data.vision import torchvision

        network = torchvision.models.resnet101(num_classes=sets.n_classes)
    generator = derived_generator(config.seed, "weights")
    initialise(network, config.weights, linear=linear, generator=generator)  # type: ignore[arg-type]
    return (network if config.bn else disable_bn(network)).to(sets.images.device)


def _forward_order(network: nn.Module, inputs: Tensor) -> list[str]:
    """Names of the convolutions, in the order in which a forward pass meets them."""
    names = {module: name for name, module in network.named_modules()}
    met: list[str] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: met.append(names[module]))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            network.eval()(inputs[:2])
    finally:
        for hook in hooks:
            hook.remove()
    return met


@run.register
def step_sizes(config: StepSizes, context: Context) -> Result:
    """One row of relative losses a batch; training goes on with plain updates in between."""
    sets = _sets(config, context)
    network = _network(config, sets).train()
    optimiser = _optimiser(network, config.lr)
    batches = _batches(config, sets, augmented=True)
    sizes = np.logspace(config.low, config.high, config.steps)
    relative = np.full((len(config.batches), config.steps), np.nan)
    for step in range(max(config.batches) + 1):
        inputs, labels = batches(step)
        if step in config.batches:
            row = config.batches.index(step)
            if config.arm == "gradient":
                before, after = losses_along_gradient(network, inputs, labels, sizes.tolist())
                relative[row] = after.numpy() / before
            else:
                relative[row] = _through_optimiser(network, optimiser, inputs, labels, sizes)
        _update(network, optimiser, inputs, labels)
        context.progress(step + 1, max(config.batches) + 1)
    falls = np.where(relative < 1, sizes, 0).max(1)
    metrics = {f"largest_{batch}": float(size) for batch, size in zip(config.batches, falls, strict=True)}
    return Result(metrics, {}, {"sizes": sizes, "relative": relative})


def _update(network: nn.Module, optimiser: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> float:
    """One step of training; the loss before it."""
    optimiser.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(network(inputs), labels)
    loss.backward()
    optimiser.step()
    return loss.item()


def _through_optimiser(
    network: nn.Module, optimiser: torch.optim.SGD, inputs: Tensor, labels: Tensor, sizes: np.ndarray
) -> np.ndarray:
    """The original's way: an update with momentum and weight decay at each size, from the same state every time."""
    kept = copy.deepcopy(network.state_dict()), copy.deepcopy(optimiser.state_dict())
    rate = optimiser.param_groups[0]["lr"]
    out = np.full(len(sizes), np.nan)
    for place, size in enumerate(sizes):
        optimiser.param_groups[0]["lr"] = float(size)
        before = _update(network, optimiser, inputs, labels)
        with torch.no_grad():
            out[place] = nn.functional.cross_entropy(network(inputs), labels).item() / before
        network.load_state_dict(kept[0])
        optimiser.load_state_dict(copy.deepcopy(kept[1]))
    optimiser.param_groups[0]["lr"] = rate
    return out


@run.register
def initial_activations(config: Activations, context: Context) -> Result:
    """Behind each convolution's batch norm (or the convolution itself): all channels' moments."""
    sets = _sets(config, context)
    network = _network(config, sets).train()
    inputs, _ = _first(config, sets)
    watched = _behind_convolutions(network, config.bn)
    with activations(network, watched) as seen, torch.no_grad():
        network(inputs)
    found = [cast(Any, seen[name]) for name in watched]
    arrays = {
        "mean": np.array([float(one.mean.abs().mean()) for one in found]),
        "variance": np.array([float(one.variance.mean()) for one in found]),
        "mean_first": np.array([float(one.mean[0].abs()) for one in found]),
        "sd_first": np.array([float(one.variance[0].sqrt()) for one in found]),
    }
    metrics = {
        "last_variance": float(arrays["variance"][-1]),
        "lowest_variance": float(arrays["variance"].min()),
        "highest_variance": float(arrays["variance"].max()),
    }
    return Result(metrics, {}, arrays)


def _behind_convolutions(network: nn.Module, bn: bool) -> list[str]:
    """The layers whose outputs are looked at: the norm behind each convolution, or the convolution where there is none."""
    kind = nn.BatchNorm2d if bn else nn.Conv2d
    return [name for name, part in network.named_modules() if isinstance(part, kind)]


@run.register
def class_bias(config: ClassBias, context: Context) -> Result:
    """How the gradient of the logits is spread over the classes: one batch's, and statistics over 1,000 images.

    concentration: the largest class's share of Σ_images |mean gradient of a class|, where 1 / n_classes is even; top_share: the
    share of images with the commonest answer; mean_entropy: of the mean prediction, in nats.
    """
    sets = _sets(config, context)
    network = _network(config, sets).train()
    inputs, labels = _first(config, sets)
    many = min(1000, len(sets.images)) // len(labels) * len(labels)
    with torch.no_grad():
        parts = [network(sets.scaling(chunk)) for chunk in sets.images[:many].split(len(labels))]
        logits, gradient = torch.cat(parts), logits_gradient(network(inputs), labels)
    whole = logits_gradient(logits, sets.labels[:many])
    # Summed over images, false classes only: where probability goes that does not belong there.
    wrong = (logits.softmax(1) * (1 - nn.functional.one_hot(sets.labels[:many], sets.n_classes))).sum(0)
    mean = logits.softmax(1).mean(0)
    metrics = {
        "concentration": (wrong.max() / wrong.sum()).item(),
        "top_share": (logits.argmax(1).bincount(minlength=sets.n_classes).max() / many).item(),
        "mean_entropy": torch.special.entr(mean).sum().item(),
        "largest_column": whole.sum(0).abs().max().item(),
    }
    outcome: Literal["done", "diverged"] = "done" if all(map(math.isfinite, metrics.values())) else "diverged"
    return Result(
        metrics, {}, {"gradient": gradient.cpu().numpy(), "mean": mean.cpu().numpy()}, outcome=outcome
    )


@run.register
def divergence(config: Divergence, context: Context) -> Result:
    """Loss and variance behind every convolution at each of the first updates."""
    sets = _sets(config, context)
    network = _network(config, sets).train()
    optimiser = _optimiser(network, config.lr)
    batches = _batches(config, sets, augmented=True)
    watched = _behind_convolutions(network, config.bn)
    losses: list[float] = []
    variances: list[list[float]] = []
    for step in range(config.steps):
        with activations(
            network, watched, reduce=lambda output: float(moments(output).variance.mean())
        ) as seen:
            losses.append(_update(network, optimiser, *batches(step)))
        variances.append([cast(float, seen[name]) for name in watched])
        context.progress(step + 1, config.steps)
        if not math.isfinite(losses[-1]):
            break
    finite = math.isfinite(losses[-1])
    metrics = {"steps": len(losses), "last_loss": losses[-1], "diverged": float(not finite)}
    return Result(
        metrics, {"loss": losses}, {"variance": np.array(variances)}, outcome="done" if finite else "diverged"
    )


@run.register
def largest_rate(config: LargestRate, context: Context) -> Result:
    """Bisection over powers of ten; each trial begins from the same weights and sees the same batches."""
    sets = _sets(config, context)
    batches = _batches(config, sets, augmented=True)
    low, high = config.low, config.high
    tried: list[float] = []
    trains: list[float] = []
    for number in range(config.halvings):
        middle = (low + high) / 2
        good = _trains(config, sets, batches, 10**middle)
        tried.append(middle)
        trains.append(float(good))
        low, high = (middle, high) if good else (low, middle)
        context.progress(number + 1, config.halvings)
    return Result(
        {"log_rate": (low + high) / 2, "low": low, "high": high}, {"log_rate": tried, "trains": trains}
    )


def _trains(config: LargestRate, sets: _Sets, batches: Batches, lr: float) -> bool:
    network = _network(config, sets).train()
    optimiser = _optimiser(network, lr)
    losses = []
    for step in range(config.steps):
        losses.append(_update(network, optimiser, *batches(step)))
        if not math.isfinite(losses[-1]):
            return False
    last = losses[-max(1, config.steps // 4) :]
    return sum(last) / len(last) < math.log(sets.n_classes)
