"""A Closer Look at Memorization: how real data, noise for images and noise for labels are learned differently.

`p_correct`: how often each example is classified correctly, over many initialisations and orders.
`filters`: first-layer filters of a ConvNet trained on real and on random labels.
`csr`: the critical sample ratio in the course of training, and at its end by radius and iterations.
`randx_moments`: noise of the data's moments or N(0, 1) × critical samples among its own kind or among real images.
`regularisation`: accuracy on random labels seen in training against accuracy on real data not seen, by regulariser.
`partial_noise`: validation accuracy in the course of training where a share of the labels is random.

Pixels lie in [0, 1], so that the paper's radius is .3 / 255. RandX is Gaussian noise with the mean and variance of each channel
of the training images; the original post drew N(0, 1), which is an arm. RandY draws all labels anew, so that one in ten is
right by chance. A subset of a data set is drawn by the seed, never its first images. Nothing is chosen on the test set.

Ledger of `laptop` in CPU-seconds, from single steps timed on one core (an update of the MLP of 512 units 6 ms, of 256 units 4
ms; of the ConvNet of 32 channels 41 ms, of 84 channels 91 ms; an iteration of a search around 250 examples .29 s):
`p_correct` 9 runs × 195 = 1,750, `filters` 6 × 75 = 450, `csr` 15 × 190 = 2,850, `randx_moments` 10 × 80 = 800,
`regularisation` 72 × 10 = 720, `partial_noise` 15 × 10 = 150; in all 6,700. The last two have a rate, chosen by accuracy on
random training labels alone, at which the network without a regulariser fits them.

Source: Arpit et al. (2017), A Closer Look at Memorization in Deep Networks, arXiv 1706.05394; the original post's code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, singledispatch
from itertools import product
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from lib.convnets import convnet, initialise
from lib.core import Config, Context, InputError, Profile, Result
from lib.methods.lass import critical_sample_ratio, lass
from lib.methods.memorization import dispersion, random_inputs, random_labels
from lib.nets import mlp
from lib.schedules import every
from lib.stacking import StackedBatches, StackedModules
from lib.training import Learner, ModuleLearner, derived_generator, derived_seed, fit

POST = "nn-memorization"
Kind = Literal["real", "randx", "randx_unit", "randy"]
"""`randx`: noise with the data's moments; `randx_unit`: N(0, 1), the original's; `randy`: random labels."""
Regulariser = Literal["none", "dropout", "weight_decay", "input_noise"]
ALPHA, BETA = 0.25 / 255, 0.2 / 255
POSTED_RADIUS, POSTED_ITERATIONS = 40 / 255, 10
"""The search of the original's curves."""


# --- configs -------------------------------------------------------------------------------------------------------


class Setting(Config, post=POST):
    """What every run of this post decides.

    data, images: data set, and how many of its training images are used (None: all). width: of the network: channels of
    both convolutions of the ConvNet (the paper: 200), or units of both hidden layers of the MLP (the paper: 4096).
    """

    data: str
    images: int | None
    width: int
    epochs: int
    batch_size: int
    lr: float
    seed: int


class PCorrect(Setting, experiment="p_correct"):
    """MLPs, each with an initialisation and an order of its own, on the same examples.

    first: after how many epochs examples are looked at besides the end. members: how many networks; together: how many of
    them are trained as one. tested: how many test images are looked at.
    """

    kind: Kind
    first: int
    members: int
    together: int
    tested: int


class Filters(Setting, experiment="filters"):
    """One ConvNet; `shown` of its first-layer filters are kept."""

    kind: Kind
    shown: int


class Csr(Setting, experiment="csr"):
    """One ConvNet, searched every `interval` epochs with radius r / 255 and `iterations`, and at the end with all of `radii` ×
    `budgets`. searched: how many examples not seen in training.
    """

    kind: Kind
    searched: int
    interval: int
    r: float
    iterations: int
    radii: tuple[float, ...]
    budgets: tuple[int, ...]


