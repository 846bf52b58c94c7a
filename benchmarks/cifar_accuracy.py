"""Test accuracy on CIFAR-10 (JPEG) from scratch within twenty minutes of two cores, several seeds.

    run()      # {"rows": [...], "notes": [...]}

The recipe is `RECIPE`; the ideas are those of airbench (Jordan, arXiv 2404.00498, and its later form with Muon): a frozen
whitening layer, three groups of two convolutions that begin as identities, batch norm without scale, whose biases learn
fast, Muon for the kernels, a rate that falls in a straight line, label smoothing, alternating flips, reflected crops. What
is ours: narrower groups, smaller images in the first epochs, an average of the weights, bfloat16 with channels-last on a
processor, one thread, the loop of `lib.training`.

The optimiser, its rates and the smaller images were chosen by accuracy on 5,000 held-out training images, of one seed, with
groups a third as wide and three epochs; width and epochs by the time that there is (`held_out=True` says how far they come).
The test set was not looked at. Each seed then trains on all training images for a number of steps that is fixed beforehand,
and the test set is seen once, at the end. A seed's numbers are kept in the store as soon as it has finished, so that an
interrupted benchmark goes on with the next, and two processes share the seeds.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lib import bench, data
from lib.augment import AugmentedBatches, cutout, resized, switched
from lib.convnets import fast_convnet
from lib.data.images import Split
from lib.muon import Muon
from lib.project import root, store_path
from lib.runs.files import lock, write_whole
from lib.runs.fingerprints import code
from lib.training import (
    Learner,
    ModuleLearner,
    Scaling,
    derived_generator,
    evaluate,
    fit,
)

NAME = "cifar_accuracy"
TITLE = "CIFAR-10 (JPEG) from scratch on a processor"

DATA, SEEDS, HELD_OUT = "cifar10-jpeg", (0, 1, 2), 5000
SCALING = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
ACCURACY, MINUTES, CORES = 89.5, 20, 2
"""The bars: per cent right on the test set, and the time that each seed may take on so many cores."""


@dataclass(frozen=True)
class Recipe:
    """What decides a seed's run.

    kernel_lr, kernel_momentum: of Muon, for the kernels of convolutions. bias_lr, head_lr, momentum, weight_decay: of SGD
    with Nesterov's momentum, for biases and for the classifier, on the mean loss; the decay is that of a step at the full
    rate. All rates fall in a straight line, to 0. padding: pixels of crops. cutout: side of the square, 0 for none.
    ema: decay of the average of the weights, a step. small, small_part: side of the images in the first part of training.
    """

    widths: tuple[int, int, int]
    epochs: int
    batch_size: int = 512
    kernel_lr: float = 0.12
    kernel_momentum: float = 0.6
    bias_lr: float = 27.0
    head_lr: float = 0.75
    momentum: float = 0.85
    weight_decay: float = 0.001
    smoothing: float = 0.2
    padding: int = 2
    cutout: int = 0
    ema: float = 0.95
    small: int = 24
    small_part: float = 0.6


RECIPE = Recipe(widths=(48, 192, 192), epochs=16)


def learner(recipe: Recipe, images: Tensor, seed: int) -> ModuleLearner:
    """A fresh network with its optimiser; `images`: scaled training images, for the whitening layer."""
    network = fast_convnet(images, widths=recipe.widths, generator=derived_generator(seed, "weights"))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    biases, head, kernels = ([p for p in trained if p.ndim == ndim] for ndim in (1, 2, 4))
    decay = recipe.weight_decay
    optimizer = Muon(
        [
            {
                "params": kernels,
                "orthogonal": True,
                "lr": recipe.kernel_lr,
                "momentum": recipe.kernel_momentum,
            },
            {"params": biases, "lr": recipe.bias_lr, "weight_decay": decay / recipe.bias_lr},
            {"params": head, "lr": recipe.head_lr, "weight_decay": decay / recipe.head_lr},
        ],
        lr=recipe.bias_lr,
        momentum=recipe.momentum,
    )
    return ModuleLearner(
        network,
        optimizer,
        loss=partial(nn.functional.cross_entropy, label_smoothing=recipe.smoothing),
        autocast=torch.bfloat16,
        channels_last=True,
        ema=recipe.ema,
    )


def train(recipe: Recipe, train: Split, test: Split, seed: int) -> dict[str, float]:
    """One seed: per cent right on `test` at the end, by the average of the weights, and what it cost in seconds.

    accuracy: one look at each image. mirrored: the mean of the answers to it and to its mirror image, which is more
    evaluation and reported apart.
    """
    clock, processor = time.perf_counter(), time.process_time()
    scaling = Scaling(*SCALING)
    batches = AugmentedBatches(
        train.images,
        train.labels,
        batch_size=recipe.batch_size,
        seed=seed,
        padding=recipe.padding,
        edge="reflect",
        flips="alternating",
        scaling=scaling,
        augment=partial(cutout, size=recipe.cutout) if recipe.cutout else None,
        drop_last=True,
    )
    ours = learner(recipe, scaling(train.images[:5000]), seed)
    steps = recipe.epochs * batches.per_pass

    def unwatched(learner: Learner) -> dict[str, list[float]]:
        return {"accuracy": [0.0]}

    fit(
        ours,
        switched(round(recipe.small_part * steps), resized(batches, recipe.small), batches),
        unwatched,
        max_steps=steps,
        eval_every=steps,
        schedule=lambda step: 1 - step / steps,
        seed=seed,
    )
    seconds, cpu = time.perf_counter() - clock, time.process_time() - processor

    def both(images: Tensor) -> Tensor:
        return ours.logits(images) + ours.logits(images.flip(-1))

    with ours.averaged():
        found, mirrored = (
            evaluate(answer, test.images, test.labels, scaling=scaling).accuracy.item()
            for answer in (ours.logits, both)
        )
    return {"accuracy": 100 * found, "mirrored": 100 * mirrored, "seconds": seconds, "cpu": cpu}


def run(
    *,
    repeats: int = 5,
    threads: int = 1,
    recipe: Recipe = RECIPE,
    seeds: tuple[int, ...] = SEEDS,
    held_out: bool = False,
) -> dict[str, Any]:
    """Train with every seed (`repeats` are for comparisons: here a seed is one) and look at the test set.

    held_out: train on all but 5,000 of the training images and look at those instead, as for choosing a recipe. Raises
    InputError where the images are not there.
    """
    sets = data.load(DATA)
    if held_out:
        whole = sets.train
        first, second = whole.subset(slice(0, -HELD_OUT)), whole.subset(slice(-HELD_OUT, None))
    else:
        first, second = sets.train, sets.test
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = _shared(recipe, first, second, seeds, f"{sets.fingerprint} {held_out} {threads}")
    finally:
        torch.set_num_threads(before)
    rows = [
        {
            "case": "right",
            "unit": "%",
            "at_least": ACCURACY,
            **bench.mean([one["accuracy"] for one in found]),
        },
        {
            "case": "right, with the mirror image's answer",
            "unit": "%",
            **bench.mean([one["mirrored"] for one in found]),
        },
        {
            "case": "training, processor time",
            "unit": "s",
            "at_most": 60 * MINUTES * CORES,
            **bench.mean([one["cpu"] for one in found]),
        },
        {"case": "training, by the clock", "unit": "s", **bench.mean([one["seconds"] for one in found])},
    ]
    each = "; ".join(
        f"seed {seed}: {one['accuracy']:.2f} %, {one['cpu']:.0f} s of the processor, {one['seconds']:.0f} s by the clock"
        for seed, one in zip(seeds, found, strict=True)
    )
    notes = [
        f"{sets.title}, {len(first):,} images to train on and {len(second):,} "
        + ("training images held out" if held_out else "test images")
        + f", {threads} thread(s), bfloat16: {each}.",
        "The bar of time is that of two cores for twenty minutes. By the clock a machine that has other work takes"
        " longer: processor time is what the training itself needs.",
        f"Recipe: {', '.join(f'{name} {value}' for name, value in asdict(recipe).items())}.",
    ]
    return {"rows": rows, "notes": notes}


def _shared(
    recipe: Recipe, first: Split, second: Split, seeds: tuple[int, ...], sets: str
) -> list[dict[str, float]]:
    """What each seed found: from the store, else computed, a seed that another process is at last of all."""
    reached = code("lib.convnets", "fast_convnet") | code(
        "lib.augment", "AugmentedBatches", "cutout", "resized"
    )
    reached |= code("lib.training", "fit", "ModuleLearner", "evaluate") | code("lib.muon", "Muon")
    key = json.dumps([asdict(recipe), sets, reached], sort_keys=True)
    folder = store_path(root()) / "benchmarks" / NAME / hashlib.sha256(key.encode()).hexdigest()[:16]
    found: dict[int, dict[str, float]] = {}
    for wait in (False, True):
        for seed in seeds:
            path = folder / f"{seed}.json"
            with lock(folder / f"{seed}.lock", wait=wait) as ours:
                if not ours or seed in found:
                    continue
                if not path.exists():
                    result = train(recipe, first, second, seed)
                    write_whole(path, json.dumps(result).encode())
                found[seed] = json.loads(path.read_text(encoding="utf-8"))
    return [found[seed] for seed in seeds]
