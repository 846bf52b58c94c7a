"""Images of training a second: resident images augmented in batches, against a DataLoader with PIL transforms.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

Ours is `lib.training.fit` over `lib.augment.AugmentedBatches`. The peer is the loop that most people write: a Dataset of PIL
images with torchvision's RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor and Normalize, a DataLoader without
workers (both sides have the same threads), the module, the optimiser. Same augmentation, batch size, network, initial
weights, optimiser and precision.

The pipeline alone, and then four networks from next to nothing to the one of `cifar_accuracy`: the more a network
computes, the less its input can matter. On a GPU, where networks cost a hundredth, the first rows are the telling ones.
In the last row both sides have our loop and our batches, and ours the layers of `lib.bfloat16`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lib import bench, data
from lib.augment import AugmentedBatches
from lib.convnets import convnet, fast_convnet, resnet, with_compiled_layers
from lib.data.images import Split
from lib.data.vision import torchvision
from lib.training import ModuleLearner, Scaling, derived_generator

NAME = "cifar_throughput"
TITLE = "Training on CIFAR-10 with crops and flips, one image"

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH, PADDING, STEPS = 128, 4, 8
"""Images a batch; pixels of padding; batches a turn."""

Network = Callable[[Tensor], nn.Sequential]
"""From scaled images to the network, with the same weights at each call."""

FAST = "fast ConvNet, 32 to 128 channels, bfloat16"

NETWORKS: dict[str, tuple[Network, bool]] = {
    "softmax regression": (
        lambda images: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
        False,
    ),
    "ConvNet, 8 and 16 channels": (
        lambda images: convnet((8, 16), (32,), generator=derived_generator(0, "weights")),
        False,
    ),
    "ResNet-8, 8 to 32 channels": (
        lambda images: resnet(8, width=8, generator=derived_generator(0, "weights")),
        False,
    ),
    FAST: (
        lambda images: fast_convnet(images, widths=(32, 128, 128), generator=derived_generator(0, "weights")),
        True,
    ),
}
"""Each with whether its forward pass is in bfloat16, on both sides."""


class Pictures(Dataset):
    """As torchvision's CIFAR10: an array in memory, a PIL image made of each item, then the transform."""

    def __init__(self, split: Split) -> None:
        transforms = torchvision.transforms
        self.images = split.images.permute(0, 2, 3, 1).numpy()
        self.targets = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.targets[index]


def peer_batches(split: Split) -> Iterator[list[Tensor]]:
    """Batches without end."""
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(Pictures(split), batch_size=BATCH, shuffle=True, drop_last=True, generator=generator)
    while True:
        yield from loader


def our_batches(split: Split) -> AugmentedBatches:
    return AugmentedBatches(
        split.images,
        split.labels,
        batch_size=BATCH,
        seed=0,
        padding=PADDING,
        flips="random",
        scaling=Scaling(MEAN, STD),
        drop_last=True,
    )


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)


def peer(network: nn.Module, split: Split, lower: bool) -> Callable[[], None]:
    """The plain loop."""
    batches, optimizer, criterion = peer_batches(split), sgd(network), nn.CrossEntropyLoss()

    def turn() -> None:
        network.train()
        for images, labels in itertools.islice(batches, STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
                loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()

    return turn


def ours(network: nn.Module, split: Split, lower: bool) -> Callable[[], None]:
    """The loop of `lib.training`."""
    batches = our_batches(split)
    learner = ModuleLearner(
        network, sgd(network), autocast=torch.bfloat16 if lower else None, channels_last=True
    )
    return bench.updates(learner, batches, STEPS)


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """The pipeline and every network; a row has `processor`, the same numbers by processor time."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        split, name = _images()
        batches, theirs = our_batches(split), peer_batches(split)
        steps = itertools.count()
        turns = {
            "input alone": (
                lambda: [batches(next(steps)) for _ in range(STEPS)],
                lambda: list(itertools.islice(theirs, STEPS)),
            )
        }
        scaled = Scaling(MEAN, STD)(split.images[:2000])
        for case, (make, lower) in NETWORKS.items():
            network, same = make(scaled), make(scaled)
            same.load_state_dict(network.state_dict())
            turns[case] = (ours(network, split, lower), peer(same, split, lower))
        make, lower = NETWORKS[FAST]
        compiled = with_compiled_layers(make(scaled))
        turns[f"{FAST}: compiled layers"] = ours(compiled, split, lower), ours(make(scaled), split, lower)
        rows = []
        for case, (first, second) in turns.items():
            clock, processor = bench.in_turn(first, second, repeats)
            scale = 1e6 / (STEPS * BATCH)
            rows.append(
                {
                    "case": case,
                    "unit": "µs",
                    "n": repeats,
                    **bench.paired(clock, scale),
                    "processor": bench.paired(processor, scale),
                }
            )
    finally:
        torch.set_num_threads(before)
    notes = [
        f"{name}, crops with a padding of {PADDING} and flips, batch {BATCH}, SGD with momentum, {threads} thread(s), fp32"
        f" but for the last two rows, turns of {STEPS} batches; the peer is a DataLoader over PIL images without workers.",
        "Times by the clock. The more a network computes, the less its input matters: where the peer is the plain loop,"
        " the gain of the later rows on a processor is mostly that of convolutions with channels last.",
    ]
    return {"rows": rows, "notes": notes}


def _images() -> tuple[Split, str]:
    """CIFAR-10, as JPEG where that is what there is, else drawn shapes of the same size."""
    for name, words in (("cifar10", "CIFAR-10"), ("cifar10-jpeg", "CIFAR-10 (JPEG)")):
        if data.status(name).state != "missing":
            return data.load(name).train, words
    return data.load("shapes").train, "drawn shapes"