class RandxMoments(Setting, experiment="randx_moments"):
    """One ConvNet trained on noise, searched at the end around fresh noise of its kind and around real test images."""

    kind: Kind
    searched: int
    r: float
    iterations: int


class Regularisation(Setting, experiment="regularisation"):
    """One MLP. strength: the share of units dropped, the weight decay, or the deviation of Gaussian noise on the pixels."""

    kind: Kind
    regulariser: Regulariser
    strength: float
    tested: int


class PartialNoise(Setting, experiment="partial_noise"):
    """One MLP on real images, with `share` of the labels drawn anew; both accuracies every `interval` epochs."""

    share: float
    interval: int
    tested: int


@dataclass(frozen=True)
class _Plan:
    """What a profile computes; fields of the configs by experiment."""

    data: str
    seeds: int
    close_seeds: int
    p_correct: dict[str, Any]
    filters: dict[str, Any]
    csr: dict[str, Any]
    randx_moments: dict[str, Any]
    regularisation: dict[str, Any]
    partial_noise: dict[str, Any]
    strengths: dict[Regulariser, tuple[float, ...]]
    shares: tuple[float, ...]


RADII, BUDGETS = (0.1, 0.3, 1.0, 2.0, 8.0), (10, 20, 100)
STRENGTHS: dict[Regulariser, tuple[float, ...]] = {
    "none": (0.0,),
    "dropout": (0.2, 0.4, 0.6, 0.8, 0.9),
    "weight_decay": (1e-3, 3e-3, 1e-2),
    "input_noise": (0.1, 0.2, 0.4),
}

PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        data="shapes",
        seeds=2,
        close_seeds=2,
        p_correct={
            "images": 256, "width": 32, "epochs": 6, "batch_size": 32, "lr": 0.01, "first": 1, "members": 6,
            "together": 6, "tested": 256,
        },
        filters={"images": 256, "width": 12, "epochs": 4, "batch_size": 64, "lr": 0.01, "shown": 12},
        csr={
            "images": 256, "width": 8, "epochs": 6, "batch_size": 64, "lr": 0.01, "searched": 20, "interval": 3, "r": 0.3,
            "iterations": 10, "radii": (0.3, 8.0), "budgets": (10,),
        },
        randx_moments={
            "images": 256, "width": 8, "epochs": 6, "batch_size": 64, "lr": 0.01, "searched": 20, "r": 0.3, "iterations": 10,
        },
        regularisation={"images": 128, "width": 32, "epochs": 8, "batch_size": 64, "lr": 0.05, "tested": 200},
        partial_noise={
            "images": 128, "width": 32, "epochs": 15, "batch_size": 64, "lr": 0.05, "interval": 5, "tested": 200,
        },
        strengths={"none": (0.0,), "dropout": (0.8,), "weight_decay": (1e-2,), "input_noise": (0.2,)},
        shares=(0.0, 0.4, 0.8),
    ),
    "laptop": _Plan(
        data="cifar10-jpeg",
        seeds=3,
        close_seeds=5,
        p_correct={
            "images": 5000, "width": 512, "epochs": 10, "batch_size": 32, "lr": 0.01, "first": 1, "members": 20,
            "together": 1, "tested": 5000,
        },
        filters={"images": 5000, "width": 84, "epochs": 10, "batch_size": 64, "lr": 0.01, "shown": 84},
        csr={
            "images": 2000, "width": 32, "epochs": 40, "batch_size": 64, "lr": 0.01, "searched": 150, "interval": 8, "r": 0.3,
            "iterations": 100, "radii": RADII, "budgets": BUDGETS,
        },
        randx_moments={
            "images": 2000, "width": 32, "epochs": 40, "batch_size": 64, "lr": 0.01, "searched": 150, "r": 0.3,
            "iterations": 100,
        },
        regularisation={"images": 500, "width": 256, "epochs": 128, "batch_size": 16, "lr": 0.005, "tested": 2000},
        partial_noise={
            "images": 500, "width": 256, "epochs": 128, "batch_size": 16, "lr": 0.005, "interval": 8, "tested": 2000,
        },
        strengths=STRENGTHS,
        shares=(0.0, 0.2, 0.4, 0.6, 0.8),
    ),
    "full": _Plan(
        data="cifar10",
        seeds=3,
        close_seeds=5,
        p_correct={
            "images": None, "width": 4096, "epochs": 10, "batch_size": 256, "lr": 0.01, "first": 1, "members": 100,
            "together": 20, "tested": 10_000,
        },
        filters={"images": None, "width": 200, "epochs": 10, "batch_size": 256, "lr": 0.01, "shown": 84},
        csr={
            "images": None, "width": 200, "epochs": 140, "batch_size": 256, "lr": 0.01, "searched": 2000, "interval": 10,
            "r": 0.3, "iterations": 100, "radii": RADII, "budgets": BUDGETS,
        },
        randx_moments={
            "images": None, "width": 200, "epochs": 140, "batch_size": 256, "lr": 0.01, "searched": 2000, "r": 0.3,
            "iterations": 100,
        },
        regularisation={"images": 10_000, "width": 1024, "epochs": 200, "batch_size": 64, "lr": 0.005, "tested": 10_000},
        partial_noise={
            "images": None, "width": 1024, "epochs": 100, "batch_size": 64, "lr": 0.005, "interval": 2, "tested": 10_000,
        },
        strengths=STRENGTHS,
        shares=(0.0, 0.2, 0.4, 0.6, 0.8),
    ),
}  # fmt: skip
KINDS: tuple[Kind, ...] = ("real", "randx", "randy")


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile."""
    return list(_configs(PLANS[profile]))


def _configs(plan: _Plan) -> Iterator[Config]:
    for kind, seed in product(KINDS, range(plan.seeds)):
        yield PCorrect(data=plan.data, kind=kind, seed=seed, **plan.p_correct)
    for kind, seed in product(cast(tuple[Kind, ...], ("real", "randy")), range(plan.seeds)):
        yield Filters(data=plan.data, kind=kind, seed=seed, **plan.filters)
    for kind, seed in product(KINDS, range(plan.close_seeds)):
        yield Csr(data=plan.data, kind=kind, seed=seed, **plan.csr)
    for kind, seed in product(cast(tuple[Kind, ...], ("randx", "randx_unit")), range(plan.close_seeds)):
        yield RandxMoments(data=plan.data, kind=kind, seed=seed, **plan.randx_moments)
    for kind, seed in product(cast(tuple[Kind, ...], ("real", "randy")), range(plan.seeds)):
        for regulariser, strengths in plan.strengths.items():
            for strength in strengths:
                yield Regularisation(
                    data=plan.data, kind=kind, regulariser=regulariser, strength=strength, seed=seed, **plan.regularisation
                )  # fmt: skip
    for share, seed in product(plan.shares, range(plan.seeds)):
        yield PartialNoise(data=plan.data, share=share, seed=seed, **plan.partial_noise)


# --- what runs share -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """Examples of one kind, pixels in [0, 1]: those to train on, test images of the data set, and fresh ones of the kind."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    own_images: Tensor
    pixels: Tensor
    n_classes: int


def sets(config: Setting, kind: Kind, context: Context, tested: int, share: float = 1.0) -> Sets:
    """The examples of a run. share: of the labels that are drawn anew, where the kind is `randy`."""
    data = context.data(config.data)
    count = len(data.train.labels) if config.images is None else config.images
    for name, value, most in (
        ("images", count, len(data.train.labels)),
        ("tested or searched", tested, len(data.test.labels)),
    ):
        if not 2 <= value <= most:
            raise InputError(f"{name} is {value}; 2 to {most} is wanted")
    images, labels = _drawn(data.train.images, data.train.labels, count, config.seed, "train")
    # The same test images for all seeds: what differs between them is the training.
    pixels, test_labels = _drawn(data.test.images, data.test.labels, tested, 0, "test")
    real, test = images.float() / 255, pixels.float() / 255
    own = test
    n_classes = len(data.classes)
    generator = derived_generator(config.seed, kind)
    if kind == "randx":
        both = random_inputs(_repeated(real, len(real) + tested), generator)
        real, own = both[:count], both[count:]
    elif kind == "randx_unit":
        both = torch.randn(len(real) + tested, *real.shape[1:], generator=generator).to(real)
        real, own = both[:count], both[count:]
    elif kind == "randy":
        labels = random_labels(labels, n_classes, share, generator)
    return Sets(real, labels.long(), test, test_labels.long(), own, pixels, n_classes)


