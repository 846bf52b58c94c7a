"""Proper scores of samples and of quantiles: the energy loss with its two terms, and what a statistician sets beside it.

    loss = energy_loss(y, samples)                  # y (n, d), samples (n, m, d): a scalar to be minimised
    first, second = energy_terms(y, samples)        # loss = first − second / 2
    energy_scores(y, samples)                       # one score an example, (n,)
    threshold(y, at)                                # clip below `at`: scores of what is clipped look at the tail alone
    pinball(y, quantiles, levels)                   # (n, levels); twice its mean over levels is the CRPS, nearly

The energy score of a distribution P at y is E|Y − y|^β − ½ E|Y − Y'|^β with Y, Y' independent from P and 0 < β < 2
(smaller is better; in one dimension, with β = 1, it is the CRPS). The second expectation is taken over pairs of
*different* samples (a U-statistic), so that the loss is unbiased for every m. All of it is exact: in one dimension the
pairs are summed after sorting, in O(m log m); in more they are computed in blocks, from differences and never from a
matrix product, and the gradient on the way, so that memory does not grow with m².

Sources: Gneiting and Raftery (2007), JASA 102, sections 4.2 and 5.1; Shen and Meinshausen (2024), arXiv 2307.00835,
equation 5; Gneiting and Ranjan (2011), JBES 29 (thresholds).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 22
"""Numbers in a block of pairwise differences."""


def energy_loss(
    y: Float[Tensor, "n d"] | Float[Tensor, " n"],
    samples: Float[Tensor, "n m d"] | Float[Tensor, "n m"],
    beta: float | int = 1,
) -> Float[Tensor, ""]:
    """The mean energy score of m samples an example: E|Y − y|^β − ½ E|Y − Y'|^β, unbiased.

    y: (n, d), or (n,) in one dimension; samples: (n, m, d), or (n, m). beta: in (0, 2]; at 2 the loss depends on the mean
    alone and tells nothing about the spread. Samples that coincide give finite gradients (their pair counts 0).
    Raises ValueError for shapes that do not fit, m < 2, beta outside (0, 2], NaN or infinity.
    """
    first, second = energy_terms(y, samples, beta)
    return first - second / 2


def energy_terms(
    y: Float[Tensor, "n d"] | Float[Tensor, " n"],
    samples: Float[Tensor, "n m d"] | Float[Tensor, "n m"],
    beta: float | int = 1,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """E|Y − y|^β, which pulls samples to the data, and E|Y − Y'|^β, which keeps them apart; means over examples."""
    truth, drawn = _shaped(y, samples, beta)
    return unchecked_terms(truth, drawn, beta)


