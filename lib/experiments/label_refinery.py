"""Label Refinery: networks that learn from the labels of the network before them, R₁ → R₂ → …, and what that depends on.

`refine`: chains by the kind of label (from the labels of the data set, frozen or made anew for each crop) × mild and strong
crops, for equal steps. `overlap`: does the gain grow with the number of classes in an image? On images of several digits
with known labels. `mistakes`: the original's set-up, and one fix at a time. `variants`: a larger teacher, a teacher in
training mode, a temperature, a tenth of the images, noisy labels. `pictures`: what the explaining figures show. `houses`: how
many crops of house numbers show a part of the next one, which needs no labels.

The corrected protocol: equal numbers of updates for all arms; the best weights by accuracy on images held out, which keep
their labels and are never cropped; teachers in evaluation mode; the test set decides nothing. A seed is a replicate from
end to end. Links of a chain are artifacts; all links of one generation and seed start from the same weights and see the
same images in the same crops, so that arms are paired. `labels` at generation 2 is a second network on hard labels.

Images of several digits: a labelled digit in the middle, and, in a share `overlap` of the images, neighbours of other
classes 22 pixels to its left and right. A training crop is a window of 28 pixels shifted by up to 16, so that it may show
more of a neighbour than of the labelled digit; the known label of a crop is each class's share of the ink in it.

Source: Bagherinezhad, Horton, Rastegari and Farhadi (2018), arXiv 1805.02641, section 3, and its reference code, whose
teachers stay in training mode; the original post and its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lib.augment import affine, chain, flip, warp
from lib.convnets import convnet, fast_convnet, resnet, resnet18, with_compiled_layers
from lib.core import Checkpoint, Config, Context, InputError, Profile, Result
from lib.data.images import ImageSet
from lib.methods.calibration import calibration_error
from lib.methods.memorization import random_labels
from lib.methods.modes import evaluating
from lib.methods.soft_labels import answers, entropy, one_hot, smoothed, soften
from lib.schedules import triangular
from lib.training import (
    Batches,
    Learner,
    ModuleLearner,
    Scaling,
    SoftLabelled,
    Stopping,
    derived_generator,
    derived_seed,
    evaluate,
    fit,
    relabelled,
    validator,
)

POST = "label-refinery"
Arm = Literal["labels", "smoothed", "static_full", "static_frozen", "dynamic_soft", "dynamic_hard", "oracle"]
Crops = Literal["none", "mild", "strong"]
NetworkKind = Literal["fast", "resnet", "resnet18", "stem7", "digits"]
REFINED = ("static_full", "static_frozen", "dynamic_soft", "dynamic_hard")
COPIES = 2
"""Augmented copies that the original froze beside each image."""

SPACING, REACH, SIDE = 22, 16, 28
"""Pixels from a digit to its neighbour, the largest shift of a crop, and its side."""

ALIKE, APART = 0.9, 40
"""The correlation from which two crops count as showing one thing, and how far apart in a file crops surely do not."""


# --- configs -------------------------------------------------------------------------------------------------------


class Link(Config, post=POST, experiment="refine"):
    """One network of a chain; its artifact is its state.

    previous: the network whose labels it learns, None for the arms that have none. generation: 1 for R₁. images: training
    images used; validation: held out; tested: test images used at most. noise: share of training labels that are drawn at
    random. overlap: share of images with neighbours, None for the data set's own images. posted_stopping: early stopping that
    asks for ten points. restore: which weights are kept, those of the highest validation accuracy or the last. all_copies: an
    epoch goes through every frozen copy, three times the updates. teacher_mode: that of BatchNorm while labels are made anew.
    """

    previous: Link | None
    arm: Arm
    generation: int
    data: str
    images: int
    validation: int
    tested: int
    noise: float
    overlap: float | None
    crops: Crops
    network: NetworkKind
    width: int
    epochs: int
    batch_size: int
    lr: float
    optimizer: Literal["sgd", "adam"]
    posted_stopping: bool
    restore: Literal["best", "last"]
    all_copies: bool
    temperature: float
    teacher_mode: Literal["evaluation", "training"]
    precision: Literal["float32", "bfloat16"]
    seed: int


class Overlap(Link, experiment="overlap"):
    """On images of several digits."""


class Mistake(Link, experiment="mistakes"):
    """The original's set-up; `fixed` names the one thing that is mended. `copies`: none are made, the original's augment = 0."""

    fixed: Literal["nothing", "stem", "stopping", "restore", "optimizer", "updates", "labels", "copies"]


class Variant(Link, experiment="variants"):
    """One thing changed in the second network of `refine`, or in both; `changed` names it."""

    changed: Literal["teacher", "mode", "temperature", "images", "noise"]


class Pictures(Config, post=POST, experiment="pictures"):
    """What the explaining figures show: samples, similar crops, crops of one image and their labels along two chains."""

    last: Link
    digits: Overlap
    seed: int


class Houses(Config, post=POST, experiment="houses"):
    """How many images of a file show a part of the next one in it, and of the one that is `apart` places further.

    data: images of house numbers in the order of their file, or labelled digits, of which crops are made whose overlap is
    known. images: how many at most. parts: into so many consecutive parts they are divided; seed: which part is looked at.
    """

    data: str
    images: int
    parts: int
    apart: int
    seed: int


# --- profiles ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What a profile computes: fields of a link of `refine`, of `overlap`, of `mistakes`; how long chains are."""

    refine: dict[str, Any]
    overlap: dict[str, Any]
    mistakes: dict[str, Any]
    length: dict[Crops, int]
    levels: tuple[float, ...]
    replica: int
    seeds: int
    close: int
    few: int
    teacher: int
    houses: dict[str, tuple[int, int]]
    svhn: bool = False


