"""Linear maps of images: weighted sums of shifted copies, and the matrices of one-dimensional resampling.

An image stack is (n, c, h, w). A matrix A (out, in) acts on rows and columns alike: A x Aᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Tap = tuple[int, int, float]
"""Rows down, columns right, weight: out(y, x) gets weight × in(y + down, x + right)."""


def weighted(x: Tensor, taps: Iterable[Tap], mode: str) -> Tensor:
    """Σ weight × shifted x. mode: what lies beyond the border, "reflect" (without the edge) or "replicate"."""
    taps = list(taps)
    reach = max(max(abs(down), abs(right)) for down, right, _ in taps)
    height, width = x.shape[-2:]
    padded = functional.pad(x, (reach,) * 4, mode=mode) if reach else x
    out = torch.zeros_like(x)
    for down, right, weight in taps:
        top, left = reach + down, reach + right
        out.add_(padded[..., top : top + height, left : left + width], alpha=weight)
    return out


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur cut at 4 σ, edges replicated (scikit-image's default)."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return x
    weights = gaussian_weights(sigma, radius)
    across = weighted(x, [(0, i - radius, w) for i, w in enumerate(weights)], "replicate")
    return weighted(across, [(i - radius, 0, w) for i, w in enumerate(weights)], "replicate")


def gaussian_weights(sigma: float, radius: int) -> list[float]:
    """exp(−i² / 2σ²) for i = −radius … radius, with sum 1."""
    values = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return [float(value) for value in values / values.sum()]


def separable(matrix: Tensor, x: Tensor) -> Tensor:
    """A x Aᵀ for every image and channel."""
    return matrix @ x @ matrix.mT


@lru_cache(maxsize=64)
def zoom_matrix(size: int, factor: float) -> Tensor:
    """(size, size): the middle of a line, enlarged `factor` times by linear interpolation and cut to `size`.

    As the benchmark does it: ⌈size / factor⌉ pixels are kept, first and last of them map to first and last of the
    round(kept × factor) new ones, of which the middle `size` stay.
    """
    kept = math.ceil(size / factor)
    first = (size - kept) // 2
    made = round(kept * factor)
    trimmed = (made - size) // 2
    place = (np.arange(size) + trimmed) * ((kept - 1) / (made - 1)) + first
    low = np.minimum(np.floor(place).astype(int), size - 2)
    matrix = np.zeros((size, size))
    matrix[np.arange(size), low] = 1 - (place - low)
    matrix[np.arange(size), low + 1] += place - low
    return torch.tensor(matrix, dtype=torch.float32)


@lru_cache(maxsize=64)
def mirror_gaussian_matrix(size: int, sigma: float, truncate: float) -> Tensor:
    """(size, size): Gaussian blur of a line cut at truncate × σ; beyond the edge the line is mirrored, edge included."""
    radius = int(truncate * sigma + 0.5)
    matrix = np.eye(size)
    if radius:
        matrix = np.zeros((size, size))
        for offset, weight in zip(range(-radius, radius + 1), gaussian_weights(sigma, radius), strict=True):
            place = (np.arange(size) + offset) % (2 * size)
            matrix[np.arange(size), np.where(place < size, place, 2 * size - 1 - place)] += weight
    return torch.tensor(matrix, dtype=torch.float32)


@lru_cache(maxsize=64)
def box_matrix(size: int, target: int) -> Tensor:
    """(target, size): Pillow's box filter from `size` pixels to `target`: the mean of whole pixels, or the nearest."""
    scale = size / target
    support = 0.5 * max(scale, 1.0)
    matrix = np.zeros((target, size))
    for out in range(target):
        centre = (out + 0.5) * scale
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
        offset = (np.arange(low, high) - centre + 0.5) / max(scale, 1.0)
        inside = (offset > -0.5) & (offset <= 0.5)
        matrix[out, low:high] = inside / inside.sum()
    return torch.tensor(matrix, dtype=torch.float32)


def on(matrix: Tensor, like: Tensor) -> Tensor:
    """A cached matrix on the device and in the type of `like`."""
    return matrix.to(like.device, like.dtype)