def unchecked_terms(
    y: Float[Tensor, "n d"], samples: Float[Tensor, "n m d"], beta: float | int = 1
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`energy_terms` without the look at every value, which on a GPU waits for it: for the inside of training loops."""
    return _distances(samples - y[:, None], beta).mean(), _pairs(samples, beta).mean()


def energy_scores(
    y: Float[Tensor, "n d"] | Float[Tensor, " n"],
    samples: Float[Tensor, "n m d"] | Float[Tensor, "n m"],
    beta: float | int = 1,
) -> Float[Tensor, " n"]:
    """The energy score of each example; their mean is `energy_loss`."""
    truth, drawn = _shaped(y, samples, beta)
    return _distances(drawn - truth[:, None], beta).mean(1) - _pairs(drawn, beta) / 2


def threshold(
    values: Float[Tensor, "*shape"], at: float | int | Float[Tensor, ""]
) -> Float[Tensor, "*shape"]:
    """max(v, at): the energy score of what is thresholded so is the threshold-weighted CRPS with weight 1 above `at`."""
    return values.clamp_min(at)


def pinball(
    y: Float[Tensor, " n"], quantiles: Float[Tensor, "n levels"], levels: Sequence[float]
) -> Float[Tensor, "n levels"]:
    """The quantile loss (y − q)(τ − [y < q]) of each level τ; 2 ∫ dτ of it is the CRPS.

    Raises ValueError for levels that are not in (0, 1), or not as many as there are quantiles.
    """
    if len(levels) != quantiles.shape[1] or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels are {tuple(levels)}; {quantiles.shape[1]} numbers in (0, 1) are wanted")
    tau = torch.as_tensor(levels, dtype=quantiles.dtype, device=quantiles.device)
    error = y[:, None] - quantiles
    return torch.maximum(tau * error, (tau - 1) * error)


# --- the two expectations ------------------------------------------------------------------------------------------


def _shaped(y: Tensor, samples: Tensor, beta: float | int) -> tuple[Tensor, Tensor]:
    """y as (n, d) and samples as (n, m, d), checked."""
    if not (isinstance(beta, int | float) and 0 < beta <= 2):
        raise ValueError(f"beta is {beta!r}; a number in (0, 2] is wanted")
    if y.ndim == 1 and samples.ndim == 2:
        y, samples = y[:, None], samples[..., None]
    if (
        y.ndim != 2
        or samples.ndim != 3
        or y.shape[0] != samples.shape[0]
        or y.shape[1] != samples.shape[2]
        or 0 in y.shape
    ):
        raise ValueError(
            f"y is {tuple(y.shape)} and samples are {tuple(samples.shape)}; (n, d) with (n, m, d), or (n,) with (n, m), "
            "are wanted"
        )
    if samples.shape[1] < 2:
        raise ValueError(
            f"samples are {tuple(samples.shape)}: m is {samples.shape[1]}; the spread takes m ≥ 2"
        )
    for name, value in (("y", y), ("samples", samples)):
        # one pass: a sum is finite only if all of its terms are (a sum that overflows is looked at again)
        if not math.isfinite(value.detach().sum().item()) and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} holds NaN or infinity; finite numbers are wanted")
    return y, samples


def _distances(differences: Tensor, beta: float | int) -> Tensor:
    """|v|^β over the last dimension, with gradient 0 at 0 (where the slope is steep or undefined)."""
    if beta == 2:
        return differences.square().sum(-1)
    if differences.shape[-1] == 1:
        size = differences.squeeze(-1).abs()
        if beta == 1:
            return size
        zero = size == 0
        return size.masked_fill(zero, 1).pow(beta).masked_fill(zero, 0)
    square = differences.square().sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1).pow(beta / 2).masked_fill(zero, 0)


def _pairs(samples: Tensor, beta: float | int) -> Tensor:
    """(n,) mean of |s_j − s_k|^β over the m (m − 1) pairs j ≠ k."""
    m = samples.shape[1]
    if m == 2:
        return _distances(samples[:, 0] - samples[:, 1], beta)
    if beta == 1 and samples.shape[2] == 1:
        # Σ_{j<k} |s_j − s_k| = Σ_j (2 j − m − 1) s_(j), the order statistics s_(1) ≤ … ≤ s_(m)
        rank = torch.arange(1 - m, m, 2, dtype=samples.dtype, device=samples.device)
        centred = samples.squeeze(-1) - samples[:, :1, 0].detach()  # no digits are lost far from 0
        return centred.sort(dim=1).values @ rank * (2 / (m * (m - 1)))
    return _Pairwise.apply(samples, float(beta))


class _Pairwise(torch.autograd.Function):
    """`_pairs` by blocks of differences; the gradient is computed on the way, so nothing of size m² is kept."""

    @staticmethod
    def forward(ctx: Any, samples: Tensor, beta: float | int) -> Tensor:
        n, m, d = samples.shape
        total = samples.new_zeros(n)
        gradient = torch.zeros_like(samples) if ctx.needs_input_grad[0] else None
        columns = max(1, min(m, BLOCK // (m * d)))
        rows = max(1, BLOCK // (columns * m * d))
        for row in range(0, n, rows):
            part = samples[row : row + rows]
            for start in range(0, m, columns):
                difference = part[:, start : start + columns, None] - part[:, None]  # (rows, columns, m, d)
                square = difference.square().sum(-1)
                zero = square == 0
                square.masked_fill_(zero, 1)
                total[row : row + rows] += square.pow(beta / 2).masked_fill(zero, 0).sum((1, 2))
                if gradient is not None:
                    # ∂|v|^β / ∂v = β |v|^(β − 2) v; each pair is met from both sides, hence twice
                    slope = square.pow_(beta / 2 - 1).masked_fill_(zero, 0).mul_(2 * beta)
                    gradient[row : row + rows, start : start + columns] = (difference * slope[..., None]).sum(
                        2
                    )
        scale = 1 / (m * (m - 1))
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(scale))
        return total.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * above[:, None, None], None
