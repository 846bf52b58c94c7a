"""Fully Test-Time Adaptation by Entropy Minimization: source networks, and what becomes of them on corrupted images.

`source`: the networks that the others adapt, as artifacts. `entropy`: entropy, loss and error of the source alone, over
all corruptions and severities. `demo`: one batch before and after one step. `by_corruption`: source, Norm and TENT on
each of the 15. `mistakes`: the original's, each alone and all together, beside the corrected protocol. `sensitivity`:
rate, batch, parameters, optimiser. `source_quality`, `source_size`: other sources. `streams`: offline, episodic,
continual, mixed, runs of classes, sorted. `length`: several passes. `methods`: the relatives.

The corrected protocol: BatchNorm by the batch, Adam at 1e-3 on its scale and shift, batches of 200, one step each, a
fresh copy for every corruption, the test set in a random order, every image counted once. The rate was fixed beforehand
(it is the reference implementation's); the test set decides nothing. A seed is a replicate from end to end: another
source network (its own weights and order), another order of the stream, other draws of the corruptions. Arms of a seed
share all of these, so that they are paired.

Corruptions are those of `lib.data.corruptions`, with procedural frost; `stream_data` may name the published set instead.

Source: Wang et al. (2021), Tent, arXiv 2006.10726, section 4 and its reference implementation; the original post's code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial, singledispatch
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lib.augment import AugmentedBatches
from lib.convnets import fast_convnet, resnet, wide_resnet, with_compiled_layers
from lib.core import Config, Context, InputError, Profile, Result
from lib.data.corruptions import CORRUPTIONS, corrupt
from lib.data.images import Split
from lib.data.streams import label_shifted, sorted_by_class
from lib.methods.calibration import calibration_error
from lib.methods.tent import Adapted, NotFinite, adapt, entropy
from lib.schedules import triangular
from lib.training import (
    ModuleLearner,
    Scaling,
    Stages,
    derived_generator,
    derived_seed,
    evaluate,
    fit,
    validator,
)

POST = "tent"
SCALING = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Means and standard deviations of CIFAR-10's channels."""

BATCH, RATE = 200, 1e-3
"""The corrected protocol's, as in the reference implementation."""

GRID_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2)
GRID_BATCHES = (16, 32, 64, 128, 256)
PERCENTILES = tuple(range(0, 100, 5))

Network = Literal["fast", "resnet", "wide"]
Mode = Literal["online", "offline", "episodic", "continual", "mixed"]
Order = Literal["random", "sorted", "runs"]


# --- configs -------------------------------------------------------------------------------------------------------


class Source(Config, post=POST, experiment="source"):
    """A source network, trained on clean images; its artifact is its state.

    network: `fast` (`lib.convnets.fast_convnet` with widths w, 4 w, 4 w), `resnet` (He's, of `depth`, projections), or
    `wide` (WRN-depth-width). images: how many training images are used, after `validation` ones are held out. lr: the
    peak; up and down linearly. No early stopping: the last weights are the source.
    """

    network: Network
    depth: int
    width: int
    data: str
    images: int
    validation: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    precision: Literal["float32", "bfloat16"]
    seed: int


class OnSource(Config, post=POST):
    """What all others have in common: a source, and so many test images for each corruption."""

    source: Source
    data: str
    images: int
    severity: int
    seed: int


class Entropy(OnSource, experiment="entropy"):
    """The source alone on clean images and on all corruptions at all severities up to `severity`."""

    corruptions: tuple[str, ...]


class Demo(OnSource, experiment="demo"):
    """One batch of one corruption, before and after one step of TENT; and pictures of corruptions."""

    corruptions: tuple[str, ...]
    batch_size: int
    lr: float


class Adaptation(OnSource):
    """Methods on a stream for each corruption.

    arms: see `ARMS`. lr, batch_size: of the corrected arms. mode: `online` (a fresh copy for each corruption), `offline`
    (one pass to adapt, then one to answer), `episodic` (a fresh copy for each batch), `continual` (one copy through all
    corruptions), `mixed` (one stream of all corruptions). order: `random`, `sorted` by class, or in `runs` of classes
    with concentration `delta`. passes: how often the stream goes over the images, corrupted anew each time.
    stream_data: "generated", or "cifar10-c", the published set.
    """

    arms: tuple[str, ...]
    corruptions: tuple[str, ...]
    batch_size: int
    lr: float
    mode: Mode
    order: Order
    delta: float
    passes: int
    stream_data: Literal["generated", "cifar10-c"]