def _repeated(images: Tensor, count: int) -> Tensor:
    """So many images, the first ones again where there are fewer: for their shape and, nearly, their moments."""
    return images[torch.arange(count, device=images.device) % len(images)]


def _drawn(images: Tensor, labels: Tensor, count: int, seed: int, part: str) -> tuple[Tensor, Tensor]:
    """So many images and their labels, drawn without replacement: a data set may be sorted by class."""
    chosen = torch.randperm(len(labels), generator=derived_generator(seed, "subset", part))[:count]
    chosen = chosen.to(labels.device)
    return images[chosen], labels[chosen]


class Examples:
    """The batch of any step from resident inputs of any real numbers; a pass has an order of its own, by (seed, pass).

    noise: deviation of Gaussian noise on the inputs, drawn anew for each step.
    """

    def __init__(
        self, inputs: Tensor, labels: Tensor, batch_size: int, seed: int, noise: float = 0.0
    ) -> None:
        if not 1 <= batch_size <= len(labels):
            raise InputError(f"batch_size is {batch_size}; 1 to {len(labels)} is wanted")
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self.seed, self.noise = seed, noise
        # A last batch of one example could not be normalised, so the remainder waits for the next pass.
        self.per_pass = len(labels) // batch_size
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels of step `step` (from 0)."""
        number, place = divmod(step, self.per_pass)
        if number != self._pass:
            order = torch.randperm(len(self.labels), generator=derived_generator(self.seed, "pass", number))
            self._pass, self._order = number, order.to(self.labels.device)
        picked = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        inputs = self.inputs[picked]
        if self.noise:
            drawn = torch.randn(inputs.shape, generator=derived_generator(self.seed, "noise", step))
            inputs = inputs + self.noise * drawn.to(inputs)
        return inputs, self.labels[picked]


def _examples(config: Setting, found: Sets, noise: float = 0.0) -> Examples:
    return Examples(found.images, found.labels, config.batch_size, derived_seed(config.seed, "order"), noise)


def right(logits: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    """(members, n): whether each member's answer to each example is its label. logits: answers (members, batch, classes)."""
    parts = zip(inputs.split(1000), labels.split(1000), strict=True)
    with torch.no_grad():
        return torch.cat([logits(chunk).argmax(-1) == truth for chunk, truth in parts], 1)


def _accuracies(found: Sets) -> Callable[[Learner], dict[str, list[float]]]:
    """On the examples trained on, with the labels trained on, and on the real test images."""

    def validate(learner: Learner) -> dict[str, list[float]]:
        return {
            "train_accuracy": right(learner.logits, found.images, found.labels).double().mean(1).tolist(),
            "test_accuracy": right(learner.logits, found.test_images, found.test_labels).double().mean(1).tolist(),
        }  # fmt: skip

    return validate


def _convnet(config: Setting, found: Sets) -> nn.Module:
    """The paper's ConvNet, or one of another width in proportion."""
    hidden = (round(config.width * 384 / 200), round(config.width * 192 / 200))
    network = convnet(
        (config.width, config.width),
        hidden,
        n_classes=found.n_classes,
        in_channels=found.images.shape[1],
        image_size=found.images.shape[-1],
        init="kaiming_normal_fan_out",
        linear="xavier_uniform",
        generator=derived_generator(config.seed, "weights"),
    )
    return network.to(found.images.device)


def _mlp(width: int, found: Sets, generator: torch.Generator, dropout: float = 0.0) -> nn.Sequential:
    """Two hidden layers, Xavier's weights and no biases at first; dropout behind each hidden layer."""
    size = found.images[0].numel()
    network = mlp((size, width, width, found.n_classes), generator=generator)
    initialise(network, "xavier_uniform", generator=generator)
    if dropout:
        parts = [[part, nn.Dropout(dropout)] if isinstance(part, nn.ReLU) else [part] for part in network]
        network = nn.Sequential(*(part for pair in parts for part in pair))
    return network.to(found.images.device)


