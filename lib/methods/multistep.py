"""Engression in several steps: from noise to data through K intermediate distributions, each step an engression.

    chain = Chain([StochasticNet(p + d, d) for _ in range(K)])
    for k in range(1, K + 1):                           # the steps can be trained in any order
        inputs, target = chain.pairs(k, x, y, generator)
        Trainer(chain.networks[k - 1], inputs, target, ...)
    chain(x, m, generator)                              # (n, m, d)

With Y_k = (1 − k/K) Y + (k/K) Z and Z standard normal, step k learns the law of Y_{k−1} given Y_k and x. Each step keeps
the marginal laws right, so the last one has the law of Y given x. K = 1 is engression with d more entries of noise.

Source: Shen, Meinshausen and Zhang (2025), Reverse Markov Learning, arXiv 2502.13747, section 3; the straight-line
interpolation is our choice of their forward process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.methods.engression import StochasticNet


class Chain(nn.Module):
    """K networks, the k-th of which samples Y_{k−1} given (x, Y_k)."""

    def __init__(self, networks: Sequence[StochasticNet]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("a chain takes one network or more")
        self.networks = nn.ModuleList(networks)
        self.dim = networks[0].n_out

    def pairs(
        self,
        k: int,
        x: Float[Tensor, "n p"],
        y: Float[Tensor, "n d"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "n q"], Float[Tensor, "n d"]]:
        """What step k is trained on: (x, Y_k), and Y_{k−1}; a fresh Z for each row."""
        steps = len(self.networks)
        if not 1 <= k <= steps:
            raise ValueError(f"k is {k}; 1 to {steps} is wanted")
        z = torch.empty_like(y).normal_(generator=generator)
        mixed = [(1 - step / steps) * y + (step / steps) * z for step in (k, k - 1)]
        return torch.cat([x, mixed[0]], dim=1), mixed[1]

    def forward(
        self, x: Float[Tensor, "n p"], m: int = 1, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n m d"]:
        """m samples for each row of x, from Z through all steps."""
        rows = x.repeat_interleave(m, dim=0)
        y = torch.empty(len(rows), self.dim, dtype=x.dtype, device=x.device).normal_(generator=generator)
        for network in reversed(self.networks):
            y = network(torch.cat([rows, y], dim=1), 1, generator)[:, 0]
        return y.view(len(x), m, self.dim)