class ByCorruption(Adaptation, experiment="by_corruption"):
    """Source, Norm and TENT."""


class Mistakes(Adaptation, experiment="mistakes"):
    """The original's mistakes: one alone, or as posted."""


class Sensitivity(Adaptation, experiment="sensitivity"):
    """One batch size, one choice of parameters and optimiser, at several rates."""

    rates: tuple[float, ...]
    parameters: Literal["affine", "all", "last"]
    optimizer: Literal["adam", "adamw", "sgd"]


class SourceQuality(Adaptation, experiment="source_quality"):
    """Sources trained for fewer or more epochs."""


class SourceSize(Adaptation, experiment="source_size"):
    """Sources of other widths and kinds."""


class Streams(Adaptation, experiment="streams"):
    """Other modes and orders."""


class Length(Adaptation, experiment="length"):
    """A stream of several passes."""


class Methods(Adaptation, experiment="methods"):
    """The relatives of TENT."""

    memo_images: int


@dataclass(frozen=True)
class _Arm:
    """How an arm differs from the corrected protocol: method and options of `adapt`, and a batch size of its own."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    learns: bool = True


ARMS: dict[str, _Arm] = {
    "source": _Arm("source", learns=False),
    "norm": _Arm("norm", learns=False),
    "norm_prior": _Arm("norm", {"prior": 64.0}, learns=False),
    "tent": _Arm("tent"),
    "pseudo": _Arm("pseudo"),
    "eta": _Arm("eata"),
    "eata": _Arm("eata"),
    "sar": _Arm("sar"),
    "lame": _Arm("lame", learns=False),
    "memo": _Arm("memo", learns=False),
    # the original's mistakes, each alone: nothing frozen; a rate at which nothing happens
    "unfrozen": _Arm("tent", {"parameters": "all"}),
    "slow": _Arm("tent", {"lr": 1e-5}),
    # all together: every weight, AdamW with its default decay at 1e-5, batches of 128
    "as_posted": _Arm("tent", {"parameters": "all", "optimizer": "adamw", "lr": 1e-5}, batch_size=128),
    # its Norm, in its two forms, which were meant to differ: with running statistics kept, and reset
    "posted_norm": _Arm("norm", batch_size=128, learns=False),
    "posted_norm_reset": _Arm("norm", batch_size=128, learns=False),
}
"""By name. `eta` is EATA without its anchor; `eata` is anchored by training images."""


# --- profiles ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What a profile computes. source: fields of the source network; others by experiment."""

    source: dict[str, Any]
    data: str
    seeds: int
    entropy_images: int
    images: int
    part: int
    batch_size: int
    quality: tuple[dict[str, Any], ...]
    size: tuple[dict[str, Any], ...]
    grid: tuple[tuple[float, ...], tuple[int, ...]]
    few: tuple[str, ...]
    probe: tuple[str, ...]
    passes: int
    memo_images: int
    deltas: tuple[float, ...]


_FAST = {
    "network": "fast",
    "depth": 8,
    "batch_size": 512,
    "lr": 0.75,
    "weight_decay": 1.3e-3,
    "precision": "bfloat16",
}
_RESNET = {
    "network": "resnet",
    "depth": 26,
    "batch_size": 256,
    "lr": 0.4,
    "weight_decay": 5e-4,
    "precision": "bfloat16",
}

