"""A data set in which each image comes once with its own label and α times with a wrong one.

    table = uniform_labels(len(labels), alpha=50, n_classes=10, generator=generator)   # (n, α), drawn once
    pairs = NoisyLabels(labels, table)                                                 # n (α + 1) pairs
    image, label = pairs.take(torch.tensor([0, 51, 52]))                               # image 0, 1, 1

The labels are a table that is drawn once, so a pair has the same label whenever it is read. `shifted_labels` makes the
same table with the labels of other examples, as the original post did; it looks uniform, but it carries the data set's
class frequencies (see `lib.methods.noise_ceiling` for what that costs).

    order = pair_order("clean_first", len(labels), 50, generator)                      # how one pass goes through the pairs
    accuracy, loss = against_shares(logits, label_shares(labels, table, 10))           # measured on all noisy pairs

Source: Rolnick, Veit, Belongie and Shavit (2017), Deep Learning is Robust to Massive Label Noise, arXiv 1705.10694,
section 3.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor

PairOrder = Literal["shuffled", "clean_first", "noisy_first", "adjacent"]
"""How a pass goes through the pairs; see `pair_order`."""
ORDERS: tuple[PairOrder, ...] = get_args(PairOrder)


def uniform_labels(
    n: int, alpha: int, n_classes: int, generator: torch.Generator
) -> UInt8[Tensor, "n alpha"]:
    """α labels for each of `n` images, drawn uniformly from all classes, with replacement, the own class included.

    Drawn and returned on the generator's device. Raises ValueError for counts that make no sense.
    """
    _check(n, alpha)
    if not 2 <= n_classes <= 256:
        raise ValueError(f"n_classes is {n_classes}; 2 to 256 are wanted (labels are bytes)")
    return torch.randint(
        n_classes, (n, alpha), generator=generator, dtype=torch.uint8, device=generator.device
    )


def shifted_labels(labels: Integer[Tensor, " n"], alpha: int, shift: int) -> UInt8[Tensor, "n alpha"]:
    """The original post's noise: pair `p` of the n (α + 1), unless it is clean, has the label of example (p + shift) % n."""
    n = len(labels)
    _check(n, alpha)
    pairs = torch.arange(n * (alpha + 1), device=labels.device).view(n, alpha + 1)[:, 1:]
    return labels[(pairs + shift) % n].to(torch.uint8)


class NoisyLabels:
    """n (α + 1) pairs of an image's index and a label; pair p is image p // (α + 1), with its own label where p % (α + 1) is 0.

    labels: the own label of each image. noise: the table of the others.
    """

    def __init__(self, labels: Integer[Tensor, " n"], noise: UInt8[Tensor, "n alpha"]) -> None:
        if noise.ndim != 2 or len(noise) != len(labels):
            raise ValueError(f"noise has shape {tuple(noise.shape)}; ({len(labels)}, alpha) is wanted")
        self.copies = noise.shape[1] + 1
        self.table = torch.cat([labels.to(torch.uint8)[:, None], noise], dim=1).view(-1)  # (n (α + 1),)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, pairs: Int64[Tensor, " batch"]) -> tuple[Int64[Tensor, " batch"], Int64[Tensor, " batch"]]:
        """The image index and the label of each of the given pairs."""
        return pairs // self.copies, self.table[pairs].long()


def soft_target(
    labels: Integer[Tensor, " batch"], alpha: int | float, frequencies: Float[Tensor, " n_classes"]
) -> Float[Tensor, "batch n_classes"]:
    """What the labels of an image are on average: (e_y + α u) / (1 + α), with u the frequencies of the noise.

    Cross-entropy is linear in its target, so the gradient over all α + 1 copies of an image is on average the gradient
    with this one target.
    """
    clean = torch.nn.functional.one_hot(labels.long(), len(frequencies)).to(frequencies.dtype)
    return (clean + alpha * frequencies) / (1 + alpha)


def pair_order(order: PairOrder, n: int, alpha: int, generator: torch.Generator) -> Int64[Tensor, " pairs"]:
    """The n (α + 1) pairs of a pass, in the order in which they are trained on.

    order: `shuffled`; `clean_first`, all pairs with the own label and then the noise, each part shuffled; `noisy_first`,
    the other way about; `adjacent`, the images shuffled, but each with all of its copies side by side. Drawn and returned
    on the generator's device. Raises ValueError for another order, or for counts that make no sense.
    """
    _check(n, alpha)
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}; one of {', '.join(ORDERS)} is wanted")
    device, copies = generator.device, alpha + 1

    def shuffled(count: int) -> Tensor:
        return torch.randperm(count, generator=generator, device=device)

    if order == "shuffled":
        return shuffled(n * copies)
    if order == "adjacent":
        return (shuffled(n)[:, None] * copies + torch.arange(copies, device=device)).flatten()
    clean = shuffled(n) * copies
    image, copy = shuffled(n * alpha), torch.zeros((), dtype=torch.int64, device=device)
    if alpha:
        image, copy = image // alpha, image % alpha + 1
    noisy = image * copies + copy
    return torch.cat([clean, noisy] if order == "clean_first" else [noisy, clean])


def label_shares(
    labels: Integer[Tensor, " n"], noise: UInt8[Tensor, "n alpha"], n_classes: int
) -> Float[Tensor, "n n_classes"]:
    """How the α + 1 labels of each image are spread over the classes; with an α of 0 it is the own label alone."""
    table = torch.cat([labels.long()[:, None], noise.long()], dim=1)
    counts = torch.zeros(len(labels), n_classes, device=labels.device)
    return counts.scatter_add_(1, table, torch.ones_like(table, dtype=counts.dtype)) / table.shape[1]


def against_shares(
    logits: Float[Tensor, "members n n_classes"], shares: Float[Tensor, "n n_classes"]
) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
    """Accuracy and mean cross-entropy of each member over all labels of the images, given as `label_shares`."""
    answers = logits.argmax(-1)  # (members, n)
    accuracy = shares.expand(len(logits), -1, -1).gather(-1, answers[..., None]).mean((1, 2))
    loss = -(shares * torch.log_softmax(logits, -1)).sum(-1).mean(-1)
    return accuracy, loss


def _check(n: int, alpha: int) -> None:
    if n < 1 or alpha < 0:
        raise ValueError(f"n is {n} and alpha is {alpha}; n of 1 or more and alpha of 0 or more are wanted")
