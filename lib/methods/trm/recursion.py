"""What a supervision step does: recursions without gradients to warm up, then one with them.

    think = Nested(n=6, T=3)
    y, z = think(model, x, y, z)           # 21 passes of the network, the last 7 with gradients
    think.passes, think.gradient_passes    # 21, 7

    y, z = KStep(k=7)(model, x, y, z)      # the simplified form: k passes that renew both states, all with gradients

Source: Jolicoeur-Martineau (2025), arXiv 2510.04871, figure 3 (`latent_recursion`, `deep_recursion`); the K-step form: the
original post.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lib.methods.trm.network import TinyRecursiveModel

Latents = Float[Tensor, "batch positions width"]
Pair = tuple[Latents, Latents]


@runtime_checkable
class Recursion(Protocol):
    """Renews the states (y, z) given the question x."""

    @property
    def passes(self) -> int: ...

    @property
    def gradient_passes(self) -> int: ...

    def __call__(self, model: TinyRecursiveModel, x: Latents, y: Latents, z: Latents) -> Pair: ...


def latent_recursion(
    net: Callable[[Latents], Latents], x: Latents, y: Latents, z: Latents, n: int, m: int = 1
) -> Pair:
    """Think n times about the question and the answer so far, then revise the answer m times."""
    question = x + y
    for _ in range(n):
        z = net(question + z)  # z ← net(x, y, z)
    for _ in range(m):
        y = net(y + z)  # y ← net(y, z)
    return y, z


def deep_recursion(
    net: Callable[[Latents], Latents], x: Latents, y: Latents, z: Latents, n: int, T: int, m: int = 1
) -> Pair:
    """T latent recursions, of which only the last one carries gradients."""
    with torch.no_grad():
        for _ in range(T - 1):
            y, z = latent_recursion(net, x, y, z, n, m)
    # some versions of autocast would use the weights cast just now again, which have no way back to the gradients
    torch.clear_autocast_cache()
    return latent_recursion(net, x, y, z, n, m)


def k_steps(net: Callable[[Latents], Pair], x: Latents, y: Latents, z: Latents, k: int) -> Pair:
    """The simplified form: k passes of a network that renews both states at once."""
    for _ in range(k):
        y, z = net(x + y + z)
    return y, z


@dataclass(frozen=True)
class Nested:
    """The paper's recursion. n: updates of z before y is updated, m times (once in the paper). T: repetitions."""

    n: int
    T: int
    m: int = 1

    def __post_init__(self) -> None:
        if min(self.n, self.T, self.m) < 1:
            raise ValueError(f"n is {self.n}, T {self.T}, m {self.m}; at least 1 of each is wanted")

    @property
    def passes(self) -> int:
        """Passes of the network in a supervision step."""
        return self.T * self.gradient_passes

    @property
    def gradient_passes(self) -> int:
        """Those of them that carry gradients."""
        return self.n + self.m

    def __call__(self, model: TinyRecursiveModel, x: Latents, y: Latents, z: Latents) -> Pair:
        return deep_recursion(model, x, y, z, self.n, self.T, self.m)


@dataclass(frozen=True)
class KStep:
    """The simplified recursion of a two-headed model."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; at least 1 is wanted")

    @property
    def passes(self) -> int:
        return self.k

    @property
    def gradient_passes(self) -> int:
        return self.k

    def __call__(self, model: TinyRecursiveModel, x: Latents, y: Latents, z: Latents) -> Pair:
        return k_steps(model.both, x, y, z, self.k)