# The ledger of laptop, measured alone on a machine with AMX, in CPU-seconds of one thread. An image of the fast network of width
# 32 costs .7 ms in training (bfloat16), of width 16 about .35; in a stream, in float32, 1 ms, the mean of source, Norm and TENT.
# For three seeds: sources 2,080 (width 32: 360 to 381 each); by_corruption 1,490 (150,000 images a seed and arm); sensitivity 1,020
# (4,000 images a cell); streams 780; mistakes 560 (two corruptions, all images); methods 380 (one of them went on after a stop,
# some 40 s before it are not counted); length 310; source_quality and source_size 340; entropy 90. In all 7,070. Left to full:
# 200 epochs, R-26 and WRN-28-10, five deltas, all corruptions in streams and methods.
PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        source={
            **_RESNET,
            "depth": 8,
            "width": 4,
            "images": 256,
            "validation": 100,
            "epochs": 2,
            "batch_size": 64,
            "lr": 0.2,
            "precision": "float32",
        },
        data="shapes",
        seeds=2,
        entropy_images=5,
        images=45,
        part=36,
        batch_size=30,
        quality=({"epochs": 1},),
        size=({"width": 8},),
        grid=((1e-5, 1e-3, 1e-2), (16, 30)),
        few=("gaussian_noise", "contrast"),
        probe=("gaussian_noise", "jpeg_compression"),
        passes=2,
        memo_images=2,
        deltas=(0.1,),
    ),
    "laptop": _Plan(
        source={**_FAST, "width": 32, "images": 45_000, "validation": 5_000, "epochs": 12},
        data="cifar10-jpeg",
        seeds=3,
        entropy_images=500,
        images=10_000,
        part=4_000,
        batch_size=BATCH,
        quality=({"width": 16, "epochs": 2}, {"width": 16, "epochs": 6}, {"width": 16, "epochs": 12}),
        size=({"width": 16, "epochs": 12},),
        grid=(GRID_RATES, GRID_BATCHES),
        few=("gaussian_noise", "glass_blur"),
        probe=("impulse_noise", "glass_blur", "fog", "jpeg_compression"),
        passes=2,
        memo_images=200,
        deltas=(1.0, 0.1, 0.01),
    ),
    "full": _Plan(
        source={**_RESNET, "width": 16, "images": 45_000, "validation": 5_000, "epochs": 200},
        data="cifar10-jpeg",
        seeds=3,
        entropy_images=10_000,
        images=10_000,
        part=10_000,
        batch_size=BATCH,
        quality=({"epochs": 6}, {"epochs": 20}, {"epochs": 60}),
        size=({"width": 32}, {"network": "wide", "depth": 28, "width": 10, "epochs": 30}),
        grid=(GRID_RATES, GRID_BATCHES),
        few=CORRUPTIONS,
        probe=CORRUPTIONS,
        passes=4,
        memo_images=500,
        deltas=(1.0, 0.1, 0.01),
    ),
}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile: the sources first, then what decides most."""
    plan = PLANS[profile]
    out: list[Config] = []
    for seed in range(plan.seeds):
        out.append(_source(plan, seed))
    for seed in range(plan.seeds):
        out += _decisive(plan, seed)
    for seed in range(plan.seeds):
        out += _sensitivity(plan, seed)
    for seed in range(plan.seeds):
        out += _others(plan, seed)
    for changes in dict.fromkeys(tuple(sorted(c.items())) for c in (*plan.quality, *plan.size)):
        out += [_source(plan, seed, **dict(changes)) for seed in range(plan.seeds)]
    for seed in range(plan.seeds):
        out += _sources(plan, seed)
    return out


def _source(plan: _Plan, seed: int, **changes: Any) -> Source:
    return Source(**{**plan.source, **changes}, data=plan.data, seed=seed)


def _shared(plan: _Plan, seed: int, **changes: Any) -> dict[str, Any]:
    """Fields of an adaptation by the corrected protocol."""
    fields = {
        "source": _source(plan, seed),
        "data": plan.data,
        "images": plan.part,
        "severity": 5,
        "seed": seed,
        "corruptions": plan.few,
        "arms": ("norm", "tent"),
        "batch_size": plan.batch_size,
        "lr": RATE,
        "mode": "online",
        "order": "random",
        "delta": 0.0,
        "passes": 1,
        "stream_data": "generated",
    }
    return fields | changes


def _decisive(plan: _Plan, seed: int) -> list[Config]:
    base: dict[str, Any] = {"source": _source(plan, seed), "data": plan.data, "severity": 5, "seed": seed}
    return [
        ByCorruption(
            **_shared(
                plan, seed, images=plan.images, corruptions=CORRUPTIONS, arms=("source", "norm", "tent")
            )
        ),
        Entropy(**base, images=plan.entropy_images, corruptions=CORRUPTIONS),
        Demo(
            **base,
            images=plan.images,
            corruptions=("gaussian_noise", "snow", "elastic_transform", "jpeg_compression"),
            batch_size=min(128, plan.images),
            lr=RATE,
        ),
        Mistakes(
            **_shared(
                plan,
                seed,
                images=plan.images,
                corruptions=plan.few[:2],
                arms=("norm", "tent", "unfrozen", "slow", "as_posted", "posted_norm", "posted_norm_reset"),
            )
        ),
    ]


def _sensitivity(plan: _Plan, seed: int) -> list[Config]:
    rates, batches = plan.grid
    grid: list[tuple[Any, Any, int]] = [("affine", "adam", batch) for batch in batches]
    others: list[tuple[Any, Any, int]] = [
        (parameters, optimizer, plan.batch_size)
        for parameters, optimizer in (
            ("all", "adam"),
            ("last", "adam"),
            ("affine", "sgd"),
            ("affine", "adamw"),
        )
    ]
    chosen = [(*one, rates) for one in grid] + [(*one, rates[1:]) for one in others]
    shared = partial(_shared, plan, seed, corruptions=("gaussian_noise",))
    return [
        Sensitivity(
            **shared(batch_size=batch, arms=("norm",) if parameters == "affine" else ()),
            rates=lrs,
            parameters=parameters,
            optimizer=optimizer,
        )
        for parameters, optimizer, batch, lrs in chosen
    ]


def _others(plan: _Plan, seed: int) -> list[Config]:
    arms = ("source", "norm", "tent", "lame")
    modes: list[dict[str, Any]] = [{"mode": mode} for mode in ("offline", "episodic", "continual", "mixed")]
    orders = [{"order": "runs", "delta": delta} for delta in plan.deltas] + [{"order": "sorted"}]
    streams: list[Config] = [Streams(**_shared(plan, seed, arms=arms))]
    streams += [Streams(**_shared(plan, seed, arms=("norm", "tent"), **mode)) for mode in modes]
    streams += [Streams(**_shared(plan, seed, arms=arms, **order)) for order in orders]
    relatives = ("source", "norm", "norm_prior", "tent", "pseudo", "eta", "eata", "sar", "lame", "memo")
    return [
        *streams,
        Length(**_shared(plan, seed, images=plan.images, corruptions=plan.probe[1::2], passes=plan.passes)),
        Methods(**_shared(plan, seed, arms=relatives), memo_images=plan.memo_images),
    ]


def _sources(plan: _Plan, seed: int) -> list[Config]:
    shared = partial(_shared, plan, seed, corruptions=plan.probe)
    quality = [SourceQuality(**shared(source=_source(plan, seed, **changes))) for changes in plan.quality]
    size = [SourceSize(**shared(source=_source(plan, seed, **changes))) for changes in ({}, *plan.size)]
    return [*quality, *size]


# --- sources -------------------------------------------------------------------------------------------------------


def build(config: Source) -> nn.Module:
    """The source network with fresh weights, on the CPU; a whitening layer still has to be computed or loaded."""
    generator = derived_generator(config.seed, "weights")
    if config.network == "fast":
        images = torch.randn(64, 3, 32, 32, generator=derived_generator(0, "whitening"))
        widths = (config.width, 4 * config.width, 4 * config.width)
        network = with_compiled_layers(fast_convnet(images, widths=widths, generator=generator))
        network[0].requires_grad_(False)  # the whitening layer's bias too
        return network
    if config.network == "wide":
        return wide_resnet(config.depth, config.width, generator=generator)
    return resnet(config.depth, width=config.width, shortcut="projection", generator=generator)


def _trained_from(config: Source, context: Context) -> tuple[Any, Split, Split]:
    """The data set, the images to train on and those held out. Raises InputError where there are too few."""
    data = context.data(config.data)
    there = len(data.train)
    if config.validation < 1 or config.images < 1 or config.images + config.validation > there:
        raise InputError(
            f"images is {config.images} and validation {config.validation}; {there} training images are there"
        )
    return (
        data,
        data.train.subset(slice(config.images)),
        data.train.subset(slice(there - config.validation, None)),
    )


def _optimizer(config: Source, network: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum; in the fast network the biases of its norms have 64 times the rate (airbench)."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    options: dict[str, Any] = {"lr": config.lr, "nesterov": True, "weight_decay": config.weight_decay}
    if config.network != "fast":
        return torch.optim.SGD(trained, momentum=0.9, **options)
    biases = [p for name, p in network.named_parameters() if "norm" in name and p.requires_grad]
    others = [p for p in trained if all(p is not bias for bias in biases)]
    groups: list[dict[str, Any]] = [
        {"params": biases, "lr": 64 * config.lr, "weight_decay": config.weight_decay / 64},
        {"params": others},
    ]
    return torch.optim.SGD(groups, momentum=0.85, **options)


def _train(config: Source, context: Context) -> Result:
    data, train, held_out = _trained_from(config, context)
    scaling = Scaling(*SCALING)
    network = build(config)
    if config.network == "fast":
        from lib.convnets import whitening_layer

        first = scaling(train.images[:5_000].cpu())
        network[0].load_state_dict(whitening_layer(first).state_dict())  # type: ignore[index]
    network = network.to(train.images.device)
    learner = ModuleLearner(
        network,
        _optimizer(config, network),
        autocast=None if config.precision == "float32" else torch.bfloat16,
        channels_last=True,
    )
    batches = AugmentedBatches(
        train.images,
        train.labels,
        batch_size=config.batch_size,
        seed=derived_seed(config.seed, "order"),
        padding=2 if config.network == "fast" else 4,
        edge="reflect",
        flips="random",
        scaling=scaling,
        drop_last=True,
    )
    steps = config.epochs * batches.per_pass
    found = fit(
        learner,
        batches,
        validator(held_out.images, held_out.labels, scaling=scaling),
        max_steps=steps,
        eval_every=max(1, min(config.epochs, 5) * batches.per_pass),
        schedule=triangular(steps, peak=0.2, start=0.1, end=0.01),
        checkpoint=context.checkpoint,
        progress=context.progress,
        seed=config.seed,
    )
    learner.autocast = None  # what adapts is the float32 network, so that is what is measured
    clean = evaluate(learner.logits, data.test.images, data.test.labels, scaling=scaling)
    metrics = {
        "clean_error": 1 - clean.accuracy.item(),
        "val_error": 1 - found.series["accuracy"][0][-1],
        "train_loss": found.series["train_loss"][0][-1],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "steps": steps,
    }
    artifact = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    outcome: Literal["done", "diverged"] = "diverged" if found.diverged[0] else "done"
    return Result(metrics, {"val_accuracy": found.series["accuracy"][0]}, {}, artifact, outcome)


def source_network(config: Source, context: Context) -> nn.Module:
    """The trained source network, in evaluation mode, on the context's device."""
    state = {name: torch.from_numpy(np.array(value)) for name, value in context.artifact(config).items()}
    network = build(config)
    network.load_state_dict(state)
    return network.eval().to(context.device)


