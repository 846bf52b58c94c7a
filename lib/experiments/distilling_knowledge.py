"""Distilling the Knowledge in a Neural Network: what a small network learns from a large one's answers, on MNIST.

`teacher`: the networks that others learn from, as artifacts with their logits for all training images. `transfer`:
students with hard and with soft labels, for equal epochs. `teacher_quality`: the same students, worse teachers.
`temperature`: temperatures × weights × widths, one stack a width. `omitted_digit`: transfer sets without some digits, and
three ways to set the bias of what was never seen; `each_digit`: each in turn. `transfer_set`: jitter, less data, no labels. `relatives`: label
smoothing, shuffled soft labels, logit matching, self-distillation, mutual learning, hints. `mistakes`: the original's.
`slopes`: the gradient against the temperature, and what clamping weights in the forward pass does.

The corrected protocol: inputs in [0, 1]; 5,000 training images held out, never jittered; Adam with a cosine to zero; the
teacher alone has dropout, max-norm and jitter; students run for the same number of epochs, and the epoch is chosen on the
images held out (of the digits that the transfer set has); the test set decides nothing. A seed is a replicate from end to
end, teacher included. Arms of a run start from the same weights and see the same batches.

Source: Hinton, Vinyals and Dean (2015), arXiv 1503.02531, sections 2, 2.1 and 3; the original post's code. Relatives:
arXiv 1805.04770 (born again), 1706.00384 (mutual learning), 1412.6550 (FitNets), 1512.00567 (label smoothing).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.adam import MixedAdam
from lib.augment import AugmentedBatches
from lib.core import Config, Context, InputError, Profile, Result
from lib.data.images import ImageSet, Split
from lib.methods.soft_labels import (
    answers,
    best_bias,
    distillation_loss,
    entropy,
    logit_matching_loss,
    matching_bias,
    shuffled,
    smoothed,
    soft_cross_entropy,
    soften,
)
from lib.nets import ByteDropout, initialise_linear, mlp
from lib.schedules import cosine
from lib.stacking import StackedPerceptrons
from lib.training import (
    Batches,
    Learner,
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

POST = "distilling-knowledge"
Kind = Literal["hard", "soft", "smoothed", "shuffled", "matched", "mutual", "hint"]
Arm = tuple[Kind, float, float]
"""Kind, temperature, and weight a of what is not the hard label (for `smoothed` its ε; for `hint` that of the hint)."""

HARD: Arm = ("hard", 1.0, 0.0)
Precision = Literal["float32", "bfloat16"]


# --- configs -------------------------------------------------------------------------------------------------------


class Training(Config, post=POST):
    """What every training of this post decides.

    images: training images used, from the first. validation: training images held out, from the last. hidden: units in
    each of the two hidden layers. jitter: pixels by which training images are shifted at most. patience: epochs without
    an improvement after which a network stops; 0 runs all.
    """

    data: str
    images: int
    validation: int
    hidden: int
    epochs: int
    batch_size: int
    lr: float
    jitter: int
    patience: int
    precision: Precision
    seed: int


class Teacher(Training, experiment="teacher"):
    """A network trained on hard labels; its artifact is its state and its logits for all training images.

    max_norm: the longest incoming weight vector of a unit, 0 for no limit. jittered_validation: the original's mistake, the
    epoch chosen on validation images that are jittered too.
    """

    dropout: float
    max_norm: float
    jittered_validation: bool


class Students(Training):
    """Students of one teacher, one for each arm, trained together.

    omitted: digits that the transfer set does not have, nor the images on which the epoch is chosen.
    """

    teacher: Teacher
    arms: tuple[Arm, ...]
    omitted: tuple[int, ...]


class Transfer(Students, experiment="transfer"):
    """Hard labels beside soft ones."""


class TeacherQuality(Students, experiment="teacher_quality"):
    """The same with a teacher that was trained for fewer epochs."""


class Temperature(Students, experiment="temperature"):
    """Many temperatures and weights at one width."""


class OmittedDigit(Students, experiment="omitted_digit"):
    """A transfer set without some digits."""


class EachDigit(Students, experiment="each_digit"):
    """A transfer set without one digit, each in turn, for fewer epochs."""


class TransferSet(Students, experiment="transfer_set"):
    """Other transfer sets: jittered, smaller, without labels; equal numbers of updates."""


class Relatives(Students, experiment="relatives"):
    """Relatives and controls."""


class Mistakes(Students, experiment="mistakes"):
    """As posted: a teacher chosen on jittered images, T = 4 and a = .5, patience."""


class Slopes(Config, post=POST, experiment="slopes"):
    """How the gradient of a softened cross-entropy shrinks with the temperature, at the logits of a `student`.

    shown: temperatures of the figure of probabilities.
    """

    teacher: Teacher
    student: Teacher
    temperatures: tuple[float, ...]
    shown: tuple[float, ...]
    data: str
    seed: int


# --- profiles ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """What a profile computes.

    common: fields of every training. part: a tenth of the images. epochs: by experiment; `other` for those without. student,
    relative: units of the students of the decisive experiments, and of the others. close, seeds: how many seeds both have.
    """

    common: dict[str, Any]
    part: int
    teacher: dict[str, Any]
    student: int
    worse: tuple[int, ...]
    close: int
    seeds: int
    epochs: dict[str, int]
    arms: tuple[Arm, ...]
    omitted_arms: tuple[Arm, ...]
    digits: tuple[int, ...]
    few: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]
    temperatures: tuple[float, ...]
    weights: tuple[float, ...]
    relative: int
    slopes: tuple[float, ...] = field(default=(1.0, 2.0, 4.0, 8.0, 20.0, 40.0, 100.0, 300.0, 1000.0))


_TEACHER = {"hidden": 1200, "jitter": 2, "dropout": 0.5, "max_norm": 2.0}
_REAL = {"data": "mnist", "images": 55_000, "validation": 5_000, "batch_size": 128, "lr": 1e-3, "patience": 0}
_ARMS: tuple[Arm, ...] = (HARD, ("soft", 4.0, 0.9), ("soft", 20.0, 1.0))

# The ledger of laptop, measured, in CPU-seconds of one thread with bfloat16 and batches of 128. teacher 2,640: eight of 40 epochs,
# three of them with jittered validation, at 167 to 278 (five made alone on the machine) and 264 to 337 (beside another sweep),
# and worse, small and part ones. transfer: three arms of 25 epochs, five seeds, 1,260. omitted_digit: no 3, three arms of 12
# epochs, five seeds, 7 and 8 alone, and jittered ones, 980. temperature: 13 students, 10 epochs, three seeds at 300 units, five
# at 100 and 30: 910. Others have students of 300 units, 10 epochs or as many updates, three seeds: teacher_quality 200,
# transfer_set 390, relatives 490, mistakes 60; each_digit, one arm of 5 epochs, 270. In all 7,195. Left to full: 200 epochs, all
# pairs of digits, all temperatures, 800 units in all experiments, five seeds throughout.
PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        common={
            **_REAL,
            "data": "digits",
            "images": 1000,
            "validation": 300,
            "batch_size": 50,
            "lr": 5e-3,
            "precision": "float32",
        },
        part=100,
        teacher={**_TEACHER, "hidden": 64, "dropout": 0.25},
        student=32,
        worse=(1,),
        close=2,
        seeds=2,
        epochs={"teacher": 8, "transfer": 6, "omitted_digit": 6, "other": 4},
        arms=_ARMS,
        omitted_arms=_ARMS,
        digits=(3, 8),
        few=((7, 8),),
        widths=(8, 32),
        temperatures=(1.0, 4.0, 20.0),
        weights=(0.5, 1.0),
        relative=16,
    ),
    "laptop": _Plan(
        common={**_REAL, "precision": "bfloat16"},
        part=5_500,
        teacher=_TEACHER,
        student=800,
        worse=(2, 8),
        close=5,
        seeds=3,
        epochs={
            "teacher": 40,
            "tenth": 100,
            "transfer": 25,
            "omitted_digit": 12,
            "digit": 5,
            "other": 10,
            "temperature": 10,
        },
        arms=_ARMS,
        omitted_arms=_ARMS,
        digits=tuple(range(10)),
        few=((7, 8),),
        widths=(30, 100, 300),
        temperatures=(1.0, 2.0, 4.0, 8.0, 20.0, 40.0),
        weights=(0.5, 1.0),
        relative=300,
    ),
    "full": _Plan(
        common={**_REAL, "precision": "float32"},
        part=5_500,
        teacher=_TEACHER,
        student=800,
        worse=(2, 8, 40),
        close=5,
        seeds=5,
        epochs={"teacher": 200, "tenth": 600, "transfer": 200, "omitted_digit": 60, "other": 60},
        arms=(HARD, *(("soft", t, a) for t in (4.0, 20.0) for a in (0.5, 0.9, 1.0))),
        omitted_arms=_ARMS,
        digits=tuple(range(10)),
        few=tuple((i, j) for i in range(10) for j in range(i + 1, 10)),
        widths=(30, 100, 300, 800),
        temperatures=(1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0, 40.0),
        weights=(0.5, 0.9, 1.0),
        relative=800,
    ),
}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile; teachers first, then what decides most."""
    plan = PLANS[profile]
    out: list[Config] = []
    for seed in range(plan.close):
        out += [_teacher(plan, seed), *_decisive(plan, seed)]
    for seed in range(plan.seeds):
        out += _others(plan, seed)
    for seed in range(plan.seeds, plan.close):  # narrow students cost little
        out += _temperatures(plan, seed, plan.widths[:-1])
    return list(dict.fromkeys(out))