_COMMON: dict[str, Any] = {
    "noise": 0.0,
    "overlap": None,
    "optimizer": "sgd",
    "posted_stopping": False,
    "restore": "best",
    "all_copies": False,
    "temperature": 1.0,
    "teacher_mode": "evaluation",
}
_POSTED: dict[str, Any] = {
    "network": "stem7",
    "optimizer": "adam",
    "lr": 1e-3,
    "posted_stopping": True,
    "restore": "last",
    "all_copies": True,
    "crops": "mild",
}

# The ledger of laptop, in CPU-seconds on one thread, as measured, most of it beside another computation: overlap, 10,000
# images, 6 epochs, 13 s a link, seven links at three levels, five seeds, 1,330; mistakes, eight chains of three links, 2,500
# images with their copies, 9 epochs, 4 to 30 s a link and about 40 without the large stem, five seeds, 2,740; refine, 8,000
# images, 6 epochs, 25 to 60 s a link (dynamic labels cost the teacher's pass), 18 links, three seeds, 2,130; variants, seven
# links and a wide teacher, three seeds, 790. In all about 7,000. Left to full: 42,500 images and ResNet-18, chains of five at
# both crops, SVHN.
PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        refine={
            **_COMMON,
            "data": "shapes",
            "images": 64,
            "validation": 32,
            "tested": 64,
            "network": "resnet",
            "width": 4,
            "epochs": 2,
            "batch_size": 32,
            "lr": 0.1,
            "precision": "float32",
        },
        overlap={
            **_COMMON,
            "data": "digits",
            "images": 150,
            "validation": 30,
            "tested": 60,
            "network": "digits",
            "width": 4,
            "epochs": 2,
            "batch_size": 30,
            "lr": 0.1,
            "crops": "strong",
            "precision": "float32",
        },
        mistakes={"images": 32, "width": 2, "epochs": 2},
        length={"strong": 2, "mild": 2},
        levels=(0.0, 1.0),
        replica=2,
        seeds=2,
        close=2,
        few=32,
        teacher=6,
        houses={"digits": (180, 2)},
    ),
    "laptop": _Plan(
        refine={
            **_COMMON,
            "data": "cifar10-jpeg",
            "images": 8_000,
            "validation": 2_000,
            "tested": 10_000,
            "network": "fast",
            "width": 16,
            "epochs": 6,
            "batch_size": 128,
            "lr": 0.2,
            "precision": "bfloat16",
        },
        overlap={
            **_COMMON,
            "data": "mnist",
            "images": 10_000,
            "validation": 2_000,
            "tested": 10_000,
            "network": "digits",
            "width": 16,
            "epochs": 6,
            "batch_size": 128,
            "lr": 0.1,
            "crops": "strong",
            "precision": "bfloat16",
        },
        mistakes={"images": 2_500, "width": 8, "epochs": 9},
        length={"strong": 3, "mild": 2},
        levels=(0.0, 0.5, 1.0),
        replica=3,
        seeds=3,
        close=5,
        few=1_000,
        teacher=32,
        houses={"mnist": (1_083, 5), "svhn-crops": (1_083, 5)},
    ),
    "full": _Plan(
        refine={
            **_COMMON,
            "data": "cifar10-jpeg",
            "images": 42_500,
            "validation": 7_500,
            "tested": 10_000,
            "network": "resnet18",
            "width": 64,
            "epochs": 60,
            "batch_size": 256,
            "lr": 0.2,
            "precision": "bfloat16",
        },
        overlap={
            **_COMMON,
            "data": "mnist",
            "images": 50_000,
            "validation": 10_000,
            "tested": 10_000,
            "network": "digits",
            "width": 32,
            "epochs": 20,
            "batch_size": 128,
            "lr": 0.1,
            "crops": "strong",
            "precision": "float32",
        },
        mistakes={"width": 64, "epochs": 30},
        length={"strong": 5, "mild": 5},
        levels=(0.0, 0.5, 1.0),
        replica=3,
        seeds=5,
        close=5,
        few=4_250,
        teacher=128,
        houses={"mnist": (1_083, 5), "svhn-crops": (1_083, 5)},
        svhn=True,
    ),
}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile, each behind the links that it needs. `full` has `mistakes` on SVHN too."""
    plan = PLANS[profile]
    out: list[Config] = []
    for seed in range(plan.close):
        out += [
            *_overlap(plan, seed),
            *_mistakes(plan, seed),
        ]  # networks as posted differ much from seed to seed
    for seed in range(plan.seeds):
        out += [*_refine(plan, seed), *_variants(plan, seed)]
        if plan.svhn:
            out += _mistakes(plan, seed, data="svhn")
        strong = _chain(partial(_link, plan, seed, crops="strong"), "dynamic_soft", plan.length["strong"])
        digits = next(
            c for c in _overlap(plan, seed) if c.arm == "dynamic_soft" and c.overlap == plan.levels[-1]
        )
        out.append(Pictures(last=strong[-1], digits=digits, seed=seed))
    for data, (images, parts) in plan.houses.items():
        out += [
            Houses(data=data, images=images, parts=parts, apart=APART, seed=seed) for seed in range(parts)
        ]
    return list(dict.fromkeys(out))


def _link(plan: _Plan, seed: int, **changes: Any) -> Link:
    fields = {**plan.refine, "previous": None, "arm": "labels", "generation": 1, "crops": "strong"}
    return Link(**fields | {"seed": seed} | changes)


def _chain(make: Callable[..., Link], arm: Arm, length: int) -> list[Link]:
    """R₁ on labels, and so many networks in all."""
    out = [make()]
    for generation in range(2, length + 1):
        out.append(make(previous=out[-1], arm=arm, generation=generation))
    return out


def _refine(plan: _Plan, seed: int) -> list[Link]:
    out: list[Link] = []
    for crops, length in plan.length.items():
        make = partial(_link, plan, seed, crops=crops)
        out += [make(), make(arm="smoothed", generation=2), make(generation=2)]
        for arm in REFINED:
            out += _chain(make, arm, length)  # type: ignore[arg-type]
    return out


def _overlap(plan: _Plan, seed: int) -> list[Overlap]:
    out: list[Overlap] = []
    for level in plan.levels:
        base = {**plan.overlap, "overlap": level, "seed": seed, "previous": None}
        first = Overlap(**base, arm="labels", generation=1)
        second = partial(Overlap, **{k: v for k, v in base.items() if k != "previous"}, generation=2)
        out += [first, *(second(previous=None, arm=arm) for arm in ("labels", "smoothed", "oracle"))]
        out += [second(previous=first, arm=arm) for arm in ("static_full", "dynamic_soft", "dynamic_hard")]
    return out


def _mistakes(plan: _Plan, seed: int, **changes: Any) -> list[Mistake]:
    fixes: dict[str, dict[str, Any]] = {
        "nothing": {},
        "stem": {"network": "resnet18"},
        "stopping": {"posted_stopping": False},
        "restore": {"restore": "best"},
        "optimizer": {"optimizer": "sgd", "lr": 0.1},
        "updates": {"all_copies": False},
        "labels": {},
        "copies": {"crops": "none"},
    }
    out: list[Mistake] = []
    for fixed, change in fixes.items():
        fields = {
            **plan.refine,
            **_POSTED,
            **plan.mistakes,
            **change,
            **changes,
            "seed": seed,
            "fixed": fixed,
        }
        make = partial(Mistake, **fields)
        previous = None
        for generation in range(1, plan.replica + 1):
            arm: Arm = "dynamic_soft" if fixed == "labels" else "static_frozen"
            previous = make(
                previous=previous, generation=generation, arm="labels" if previous is None else arm
            )
            out.append(previous)
    return out


def _variants(plan: _Plan, seed: int) -> list[Variant]:
    def make(first: dict[str, Any], second: dict[str, Any], changed: Any) -> list[Variant]:
        teacher = _link(plan, seed, **first)
        fields = {name: getattr(teacher, name) for name in plan.refine} | {"crops": "strong", "seed": seed}
        common = {**fields, **second, "width": plan.refine["width"]}
        plain = Variant(**common, previous=None, arm="labels", generation=2, changed=changed)
        refined = Variant(**common, previous=teacher, arm="dynamic_soft", generation=2, changed=changed)
        return [plain, refined]

    few = {"images": plan.few}
    return [
        *make({"width": plan.teacher}, {}, "teacher")[1:],
        *make({}, {"teacher_mode": "training"}, "mode")[1:],
        *make({}, {"temperature": 2.0}, "temperature")[1:],
        *make(few, few, "images"),
        *make({"noise": 0.2}, {"noise": 0.2}, "noise"),
    ]


# --- images --------------------------------------------------------------------------------------------------------


class Sets(NamedTuple):
    """Images, resident, and their labels.

    classes: of training images, the label first; of composed ones also those of the neighbours. Held-out and test images are
    as a network sees them; composed training images are wider, for crops.
    """

    train: Tensor
    classes: Tensor
    held: Tensor
    held_labels: Tensor
    test: Tensor
    test_labels: Tensor
    n_classes: int


def sets_of(config: Link, context: Context) -> Sets:
    """The images of a link. Raises InputError where there are too few."""
    data: ImageSet = context.data(config.data)
    there, n_classes = len(data.train), data.n_classes
    if config.images < 1 or config.validation < 1 or config.images + config.validation > there:
        raise InputError(
            f"images is {config.images} and validation {config.validation}; {there} training images are there"
        )
    train = data.train.subset(slice(config.images))
    held, test = (
        data.train.subset(slice(there - config.validation, None)),
        data.test.subset(slice(config.tested)),
    )
    classes = train.labels[:, None]
    if config.noise:
        drawn = derived_generator(config.seed, "label noise")
        classes = random_labels(train.labels, n_classes, config.noise, drawn)[:, None]
    images = [train.images, held.images, test.images]
    if config.overlap is not None:
        for place, part in enumerate((train, held, test)):
            made = derived_generator(config.seed, "neighbours", place)
            images[place], found = composed(part.images, part.labels, config.overlap, made)
            classes = found if place == 0 else classes
        images[1:] = [middle(part) for part in images[1:]]
    return Sets(images[0], classes, images[1], held.labels, images[2], test.labels, n_classes)


def composed(
    digits: Tensor, labels: Tensor, overlap: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images of several digits, n × 3 × 28 × 60, a layer each for the labelled digit and its two neighbours; and the classes
    of the layers, n × 3.

    digits: n × 1 × 28 × 28, of two classes or more. overlap: share of images that have neighbours, which are other digits of
    other classes. Where there are none, their layers are empty.
    """
    n, device = len(digits), labels.device
    out = digits.new_zeros(n, 3, SIDE, SIDE + 2 * REACH)
    out[:, 0, :, REACH : REACH + SIDE] = digits[:, 0]
    having = (torch.rand(n, generator=generator) < overlap).to(device)
    classes = [labels]
    for layer, shift in ((1, -SPACING), (2, SPACING)):
        other = torch.randint(n, (n,), generator=generator).to(device)
        while (same := labels[other] == labels).any():
            other = torch.where(same, (other + 1) % n, other)
        first = REACH + shift
        left, right = max(0, first), min(SIDE + 2 * REACH, first + SIDE)
        part = digits[other, 0, :, left - first : right - first]
        out[:, layer, :, left:right] = part * having[:, None, None]
        classes.append(labels[other])
    return out, torch.stack(classes, dim=1)


