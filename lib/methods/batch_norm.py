"""Batch normalisation, written out.

    layer = BatchNorm(64)                       # in place of nn.BatchNorm2d(64), or of nn.BatchNorm1d(64)
    y, mean, variance = normalise(x)            # the equations alone

For reading and for checking: `torch.nn.BatchNorm2d` computes the same, faster.

Source: Ioffe and Szegedy (2015), arXiv 1502.03167, Algorithms 1 and 2; per channel over batch and places, section 3.2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def normalise(
    x: Float[Tensor, "batch channels *places"], eps: float = 1e-5
) -> tuple[Float[Tensor, "batch channels *places"], Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """x̂ = (x − μ) / √(σ² + ε) for each channel, with μ and the biased σ² over batch and places; x̂, μ and σ².

    Raises ValueError where a channel has one value only: it has no variance.
    """
    if x.numel() <= x.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; more than one value for each channel is wanted")
    over = [0, *range(2, x.ndim)]
    mean = x.mean(over)  # μ = Σ x / m
    variance = (x - _by_channel(mean, x)).square().mean(over)  # σ² = Σ (x − μ)² / m
    scaled = (x - _by_channel(mean, x)) * (_by_channel(variance, x) + eps).rsqrt()
    return scaled, mean, variance


class BatchNorm(nn.Module):
    """y = γ x̂ + β, by the batch's statistics in training and by running ones in evaluation.

    The output of training uses the biased variance, Σ (x − μ)² / m; the running variance the unbiased one, m / (m − 1) of
    it. momentum: weight of the newest batch in the running statistics.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))  # γ
        self.bias = nn.Parameter(torch.zeros(channels))  # β
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Float[Tensor, "batch channels *places"]) -> Float[Tensor, "batch channels *places"]:
        if self.training:
            scaled, mean, variance = normalise(x, self.eps)
            m = x.numel() // x.shape[1]
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * m / (m - 1), self.momentum)
        else:
            shifted = x - _by_channel(self.running_mean, x)
            scaled = shifted * (_by_channel(self.running_var, x) + self.eps).rsqrt()
        return _by_channel(self.weight, x) * scaled + _by_channel(self.bias, x)


def _by_channel(values: Float[Tensor, " channels"], x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 2))