def _teacher(plan: _Plan, seed: int, **changes: Any) -> Teacher:
    fields: dict[str, Any] = {
        **plan.common,
        **plan.teacher,
        "epochs": plan.epochs["teacher"],
        "jittered_validation": False,
        "seed": seed,
    }
    return Teacher(**fields | changes)


def _students(plan: _Plan, kind: type[Students], seed: int, length: str, **changes: Any) -> Students:
    fields: dict[str, Any] = {
        **plan.common,
        "teacher": _teacher(plan, seed),
        "hidden": plan.student,
        "epochs": plan.epochs.get(length, plan.epochs["other"]),
        "jitter": 0,
        "arms": plan.arms,
        "omitted": (),
        "seed": seed,
    }
    return kind(**fields | changes)


def _decisive(plan: _Plan, seed: int) -> list[Config]:
    omitted = partial(_students, plan, OmittedDigit, seed, "omitted_digit", arms=plan.omitted_arms)
    without = [tuple(d for d in range(10) if d not in kept) for kept in plan.few]
    return [
        _students(plan, Transfer, seed, "transfer"),
        omitted(omitted=(3,)),
        *(omitted(omitted=digits, arms=plan.omitted_arms[-1:]) for digits in without),
    ]


def _temperatures(plan: _Plan, seed: int, widths: Sequence[int]) -> list[Students]:
    grid: tuple[Arm, ...] = tuple(("soft", t, a) for t in plan.temperatures for a in plan.weights)
    return [_students(plan, Temperature, seed, "temperature", hidden=h, arms=(HARD, *grid)) for h in widths]