# --- streams -------------------------------------------------------------------------------------------------------


def ordered(config: Adaptation | Entropy | Demo, context: Context) -> Split:
    """The first `images` test images in the stream's order, clean. Raises InputError where there are fewer."""
    test: Split = context.data(config.data).test
    if not 0 < config.images <= len(test):
        raise InputError(f"images is {config.images}; 1 to {len(test)} test images are wanted")
    pick = torch.randperm(len(test), generator=derived_generator(config.seed, "order"))[: config.images]
    chosen = test.subset(pick.to(test.labels.device))
    order, labels = getattr(config, "order", "random"), chosen.labels.cpu().numpy()
    rng = np.random.default_rng(derived_seed(config.seed, "runs"))
    if order == "random":
        return chosen
    if order == "sorted":
        index = sorted_by_class(labels, rng)
    else:
        slots = math.ceil(config.images / getattr(config, "batch_size", BATCH))
        index = label_shifted(labels, getattr(config, "delta", math.inf), slots, rng)
    return chosen.subset(torch.from_numpy(index))


def corrupted(
    config: Adaptation | Entropy | Demo, images: Tensor, corruption: str, severity: int, turn: int = 0
) -> Tensor:
    """The images with a corruption; what is drawn depends on seed, corruption, severity and pass alone."""
    generator = derived_generator(config.seed, "corruption", corruption, severity, turn)
    return corrupt(images, corruption, severity, generator)


