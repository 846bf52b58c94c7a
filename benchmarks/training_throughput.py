"""Steps of training a second: resident tensors and a stack of one, against a DataLoader over PIL images.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

Ours is `lib.training.fit` as the experiments call it, with one network. The peer is the loop that most people write, and
the original post wrote: torchvision's MNIST with ToTensor and Normalize, a Dataset around it that adds α noisy labels,
a DataLoader without workers, `nn.Sequential`, `torch.optim.Adadelta`. Same network with the same initial weights, same
batch size, precision, inputs and number of steps; both draw the order of a pass before the clock starts.

The noisy labels of the original come from a second example, which its Dataset decodes and throws away; the rows called
"labels at hand" are against a Dataset that looks labels up instead.

The two sides take turns in short blocks within one process, and swap who goes first, so that another load on the machine
meets both. Reported: the median time of a step on each side, and the median of the paired ratios, with a bootstrap
interval; the same for the processor time of the process, which other processes disturb less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lib import data
from lib.data.images import Split
from lib.data.vision import torchvision
from lib.methods.label_noise import NoisyLabels, uniform_labels
from lib.nets import StackedMLP
from lib.training import Adadelta, Batches, Learner, Scaling, StackLearner, Stopping, derived_generator, fit

NAME = "training_throughput"
TITLE = "Training on noisy MNIST, one step"

CASES = {"perceptron": (784, 10), "MLP2": (784, 256, 128, 10)}
ALPHA, BATCH, LR = 25, 128, 0.1
STEPS = 100
"""Steps a block."""

Block = Callable[[int], None]
"""Trains for a number of steps, from where the last call left it."""


# --- the peer ------------------------------------------------------------------------------------------------------


class NoisyLabelDataset(Dataset):
    """Each example of a data set once with its label and α times with the label of the example at a shifted place."""

    def __init__(self, dataset: Dataset, alpha: int, shift: int) -> None:
        self.dataset, self.alpha, self.shift = dataset, alpha, shift

    def __len__(self) -> int:
        return len(self.dataset) * (self.alpha + 1)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index // (self.alpha + 1)]
        if index % (self.alpha + 1):
            _, label = self.dataset[(index + self.shift) % len(self.dataset)]
        return image, label


class LookedUpLabelDataset(NoisyLabelDataset):
    """The same labels, without decoding an image for each."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index // (self.alpha + 1)]
        if index % (self.alpha + 1):
            label = int(self.dataset.targets[(index + self.shift) % len(self.dataset)])
        return image, label


class Pictures(Dataset):
    """Images kept as PIL images, with torchvision's interface: for a machine without MNIST."""

    def __init__(self, split: Split, transform: Callable[[Any], Tensor]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image) for image in split.images[:, 0].numpy()]
        self.targets, self.transform = split.labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.targets[index])


def peer(network: nn.Module, dataset: Dataset) -> Block:
    """The plain loop over `dataset`."""
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0, generator=generator)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adadelta(network.parameters(), lr=LR)
    batches = _endless(loader)

    def block(steps: int) -> None:
        network.train()
        for _, (images, labels) in zip(range(steps), batches, strict=False):
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()

    return block


def _endless(loader: DataLoader) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


# --- ours ----------------------------------------------------------------------------------------------------------


def ours(stack: StackedMLP, split: Split) -> Block:
    """The loop of `lib.training`, with noise from a table."""
    noise = uniform_labels(len(split), ALPHA, 10, derived_generator(0, "noise"))
    pairs = NoisyLabels(split.labels, noise)
    batches = Batches(split.images, pairs, batch_size=BATCH, seed=0, scaling=Scaling(0.5, 0.5))
    learner = StackLearner(stack, Adadelta(stack, [LR]))
    done = 0

    def unwatched(learner: Learner) -> dict[str, list[float]]:
        return {"accuracy": [0.0] * learner.members}

    def block(steps: int) -> None:
        nonlocal done
        start = done
        fit(
            learner,
            lambda step: batches(start + step),
            unwatched,
            max_steps=steps,
            eval_every=steps,
            stopping=lambda: Stopping(None),
        )
        done += steps

    return block


# --- side by side --------------------------------------------------------------------------------------------------


def alternate(first: Block, second: Block, repeats: int, steps: int) -> np.ndarray:
    """Seconds a step, (2 sides, 2 clocks, repeats): blocks in turn, after one of each that is not counted."""
    first(steps)
    second(steps)
    found = np.empty((2, 2, repeats))
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            wall, processor = time.perf_counter(), time.process_time()
            (first, second)[side](steps)
            found[side, 0, repeat] = (time.perf_counter() - wall) / steps
            found[side, 1, repeat] = (time.process_time() - processor) / steps
    return found


def summary(mine: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Medians in milliseconds, and the median of the paired ratios with its 95 % bootstrap interval."""
    ratios = np.asarray(theirs) / np.asarray(mine)
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        "ours": 1e3 * float(np.median(mine)),
        "peer": 1e3 * float(np.median(theirs)),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
    }


def run(*, repeats: int = 5, threads: int = 1, steps: int = STEPS) -> dict[str, Any]:
    """Compare both networks with both peers; a row has `processor`, the same numbers by processor time.

    Raises InputError where MNIST is there but damaged.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        split, pictures, name = _sets()
        shift = len(pictures) // 3
        rows = []
        for case, sizes in CASES.items():
            for kind, suffix in ((NoisyLabelDataset, ""), (LookedUpLabelDataset, ", labels at hand")):
                stack = StackedMLP(sizes, 1)
                stack.initialise(derived_generator(0, "weights"))
                theirs = peer(stack.module(0), kind(pictures, ALPHA, shift))
                found = alternate(ours(stack, split), theirs, repeats, steps)
                (mine_wall, mine_processor), (theirs_wall, theirs_processor) = found
                rows.append(
                    {
                        "case": case + suffix,
                        "unit": "ms",
                        "n": repeats,
                        **summary(mine_wall, theirs_wall),
                        "processor": summary(mine_processor, theirs_processor),
                    }
                )
    finally:
        torch.set_num_threads(before)
    notes = [
        f"{name}, α = {ALPHA}, batch {BATCH}, fp32, Adadelta, {threads} thread(s), blocks of {steps} steps in turn;"
        " the peer is a DataLoader over PIL images, without workers"
    ]
    return {"rows": rows, "notes": notes}


def _sets() -> tuple[Split, Dataset, str]:
    """The training images as tensors and as a Dataset of PIL images, and what they are: MNIST, else digits."""
    to_tensor, normalize = torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.5,), (0.5,))
    transform = torchvision.transforms.Compose([to_tensor, normalize])
    status = data.status("mnist")
    if status.state == "missing":
        split = data.load("digits").train
        return split, Pictures(split, transform), "digits"
    split = data.load("mnist").train
    return split, torchvision.datasets.MNIST(status.where, train=True, transform=transform), "MNIST"