def _others(plan: _Plan, seed: int) -> list[Config]:
    soft = plan.arms[1]
    jitter = plan.teacher["jitter"]
    worse = [_teacher(plan, seed, epochs=epochs) for epochs in plan.worse]
    tenth = _teacher(plan, seed, images=plan.part, epochs=plan.epochs.get("tenth", plan.epochs["teacher"]))
    fewer = {"images": plan.part, "epochs": plan.epochs["other"] * (plan.common["images"] // plan.part)}
    posted = _teacher(plan, seed, jittered_validation=True, patience=7)
    narrow = partial(_students, plan, seed=seed, length="other", hidden=plan.relative)
    transfer_set, relatives = partial(narrow, kind=TransferSet), partial(narrow, kind=Relatives)
    plain = {"hidden": plan.relative, "jitter": 0, "dropout": 0.0, "max_norm": 0.0}
    same = _teacher(plan, seed, **plain, epochs=plan.epochs["other"])
    return [
        *worse,
        tenth,
        posted,
        same,
        Slopes(
            teacher=_teacher(plan, seed),
            student=worse[0],
            temperatures=plan.slopes,
            shown=(1.0, 2.0, 4.0, 8.0, 20.0),
            data=plan.common["data"],
            seed=seed,
        ),
        *(narrow(kind=TeacherQuality, teacher=one, arms=(soft,)) for one in worse),
        narrow(kind=TeacherQuality, arms=(HARD, soft)),
        *_temperatures(plan, seed, plan.widths),
        _students(plan, OmittedDigit, seed, "omitted_digit", omitted=(3,), jitter=jitter, arms=(HARD, soft)),
        *(
            narrow(kind=EachDigit, length="digit", omitted=(d,), arms=plan.omitted_arms[-1:])
            for d in plan.digits
        ),
        transfer_set(arms=(HARD, soft), **fewer),
        transfer_set(arms=(HARD, soft), jitter=jitter),
        # a teacher that has seen a tenth of the labels: its students on that tenth, and on all images without labels
        transfer_set(arms=(HARD, ("soft", soft[1], 1.0)), **fewer, teacher=tenth),
        transfer_set(arms=(("soft", soft[1], 1.0),), teacher=tenth),
        relatives(
            arms=(
                HARD,
                soft,
                ("smoothed", 1.0, 0.1),
                ("shuffled", *soft[1:]),
                ("matched", 1.0, soft[2]),
                ("soft", 40.0, soft[2]),
            )
        ),
        relatives(arms=(soft,), teacher=same),
        relatives(arms=(("mutual", 1.0, 0.5), ("mutual", 1.0, 0.5))),
        relatives(arms=(("hint", soft[1], 0.1),)),
        narrow(kind=Mistakes, teacher=posted, arms=(HARD, ("soft", 4.0, 0.5)), patience=7),
    ]


# --- networks ------------------------------------------------------------------------------------------------------


def network(
    config: Training, n_pixels: int, n_classes: int, *, dropout: float = 0.0, twin: int = 0
) -> nn.Sequential:
    """784-h-h-10 with fresh weights, on the CPU; dropout behind each ReLU. twin: another draw of the weights."""
    sizes = (n_pixels, config.hidden, config.hidden, n_classes)
    layers = list(mlp(sizes, generator=derived_generator(config.seed, "weights", twin)))
    if not dropout:
        return nn.Sequential(*layers)
    with_dropout: list[nn.Module] = []
    for layer in layers:
        with_dropout += [layer, ByteDropout(dropout)] if isinstance(layer, nn.ReLU) else [layer]
    return nn.Sequential(*with_dropout)


class Hinted(nn.Module):
    """A student that, in training, answers its logits and a linear guess at its teacher's first hidden layer."""

    def __init__(self, student: nn.Sequential, n_hints: int, generator: torch.Generator) -> None:
        super().__init__()
        self.below, self.above = student[:3], student[3:]  # flatten, linear, ReLU; the rest
        hidden: nn.Linear = student[1]  # type: ignore[assignment]
        self.guess = nn.utils.skip_init(nn.Linear, hidden.out_features, n_hints)
        initialise_linear(self.guess.weight, self.guess.bias, generator)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.below(x)  # (batch, hidden)
        logits = self.above(hidden)  # (batch, n_classes)
        return torch.cat([logits, self.guess(hidden)], dim=1) if self.training else logits


def clamp_as_posted_(module: nn.Module, limit: float) -> None:
    """The original's max-norm, which its `forward` calls: in every pass, also of an evaluation, and 0 / 0 for a row of zeros."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                norm = layer.weight.norm(2, dim=1, keepdim=True)
                layer.weight *= norm.clamp(max=limit) / norm


# --- students ------------------------------------------------------------------------------------------------------


class Targets(NamedTuple):
    """What a batch of students may learn from: hard labels, the teacher's logits, the same shuffled, and its hidden units."""

    labels: Tensor
    logits: Tensor
    control: Tensor
    hints: Tensor | None = None


def packed(labels: Tensor, logits: Tensor, control: Tensor) -> Tensor:
    """Label, teacher's logits and control as one row of numbers for each image: what `SoftLabelled` carries."""
    return torch.cat([labels[:, None].float(), logits, control], dim=1)


def unpacked(rows: Tensor) -> Targets:
    """The inverse of `packed`."""
    labels, (logits, control) = rows[:, 0].long(), rows[:, 1:].chunk(2, dim=1)
    return Targets(labels, logits, control)


def arm_loss(arm: Arm, logits: Tensor, targets: Targets, partner: Tensor | None = None) -> Tensor:
    """The loss of one arm on a batch. partner: the logits of the other network, for mutual learning."""
    kind, temperature, weight = arm
    n_classes = targets.logits.shape[1]
    distilled = partial(distillation_loss, labels=targets.labels, temperature=temperature, soft_weight=weight)
    if kind == "soft":
        return distilled(logits, targets.logits)
    if kind == "shuffled":
        return distilled(logits, targets.control)
    if kind == "smoothed":
        return soft_cross_entropy(logits, smoothed(targets.labels, n_classes, weight))
    if kind == "mutual" and partner is not None:
        return distilled(logits, partner.detach())
    hard = nn.functional.cross_entropy(logits[:, :n_classes], targets.labels)
    if kind == "matched":
        return weight * logit_matching_loss(logits, targets.logits) + (1 - weight) * hard
    if kind == "hint":
        own, guess = logits[:, :n_classes], logits[:, n_classes:]
        soft = distillation_loss(
            own, targets.logits, targets.labels, temperature=temperature, soft_weight=0.9
        )
        return soft + weight * nn.functional.mse_loss(guess, targets.hints)  # type: ignore[arg-type]
    return hard


class Stack(StackedPerceptrons):
    """Students trained as one, each with a loss of its own: member i has the i-th arm."""

    def __init__(
        self, modules: Sequence[nn.Module], optimizer: Callable[..., Any], arms: Sequence[Arm], **options: Any
    ):
        super().__init__(modules, optimizer, **options)
        self.arms = tuple(arms)

    def step(self, inputs: Tensor, labels: Any, factor: float) -> Tensor:
        self.form.train()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        logits = self._forward(inputs, False)  # (members, batch, n_classes)
        losses = torch.stack([self._loss(place, logits, labels) for place in range(self.members)])
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def _loss(self, place: int, logits: Tensor, targets: Targets) -> Tensor:
        arm = self.arms[self.kept[place]]
        others = [
            logits[other]
            for other in range(self.members)
            if other != place and self.arms[self.kept[other]][0] == "mutual"
        ]
        return arm_loss(arm, logits[place], targets, others[0] if arm[0] == "mutual" and others else None)


# --- data ----------------------------------------------------------------------------------------------------------


def _split(config: Training, context: Context) -> tuple[ImageSet, Split, Split]:
    """The data set, the images to train on, and those held out. Raises InputError where there are too few."""
    data: ImageSet = context.data(config.data)
    there = len(data.train)
    if config.images < 1 or config.validation < 1 or config.images + config.validation > there:
        raise InputError(
            f"images is {config.images} and validation {config.validation}; {there} training images are there"
        )
    return (
        data,
        data.train.subset(slice(config.images)),
        data.train.subset(slice(there - config.validation, None)),
    )


def without(split: Split, omitted: Sequence[int]) -> Tensor:
    """Where the images are whose digit is not omitted."""
    keep = torch.ones(len(split), dtype=torch.bool, device=split.labels.device)
    for digit in omitted:
        keep &= split.labels != digit
    return keep.nonzero()[:, 0]


def _loop(
    config: Training, learner: Learner, batches: Any, per_pass: int, validate: Any, context: Context
) -> Any:
    """The one loop of this post: epochs with a validation after each, a cosine to zero, the best kept."""
    steps = config.epochs * per_pass
    return fit(
        learner,
        batches,
        validate,
        max_steps=steps,
        eval_every=per_pass,
        stopping=lambda: Stopping(config.patience or None),
        schedule=cosine(steps) if steps > 1 else None,
        checkpoint=context.checkpoint,
        progress=context.progress,
        seed=config.seed,
    )


def _dtype(config: Training) -> torch.dtype | None:
    return torch.bfloat16 if config.precision == "bfloat16" else None


def _adam(config: Training, max_norm: float = 0.0) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    """For stacked tensors: of weights (members, n_out, n_in), of biases (members, n_out)."""

    def made(tensors: list[Tensor]) -> MixedAdam:
        weights, biases = ([t for t in tensors if (t.ndim == 3) == wanted] for wanted in (True, False))
        return MixedAdam([{"params": weights, "max_norm": max_norm}, {"params": biases}], lr=config.lr)

    return made


def teacher_learner(config: Teacher, net: nn.Module) -> StackedPerceptrons:
    """Adam with max-norm, in the config's precision."""
    return StackedPerceptrons([net], _adam(config, config.max_norm), autocast=_dtype(config))


def student_learner(config: Students, modules: Sequence[nn.Module]) -> Stack:
    """One student an arm, in the config's precision."""
    return Stack(modules, _adam(config), config.arms, autocast=_dtype(config))


def counts(wrong: Tensor, labels: Tensor, n_classes: int) -> np.ndarray:
    """Errors by class."""
    return torch.bincount(labels[wrong], minlength=n_classes).cpu().numpy()


# --- handlers ------------------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    raise InputError(f"{type(config).__name__} is no experiment of this post")


@run.register
def run_teacher(config: Teacher, context: Context) -> Result:
    """Trained on hard labels; validated on images as they are, or, as posted, jittered."""
    data, train, held = _split(config, context)
    net = network(config, data.train.images[0].numel(), data.n_classes, dropout=config.dropout)
    net.to(data.device)
    batches = AugmentedBatches(
        train.images, train.labels, batch_size=config.batch_size, seed=config.seed, padding=config.jitter
    )
    learner = teacher_learner(config, net)
    plain = validator(held.images, held.labels)
    jittered = AugmentedBatches(
        held.images,
        held.labels,
        batch_size=len(held),
        seed=derived_seed(config.seed, "validation"),
        padding=config.jitter,
    )
    last = [
        0
    ]  # the step before a validation: what its jitter is drawn by, so that a resumed run draws the same

    def counted(step: int) -> tuple[Tensor, Tensor]:
        last[0] = step
        return batches(step)

    def validate(learner: Learner) -> dict[str, list[float]]:
        found = plain(learner)
        if config.jittered_validation:
            inputs, labels = jittered(last[0] // batches.per_pass)
            right = (learner.logits(inputs).argmax(-1) == labels).double().mean(-1)
            found = {"accuracy": right.tolist(), "clean_accuracy": found["accuracy"], "loss": found["loss"]}
        return found

    found = _loop(config, learner, counted, batches.per_pass, validate, context)
    if found.best[0] is None:
        return Result({"epochs_run": found.steps[0] / batches.per_pass}, outcome="diverged")
    learner.restore(found.best)
    net.load_state_dict(found.best[0])
    logits = answers(net, data.train.images, prepare=Scaling())
    tested = evaluate(learner.logits, data.test.images, data.test.labels)
    artifact = {f"net.{name}": tensor.cpu().numpy() for name, tensor in net.state_dict().items()}
    metrics = {
        "test_errors": round((1 - tested.accuracy.item()) * len(data.test)),
        "test_images": len(data.test),
        "val_accuracy": found.best_value[0],
        "clean_val_accuracy": evaluate(learner.logits, held.images, held.labels).accuracy.item(),
        "best_epoch": found.best_step[0] / batches.per_pass,
        "epochs_run": found.steps[0] / batches.per_pass,
    }
    series = {name: values[0] for name, values in found.series.items()}
    return Result(metrics, series, {}, artifact | {"logits": logits.cpu().numpy()})


def _taught(config: Teacher, context: Context, data: ImageSet) -> tuple[nn.Sequential, Tensor]:
    """A teacher in evaluation mode, and its cached logits for all training images."""
    artifact = context.artifact(config)
    net = network(config, data.train.images[0].numel(), data.n_classes, dropout=config.dropout)
    state = {
        name.removeprefix("net."): torch.from_numpy(v) for name, v in artifact.items() if name != "logits"
    }
    net.load_state_dict(state)
    return net.to(data.device).eval(), torch.from_numpy(artifact["logits"]).to(data.device)


def transfer_batches(
    config: Students, data: ImageSet, train: Split, teacher: nn.Sequential, cached: Tensor
) -> Any:
    """(batches, batches in a pass). Labels are the cached ones; where images are jittered the teacher sees them jittered too."""
    keep = without(train, config.omitted)
    chosen, logits = train.subset(keep), cached[keep]
    noise = derived_generator(config.seed, "control")
    control = (
        shuffled(logits, chosen.labels, noise) if any(a[0] == "shuffled" for a in config.arms) else logits
    )
    pairs = SoftLabelled(packed(chosen.labels, logits, control))
    options: dict[str, Any] = {"batch_size": min(config.batch_size, len(chosen)), "seed": config.seed}
    moved: Batches
    if config.jitter:
        moved = AugmentedBatches(chosen.images, pairs, padding=config.jitter, **options)
    else:
        moved = Batches(chosen.images, pairs, **options)
    hints = any(arm[0] == "hint" for arm in config.arms)

    @torch.no_grad()
    def relabel(inputs: Tensor, rows: Tensor) -> Targets:
        targets = unpacked(rows)
        fresh = teacher(inputs) if config.jitter else targets.logits
        return targets._replace(logits=fresh, hints=teacher[:3](inputs) if hints else None)

    return relabelled(moved, relabel), moved.per_pass


@run.register
def run_students(config: Students, context: Context) -> Result:
    """One student an arm. Arrays have a row for each arm; classes are columns."""
    data, train, held = _split(config, context)
    if not config.arms or any(not 0 <= digit < data.n_classes for digit in config.omitted):
        raise InputError(
            f"arms is {config.arms} and omitted {config.omitted}; an arm or more and digits are wanted"
        )
    teacher, cached = _taught(config.teacher, context, data)
    batches, per_pass = transfer_batches(config, data, train, teacher, cached)
    n_pixels = train.images[0].numel()
    twins = [sum(a[0] == "mutual" for a in config.arms[:i]) if arm[0] == "mutual" else 0
             for i, arm in enumerate(config.arms)]  # fmt: skip
    modules: list[nn.Module] = [network(config, n_pixels, data.n_classes, twin=twin) for twin in twins]
    if any(arm[0] == "hint" for arm in config.arms):
        made = derived_generator(config.seed, "guess")
        modules = [Hinted(one, config.teacher.hidden, made) for one in modules]  # type: ignore[arg-type]
    learner = student_learner(config, [one.to(data.device) for one in modules])
    seen = held.subset(without(held, config.omitted))
    found = _loop(config, learner, batches, per_pass, validator(seen.images, seen.labels), context)
    if any(best is None for best in found.best):
        return Result(outcome="diverged")
    learner.restore(found.best)
    shown = _predictions(learner, data.test.images)  # (members, n, n_classes)
    arrays = _measured(shown, data.test.labels, data.n_classes)
    if config.omitted:
        arrays |= _biased(config, shown, _predictions(learner, held.images), data)
    arrays |= {
        "val_accuracy": np.array(found.best_value),
        "best_epoch": np.array(found.best_step) / per_pass,
        "epochs_run": np.array(found.steps) / per_pass,
        "curve": _padded(found.series["accuracy"], config.epochs),
    }
    taught = counts(answers(teacher, data.test.images, prepare=Scaling()).argmax(-1) != data.test.labels,
                    data.test.labels, data.n_classes)  # fmt: skip
    metrics = {
        "test_images": len(data.test),
        "teacher_errors": int(taught.sum()),
        "images_used": len(without(train, config.omitted)),
    }
    outcome: Literal["done", "diverged"] = "diverged" if any(found.diverged) else "done"
    return Result(metrics, {}, arrays, None, outcome)


def _predictions(learner: Learner, images: Tensor) -> Tensor:
    scaling = Scaling()
    return torch.cat([learner.logits(scaling(part)) for part in images.split(1000)], dim=1)


def _measured(logits: Tensor, labels: Tensor, n_classes: int) -> dict[str, np.ndarray]:
    """Errors by class, loss, and mean predicted probability of each class, a row for each member."""
    loss = [nn.functional.cross_entropy(one, labels).item() for one in logits]
    return {
        "errors": np.stack([counts(one.argmax(-1) != labels, labels, n_classes) for one in logits]),
        "nll": np.array(loss),
        "mass": logits.double().softmax(-1).mean(1).cpu().numpy(),
    }


def _biased(config: Students, tested: Tensor, held: Tensor, data: ImageSet) -> dict[str, np.ndarray]:
    """Errors by class after two corrections of the biases of the omitted digits.

    best: one number for all of them, chosen on the test set, as the paper does. matched: each digit's mean probability on
    the images held out, whose labels are not looked at, made equal to its share among all training images.
    """
    labels, n_classes = data.test.labels, data.n_classes
    share = torch.bincount(data.train.labels, minlength=n_classes).double() / len(data.train)
    mass = {digit: share[digit].item() for digit in config.omitted}
    best, best_value, matched, matched_value = [], [], [], []
    for logits, unlabelled in zip(tested, held, strict=True):
        value, _ = best_bias(logits, labels, config.omitted)
        moved = logits.clone()
        moved[:, list(config.omitted)] += value
        best.append(counts(moved.argmax(-1) != labels, labels, n_classes))
        best_value.append(value)
        bias = matching_bias(unlabelled, mass)
        matched.append(counts((logits + bias).argmax(-1) != labels, labels, n_classes))
        matched_value.append(bias.cpu().numpy())
    return {
        "best_errors": np.stack(best),
        "best_bias": np.array(best_value),
        "matched_errors": np.stack(matched),
        "matched_bias": np.stack(matched_value),
    }


def _padded(series: Sequence[Sequence[float]], length: int) -> np.ndarray:
    out = np.full((len(series), length), np.nan)
    for row, values in zip(out, series, strict=True):
        row[: len(values)] = values
    return out


@run.register
def run_slopes(config: Slopes, context: Context) -> Result:
    """Mean norm of ∂CE(q, softmax(z / T)) / ∂z over test images, for labels as q and for the teacher's answers at T.

    And what the original's max-norm does: rows that change while it evaluates, and answers lost to one row of zeros.
    """
    data: ImageSet = context.data(config.data)
    teacher, _ = _taught(config.teacher, context, data)
    student, _ = _taught(config.student, context, data)
    images, labels = data.test.images[:2000], data.test.labels[:2000]
    v, z = (answers(one, images, prepare=Scaling()).double() for one in (teacher, student))
    fixed = nn.functional.one_hot(labels, data.n_classes).double()
    norms = {"fixed": [], "teacher": []}  # type: dict[str, list[float]]
    for t in config.temperatures:
        for name, q in (("fixed", fixed), ("teacher", soften(v, t))):
            point = z.clone().requires_grad_()
            (slope,) = torch.autograd.grad(soft_cross_entropy(point, q, t) * len(z), point)
            norms[name].append(slope.norm(dim=1).mean().item())
    high = np.log(np.array(config.temperatures[-2:]))
    metrics = {
        f"slope_{name}": float(np.diff(np.log(values[-2:]))[0] / np.diff(high)[0])
        for name, values in norms.items()
    } | _posted_norms(config, teacher, data)
    # The image of the figure: that at the 90th percentile of the teacher's entropy at the middle temperature.
    middle = config.shown[len(config.shown) // 2]
    place = int(entropy(soften(v, middle)).argsort()[int(0.9 * (len(v) - 1))])
    arrays = {
        **{f"norm_{name}": np.array(values) for name, values in norms.items()},
        "picture": images[place, 0].cpu().numpy(),
        "probabilities": torch.stack([soften(v[place], t) for t in config.shown]).cpu().numpy(),
        "entropies": torch.stack([entropy(soften(v, t)).mean() for t in config.shown]).cpu().numpy(),
    }
    return Result(metrics | {"label": int(labels[place])}, {}, arrays)


def _posted_norms(config: Slopes, teacher: nn.Sequential, data: ImageSet) -> dict[str, float]:
    """One step of training, then an evaluation that clamps: share of rows that it changes; and of answers that are NaN
    once one row is zero."""
    net = copy.deepcopy(teacher).train()
    images = Scaling()(data.train.images[:256])
    optimizer = torch.optim.Adam(net.parameters(), lr=config.teacher.lr)
    with torch.random.fork_rng([data.device] if data.device.type == "cuda" else []):
        torch.manual_seed(derived_seed(config.seed, "posted"))
        nn.functional.cross_entropy(net(images), data.train.labels[:256]).backward()
    optimizer.step()
    net.eval()
    before = [layer.weight.clone() for layer in net if isinstance(layer, nn.Linear)]
    clamp_as_posted_(net, config.teacher.max_norm or 2.0)
    after = [layer.weight for layer in net if isinstance(layer, nn.Linear)]
    moved = torch.cat([(one - other).abs().amax(1) > 1e-6 for one, other in zip(before, after, strict=True)])
    with torch.no_grad():
        after[0][0] = 0
        clamp_as_posted_(net, config.teacher.max_norm or 2.0)
        lost = net(images).isnan().any(1)
    return {"rows_moved": moved.double().mean().item(), "answers_lost": lost.double().mean().item()}
