"""Understanding Batch Normalization: larger rates, gradients and activations at initialisation, and the loss along the gradient.

`learning_curves`: accuracy over a whole training, four arms of (batch norm, learning rate), and the original's mistakes.
`initial_gradients`: gradients of the middle layer at initialisation, by network, initial weights and batch norm.
`step_sizes`: the loss after one step of each size along the gradient, at three of the first batches.
`activations`: mean and variance of every channel by depth, at initialisation.
`class_bias`: the gradient of the logits of a batch, at initialisation.
`divergence`: activations and loss step by step while a network without batch norm diverges.
`largest_rate`: the largest learning rate that trains, by depth, with and without batch norm.
`channels`: mean and standard deviation of each channel, of the training and of the test images.

The network is the paper's ResNet-110 for CIFAR (109 convolutions), with Xavier's uniform weights, or a shallower one of the
same family where the config says so; the original post used torchvision's ResNet-101 for ImageNet. Images are normalised
by channel with the moments of the training images; training batches are cropped from 4 pixels of padding, and flipped.
Nothing is chosen on the test set: trainings have a fixed length, and their last weights are reported. A subset of a data
set is drawn by the seed, never its first images.

Ledger of `laptop`, measured, in CPU-seconds of one thread (ResNet-110, batch of 128, channels last: .9 s forward, 3 s with the
backward pass; ResNet-56 of width 8: 4 ms an image trained): `learning_curves` 15 runs, 2,920; `initial_gradients` 160, 480;
`step_sizes` 20, 2,090; `activations` 20, 50; `class_bias` 40, 260; `divergence` 15, 370; `largest_rate` 24, 880; in all 7,060.
Three seeds of `largest_rate` and of `learning_curves` are what is left after that.

Source: Bjorck, Gomes, Selman and Weinberger (2018), arXiv 1806.02375; the original post's code.
"""

from __future__ import annotations

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
from lib.methods.probes import (
    activations,
    layers,
    logits_gradient,
    losses_along,
    losses_along_gradient,
    moments,
    weight_gradients,
)
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
    """The largest rate that trains, by bisection: the first `steps` losses are finite, afterwards the loss on the first batch is
    below what it was, and the answers still depend on the image.

    low, high: powers of ten between which it lies. halvings: how often the interval is halved.
    """

    steps: int
    low: float
    high: float
    halvings: int


class Channels(Config, post=POST, experiment="channels"):
    """Moments of each channel of all training and of all test images. seed: has no effect."""

    data: str
    seed: int


@dataclass(frozen=True)
class _Plan:
    """What a profile computes."""

    data: str
    depth: int
    width: int
    batch_size: int
    gradient_batch: int
    images: int | None
    gradient_seeds: int
    original_seeds: int
    other_seeds: int
    curves: dict[str, Any]
    curve_seeds: int
    mistakes: tuple[str, ...]
    seeds: int
    activation_seeds: int
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
PAPERS: tuple[Weights, bool] = ("xavier_uniform", True)
ORIGINALS: tuple[Weights, bool] = ("kaiming_normal_fan_out", False)
"""Weights, and whether they are the last layer's too: the paper's, and those that the original settled on."""

PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        data="shapes",
        depth=8,
        width=4,
        batch_size=32,
        gradient_batch=4,
        images=256,
        gradient_seeds=1,
        original_seeds=1,
        other_seeds=0,
        curves={"depth": 8, "width": 4, "images": 64, "epochs": 4, "evaluated": 64},
        curve_seeds=1,
        mistakes=("rate_kept", "stopped_early"),
        seeds=2,
        activation_seeds=2,
        bias_seeds=2,
        step_sizes=6,
        divergence_steps=5,
        depths=(8, 14),
        rate_steps=3,
        rate_seeds=2,
        halvings=2,
    ),
    "laptop": _Plan(
        data="cifar10-jpeg",
        depth=110,
        width=16,
        batch_size=128,
        gradient_batch=128,
        images=None,
        gradient_seeds=5,
        original_seeds=5,
        other_seeds=5,
        curves={"depth": 56, "width": 8, "images": 2400, "epochs": 16, "evaluated": 500},
        curve_seeds=3,
        mistakes=("rate_kept",),
        seeds=5,
        activation_seeds=10,
        bias_seeds=20,
        step_sizes=31,
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
        batch_size=128,
        gradient_batch=128,
        images=None,
        gradient_seeds=5,
        original_seeds=5,
        other_seeds=5,
        curves={"depth": 110, "width": 16, "images": None, "epochs": 165, "evaluated": 10_000},
        curve_seeds=3,
        mistakes=("rate_kept", "stopped_early"),
        seeds=5,
        activation_seeds=10,
        bias_seeds=20,
        step_sizes=80,
        divergence_steps=30,
        depths=(20, 32, 56, 110),
        rate_steps=50,
        rate_seeds=5,
        halvings=6,
    ),
}