def _stream(config: Adaptation, context: Context, corruption: str) -> Iterator[Split]:
    """The passes over a corruption, in the stream's order."""
    if config.stream_data == "cifar10-c":
        if config.passes != 1 or config.order != "random" or config.mode == "mixed":
            raise InputError(
                "CIFAR-10-C is streamed once and in random order, one corruption after the other"
            )
        published: Split = context.data("cifar10-c").split(corruption, config.severity)
        pick = torch.randperm(len(published), generator=derived_generator(config.seed, "order"))[
            : config.images
        ]
        yield published.subset(pick.to(published.labels.device))
        return
    clean = ordered(config, context)
    for turn in range(config.passes):
        yield Split(corrupted(config, clean.images, corruption, config.severity, turn), clean.labels)


def _mixed(config: Adaptation, context: Context) -> tuple[Split, Tensor]:
    """One stream of all corruptions: image i has corruption i mod their number; and which it is."""
    clean = ordered(config, context)
    kind = torch.arange(len(clean), device=clean.labels.device) % len(config.corruptions)
    images = clean.images.clone()
    for place, corruption in enumerate(config.corruptions):
        images[kind == place] = corrupted(config, clean.images[kind == place], corruption, config.severity)
    return Split(images, clean.labels), kind


class _Streams:
    """What every arm of a run is shown: made when it is first asked for, and kept."""

    def __init__(self, config: Adaptation, context: Context) -> None:
        self._config, self._context = config, context
        self._passes: dict[str, list[Split]] = {}

    def passes(self, corruption: str) -> list[Split]:
        """The passes over a corruption."""
        if corruption not in self._passes:
            self._passes[corruption] = list(_stream(self._config, self._context, corruption))
        return self._passes[corruption]

    @cached_property
    def mixed(self) -> tuple[Split, Tensor]:
        """All corruptions in one stream, and which one each image has."""
        return _mixed(self._config, self._context)


