"""A data set in which each image comes once with its own label and α times with a wrong one.

    table = uniform_labels(len(labels), alpha=50, n_classes=10, generator=generator)   # (n, α), drawn once
    pairs = NoisyLabels(labels, table)                                                 # n (α + 1) pairs
    image, label = pairs.take(torch.tensor([0, 51, 52]))                               # image 0, 1, 1

The labels are a table that is drawn once, so a pair has the same label whenever it is read. `shifted_labels` makes the
same table with the labels of other examples, as the original post did; it looks uniform, but it carries the data set's
class frequencies (see `lib.methods.noise_ceiling` for what that costs).

Source: Rolnick, Veit, Belongie and Shavit (2017), Deep Learning is Robust to Massive Label Noise, arXiv 1705.10694,
section 3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor


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


def _check(n: int, alpha: int) -> None:
    if n < 1 or alpha < 0:
        raise ValueError(f"n is {n} and alpha is {alpha}; n of 1 or more and alpha of 0 or more are wanted")
