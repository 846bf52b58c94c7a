"""Defocus, glass, motion and zoom blur. Images are floats in [0, 1], (n, 3, h, w)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.data.corruptions._draw import Draw
from lib.data.corruptions._linear import Tap, gaussian, gaussian_weights, on, separable, weighted, zoom_matrix


def defocus_blur(x: Tensor, draw: Draw, radius: float, alias: float) -> Tensor:
    """Convolution with a disk of `radius` pixels, its edge softened by a 3 × 3 Gaussian of σ = `alias`."""
    return weighted(x, disk(radius, alias), "reflect")


def disk(radius: float, alias: float) -> list[Tap]:
    """The taps of the softened disk, with sum 1; tiny ones are left out."""
    reach = int(radius) + 1
    line = np.arange(-reach, reach + 1)
    hard = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    hard /= hard.sum()
    edge = np.array(gaussian_weights(alias, 1))
    soft = np.zeros_like(hard)
    for i, down in enumerate(edge, -1):
        for j, right in enumerate(edge, -1):
            soft += down * right * np.roll(hard, (i, j), (0, 1))
    return [
        (int(y) - reach, int(x) - reach, float(soft[y, x]))
        for y, x in zip(*np.nonzero(soft > 1e-7), strict=True)
    ]


def glass_blur(x: Tensor, draw: Draw, sigma: float, delta: int, iterations: int) -> Tensor:
    """Blur, take each pixel from up to `delta` rows above and columns to the left, blur again.

    The benchmark means to swap pixels, from the lower right to the upper left, with offsets from −delta to delta − 1.
    Its swap works on views of one array, so that it copies; and what it copies has not been reached yet. So a round is
    one look-up in the picture before it; the first delta + 1 rows and columns stay. With delta = 1, as in all
    severities here, offsets are −1 or 0. Like the benchmark, the first blur is cut to whole grey levels.
    """
    if delta != 1:
        raise ValueError(f"delta is {delta}; 1 is wanted (with more, the benchmark's copies depend on their order)")
    n, _, height, width = x.shape
    x = gaussian(x, sigma).mul(255).add_(1e-3).floor_().div_(255)  # 1e-3: a whole level in float32 stays that level
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    moves = (rows > delta)[:, None] & (columns > delta)
    for _ in range(iterations):
        down, right = draw.integers(-delta, delta, 2, n, height, width) * moves
        source = (rows[:, None] + down) * width + columns + right  # (n, h, w)
        x = x.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return gaussian(x, sigma)


def motion_blur(x: Tensor, draw: Draw, radius: int, sigma: float, low: float = -45, high: float = 45) -> Tensor:
    """One-sided blur along an angle of each image's own, uniform between `low` and `high` degrees; whole grey levels."""
    angles = draw.uniform(low, high, len(x)).deg2rad_()
    return along(x, angles, radius, sigma).mul_(255).round_().div_(255)


def along(x: Tensor, angles: Tensor, radius: int, sigma: float) -> Tensor:
    """Σ_i k_i x(y + ⌈i sin θ − ½⌉, x + ⌈i cos θ − ½⌉) with k_i ∝ exp(−i² / 2σ²), i = 0 … 2 radius; edges replicated.

    Images are taken in the order of their angles: those that share a tap's offset are then neighbours, and a tap is a
    few sums of slices instead of a look-up for each pixel.
    """
    order = angles.argsort()
    theta = angles[order].double().cpu().numpy()
    height, width = x.shape[-2:]
    kernel = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    taps = np.flatnonzero(kernel > 1e-6)
    reach = int(taps[-1]) + 1
    padded = functional.pad(x[order], (reach,) * 4, mode="replicate")
    summed = torch.zeros_like(x)
    for i in taps:
        down = np.ceil(i * np.sin(theta) - 0.5).astype(int)
        right = np.ceil(i * np.cos(theta) - 0.5).astype(int)
        edges = np.flatnonzero(np.diff(down) | np.diff(right)) + 1
        for first, last in zip([0, *edges], [*edges, len(x)], strict=True):
            top, left = reach + down[first], reach + right[first]
            part = padded[first:last, :, top : top + height, left : left + width]
            summed[first:last].add_(part, alpha=float(kernel[i]))
    return torch.empty_like(x).index_copy_(0, order, summed)


def zoom_blur(x: Tensor, draw: Draw, largest: float) -> Tensor:
    """The mean of the image and of its enlargements by 1, 1.01, … up to (not always including) `largest`."""
    factors = np.arange(1, largest, 0.01)
    size = x.shape[-1]
    matrices = [zoom_matrix(size, float(factor)) for factor in factors]
    if len(matrices) * 4 * size < size * size:
        out = x.clone()
        for matrix in matrices:
            out += separable(on(matrix, x), x)
        return out.div_(len(matrices) + 1)
    # many factors: one product with the whole map, (h w, h w)
    whole = sum((torch.kron(matrix, matrix) for matrix in matrices), torch.eye(size * size))
    whole = on(whole / (len(matrices) + 1), x)
    return (x.flatten(2) @ whole.mT).view_as(x)

