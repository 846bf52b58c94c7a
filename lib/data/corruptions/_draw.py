"""Random numbers of a corruption: drawn where the generator lives, used where the images are."""

from __future__ import annotations

import torch
from torch import Tensor


class Draw:
    """Draws for a block of images on `device`, from `generator` (of this or another device)."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return drawn.mul_(high - low).add_(low).to(self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from low to high − 1."""
        place = self.generator.device
        return torch.randint(low, high, shape, generator=self.generator, device=place).to(self.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson with the given rates."""
        return torch.poisson(rate.to(self.generator.device), self.generator).to(self.device)