# --- adapting ------------------------------------------------------------------------------------------------------


@dataclass
class _Answers:
    """What an arm said about a stream, image by image: probability of its answer, whether right, entropy; NaN where the
    method had left the finite numbers before."""

    confidence: Tensor
    right: Tensor
    entropy: Tensor
    batch_size: int

    @property
    def error(self) -> float:
        """Every image counts once."""
        return float(1 - self.right.double().mean())

    def batch_errors(self) -> list[float]:
        """The error of each batch, the last of which may be smaller."""
        return [float(1 - part.double().mean()) for part in self.right.split(self.batch_size)]

    def ece(self) -> float:
        """The expected calibration error, of the images that were answered."""
        known = ~self.confidence.isnan()
        return (
            calibration_error(self.confidence[known], self.right[known].bool()) if known.any() else math.nan
        )


def answers(adapted: Adapted, stream: Split, batch_size: int, *, learn: bool = True) -> _Answers:
    """Go through a stream once, in order; `learn` False answers only. What is not finite is wrong from there on."""
    scaling = Scaling(*SCALING)
    n = len(stream)
    confidence, certainty = torch.full((n,), math.nan), torch.full((n,), math.nan)
    right = torch.zeros(n)
    for start in range(0, n, batch_size):
        part = slice(start, start + batch_size)
        inputs = scaling(stream.images[part])
        try:
            logits = adapted(inputs) if learn else adapted.predict(inputs)
        except NotFinite:
            break
        top, answer = logits.softmax(1).max(1)
        confidence[part], right[part] = top.cpu(), (answer == stream.labels[part]).float().cpu()
        certainty[part] = entropy(logits).cpu()
    return _Answers(confidence, right, certainty, batch_size)


def _adapted(name: str, network: nn.Module, config: Adaptation, context: Context, **more: Any) -> Adapted:
    """The arm called `name` on a copy of the network."""
    if name not in ARMS:
        raise InputError(f"there is no arm {name!r}; there are: {', '.join(ARMS)}")
    arm = ARMS[name]
    options = {"lr": config.lr, **arm.options} if arm.learns else dict(arm.options)
    if name == "eata":
        train: Split = context.data(config.source.data).train
        options["anchor"] = Scaling(*SCALING)(train.images[: min(2_000, config.images)])
    if name == "memo":
        options["generator"] = derived_generator(config.seed, "memo")
    elif config.mode == "episodic":
        options["episodic"] = True
    if name == "posted_norm_reset":
        network = copy.deepcopy(network)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    return adapt(network, arm.method, **(options | more))