def _trained(
    config: Setting,
    network: nn.Module,
    batches: Examples,
    validate: Callable[[Learner], dict[str, list[float]]],
    context: Context,
    interval: int,
    *,
    halved: bool = True,
    **options: Any,
) -> dict[str, list[float]]:
    """Train to the last epoch; the series of what `validate` gives, every `interval` epochs; nothing where it diverged.

    halved: the rate, every 15 epochs, as the paper does with its ConvNet.
    """
    optimiser = torch.optim.SGD(network.parameters(), lr=config.lr, **options)
    found = fit(
        ModuleLearner(network, optimiser),
        batches,
        validate,
        max_steps=config.epochs * batches.per_pass,
        eval_every=interval * batches.per_pass,
        watch="train_accuracy",
        schedule=every(15 * batches.per_pass) if halved else None,
        checkpoint=context.checkpoint,
        checkpoint_every=batches.per_pass,
        progress=context.progress,
        seed=config.seed,
    )
    if found.diverged[0]:
        return {}
    return {name: values[0] for name, values in found.series.items()}


# --- runs ----------------------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")


@run.register
def p_correct(config: PCorrect, context: Context) -> Result:
    """Counts of correct answers by example, on the training and the test images, after `first` epochs and at the end."""
    found = sets(config, config.kind, context, config.tested)
    if not 1 <= config.first <= config.epochs:
        raise InputError(f"first is {config.first}; 1 to {config.epochs} is wanted")
    chunks = [range(start, min(start + config.together, config.members)) for start in range(0, config.members, config.together)]  # fmt: skip
    # (first and end) × examples; a chunk that is done is never trained again.
    state = context.checkpoint.load() or {
        "done": 0,
        "train": torch.zeros(2, len(found.labels), dtype=torch.int64),
        "test": torch.zeros(2, len(found.test_labels), dtype=torch.int64),
    }
    for number in range(state["done"], len(chunks)):
        for place, learner in enumerate(_members(config, found, chunks[number])):
            state["train"][place] += right(learner.logits, found.images, found.labels).sum(0).cpu()
            state["test"][place] += right(learner.logits, found.test_images, found.test_labels).sum(0).cpu()
        state["done"] = number + 1
        context.progress(number + 1, len(chunks))
        if context.checkpoint.due():
            context.checkpoint.save(state)
    metrics: dict[str, float] = {}
    for place, when in enumerate(("first", "last")):
        for part in ("train", "test"):
            counts = state[part][place]
            metrics[f"{part}_{when}"] = counts.double().mean().item() / config.members
            metrics[f"dispersion_{part}_{when}"] = dispersion(counts, config.members)
    arrays = {name: state[name].to(torch.int16).numpy() for name in ("train", "test")}
    if config.kind == "real":
        # Of the test images at the end, by what was trained on real data: the original took another array, sorted before.
        order = state["test"][1].argsort(stable=True)
        for name, chosen in (("hardest", order[:10]), ("easiest", order[-10:])):
            arrays[name] = found.pixels[chosen.to(found.pixels.device)].cpu().numpy()
            arrays[f"{name}_labels"] = found.test_labels.cpu()[chosen].numpy()
    return Result(metrics, {}, arrays)


