"""Data that are drawn, with what is true about them: one covariate, noise before or after a known function.

    x, y = additive("softplus", 20_000, "pre", generator)       # y = f(x + η); "post": y = f(x) + η
    truth("softplus", x)                                        # the conditional median, for either placement

The four functions, their ranges and the noise (normal, standard deviation 1, for the cubic function 1.1) are those of the
paper's Figure 4: all increase, and η is symmetric, so f(x) is the median of Y given x whether the noise comes before or
after. `bimodal` and `ring` are laws with two modes and with a hole; `heavy` has tails that widen with x.

Source: Shen and Meinshausen (2024), arXiv 2307.00835, section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from lib.core import InputError

Placement = Literal["pre", "post"]


@dataclass(frozen=True)
class Function:
    """f with the range of x in training, the end of the range in testing (both begin alike), and the sd of the noise."""

    value: Callable[[Tensor], Tensor]
    low: float
    high: float
    end: float
    noise: float = 1.0


def _log(x: Tensor) -> Tensor:
    """log(1 + x) above 2, and its tangent there below."""
    return torch.where(x <= 2, x / 3 + math.log(3) - 2 / 3, torch.log1p(x.clamp_min(0)))


FUNCTIONS = {
    "softplus": Function(softplus, -2, 2, 8),
    "square": Function(lambda x: x.clamp_min(0).square() / 2, 0, 2, 6),
    "cubic": Function(lambda x: x**3 / 3, -2, 2, 6, 1.1),
    "log": Function(_log, 0, 2, 10),
}


def function(name: str) -> Function:
    """One of `FUNCTIONS`. Raises InputError for another name."""
    if name not in FUNCTIONS:
        raise InputError(f"there is no function {name!r}; there are: {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


def additive(
    name: str, n: int, placement: Placement, generator: torch.Generator
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """n pairs with x uniform on the training range: y = f(x + η) for `pre`, f(x) + η for `post`."""
    f = function(name)
    if placement not in ("pre", "post"):
        raise InputError(f"placement is {placement!r}; 'pre' or 'post' is wanted")
    x = torch.rand(n, 1, generator=generator) * (f.high - f.low) + f.low
    eta = torch.randn(n, 1, generator=generator) * f.noise
    return x, f.value(x + eta) if placement == "pre" else f.value(x) + eta


def truth(name: str, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The median of Y given x: f(x)."""
    return function(name).value(x)


def line(n: int, sd: float, generator: torch.Generator) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """x uniform on [−1, 1], y normal around x with standard deviation `sd`."""
    x = torch.rand(n, 1, generator=generator) * 2 - 1
    return x, x + sd * torch.randn(n, 1, generator=generator)


def bimodal(x: Float[Tensor, "n 1"], generator: torch.Generator, sd: float = 0.15) -> Float[Tensor, "n 1"]:
    """y = ± (1 + x / 2) + noise, either sign with probability a half: two modes, and nothing between them."""
    sign = torch.randint(2, x.shape, generator=generator) * 2 - 1
    return sign * (1 + x / 2) + sd * torch.randn(x.shape, generator=generator)


def ring(x: Float[Tensor, "n 1"], generator: torch.Generator, sd: float = 0.1) -> Float[Tensor, "n 2"]:
    """y on a circle of radius 1 + x / 2, the angle uniform, the radius blurred by `sd`."""
    angle = 2 * math.pi * torch.rand(x.shape, generator=generator)
    radius = 1 + x / 2 + sd * torch.randn(x.shape, generator=generator)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def heavy(x: Float[Tensor, "n 1"], generator: torch.Generator) -> Float[Tensor, "n 1"]:
    """y = x + (1 + x / 2) t, with t of Student's law with three degrees of freedom: its variance is 3, its kurtosis infinite."""
    normals = torch.randn(*x.shape, 4, generator=generator)
    t = normals[..., 0] / (normals[..., 1:].square().sum(-1) / 3).sqrt()
    return x + (1 + x / 2) * t
