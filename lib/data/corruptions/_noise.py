"""Gaussian, shot and impulse noise. Images are floats in [0, 1], (n, 3, h, w); what leaves them is clipped later."""

from __future__ import annotations

from torch import Tensor

from lib.data.corruptions._draw import Draw


def gaussian_noise(x: Tensor, draw: Draw, sigma: float) -> Tensor:
    """Normal noise of standard deviation `sigma` on every value."""
    return draw.normal(*x.shape).mul_(sigma).add_(x)


def shot_noise(x: Tensor, draw: Draw, photons: float) -> Tensor:
    """Poisson(x · photons) / photons."""
    return draw.poisson(x * photons).div_(photons)


def impulse_noise(x: Tensor, draw: Draw, amount: float) -> Tensor:
    """Salt or pepper, with equal chance, on a share `amount` of the values."""
    u = draw.uniform(0, 1, *x.shape)
    return x.masked_fill(u < amount / 2, 0.0).masked_fill_(u >= 1 - amount / 2, 1.0)