def _members(config: PCorrect, found: Sets, members: range) -> Iterator[Learner]:
    """Networks trained for `first` epochs, and then to the end; each has its own weights and order."""
    seeds = [derived_seed(config.seed, "member", member) for member in members]
    networks = [_mlp(config.width, found, derived_generator(seed, "weights")) for seed in seeds]
    orders = [
        Examples(found.images, found.labels, config.batch_size, derived_seed(seed, "order")) for seed in seeds
    ]
    learner: Learner
    batches: Callable[[int], tuple[Tensor, Tensor]]
    if len(networks) == 1:
        learner = ModuleLearner(networks[0], torch.optim.SGD(networks[0].parameters(), lr=config.lr))
        batches = orders[0]
    else:
        learner = StackedModules(networks, partial(torch.optim.SGD, lr=config.lr), own_batches=True)
        batches = StackedBatches(orders)
    epoch, ended = orders[0].per_pass, 0
    for epochs in dict.fromkeys((config.first, config.epochs)):
        steps = (epochs - ended) * epoch
        fit(
            learner,
            partial(_later, batches, ended * epoch),
            lambda learner: {"accuracy": [0.0] * learner.members},
            max_steps=steps,
            eval_every=steps,
        )
        ended = epochs
        yield learner
    if config.first == config.epochs:
        yield learner


def _later(batches: Callable[[int], tuple[Tensor, Tensor]], steps: int, step: int) -> tuple[Tensor, Tensor]:
    return batches(steps + step)


@run.register
def filters(config: Filters, context: Context) -> Result:
    """First-layer filters, and how much neighbouring weights of a filter agree: correlation, before and after training."""
    found = sets(config, config.kind, context, 2)
    network = _convnet(config, found)
    first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    if not 1 <= config.shown <= config.width:
        raise InputError(f"shown is {config.shown}; 1 to {config.width} is wanted")
    before = smoothness(first.weight)
    series = _trained(
        config, network, _examples(config, found), _accuracies(found), context, config.epochs, momentum=0.9
    )
    if not series:
        return Result(outcome="diverged")
    metrics = {
        "smoothness": smoothness(first.weight),
        "smoothness_before": before,
        "train_accuracy": series["train_accuracy"][-1],
    }
    kept = first.weight[: config.shown].detach().half().cpu().numpy()
    return Result(metrics, {}, {"filters": kept})


def smoothness(weight: Tensor) -> float:
    """Correlation of each weight of a filter with its right and lower neighbour, over all filters of (n, c, h, w)."""
    w = weight.detach().double()
    w = w - w.mean((-2, -1), keepdim=True)
    pairs = [(w[..., :, 1:], w[..., :, :-1]), (w[..., 1:, :], w[..., :-1, :])]
    together = sum((a * b).sum() for a, b in pairs)
    apart = sum((a.square().sum() * b.square().sum()).sqrt() for a, b in pairs)
    return float(together / apart)


@run.register
def csr(config: Csr, context: Context) -> Result:
    """Critical sample ratios around fresh examples of the kind and around real test images.

    grid: radii × iterations, at the end. posted: the original's radius and iterations on real images; posted_move: the
    furthest that any pixel went in this search, in 255ths.
    """
    found = sets(config, config.kind, context, config.searched)
    network = _convnet(config, found)

    def searched(inputs: Tensor, r: float, iterations: int) -> float:
        generator = derived_generator(config.seed, "search")
        return critical_sample_ratio(
            network, inputs, r=r / 255, alpha=ALPHA, beta=BETA, max_iterations=iterations, generator=generator
        )

    def validate(learner: Learner) -> dict[str, list[float]]:
        own = searched(found.own_images, config.r, config.iterations)
        same = found.own_images is found.test_images
        real = own if same else searched(found.test_images, config.r, config.iterations)
        return {**_accuracies(found)(learner), "own": [own], "real": [real]}

    series = _trained(
        config, network, _examples(config, found), validate, context, config.interval, momentum=0.9
    )
    if not series:
        return Result(outcome="diverged")
    grid = [[searched(found.own_images, r, budget) for budget in config.budgets] for r in config.radii]
    posted = lass(
        network, found.test_images, r=POSTED_RADIUS, alpha=ALPHA, beta=BETA, max_iterations=POSTED_ITERATIONS,
        generator=derived_generator(config.seed, "search"),
    )  # fmt: skip
    metrics = {
        "own_last": series["own"][-1],
        "real_last": series["real"][-1],
        "posted": posted.ratio,
        "posted_move": 255 * (posted.adversarial - found.test_images).abs().max().item(),
        "train_accuracy": series["train_accuracy"][-1],
        "test_accuracy": series["test_accuracy"][-1],
    }
    return Result(metrics, series, {"grid": np.array(grid), **_pair(network, found, config)})