def middle(images: Tensor) -> Tensor:
    """The window of a composed image that has the labelled digit in its middle."""
    return images[..., REACH : REACH + SIDE]


def windows(images: Tensor, generator: torch.Generator, *, reach: int) -> Tensor:
    """A window of each composed image, shifted by up to `reach` pixels."""
    first = REACH + torch.randint(-reach, reach + 1, (len(images),), generator=generator).to(images.device)
    columns = first[:, None] + torch.arange(SIDE, device=images.device)  # (batch, 28)
    index = columns[:, None, None, :].expand(-1, images.shape[1], images.shape[2], -1)
    return images.gather(3, index)


def zoomed(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random square part of each image, of half its side to all of it, magnified to its size."""
    draws = torch.rand(len(images), 3, generator=generator)
    zooms = 1 + draws[:, 0]
    room = (zooms - 1) / 2  # how far the magnified image may move, in sides
    shifts = (2 * draws[:, 1:] - 1) * room[:, None]
    return warp(images, angles=torch.zeros(len(images)), zooms=zooms, shifts=shifts, edge="replicate")


def cropping(config: Link) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """What is done to a training batch: `mild` is the original's (rotation, zoom, shift, flip), `strong` a part of the image."""
    if config.overlap is not None:
        reach = {"none": 0, "mild": REACH // 4, "strong": REACH}[config.crops]
        return partial(windows, reach=reach)
    if config.crops == "none":
        return None
    flips = () if config.data in ("svhn", "mnist", "digits") else (flip,)
    if config.crops == "strong":
        return chain(zoomed, *flips)
    return chain(partial(affine, degrees=10, zoom=0.1, shift=0.1, edge="replicate"), *flips)


def known_labels(crops: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Each class's share of the ink in a crop of a composed image; the label alone where there is no ink."""
    ink = crops.flatten(2).sum(2)  # (batch, 3)
    out = ink.new_zeros(len(crops), n_classes).scatter_add_(1, classes, ink)
    total = out.sum(1, keepdim=True)
    return torch.where(total > 0, out / total.clamp(min=1e-12), one_hot(classes[:, 0], n_classes).to(out))


# --- networks ------------------------------------------------------------------------------------------------------


class Merged(nn.Module):
    """The layers of a composed image as one: the brighter pixel counts."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=1, keepdim=True)


def build(config: Link, n_classes: int, channels: int) -> nn.Module:
    """A network with fresh weights, on the CPU. Links of one generation and seed have the same."""
    generator = derived_generator(config.seed, "weights", config.generation)
    kind, width = config.network, config.width
    if kind == "digits":
        options: dict[str, Any] = {"in_channels": 1, "image_size": SIDE, "n_classes": n_classes}
        return nn.Sequential(
            Merged(), convnet((width, 2 * width), (4 * width,), generator=generator, **options)
        )
    if kind == "fast":
        images = torch.randn(64, channels, 32, 32, generator=derived_generator(0, "whitening"))
        fast = with_compiled_layers(
            fast_convnet(
                images, widths=(width, 4 * width, 4 * width), n_classes=n_classes, generator=generator
            )
        )
        fast[0].requires_grad_(False)  # the whitening layer's bias too
        return fast
    if kind == "resnet":
        return resnet(8, width=width, n_classes=n_classes, in_channels=channels, generator=generator)
    network = resnet18(width=width, n_classes=n_classes, in_channels=channels, generator=generator)
    if kind == "stem7":
        _large_stem(network, channels, width, generator)
    return network


def _large_stem(network: nn.Module, channels: int, width: int, generator: torch.Generator) -> None:
    """The stem for photographs of 224 pixels, 7 × 7 with a stride of 2 and pooling by 2, in the place of the first 3 × 3."""
    name, first = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    large = nn.utils.skip_init(nn.Conv2d, channels, first.out_channels, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(large.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    holder, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(holder), attribute, nn.Sequential(large, nn.MaxPool2d(3, 2, 1)))


def _scaling(config: Link) -> Scaling:
    return Scaling() if config.network == "digits" else Scaling(0.5, 0.25)


def loaded(config: Link, context: Context, n_classes: int, channels: int, device: torch.device) -> nn.Module:
    """A link's network with its trained weights, in evaluation mode."""
    network = build(config, n_classes, channels)
    state = {name: torch.from_numpy(value) for name, value in context.artifact(config).items()}
    network.load_state_dict(state)
    return network.to(device).eval()


# --- labels --------------------------------------------------------------------------------------------------------


class Taught(NamedTuple):
    """Batches with an arm's labels; `both` gives inputs, labels, and the known labels of the crops of composed images."""

    batches: Callable[[int], tuple[Tensor, Tensor]]
    per_pass: int
    both: Callable[[int], tuple[Tensor, Tensor, Tensor]]


def label_batches(config: Link, sets: Sets, teacher: nn.Module | None) -> Taught:
    """The arm's labels, as distributions.

    static_full: the teacher's answer to the whole image, kept. static_frozen: to each of three fixed views, kept.
    dynamic_soft, dynamic_hard: to the very crop. oracle: the known label of the crop. smoothed: ε = .1.
    """
    n, m = sets.classes.shape
    if (config.arm in REFINED) != (teacher is not None):
        raise InputError(
            f"arm is {config.arm!r} and previous {'set' if teacher else 'None'}; they do not fit"
        )
    if config.arm == "oracle" and m == 1:
        raise InputError("the labels of crops are known for images of several digits only (overlap)")
    scaling, augment = _scaling(config), cropping(config)
    images, rows = sets.train, sets.classes.float()
    options: dict[str, Any] = {"batch_size": min(config.batch_size, n), "scaling": scaling}
    options["seed"] = derived_seed(config.seed, "batches", config.generation)
    say: Any = None if teacher is None else partial(_answer, teacher, config)
    if config.arm == "static_full":
        plain = middle(images) if m > 1 else images
        rows = torch.cat([rows, _in_parts(say, plain, scaling)], dim=1)
    if config.arm == "static_frozen" or (config.all_copies and config.arm == "labels"):
        images, rows = _copies(images, rows, augment, config, m)
        augment = None
        if say is not None:
            rows = torch.cat([rows, _in_parts(say, images, scaling)], dim=1)
    plain_batches = Batches(images, SoftLabelled(rows), augment=augment, **options)

    def relabel(inputs: Tensor, rows: Tensor) -> Tensor:
        classes = rows[:, :m].long()
        if config.arm in ("dynamic_soft", "dynamic_hard"):
            soft = say(inputs)
            return soft if config.arm == "dynamic_soft" else one_hot(soft.argmax(1), sets.n_classes)
        if config.arm == "oracle":
            return known_labels(inputs, classes, sets.n_classes)
        if config.arm == "smoothed":
            return smoothed(classes[:, 0], sets.n_classes, 0.1)
        return rows[:, m:] if config.arm in REFINED else one_hot(classes[:, 0], sets.n_classes)

    def both(step: int) -> tuple[Tensor, Tensor, Tensor]:
        inputs, rows = plain_batches(step)
        return inputs, relabel(inputs, rows), known_labels(inputs, rows[:, :m].long(), sets.n_classes)

    return Taught(relabelled(plain_batches, relabel), plain_batches.per_pass, both)


@torch.no_grad()
def _answer(teacher: nn.Module, config: Link, inputs: Tensor) -> Tensor:
    """A teacher's distribution for a batch. In training mode BatchNorm goes by the batch, and its running statistics move,
    as in the reference code."""
    if config.teacher_mode == "training":
        teacher.train()
        return soften(teacher(inputs).float(), config.temperature)
    with evaluating(teacher):
        return soften(teacher(inputs).float(), config.temperature)


def _in_parts(say: Any, images: Tensor, scaling: Scaling) -> Tensor:
    return torch.cat([say(scaling(part)) for part in images.split(500)])


def _copies(images: Tensor, rows: Tensor, augment: Any, config: Link, m: int) -> tuple[Tensor, Tensor]:
    """Each image as it is and as two crops, drawn once and kept, as uint8."""
    views = [middle(images) if m > 1 else images]
    for copy in range(COPIES if augment is not None and config.crops != "none" else 0):
        made = derived_generator(config.seed, "copies", copy)
        parts = [augment(part.float(), made) for part in images.split(500)]
        views.append(torch.cat(parts).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(views), rows.repeat(len(views), 1)


# --- training ------------------------------------------------------------------------------------------------------


class Plateau:
    """The factor of a rate that falls to a tenth after `patience` evaluations without a better value: the original's."""

    def __init__(self, patience: int = 3, factor: float = 0.1) -> None:
        self.patience, self.by = patience, factor
        self.best, self.waited, self.factor = float("-inf"), 0, 1.0

    def update(self, value: float) -> None:
        """Take in the value of an evaluation."""
        self.waited = 0 if value > self.best else self.waited + 1
        self.best = max(self.best, value)
        if self.waited >= self.patience:
            self.factor, self.waited = self.factor * self.by, 0


class PostedStopping(Stopping):
    """Stops by the original's rule, after five evaluations without a gain of ten points; its best is the highest value all
    the same, so that the weights which a network keeps are a question of their own.
    """

    def __init__(self) -> None:
        super().__init__(None)

    def exhausted(self) -> bool:
        rule = Stopping(5, min_delta=0.1)
        for step, value in enumerate(self.values):
            rule.update(value, step, dict)
        return rule.exhausted()


class WithPlateau(Checkpoint):
    """A checkpoint slot that keeps a plateau's state beside that of the training."""

    def __init__(self, slot: Checkpoint, plateau: Plateau) -> None:
        self.slot, self.plateau = slot, plateau

    def load(self) -> Any | None:
        saved = self.slot.load()
        if saved is None:
            return None
        self.plateau.__dict__.update(saved["plateau"])
        return saved["training"]

    def due(self) -> bool:
        return self.slot.due()

    def save(self, state: Any) -> None:
        self.slot.save({"plateau": dict(self.plateau.__dict__), "training": state})


@singledispatch
def run(config: Config, context: Context) -> Result:
    raise InputError(f"{type(config).__name__} is no experiment of this post")


@run.register
def run_link(config: Link, context: Context) -> Result:
    """One network of a chain: `refine`, `overlap`, `mistakes`, `variants`."""
    sets = sets_of(config, context)
    device, channels = sets.train.device, sets.train.shape[1]
    before = config.previous
    teacher = None if before is None else loaded(before, context, sets.n_classes, channels, device)
    taught = label_batches(config, sets, teacher)
    network = build(config, sets.n_classes, channels).to(device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(trained, lr=config.lr)
        if config.optimizer == "adam"
        else torch.optim.SGD(trained, lr=config.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    )
    low = torch.bfloat16 if config.precision == "bfloat16" else None
    learner = ModuleLearner(network, optimizer, autocast=low, channels_last=True)
    # Equal updates for all arms: an epoch is a pass over the images, however many copies there are, unless as posted.
    passes = 1 + COPIES if config.all_copies and config.crops != "none" else 1
    epoch = -(-passes * config.images // min(config.batch_size, config.images))
    steps, plateau, scaling = config.epochs * epoch, Plateau(), _scaling(config)
    plain = validator(sets.held, sets.held_labels, scaling=scaling)

    def validate(learner: Learner) -> dict[str, list[float]]:
        found = plain(learner)
        plateau.update(found["accuracy"][0])
        return found

    by_plateau = config.optimizer == "adam"
    cycle = triangular(max(2, steps))
    found = fit(
        learner,
        taught.batches,
        validate,
        max_steps=steps,
        eval_every=epoch,
        stopping=PostedStopping if config.posted_stopping else lambda: Stopping(None),
        schedule=(lambda step: plateau.factor) if by_plateau else (lambda step: max(0.01, cycle(step))),
        checkpoint=WithPlateau(context.checkpoint, plateau),
        progress=context.progress,
        seed=config.seed,
    )
    kept = found.last if config.restore == "last" else found.best
    if kept[0] is None or any(found.diverged):
        return Result({"steps": found.steps[0]}, outcome="diverged")
    learner.restore(kept)  # type: ignore[arg-type]
    metrics: dict[str, Any] = _measured(learner, sets, scaling) | {
        "val_accuracy": float(found.best_value[0]),
        "best_epoch": found.best_step[0] / epoch,
        "steps": found.steps[0],
    }
    if config.overlap is not None:
        metrics |= _label_quality(taught)
    state = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    return Result(metrics, {"val_accuracy_by_epoch": found.series["accuracy"][0]}, {}, state)


def _measured(learner: Learner, sets: Sets, scaling: Scaling) -> dict[str, float]:
    """Accuracy, loss and calibration error on test images, and the accuracy on training images as they are."""
    logits = torch.cat([learner.logits(scaling(part))[0] for part in sets.test.split(500)])
    confidence, answer = logits.softmax(1).max(1)
    right = answer == sets.test_labels
    shown = middle(sets.train) if sets.classes.shape[1] > 1 else sets.train
    count = min(len(shown), 5_000)
    trained = evaluate(learner.logits, shown[:count], sets.classes[:count, 0], scaling=scaling)
    return {
        "test_accuracy": right.double().mean().item(),
        "nll": nn.functional.cross_entropy(logits, sets.test_labels).item(),
        "ece": calibration_error(confidence, right),
        "train_accuracy": trained.accuracy.item(),
    }


def _label_quality(taught: Taught, passes: int = 20) -> dict[str, float]:
    """Mean divergence of the labels that were trained on from the known ones of the crops, in nats.

    Jensen and Shannon's, from 0 to log 2: Kullback and Leibler's has no finite value for hard labels.
    """
    total, count = 0.0, 0
    for step in range(min(taught.per_pass, passes)):
        _, labels, known = taught.both(step)
        entropies = [entropy(p).sum().item() for p in ((known + labels) / 2, known, labels)]
        total += entropies[0] - (entropies[1] + entropies[2]) / 2
        count += len(labels)
    return {"label_divergence": total / count}


@run.register
def run_pictures(config: Pictures, context: Context) -> Result:
    """Samples of both data sets, crops of different classes that look alike, and the labels of crops along two chains."""
    sets = sets_of(config.last, context)
    data: ImageSet = context.data(config.last.data)
    channels, scaling = sets.train.shape[1], _scaling(config.last)
    images, labels = sets.train[:256], sets.classes[:256, 0]
    made = derived_generator(config.seed, "pictures")
    crops = zoomed(images.float(), made)
    # Alike: nearest in brightness and colour after averaging over a quarter of the side, no image twice.
    coarse = nn.functional.adaptive_avg_pool2d(crops, 8).flatten(1)
    distances = torch.cdist(coarse, coarse).masked_fill(labels[:, None] == labels, torch.inf)
    pairs: list[tuple[int, int]] = []
    for _ in range(4):
        one, other = divmod(int(distances.argmin()), len(coarse))
        pairs.append((one, other))
        for place in (one, other):
            distances[place], distances[:, place] = torch.inf, torch.inf
    # Along the chain: the crop at the 90th percentile of the entropy that R1 gives to it.
    links = [config.last]
    while (before := links[0].previous) is not None:
        links.insert(0, before)
    networks = [loaded(link, context, sets.n_classes, channels, images.device) for link in links]
    whole = scaling(images)
    part = scaling(crops.round().clamp(0, 255).to(torch.uint8))
    said = torch.stack([torch.stack([soften(answers(n, x)) for x in (whole, part)]) for n in networks])
    place = int(entropy(said[0, 1]).argsort()[int(0.9 * (len(images) - 1))])
    arrays = {
        "samples": images[:25],
        "pairs": torch.stack([torch.stack([crops[a], crops[b]]) for a, b in pairs])
        .round()
        .clamp(0, 255)
        .byte(),
        "pair_labels": labels[torch.tensor(pairs)],
        "chain_pictures": torch.stack([images[place], crops[place].round().clamp(0, 255).byte()]),
        "chain": said[:, :, place],
        **_digit_pictures(config, context),
    }
    metrics: dict[str, Any] = {"label": int(labels[place]), "classes": ", ".join(data.classes)}
    return Result(metrics, {}, {name: value.cpu().numpy() for name, value in arrays.items()})


def _digit_pictures(config: Pictures, context: Context) -> dict[str, Tensor]:
    """Composed images, and three windows of the first that has neighbours: known label, R1's answer, R2's answer."""
    link = config.digits
    sets = sets_of(link, context)
    images = sets.train[:25]
    shown = int((images[:, 1].flatten(1).sum(1) > 0).float().argmax())
    starts = (0, REACH, 2 * REACH)
    crops = Scaling()(torch.stack([images[shown, :, :, first : first + SIDE] for first in starts]))
    known = known_labels(crops, sets.classes[shown].expand(3, -1), sets.n_classes)
    chosen = [known]
    for one in (link.previous, link):
        if one is not None:
            chosen.append(soften(answers(loaded(one, context, sets.n_classes, 3, images.device), crops)))
    return {
        "digit_samples": images.amax(1),
        "digit_crops": crops.amax(1),
        "digit_labels": torch.stack(chosen),
        "digit_classes": sets.classes[:25, 0],
    }


@run.register
def run_houses(config: Houses, context: Context) -> Result:
    """next, further: shares of crops whose right part is the left part of the next crop, or of the one `apart` further.

    known: the share for `next` where crops were made. samples: the first 25 crops, of the first part only.
    """
    data = context.data(config.data)
    images = streets(data.train.images[: config.images]) if isinstance(data, ImageSet) else data.images
    images = images[: config.images]
    size = len(images) // config.parts
    if not 0 <= config.seed < config.parts or size <= config.apart:
        raise InputError(
            f"parts is {config.parts}, seed {config.seed} and apart {config.apart}; there are {len(images)} images"
        )
    part = images[config.seed * size : (config.seed + 1) * size]
    grey = part.float().mean(1) / 255
    shares = {
        name: (likeness(grey[:-step], grey[step:]) > ALIKE).double().mean().item()
        for name, step in (("next", 1), ("further", config.apart))
    }
    metrics: dict[str, Any] = {**shares, "looked_at": size}
    if isinstance(data, ImageSet):
        first = config.seed * size
        metrics["known"] = sum((first + i) % 3 < 2 for i in range(size - 1)) / (size - 1)
    return Result(metrics, {}, {} if config.seed else {"samples": part[:25].cpu().numpy()})


def streets(digits: Tensor) -> Tensor:
    """Crops of made house numbers: three digits in a row, 16 pixels apart, and a window around each; as many as digits.

    The right part of the first and of the second window of a row is the left part of the next one.
    """
    rows = digits[: len(digits) // 3 * 3, 0].unflatten(0, (-1, 3))  # (houses, 3, 28, 28)
    out = rows.new_zeros(len(rows), SIDE, SIDE + 2 * REACH)
    for place in range(3):
        window = out[:, :, place * REACH : place * REACH + SIDE]
        window.copy_(torch.maximum(window, rows[:, place]))
    return out.unfold(2, SIDE, REACH).transpose(1, 2).reshape(-1, 1, SIDE, SIDE)


def likeness(crops: Tensor, others: Tensor) -> Tensor:
    """The largest correlation of the right part of each crop with the left part of its partner; both n × h × w.

    Parts are from a third to four fifths of the side wide; the partner may stand two pixels higher or lower.
    """
    side = crops.shape[-1]
    best = crops.new_full((len(crops),), -1.0)
    for shift in range(side // 5, side * 2 // 3 + 1):
        for rise in range(-2, 3):
            one = crops[:, max(0, rise) : side + min(0, rise), shift:].flatten(1)
            other = others[:, max(0, -rise) : side - max(0, rise), : side - shift].flatten(1)
            one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
            size = one.norm(dim=1) * other.norm(dim=1)
            found = (one * other).sum(1) / size.clamp(min=1e-12)
            best = torch.where(size > 1e-6, torch.maximum(best, found), best)
    return best