def _experiment(
    config: Adaptation, context: Context, methods: list[tuple[str, dict[str, Any]]] | None = None
) -> Result:
    """Every arm on every corruption: errors, entropies, calibration, and what is left of the clean accuracy.

    methods: names and options, where they are not the config's arms. Arrays have a row for each arm and a column for
    each corruption: error, posted_error (the mean of the batches' errors), entropy, ece, confidence, clean_error (after
    the stream), finite (share of images answered); `batches` has the errors of all batches behind.
    """
    chosen = [(name, {}) for name in config.arms] if methods is None else methods
    network = source_network(config.source, context)
    clean = ordered(config, context)
    clean = clean.subset(slice(min(len(clean), 1_000)))
    streams = _Streams(config, context)
    stages = Stages(context.checkpoint)
    for number, (name, more) in enumerate(chosen):
        if number < len(stages.done):
            continue
        context.progress(number, len(chosen), name)
        stages.finish(_arm(name, more, network, clean, streams, config, context))
        if context.checkpoint.due():
            stages.save(None)
    rows = stages.done
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0] if key != "batches"}
    length = max(len(one) for row in rows for one in row["batches"])
    padded = np.full((len(rows), len(rows[0]["batches"]), length), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        for j, one in enumerate(row["batches"]):
            padded[i, j, : len(one)] = one
    arrays = {key: value.astype(np.float64) for key, value in arrays.items()} | {"batches": padded}
    metrics = {
        f"error_{_label(name, more)}": row
        for (name, more), row in zip(chosen, arrays["error"].mean(1), strict=True)
    }
    outcome: Literal["done", "diverged"] = "done" if (arrays["finite"] == 1).all() else "diverged"
    return Result(metrics, {}, arrays, None, outcome)


def _label(name: str, more: dict[str, Any]) -> str:
    return f"{name}_{more['lr']:g}" if "lr" in more else name


def _arm(
    name: str,
    more: dict[str, Any],
    network: nn.Module,
    clean: Split,
    streams: _Streams,
    config: Adaptation,
    context: Context,
) -> dict[str, Any]:
    """One arm over all corruptions."""
    own = ARMS[name].batch_size if name in ARMS else None
    batch_size = min(own or config.batch_size, config.images)
    adapted = _adapted(name, network, config, context, **more)
    found: list[_Answers] = []
    after: list[float] = []
    if config.mode == "mixed":
        stream, kind = streams.mixed
        whole = answers(adapted, stream, batch_size)
        for place in range(len(config.corruptions)):
            mine = (kind == place).cpu()
            found.append(_Answers(whole.confidence[mine], whole.right[mine], whole.entropy[mine], batch_size))
            after.append(_clean_error(adapted, clean, batch_size))
    else:
        for corruption in config.corruptions:
            if config.mode != "continual":
                adapted.reset()
            parts = []
            for stream in streams.passes(corruption):
                if name == "memo" and isinstance(config, Methods):
                    stream = stream.subset(slice(min(len(stream), config.memo_images)))
                one = answers(adapted, stream, batch_size)
                if config.mode == "offline":
                    one = answers(adapted, stream, batch_size, learn=False)
                parts.append(one)
            found.append(
                _Answers(
                    torch.cat([one.confidence for one in parts]),
                    torch.cat([one.right for one in parts]),
                    torch.cat([one.entropy for one in parts]),
                    batch_size,
                )
            )
            after.append(_clean_error(adapted, clean, batch_size))
    return {
        "error": [one.error for one in found],
        "posted_error": [float(np.mean(one.batch_errors())) for one in found],
        "entropy": [float(one.entropy.double().nanmean()) for one in found],
        "ece": [one.ece() for one in found],
        "confidence": [float(one.confidence.double().nanmean()) for one in found],
        "finite": [float((~one.confidence.isnan()).double().mean()) for one in found],
        "clean_error": after,
        "batches": [one.batch_errors() for one in found],
    }


def _clean_error(adapted: Adapted, clean: Split, batch_size: int) -> float:
    """The error on clean images with the weights as the stream left them."""
    return answers(adapted, clean, batch_size, learn=False).error


# --- handlers ------------------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    raise InputError(f"{type(config).__name__} is no experiment of this post")


@run.register
def run_source(config: Source, context: Context) -> Result:
    return _train(config, context)


@run.register
def run_entropy(config: Entropy, context: Context) -> Result:
    """Figures 1 and 2: over all images of all corruptions and severities, and by corruption and severity."""
    adapted = adapt(source_network(config.source, context), "source")
    clean = ordered(config, context)
    scaling = Scaling(*SCALING)
    certainty, losses, wrong = [], [], []
    places = [("clean", 0)] + [
        (name, s) for name in config.corruptions for s in range(1, config.severity + 1)
    ]
    for number, (corruption, severity) in enumerate(places):
        images = clean.images if not severity else corrupted(config, clean.images, corruption, severity)
        logits = torch.cat([adapted(scaling(part)).cpu() for part in images.split(500)])
        labels = clean.labels.cpu()
        certainty.append(entropy(logits))
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
        wrong.append((logits.argmax(1) != labels).float())
        context.progress(number + 1, len(places), corruption)
    h, loss, error = (
        torch.stack(values).double() for values in (certainty, losses, wrong)
    )  # (places, images)
    # Figure 1: twenty bins of equal size by entropy, over everything
    order = h.flatten().argsort()
    bins = [part for part in order.tensor_split(len(PERCENTILES)) if len(part)]
    means = {
        name: np.array([float(v.flatten()[part].mean()) for part in bins])
        for name, v in (("bin_entropy", h), ("bin_error", error), ("bin_loss", loss))
    }
    arrays = {
        **means,
        "entropy": h.mean(1).numpy(),
        "loss": loss.mean(1).numpy(),
        "error": error.mean(1).numpy(),
        "severity": np.array([severity for _, severity in places]),
        **_sample(h, loss, [severity for _, severity in places], config.seed),
    }
    metrics = {
        "rank_correlation": _spearman(arrays["entropy"], arrays["loss"]),
        "clean_error": arrays["error"][0],
        "clean_entropy": arrays["entropy"][0],
    }
    return Result(metrics, {}, arrays)


def _sample(h: Tensor, loss: Tensor, severity: list[int], seed: int, n: int = 600) -> dict[str, np.ndarray]:
    """Entropy, loss and severity of single images, drawn at random, for a cloud of points."""
    pick = torch.randperm(h.numel(), generator=derived_generator(seed, "cloud"))[:n]
    severities = torch.tensor(severity)[:, None].expand_as(h).flatten()[pick]
    return {
        "cloud_entropy": h.flatten()[pick].float().numpy(),
        "cloud_loss": loss.flatten()[pick].float().numpy(),
        "cloud_severity": severities.to(torch.uint8).numpy(),
    }


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (x, y))
    return float(np.corrcoef(first, second)[0, 1])


