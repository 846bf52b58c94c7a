"""Snow, frost, fog and brightness. Images are floats in [0, 1], (n, 3, h, w)."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.data.corruptions._blur import motion_blur
from lib.data.corruptions._draw import Draw
from lib.data.corruptions._linear import on, separable, zoom_matrix
from lib.data.corruptions._textures import textures

LUMA = (0.299, 0.587, 0.114)


def snow(
    x: Tensor,
    draw: Draw,
    loc: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    mix: float,
) -> Tensor:
    """Flakes (thresholded normal noise, enlarged, blurred along an angle), laid over a whitened image both ways up."""
    n, _, height, width = x.shape
    layer = draw.normal(n, 1, height, width).mul_(scale).add_(loc)
    layer = separable(on(zoom_matrix(height, zoom), layer), layer)
    layer = layer.masked_fill_(layer < threshold, 0.0).clamp_(0, 1).mul_(255).floor_().div_(255)
    layer = motion_blur(layer, draw, radius, sigma, -135, -45)
    grey = (x * torch.tensor(LUMA, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)
    whitened = torch.maximum(x, grey * 1.5 + 0.5)
    return (mix * x + (1 - mix) * whitened).add_(layer).add_(layer.flip(-1, -2))


def frost(x: Tensor, draw: Draw, image: float, ice: float) -> Tensor:
    """image × x + ice × a crop of a frost texture (a procedural substitute for the benchmark's photographs)."""
    return textures(len(x), x.shape[-1], draw).mul_(ice / 255).add_(x, alpha=image)


def fog(x: Tensor, draw: Draw, strength: float, decay: float) -> Tensor:
    """Add a plasma of height `strength`, and scale so that the brightest value of the image keeps its place."""
    peak = x.amax((1, 2, 3), keepdim=True)
    return (x + strength * plasma(len(x), x.shape[-1], decay, draw)[:, None]).mul_(peak / (peak + strength))


def plasma(n: int, size: int, decay: float, draw: Draw) -> Tensor:
    """(n, size, size) height maps in [0, 1] by diamond and square on a torus; size: a power of two.

    At each scale the mean of four neighbours is moved by up to wibble², and wibble falls by `decay` from scale to scale.
    """
    if size < 2 or size & (size - 1):
        raise ValueError(f"size is {size}; a power of two is wanted")
    heights = torch.zeros(n, size, size, device=draw.device)
    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2

        def moved(total: Tensor, wibble: float = wibble) -> Tensor:
            return total / 4 + draw.uniform(-(wibble**2), wibble**2, *total.shape)

        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = moved(pairs + pairs.roll(-1, 2))
        corners, centres = heights[:, ::step, ::step], heights[:, half::step, half::step]
        above = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = moved(above)
        beside = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = moved(beside)
        step, wibble = half, wibble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights.div_(heights.amax((1, 2), keepdim=True))


def brightness(x: Tensor, draw: Draw, amount: float) -> Tensor:
    """Add to V of HSV, with hue and saturation kept: every channel grows as the largest does; black becomes grey."""
    value = x.amax(1, keepdim=True)
    target = (value + amount).clamp_(max=1)
    return torch.where(value > 0, x * (target / value.clamp(min=1e-6)), target)
