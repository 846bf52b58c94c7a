"""Where does the noise enter? Models y = f(x + n), y = f(x) + n and y = g(x, n), fitted alike and compared out of sample.

    net = PlacementNet("pre", members=8)              # eight independent models of one covariate each, as one network
    Trainer(net, x, y, m=4, objective=summed_energy)  # x and y (n, 8): member j sees column j of both
    draw(net, x, 100, generator)                      # (n, 100, 8)
    paired_z(scores_post, scores_pre)                 # above 0: the pre-additive model fits better

f is a multilayer perceptron, and so is the map from standard normals to the noise n, whose law is thereby learned: neither
model is given a shape. The general model contains both.

Source: Shen and Meinshausen (2024), arXiv 2307.00835, section 3 (pre- and post-additive noise models); the comparison by
held-out scores is ours.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.methods.scores import unchecked_terms

Placement = Literal["pre", "post", "general"]
PLACEMENTS: tuple[Placement, ...] = ("pre", "post", "general")


class PlacementNet(nn.Module):
    """`members` models with one covariate and one response each, in one pass; they share nothing.

    kind: `pre` f(x + h(ε)), `post` f(x) + h(ε), `general` g(x, ε). width: units of each of the two hidden layers of f and
    g; noise_dim: entries of ε. generator: of the first weights.
    """

    def __init__(
        self,
        kind: Placement,
        members: int,
        *,
        width: int = 32,
        noise_dim: int = 4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kind not in PLACEMENTS:
            raise ValueError(f"kind is {kind!r}; one of {', '.join(PLACEMENTS)} is wanted")
        if min(members, width, noise_dim) < 1:
            raise ValueError(
                f"members, width and noise_dim are {members}, {width}, {noise_dim}; at least 1 each"
            )
        self.kind, self.members, self.noise_dim = kind, members, noise_dim
        n_in = 1 + (noise_dim if kind == "general" else 0)
        self.main = _Stack(members, (n_in, width, width, 1), generator)
        self.noise = None if kind == "general" else _Stack(members, (noise_dim, 16, 1), generator)

    def forward(
        self, x: Float[Tensor, "n members"], m: int = 1, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n m members"]:
        """m samples for each row and member."""
        n = len(x)
        eps = torch.empty(self.members, n * m, self.noise_dim, dtype=x.dtype, device=x.device)
        eps.normal_(generator=generator)
        wide = x.T[:, :, None]  # (members, n, 1)
        if self.noise is None:
            found = self.main(torch.cat([wide.repeat_interleave(m, dim=1), eps], dim=2))
        elif self.kind == "pre":
            found = self.main(wide.repeat_interleave(m, dim=1) + self.noise(eps))
        else:
            found = self.main(wide).repeat_interleave(m, dim=1) + self.noise(eps)
        return found.view(self.members, n, m).permute(1, 2, 0)


class _Stack(nn.Module):
    """Independent perceptrons of the same sizes with ReLU: (members, rows, n_in) → (members, rows, n_out)."""

    def __init__(self, members: int, sizes: tuple[int, ...], generator: torch.Generator | None) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise(sizes):
            bound = 1 / math.sqrt(n_in)
            for kept, shape in ((self.weights, (members, n_in, n_out)), (self.biases, (members, 1, n_out))):
                kept.append(nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator)))

    def forward(self, hidden: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden.relu() if i else hidden, weight)
        return hidden


def summed_energy(y: Float[Tensor, "n members"], samples: Float[Tensor, "n m members"]) -> Float[Tensor, ""]:
    """The energy losses of all members, added up: the gradient of each is as if it were alone."""
    n, m, members = samples.shape
    first, second = unchecked_terms(y.T.reshape(-1, 1), samples.permute(2, 0, 1).reshape(members * n, m, 1))
    return members * (first - second / 2)


def paired_z(
    first: Float[Tensor, "n members"], second: Float[Tensor, "n members"]
) -> Float[Tensor, " members"]:
    """Mean of first − second in standard errors over examples: above 0 where `second` has the better (smaller) scores.

    It takes the examples for independent. 0 where the two never differ.
    """
    difference = first - second
    spread = difference.std(dim=0) / math.sqrt(len(difference))
    return torch.where(spread > 0, difference.mean(dim=0) / spread.clamp_min(1e-30), 0.0)