LAYERS: dict[Architecture, int] = {"cifar": 55, "imagenet": 53}
"""The convolution whose gradient is looked at, counted in the order of the forward pass: the paper's layer 55, and the layer that
the original took for it (`layer3[9].conv1` of torchvision's ResNet-101)."""


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile."""
    return list(_configs(PLANS[profile]))


def _configs(plan: _Plan) -> Iterator[Config]:
    yield Channels(data=plan.data, seed=0)
    setting: dict[str, Any] = {"data": plan.data, "batch_size": plan.batch_size}
    for (bn, lr), seed in product(CURVES, range(plan.curve_seeds)):
        # The original's mistakes are about the schedule, so they are shown where the schedule matters.
        for arm in ("corrected", *(plan.mistakes if lr == 0.1 else ())):
            yield LearningCurves(arm=cast(Any, arm), bn=bn, lr=lr, seed=seed, **setting, **plan.curves)
    gradients = {
        **setting,
        "depth": 110,
        "width": 16,
        "images": plan.images,
        "batch_size": plan.gradient_batch,
    }
    for architecture, bn, seed in product(LAYERS, (True, False), range(plan.gradient_seeds)):
        for weights, linear in product(WEIGHTS, LINEARS):
            # Network × (Xavier, the original's choice) is what decides: smoke has nothing else.
            seeds = {PAPERS: plan.gradient_seeds, ORIGINALS: plan.original_seeds}
            if seed < seeds.get((weights, linear), plan.other_seeds):
                yield InitialGradients(
                    architecture=architecture, weights=weights, linear=linear, layer=LAYERS[architecture], bn=bn, seed=seed,
                    **gradients,
                )  # fmt: skip
    deep = {**setting, "depth": plan.depth, "width": plan.width, "images": plan.images}
    for (bn, lr), seed in product(((True, 0.1), (False, 1e-4)), range(plan.seeds)):
        for arm in ("gradient", "as_posted"):
            yield StepSizes(
                arm=cast(Any, arm), bn=bn, lr=lr, batches=(1, 4, 7), steps=plan.step_sizes, low=-5.5, high=0.5, seed=seed,
                **deep,
            )  # fmt: skip
    for bn, seed in product((True, False), range(plan.activation_seeds)):
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
    train = _drawn(data.train.images, data.train.labels, count, derived_seed(config.seed, "subset"))
    return _Sets(
        *train, data.test.images, data.test.labels, len(data.classes), Scaling(*channel_moments(train[0]))
    )


def _drawn(images: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many images and their labels, drawn without replacement: a data set may be sorted by class."""
    if count >= len(labels):
        return images, labels
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]
    chosen = chosen.to(labels.device)
    return images[chosen], labels[chosen]


def channel_moments(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 images, on the scale from 0 to 1, from counts of their values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).double().cpu()
        share = counts / counts.sum()
        mean.append((share @ values).item())
        std.append((share @ (values - mean[-1]) ** 2).sqrt().item())
    return mean, std


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


def _in_training(config: Setting, sets: _Sets) -> nn.Module:
    """The same in training mode, and with channels last, which takes less time on a CPU."""
    return _network(config, sets).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


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
    schedule = rates(config.epochs, epoch, config.arm)
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
    used = [config.lr * schedule(step * epoch) for step in range(len(series["test_accuracy"]))]
    metrics = {
        "test_accuracy": series["test_accuracy"][-1],
        "train_accuracy": series["train_accuracy"][-1],
        "best_test_accuracy": float(np.nanmax(series["test_accuracy"])),
        "epochs_done": len(used),
        "last_rate": used[-1],
    }
    return Result(metrics, {**series, "rate": used}, outcome="diverged" if found.diverged[0] else "done")