@run.register
def run_demo(config: Demo, context: Context) -> Result:
    """Figure 3 and the pictures: the first batch of gaussian noise, before and after one step.

    The image that is shown is the one whose entropy changes by the batch's median: neither the best nor the worst.
    """
    clean = ordered(config, context)
    first = clean.subset(slice(config.batch_size))
    noisy = corrupted(config, first.images, config.corruptions[0], config.severity)
    adapted = adapt(source_network(config.source, context), "tent", lr=config.lr)
    inputs = Scaling(*SCALING)(noisy)
    before, after = adapted(inputs).cpu(), adapted.predict(inputs).cpu()
    fall = entropy(before) - entropy(after)
    shown = int(fall.argsort()[len(fall) // 2])
    pictures = [first.images[shown]] + [
        noisy[shown]
        if name == config.corruptions[0]
        else corrupted(config, first.images, name, config.severity)[shown]
        for name in config.corruptions
    ]
    metrics = {
        "entropy_before": float(entropy(before).mean()),
        "entropy_after": float(entropy(after).mean()),
        "share_lower": float((fall > 0).double().mean()),
        "label": context.data(config.data).classes[int(first.labels[shown])],
        "trainable": sum(p.requires_grad for p in adapted.model.parameters()),
        "trainable_as_posted": _trainable_as_posted(source_network(config.source, context)),
        "tensors": sum(1 for _ in adapted.model.parameters()),
    }
    arrays = {
        "pictures": torch.stack(pictures).cpu().numpy(),
        "before": before[shown].softmax(0).numpy(),
        "after": after[shown].softmax(0).numpy(),
        "fall": fall.numpy(),
    }
    return Result(metrics, {}, arrays)


def _trainable_as_posted(network: nn.Module) -> int:
    """How many of a network's parameters still adapt after the original's freezing.

    It sets `requires_grad` on modules, where it is an attribute like any other, and not on their parameters.
    """
    network.requires_grad_(True)
    for module in network.modules():
        module.requires_grad = isinstance(module, nn.BatchNorm2d)  # type: ignore[assignment]
    return sum(parameter.requires_grad for parameter in network.parameters())


@run.register
def run_adaptation(config: Adaptation, context: Context) -> Result:
    """`by_corruption`, `mistakes`, `source_quality`, `source_size`, `streams`, `length`, `methods`."""
    return _experiment(config, context)


@run.register
def run_sensitivity(config: Sensitivity, context: Context) -> Result:
    """One row a rate, and Norm first where the config has it."""
    options = {"parameters": config.parameters, "optimizer": config.optimizer}
    methods: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in config.arms]
    methods += [("tent", {**options, "lr": rate}) for rate in config.rates]
    return _experiment(config, context, methods)
