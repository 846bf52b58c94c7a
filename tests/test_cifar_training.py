"""Everything that a run on colour images uses, together: resumption bit for bit, soft targets, labels made from crops."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.augment import AugmentedBatches, affine, chain, crop, cutout, flip, switched  # noqa: E402
from lib.convnets import fast_convnet, resnet  # noqa: E402
from lib.schedules import one_cycle, triangular  # noqa: E402
from lib.training import (  # noqa: E402
    Batches,
    ModuleLearner,
    Scaling,
    SoftLabelled,
    fit,
    relabelled,
    validator,
)
from tests.test_training import Interrupted, Memory, same  # noqa: E402

SCALING = Scaling((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
STEPS = 14


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures():
    """Four blurred classes on 3 × 32 × 32 pixels."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randint(40, 216, (4, 3, 32, 32), generator=generator)
    labels = torch.randint(4, (140,), generator=generator)
    noise = torch.randint(-120, 121, (140, 3, 32, 32), generator=generator)
    images = (centres[labels] + noise).clamp(0, 255).to(torch.uint8)
    return images[:100], labels[:100], images[100:], labels[100:]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fast(images):
    """Two groups of parameters with rates of their own, lower precision, label smoothing, averages."""
    network = fast_convnet(SCALING(images), widths=(4, 8, 8), n_classes=4, generator=seeded())
    biases = [p for name, p in network.named_parameters() if "norm" in name and p.requires_grad]
    others = [p for name, p in network.named_parameters() if "norm" not in name and p.requires_grad]
    groups = [{"params": biases, "lr": 2.0, "weight_decay": 1e-4}, {"params": others}]
    return ModuleLearner(
        network,
        torch.optim.SGD(groups, lr=0.1, momentum=0.85, nesterov=True, weight_decay=1e-3),
        loss=partial(nn.functional.cross_entropy, label_smoothing=0.2),
        autocast=torch.bfloat16,
        channels_last=True,
        ema=0.9,
    )


def residual(images):
    network = resnet(8, width=4, n_classes=4, generator=seeded())
    network.head.insert(2, nn.Dropout(0.2))
    return ModuleLearner(network, torch.optim.AdamW(network.parameters(), lr=0.01), channels_last=True)


def fast_batches(images, labels):
    """Crops and alternating flips in uint8, cutout after that; the last steps without."""
    options = {"batch_size": 32, "seed": 5, "scaling": SCALING}
    augmented = AugmentedBatches(
        images,
        labels,
        padding=2,
        edge="reflect",
        flips="alternating",
        augment=partial(cutout, size=8),
        **options,
    )
    return switched(11, augmented, Batches(images, labels, **options))


def residual_batches(images, labels):
    """All the others, on the scaled batch."""
    augment = chain(partial(crop, padding=4), flip, partial(affine, degrees=10, zoom=0.1, shift=0.1))
    return Batches(images, labels, batch_size=32, seed=5, scaling=SCALING, augment=augment)


@pytest.mark.parametrize("at", [{1}, {2, 3, 6}], ids=str)
@pytest.mark.parametrize(
    ("make", "make_batches", "schedule"),
    [
        (fast, fast_batches, triangular(STEPS, peak=0.25, start=0.2, end=0.05)),
        (residual, residual_batches, one_cycle(STEPS)),
    ],
    ids=["fast", "residual"],
)
def test_resumed_is_uninterrupted_bit_for_bit(pictures, make, make_batches, schedule, at):
    """Augmentation, schedule, running statistics, momentum, averages, dropout: weights, best weights and all series."""
    images, labels, val_images, val_labels = pictures

    def run(slot=None):
        """With a network, an optimiser and batches of its own, as in a new process."""
        return fit(
            make(images),
            make_batches(images, labels),
            validator(val_images, val_labels, scaling=SCALING),
            max_steps=STEPS,
            eval_every=4,
            schedule=schedule,
            checkpoint=slot,
            checkpoint_every=1,
        )

    whole, slot, parts, tries = run(), Memory(at), None, 0
    while parts is None:
        tries += 1
        try:
            parts = run(slot)
        except Interrupted:
            continue
    assert tries == len(at) + 1
    assert same(vars(whole), vars(parts))
    assert len(whole.series["accuracy"][0]) == 4 and not whole.diverged[0]


def test_soft_targets_of_one_class_are_its_label(pictures):
    """A distribution that is all on the label gives the run with labels, to rounding."""
    images, labels = pictures[:2]

    def run(examples):
        learner = residual(images)
        batches = Batches(images, examples, batch_size=32, seed=5, scaling=SCALING)
        return [learner.step(*batches(step), 1.0).item() for step in range(6)]

    torch.manual_seed(0)
    hard = run(labels)
    torch.manual_seed(0)
    soft = run(SoftLabelled(nn.functional.one_hot(labels, 4).float()))
    assert soft == pytest.approx(hard, rel=1e-3)


def test_labels_can_be_made_from_the_crops(pictures):
    """The labels of a step are what the function answers to that step's augmented inputs, in any form that the loss takes."""
    images, labels = pictures[:2]
    batches = AugmentedBatches(
        images, labels, batch_size=32, seed=5, padding=4, flips="random", scaling=SCALING
    )
    made = relabelled(batches, lambda inputs, labels: (inputs.mean((2, 3)), labels))
    for step in (0, 4):
        inputs, (means, hard) = made(step)
        wanted, truth = batches(step)
        assert torch.equal(inputs, wanted) and torch.equal(means, wanted.mean((2, 3)))
        assert torch.equal(hard, truth)
    network = resnet(8, width=4, n_classes=4, generator=seeded())

    def loss(logits, targets):
        soft, hard = targets
        both = (
            nn.functional.cross_entropy(logits[:, :3], soft.softmax(1)),
            nn.functional.cross_entropy(logits, hard),
        )
        return (both[0] + both[1]) / 2

    learner = ModuleLearner(network, torch.optim.SGD(network.parameters(), lr=0.1), loss=loss)
    assert torch.isfinite(learner.step(*made(0), 1.0)).all()
