"""Contrast, elastic transform, pixelate and JPEG. Images are floats in [0, 1], (n, 3, h, w)."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.data.corruptions._draw import Draw
from lib.data.corruptions._linear import box_matrix, mirror_gaussian_matrix, on, separable


def contrast(x: Tensor, draw: Draw, factor: float) -> Tensor:
    """Shrink the distance from each channel's mean."""
    means = x.mean((2, 3), keepdim=True)
    return (x - means).mul_(factor).add_(means)


def elastic_transform(x: Tensor, draw: Draw, alpha: float, sigma: float, jitter: float) -> Tensor:
    """An affine map that moves three corners by up to `jitter` pixels, then a smooth displacement field of height `alpha`.

    Both by linear interpolation; beyond the edge the image is mirrored, first without and then with the edge repeated.
    """
    n, _, height, width = x.shape
    rows, columns = (torch.arange(side, device=x.device, dtype=x.dtype) for side in (height, width))
    # three corners around the centre, as (x, y)
    centre, reach = float(height // 2), float(height // 3)
    corners = torch.tensor(
        [
            [centre + reach, centre + reach],
            [centre + reach, centre - reach],
            [centre - reach, centre - reach],
        ],
        device=x.device,
    )
    moved = corners + draw.uniform(-jitter, jitter, n, 3, 2)
    # where each pixel comes from: the affine map that takes the moved corners back
    back = torch.linalg.solve(torch.cat([moved, torch.ones_like(moved[..., :1])], -1), corners.expand(n, 3, 2))
    grid = torch.stack(
        [columns.expand(height, width), rows[:, None].expand(height, width), torch.ones(height, width).to(x)], -1
    )
    x = _sampled(x, (grid.view(-1, 3) @ back).view(n, height, width, 2), edge=False)
    field = draw.uniform(-1, 1, 2, n, height, width)
    right, down = separable(on(mirror_gaussian_matrix(height, sigma, 3.0), x), field).mul_(alpha)
    return _sampled(x, torch.stack([columns + right, rows[:, None] + down], -1), edge=True)


def _sampled(x: Tensor, place: Tensor, *, edge: bool) -> Tensor:
    """x at places (n, h, w, 2), (column, row) in pixels; mirrored beyond the edge, which is repeated or not."""
    sides = torch.tensor([x.shape[-1], x.shape[-2]], device=x.device, dtype=x.dtype)
    unit = (2 * place + 1) / sides - 1 if edge else 2 * place / (sides - 1) - 1
    return functional.grid_sample(x, unit, mode="bilinear", padding_mode="reflection", align_corners=not edge)


def pixelate(x: Tensor, draw: Draw, size: int) -> Tensor:
    """Down to size × size and up again with Pillow's box filter, each pass in whole grey levels."""
    down, up = on(box_matrix(x.shape[-1], size), x), on(box_matrix(size, x.shape[-1]), x)
    levels = _levels(_levels(x * 255) @ down.mT)  # Pillow goes along rows first
    levels = _levels(down @ levels)
    return _levels(up @ _levels(levels @ up.mT)).div_(255)


def _levels(x: Tensor) -> Tensor:
    """To whole grey levels, halves up; weights such as 1/3 leave float32 a little below a level."""
    return (x + 0.5 + 1e-4).floor_()


def jpeg_compression(x: Tensor, draw: Draw, quality: int) -> Tensor:
    """Through a JPEG file of this quality, by Pillow, image by image."""
    from PIL import Image

    pixels = (x * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    out = np.empty_like(pixels)
    for place, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        out[place] = np.asarray(Image.open(file))
    return torch.from_numpy(out).to(x.device).permute(0, 3, 1, 2).to(x.dtype).div_(255)
