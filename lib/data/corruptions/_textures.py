"""Procedural frost: 1/f^β textures in the colours of the benchmark's frost photographs, which may not be shipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.data.corruptions._draw import Draw


@dataclass(frozen=True)
class Kind:
    """One kind of frost: RGB means and standard deviation in grey levels, and the slope of its amplitude spectrum.

    weight: how often it is drawn. slope: amplitude ∝ f^slope.
    """

    weight: int
    means: tuple[float, float, float]
    deviation: float
    slope: float


KINDS = (
    Kind(1, (78, 149, 166), 20, -1.4),
    Kind(2, (201, 205, 214), 22, -0.9),
    Kind(1, (138, 153, 166), 29, -0.4),
    Kind(1, (112, 123, 135), 43, -1.2),
)
"""Matched to the five photographs that the benchmark draws from with equal chance (two of them are alike)."""

_TORUS = 2
"""Textures are made on a torus this many times the image's side, and cut: opposite edges of an image differ."""


def textures(n: int, size: int, draw: Draw) -> Tensor:
    """(n, 3, size, size) crops of procedural frost, grey levels from 0 to 255."""
    table = [kind for kind in KINDS for _ in range(kind.weight)]
    chosen = draw.integers(0, len(table), n)
    means = torch.tensor([kind.means for kind in table], device=draw.device)[chosen]
    deviations = torch.tensor([kind.deviation for kind in table], device=draw.device)[chosen]
    slopes = torch.tensor([kind.slope for kind in table], device=draw.device)[chosen]
    side = _TORUS * size
    across = torch.fft.rfftfreq(side, device=draw.device)
    down = torch.fft.fftfreq(side, device=draw.device)
    frequency = (down[:, None] ** 2 + across**2).sqrt()  # (side, side // 2 + 1)
    frequency[0, 0] = math.inf  # the mean is the kind's, not the texture's
    amplitude = frequency ** slopes[:, None, None]
    # Parseval: the expected variance of irfft2(white spectrum × amplitude) is the mean of amplitude² over the full plane
    doubled = torch.full_like(across, 2.0)
    doubled[0] = doubled[-1] = 1.0
    power = (amplitude**2 * doubled).sum((-1, -2)) / side**2
    white = torch.fft.rfft2(draw.normal(n, side, side))
    grey = torch.fft.irfft2(white * amplitude, s=(side, side))[:, :size, :size]
    grey = grey * (deviations / power.sqrt())[:, None, None]
    return (means[:, :, None, None] + grey[:, None]).clamp_(0, 255)