def rates(epochs: int, per_pass: int, arm: str = "corrected") -> Callable[[int], float]:
    """The factor of the rate by step: a tenth after half of the epochs, a hundredth after three quarters (82 and 123 of 165).

    The original hands its scheduler the validation loss for the epoch; a loss is below 82, so the rate stays.
    """
    if arm == "rate_kept":
        return lambda step: 1.0
    return stepped([per_pass * (epochs // 2), per_pass * (epochs * 3 // 4)])


def _accuracies(sets: _Sets, count: int) -> Callable[[Learner], dict[str, list[float]]]:
    """Accuracy on test images and on as many training images, not augmented; the test images' loss."""
    images, labels = _drawn(sets.test_images, sets.test_labels, count, 0)

    def validate(learner: Learner) -> dict[str, list[float]]:
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
        "n_weights": len(values),
        "layers": len(layers),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    if not math.isfinite(metrics["sd"]):
        return Result(metrics, outcome="diverged")
    edges = torch.linspace(-8, 8, BINS + 1, dtype=torch.float64)
    counts = torch.histogram(z.clamp(-8, 8), edges).hist
    return Result(metrics, {}, {"edges": (edges * sd).numpy(), "counts": counts.numpy()})


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

        with torch.device("meta"):  # its own weights are not wanted, nor their time
            network = torchvision.models.resnet101(num_classes=sets.n_classes)
        network.to_empty(device="cpu")
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()
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
    network = _in_training(config, sets)
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
    metrics = {
        f"largest_{batch}": largest_useful(sizes, row)
        for batch, row in zip(config.batches, relative, strict=True)
    }
    return Result(metrics, {}, {"sizes": sizes, "relative": relative})


def largest_useful(sizes: np.ndarray, relative: np.ndarray) -> float:
    """The largest step up to which every step lowers the loss; NaN where the smallest one already raises it.

    Beyond a wall the loss may fall again, where a network has died and answers the same for all; that is no use.
    """
    lowers = relative < 1
    count = len(sizes) if lowers.all() else int(np.argmin(lowers))
    return float(sizes[count - 1]) if count else math.nan


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
    """The original's way: tentative steps by the optimiser, along β v + ∇L + λ w with its momentum v so far, at each rate."""
    gradients = weight_gradients(network, inputs, labels)
    direction = {}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        decayed = gradients[name] + WEIGHT_DECAY * parameter.detach()
        direction[name] = decayed if momentum is None else decayed + MOMENTUM * momentum
    before, *after = losses_along(network, inputs, labels, direction, [0.0, *sizes.tolist()]).tolist()
    return np.array(after) / before


@run.register
def initial_activations(config: Activations, context: Context) -> Result:
    """All channels' moments of what each convolution gives, in both networks: what batch norm sees, where there is one.

    mean: of the channels' |mean|; variance: of their variances; `_first`: of channel 0 alone, the deviation for the variance,
    as the original plots them.
    """
    sets = _sets(config, context)
    network = _in_training(config, sets)
    inputs, _ = _first(config, sets)
    watched = layers(network, nn.Conv2d)
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


@run.register
def class_bias(config: ClassBias, context: Context) -> Result:
    """How the gradient of the logits is spread over the classes: one batch's, and statistics over about 1,000 images.

    concentration: of the probability that is given to wrong classes, the share of the class that gets most (1 / n_classes is
    even). top_share: share of images with the commonest answer. mean_entropy: of the mean prediction, in nats.
    gradient: one batch's, times the batch size; posted: rows averaged over batches of unrelated images, as the original does.
    """
    sets = _sets(config, context)
    network = _in_training(config, sets)
    batches = _batches(config, sets, augmented=False)
    many = max(1, min(1000, len(sets.images)) // config.batch_size)
    with torch.no_grad():
        parts = [(network(inputs), labels) for inputs, labels in map(batches, range(many))]
    gradients = torch.stack([config.batch_size * logits_gradient(*part) for part in parts])
    probabilities = torch.cat([logits for logits, _ in parts]).softmax(1)
    labels = torch.cat([labels for _, labels in parts])
    wrong = (probabilities * (1 - nn.functional.one_hot(labels, sets.n_classes))).sum(0)
    metrics = {
        "concentration": (wrong.max() / wrong.sum()).item(),
        "top_share": (probabilities.argmax(1).bincount(minlength=sets.n_classes).max() / len(labels)).item(),
        "mean_entropy": torch.special.entr(probabilities.mean(0)).sum().item(),
    }
    if not all(map(math.isfinite, metrics.values())):
        return Result(metrics, outcome="diverged")
    arrays = {"gradient": gradients[0].cpu().numpy(), "posted": gradients.mean(0).cpu().numpy()}
    return Result(metrics, {}, arrays)


@run.register
def divergence(config: Divergence, context: Context) -> Result:
    """Loss before each of the first updates, and the channels' mean variance of what every convolution gives."""
    sets = _sets(config, context)
    network = _in_training(config, sets)
    optimiser = _optimiser(network, config.lr)
    batches = _batches(config, sets, augmented=True)
    watched = layers(network, nn.Conv2d)
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
    metrics = {"updates": len(losses), "last_loss": losses[-1], "diverged": float(not finite)}
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
        {"log_rate": (low + high) / 2, "trains_at": low, "fails_at": high},
        {"log_rate": tried, "trains": trains},
    )


def _trains(config: LargestRate, sets: _Sets, batches: Batches, lr: float) -> bool:
    network = _in_training(config, sets)
    optimiser = _optimiser(network, lr)
    first = math.nan
    for step in range(config.steps):
        loss = _update(network, optimiser, *batches(step))
        first = loss if step == 0 else first
        if not math.isfinite(loss):
            return False
    inputs, labels = batches(0)
    with torch.no_grad():
        logits = network(inputs)
        last = nn.functional.cross_entropy(logits, labels).item()
    # A step too large can kill every unit: the loss falls to chance, and stays there.
    alive = (logits - logits.mean(0)).abs().max() > 1e-6 * logits.abs().max()
    return bool(alive) and last < first


@run.register
def channels(config: Channels, context: Context) -> Result:
    """Rows: training and test images."""
    data = context.data(config.data)
    found = [channel_moments(part.images) for part in (data.train, data.test)]
    return Result(
        arrays={"mean": np.array([one[0] for one in found]), "std": np.array([one[1] for one in found])}
    )