def _pair(network: nn.Module, found: Sets, config: Csr) -> dict[str, np.ndarray]:
    """A test image, what the search found, both answers and the label: the first that is critical and classified correctly, or
    else the first that is critical, or else, where none is, one for which the search found nothing.
    """
    search = lass(
        network, found.test_images, r=config.r / 255, alpha=ALPHA, beta=BETA, max_iterations=config.iterations,
        generator=derived_generator(config.seed, "search"),
    )  # fmt: skip
    rank = search.critical.int() * 2 + (search.before == found.test_labels).int()
    one = int(rank.argmax())
    return {
        "example": found.test_images[one].cpu().numpy(),
        "adversarial": search.adversarial[one].cpu().numpy(),
        "answers": np.array([int(search.before[one]), int(search.after[one]), int(found.test_labels[one])]),
    }


@run.register
def randx_moments(config: RandxMoments, context: Context) -> Result:
    """The ratio around fresh noise and around real images, also by the original's search (`posted_`); top_share: those with the
    commonest answer.
    """
    found = sets(config, config.kind, context, config.searched)
    network = _convnet(config, found)
    series = _trained(
        config, network, _examples(config, found), _accuracies(found), context, config.epochs, momentum=0.9
    )
    if not series:
        return Result(outcome="diverged")
    metrics = {"train_accuracy": series["train_accuracy"][-1]}
    for name, inputs in (("own", found.own_images), ("on_real", found.test_images)):
        search = lass(
            network, inputs, r=config.r / 255, alpha=ALPHA, beta=BETA, max_iterations=config.iterations,
            generator=derived_generator(config.seed, "search"),
        )  # fmt: skip
        metrics[name] = search.ratio
        posted = lass(
            network, inputs, r=POSTED_RADIUS, alpha=ALPHA, beta=BETA, max_iterations=POSTED_ITERATIONS,
            generator=derived_generator(config.seed, "search"),
        )  # fmt: skip
        metrics[f"posted_{name}"] = posted.ratio
        answers = search.before.bincount(minlength=found.n_classes)
        metrics[f"top_share_{name}"] = (answers.max() / len(inputs)).item()
    return Result(metrics)


@run.register
def regularisation(config: Regularisation, context: Context) -> Result:
    """Accuracy on the examples trained on, and on real test images, after the last epoch."""
    found = sets(config, config.kind, context, config.tested)
    strengths = {config.regulariser: config.strength}
    network = _mlp(
        config.width, found, derived_generator(config.seed, "weights"), strengths.get("dropout", 0.0)
    )
    series = _trained(
        config, network, _examples(config, found, strengths.get("input_noise", 0.0)), _accuracies(found), context,
        config.epochs, halved=False, momentum=0.9, fused=True, weight_decay=strengths.get("weight_decay", 0.0),
    )  # fmt: skip
    if not series:
        return Result(outcome="diverged")
    return Result({name: series[name][-1] for name in ("train_accuracy", "test_accuracy")})


@run.register
def partial_noise(config: PartialNoise, context: Context) -> Result:
    """Both accuracies by epoch; best: the highest of test accuracy (a fact about the curve, not a choice); fall: best minus last."""
    found = sets(config, "randy", context, config.tested, config.share)
    network = _mlp(config.width, found, derived_generator(config.seed, "weights"))
    series = _trained(
        config,
        network,
        _examples(config, found),
        _accuracies(found),
        context,
        config.interval,
        halved=False,
        momentum=0.9,
        fused=True,
    )
    if not series:
        return Result(outcome="diverged")
    accuracies = series["test_accuracy"]
    best = max(accuracies)
    metrics = {
        "best": best,
        "last": accuracies[-1],
        "fall": best - accuracies[-1],
        "best_epoch": config.interval * (accuracies.index(best) + 1),
        "train_accuracy": series["train_accuracy"][-1],
    }
    return Result(metrics, series)
