"""Inputs and labels without pattern, and how unevenly networks learn examples.

    noise = random_inputs(images, generator)               # RandX: Gaussian, with the moments of the data
    labels = random_labels(labels, 10, 1.0, generator)     # RandY: a share of the labels drawn anew
    dispersion(counts, members)                            # 1 where all examples are equally hard

Source: Arpit et al. (2017), A Closer Look at Memorization in Deep Networks, arXiv 1706.05394, sections 2 to 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor


def random_inputs(
    images: Float[Tensor, "n channels *places"], generator: torch.Generator
) -> Float[Tensor, "n channels *places"]:
    """Gaussian noise with the mean and variance that each channel of `images` has over the whole set (RandX).

    The units are those of `images`; nothing is clipped. Drawn on the generator's device, returned on the images'.
    """
    if images.numel() <= images.shape[1]:
        raise ValueError(
            f"images has shape {tuple(images.shape)}; more than one value for each channel is wanted"
        )
    variance, mean = torch.var_mean(images.double(), dim=[0, *range(2, images.ndim)], correction=0)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    shape = (-1, *[1] * (images.ndim - 2))
    return noise * variance.sqrt().to(images).view(shape) + mean.to(images).view(shape)


def random_labels(
    labels: Integer[Tensor, " n"], n_classes: int, share: int | float, generator: torch.Generator
) -> Int64[Tensor, " n"]:
    """Labels of which `share` were drawn anew from all classes (RandY where it is 1): one in `n_classes` of those is right.

    Which ones: round(share · n) examples, chosen at random. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; a number from 0 to 1 is wanted")
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; 2 or more are wanted")
    n = len(labels)
    chosen = torch.randperm(n, generator=generator, device=generator.device)[: round(share * n)]
    drawn = torch.randint(n_classes, (len(chosen),), generator=generator, device=generator.device)
    return labels.long().index_copy(0, chosen.to(labels.device), drawn.to(labels.device))


def dispersion(counts: Integer[Tensor, " n"], members: int) -> float:
    """How much more the examples' difficulty varies than chance: observed over binomial variance of the share correct.

    counts: by how many of `members` independently trained networks each of n examples is classified correctly. With the
    same probability p̄ for all examples the variance of counts / members is p̄ (1 − p̄) / members, and the answer about 1:
    numerator and denominator are both unbiased. NaN where all counts are 0 or all are `members`.

    Raises ValueError for counts outside 0 to `members`, or for fewer than two examples or members.
    """
    n = len(counts)
    if n < 2 or members < 2:
        raise ValueError(f"there are {n} examples and {members} members; 2 or more of each are wanted")
    if counts.min() < 0 or counts.max() > members:
        raise ValueError(f"counts run from {counts.min()} to {counts.max()}; 0 to {members} is wanted")
    share = counts.double() / members
    mean = share.mean()
    # Over n · m independent trials, E[p̄ (1 − p̄)] = p (1 − p) (1 − 1 / n m).
    chance = mean * (1 - mean) / (1 - 1 / (n * members)) / members
    return (share.var(correction=1) / chance).item()
