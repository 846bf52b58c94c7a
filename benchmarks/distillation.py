"""Training a teacher and its students on MNIST, one update: as the experiments do it, and as the plain loops do it.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

Ours are the learners and batches of `lib.experiments.distilling_knowledge`: images that stay in memory and are jittered in
batches, the teacher's answers computed once, students stacked, Adam and max-norm in one pass. The peer is what most people
write: a Dataset of PIL images with RandomCrop(28, padding=2), a DataLoader without workers, nn.Dropout, torch's fused Adam,
torch.renorm after the update; for students the teacher's answers to each batch, and one network after the other. The last
rows are against loops over tensors in memory with cached answers too, so that what is left is the stack and the update.

Same networks and initial weights, batch size, optimiser and precision (bfloat16 by autocast) on both sides. An update of
thirteen students is one of each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lib import bench, data
from lib.augment import AugmentedBatches
from lib.data.images import ImageSet, Split
from lib.data.vision import torchvision
from lib.experiments import distilling_knowledge as experiment
from lib.methods.soft_labels import answers
from lib.nets import ByteDropout
from lib.runs.memory import keep_freed
from lib.training import Scaling

NAME = "distillation"
TITLE = "A teacher and its students on MNIST, one update"

STEPS = 10
"""Updates a turn."""

Turn = Callable[[], None]
Loss = Callable[[Tensor, Any], Tensor]


class Pictures(Dataset):
    """As torchvision's MNIST: an array in memory, a PIL image made of each item, then the transform."""

    def __init__(self, split: Split, jitter: int) -> None:
        transforms = torchvision.transforms
        self.images, self.targets = split.images[:, 0].numpy(), split.labels.tolist()
        crop = [transforms.RandomCrop(self.images.shape[1:], padding=jitter)] if jitter else []
        self.transform = transforms.Compose([*crop, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def loaded(split: Split, jitter: int, batch_size: int) -> Iterator[list[Tensor]]:
    """Batches of a DataLoader, without end."""
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        Pictures(split, jitter), batch_size, shuffle=True, drop_last=True, generator=generator
    )
    while True:
        yield from loader


def at_hand(split: Split, targets: experiment.Targets, batch_size: int) -> Iterator[tuple[Tensor, Any]]:
    """Batches of tensors in memory with the teacher's answers, without end."""
    generator = torch.Generator().manual_seed(0)
    while True:
        for rows in torch.randperm(len(split), generator=generator).split(batch_size)[:-1]:
            yield (
                split.images[rows].float() / 255,
                targets._replace(
                    labels=targets.labels[rows], logits=targets.logits[rows], control=targets.control[rows]
                ),
            )


def plain(
    config: experiment.Training, network: nn.Module, batches: Iterator[Any], loss: Loss, max_norm: float = 0.0
) -> Turn:
    """The plain loop."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    lower = config.precision == "bfloat16"

    def turn() -> None:
        network.train()
        for inputs, labels in itertools.islice(batches, STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
                logits = network(inputs)
            loss(logits.float(), labels).backward()
            optimizer.step()
            if max_norm:
                with torch.no_grad():
                    for layer in network:  # type: ignore[attr-defined]
                        if isinstance(layer, nn.Linear):
                            layer.weight.copy_(torch.renorm(layer.weight, 2, 0, max_norm))

    return turn


def _teachers(config: experiment.Teacher, sets: ImageSet) -> tuple[Turn, Turn]:
    train, pixels = sets.train, sets.train.images[0].numel()
    batches = AugmentedBatches(
        train.images,
        train.labels,
        batch_size=config.batch_size,
        seed=0,
        padding=config.jitter,
        drop_last=True,
    )
    mine = experiment.network(config, pixels, sets.n_classes, dropout=config.dropout)
    same = experiment.network(config, pixels, sets.n_classes, dropout=config.dropout)
    theirs = nn.Sequential(
        *(nn.Dropout(config.dropout) if isinstance(layer, ByteDropout) else layer for layer in same)
    )
    theirs.load_state_dict(mine.state_dict())
    learner = experiment.teacher_learner(config, mine)
    given = loaded(train, config.jitter, config.batch_size)
    peer = plain(config, theirs, given, nn.functional.cross_entropy, config.max_norm)
    return bench.updates(learner, batches, STEPS), peer


def _students(
    config: experiment.Students, sets: ImageSet, teacher: nn.Sequential, logits: Tensor, cached: bool
) -> tuple[Turn, Turn]:
    train, pixels = sets.train, sets.train.images[0].numel()
    made = partial(experiment.network, config, pixels, sets.n_classes)
    targets = experiment.Targets(train.labels, logits, logits)
    batches, _ = experiment.transfer_batches(config, sets, train, teacher, logits)
    learner = experiment.student_learner(config, [made() for _ in config.arms])

    def turn_of(arm: experiment.Arm) -> Turn:
        given: Iterator[Any] = (
            at_hand(train, targets, config.batch_size) if cached else _answered(config, train, teacher)
        )
        return plain(config, made(), given, partial(experiment.arm_loss, arm))

    turns = [turn_of(arm) for arm in config.arms]

    def one_after_the_other() -> None:
        for turn in turns:
            turn()

    return bench.updates(learner, batches, STEPS), one_after_the_other


def _answered(config: experiment.Training, split: Split, teacher: nn.Module) -> Iterator[tuple[Tensor, Any]]:
    """Batches of a DataLoader, and what the teacher says to them."""
    lower = config.precision == "bfloat16"
    for inputs, labels in loaded(split, 0, config.batch_size):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
            logits = teacher(inputs).float()
        yield inputs, experiment.Targets(labels, logits, logits)


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """Jittered images, a teacher, the students of `transfer`, and the narrowest and the widest stack of `temperature`.

    As at laptop, and as at smoke where there is no MNIST; a row has `processor`, the same numbers by processor time. Raises
    InputError where MNIST is there but damaged.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed()  # as in a run
    try:
        found = experiment.configs("smoke" if data.status("mnist").state == "missing" else "laptop")
        first = next(one for one in found if isinstance(one, experiment.Teacher))
        transfer = next(one for one in found if isinstance(one, experiment.Transfer))
        stacks = sorted(
            (one for one in found if isinstance(one, experiment.Temperature)), key=lambda one: one.hidden
        )
        sets = data.load(first.data)
        teacher = experiment.network(first, sets.train.images[0].numel(), sets.n_classes).eval()
        logits = answers(teacher, sets.train.images, prepare=Scaling())
        given, steps = loaded(sets.train, first.jitter, first.batch_size), itertools.count()
        jittered = AugmentedBatches(
            sets.train.images, sets.train.labels, batch_size=first.batch_size, seed=0, padding=first.jitter
        )
        turns: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "jittered images alone": (
                lambda: [jittered(next(steps)) for _ in range(STEPS)],
                lambda: list(itertools.islice(given, STEPS)),
            ),
            f"a teacher of {first.hidden} units, on jittered images": _teachers(first, sets),
        }
        for config in (transfer, stacks[0], stacks[-1]):
            case = f"{len(config.arms)} students of {config.hidden} units"
            turns[case] = _students(config, sets, teacher, logits, False)
            turns[f"{case}, answers at hand"] = _students(config, sets, teacher, logits, True)
        rows = []
        for case, sides in turns.items():
            clock, processor = bench.in_turn(*sides, repeats)
            scale = 1e3 / STEPS
            rows.append(
                {
                    "case": case,
                    "unit": "ms",
                    "n": repeats,
                    **bench.paired(clock, scale),
                    "processor": bench.paired(processor, scale),
                }
            )
    finally:
        torch.set_num_threads(before)
    notes = [
        f"{sets.title}, batch {first.batch_size}, {first.precision} (by autocast), Adam,"
        f" {threads} thread(s), turns of {STEPS} updates; the peer is a DataLoader over PIL images without workers and one"
        " network after the other, 'answers at hand' the same over tensors in memory with the teacher's cached answers"
    ]
    return {"rows": rows, "notes": notes}
