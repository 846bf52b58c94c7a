"""The corruptions of CIFAR-10-C: whole batches in torch, against NumPy, SciPy and Pillow image by image.

    run(repeats=5, threads=1)                 # {"rows": [...], "notes": [...]}
    IMAGE_BY_IMAGE["snow"](image, rng, *parameters)   # one image, h × w × 3, written in the obvious way

The peer is what the corruptions' descriptions say, one image at a time: loops over pixels for glass blur, over taps for
motion blur, SciPy's zoom, filters and interpolation, Pillow's resize. It is also what the tests compare with. Both sides
make all images of a corruption at severity 5 from bytes to bytes; the paired ratio is of times for the same images. The
peer runs on fewer images, for it takes minutes on 10,000.
"""

from __future__ import annotations

import colorsys
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from lib import data
from lib.data.corruptions import CORRUPTIONS, PARAMETERS, corrupt, textures
from lib.data.corruptions._draw import Draw

NAME = "corruptions"
TITLE = "CIFAR-10-C's corruptions at severity 5, 10,000 images"

Rng = np.random.Generator
COUNT = 10_000


# --- the peer: x is one image, floats in [0, 1] of h × w × 3 ---------------------------------------------------------


def gaussian_noise(x: np.ndarray, rng: Rng, sigma: float) -> np.ndarray:
    return x + rng.normal(0, sigma, x.shape)


def shot_noise(x: np.ndarray, rng: Rng, photons: float) -> np.ndarray:
    return rng.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, rng: Rng, amount: float) -> np.ndarray:
    hit, salt = rng.random(x.shape) < amount, rng.random(x.shape) < 0.5
    return np.where(hit, salt.astype(float), x)


def defocus_blur(x: np.ndarray, rng: Rng, radius: float, alias: float) -> np.ndarray:
    line = np.arange(-8, 9)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    weights = np.exp(-0.5 * (np.arange(-1, 2) / alias) ** 2)
    soft = np.outer(weights, weights) / weights.sum() ** 2
    kernel = ndimage.correlate(disk / disk.sum(), soft, mode="constant")
    return np.stack([ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(3)], -1)


def glass_blur(x: np.ndarray, rng: Rng, sigma: float, delta: int, iterations: int) -> np.ndarray:
    x = _blurred(x, sigma)
    x = np.floor(x * 255 + 1e-3) / 255
    height, width = x.shape[:2]
    for _ in range(iterations):
        for row in range(height - delta, delta, -1):
            for column in range(width - delta, delta, -1):
                right, down = rng.integers(-delta, delta, 2)
                x[row, column] = x[row + down, column + right]
    return _blurred(x, sigma)


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def motion_blur(
    x: np.ndarray, rng: Rng, radius: int, sigma: float, low: float = -45, high: float = 45
) -> np.ndarray:
    return np.round(along(x, np.deg2rad(rng.uniform(low, high)), radius, sigma) * 255) / 255


def along(x: np.ndarray, theta: float, radius: int, sigma: float) -> np.ndarray:
    height, width = x.shape[:2]
    taps = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    out = np.zeros_like(x)
    for i, weight in enumerate(taps):
        rows = np.arange(height) + int(np.ceil(i * np.sin(theta) - 0.5))
        columns = np.arange(width) + int(np.ceil(i * np.cos(theta) - 0.5))
        out += weight * x[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    return out


def zoom_blur(x: np.ndarray, rng: Rng, largest: float) -> np.ndarray:
    factors = np.arange(1, largest, 0.01)
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    size = x.shape[0]
    kept = int(np.ceil(size / factor))
    first = (size - kept) // 2
    part = x[first : first + kept, first : first + kept]
    large = ndimage.zoom(part, (factor, factor, 1), order=1)
    trim = (large.shape[0] - size) // 2
    return large[trim : trim + size, trim : trim + size]


def snow(
    x: np.ndarray,
    rng: Rng,
    loc: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    mix: float,
) -> np.ndarray:
    layer = zoomed(rng.normal(loc, scale, (*x.shape[:2], 1)), zoom)
    layer = np.where(layer < threshold, 0, layer)
    layer = np.floor(np.clip(layer, 0, 1) * 255) / 255
    layer = motion_blur(layer, rng, radius, sigma, -135, -45)
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    return mix * x + (1 - mix) * np.maximum(x, grey * 1.5 + 0.5) + layer + np.rot90(layer, 2)


def frost(x: np.ndarray, rng: Rng, image: float, ice: float) -> np.ndarray:
    draw = Draw(torch.Generator().manual_seed(int(rng.integers(2**62))), torch.device("cpu"))
    return image * x + ice * textures(1, x.shape[0], draw)[0].permute(1, 2, 0).numpy() / 255


def fog(x: np.ndarray, rng: Rng, strength: float, decay: float) -> np.ndarray:
    peak = x.max()
    return (x + strength * plasma(x.shape[0], decay, rng)[..., None]) * peak / (peak + strength)


def plasma(size: int, decay: float, rng: Rng) -> np.ndarray:
    heights, step, wibble = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half = step // 2
        for row in range(half, size, step):  # squares: the middle of four corners
            for column in range(half, size, step):
                corners = [
                    heights[(row + a) % size, (column + b) % size]
                    for a in (-half, half)
                    for b in (-half, half)
                ]
                heights[row, column] = np.mean(corners) + rng.uniform(-(wibble**2), wibble**2)
        places = [(row, column) for row in range(0, size, step) for column in range(half, size, step)]
        places += [(column, row) for row, column in places]
        for row, column in places:  # diamonds: the middle of four neighbours
            sides = [
                heights[(row + a) % size, (column + b) % size]
                for a, b in ((-half, 0), (half, 0), (0, -half), (0, half))
            ]
            heights[row, column] = np.mean(sides) + rng.uniform(-(wibble**2), wibble**2)
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()


def brightness(x: np.ndarray, rng: Rng, amount: float) -> np.ndarray:
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            hue, saturation, value = colorsys.rgb_to_hsv(*x[row, column].tolist())
            out[row, column] = colorsys.hsv_to_rgb(hue, saturation, min(value + amount, 1.0))
    return out


def contrast(x: np.ndarray, rng: Rng, factor: float) -> np.ndarray:
    means = x.mean((0, 1))
    return (x - means) * factor + means


def elastic_transform(x: np.ndarray, rng: Rng, alpha: float, sigma: float, jitter: float) -> np.ndarray:
    size = x.shape[0]
    corners = np.array(
        [[size // 2 + a * (size // 3), size // 2 + b * (size // 3)] for a, b in ((1, 1), (1, -1), (-1, -1))]
    )
    moved = corners + rng.uniform(-jitter, jitter, (3, 2))
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    source = np.stack([columns, rows, np.ones((size, size))], -1) @ back
    x = _interpolated(x, source[..., 1], source[..., 0], "mirror")
    right, down = (
        ndimage.gaussian_filter(rng.uniform(-1, 1, (size, size)), sigma, mode="reflect", truncate=3.0) * alpha
        for _ in range(2)
    )
    return _interpolated(x, rows + down, columns + right, "reflect")


def _interpolated(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    return np.stack(
        [ndimage.map_coordinates(x[..., c], (rows, columns), order=1, mode=mode) for c in range(3)], -1
    )


def pixelate(x: np.ndarray, rng: Rng, size: int) -> np.ndarray:
    image = Image.fromarray(np.round(x * 255).astype(np.uint8))
    small = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255


def jpeg_compression(x: np.ndarray, rng: Rng, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.round(x * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


IMAGE_BY_IMAGE: dict[str, Callable[..., np.ndarray]] = {name: globals()[name] for name in CORRUPTIONS}


def peer(images: np.ndarray, corruption: str, severity: int, rng: Rng) -> np.ndarray:
    """Bytes in, bytes out, (n, h, w, 3), one image after the other."""
    function, parameters = IMAGE_BY_IMAGE[corruption], PARAMETERS[corruption][severity - 1]
    out = [np.clip(function(image / 255, rng, *parameters), 0, 1) * 255 + 1e-3 for image in images]
    return np.stack(out).astype(np.uint8)


# --- side by side ----------------------------------------------------------------------------------------------------


def run(*, repeats: int = 5, threads: int = 1, count: int = COUNT, peer_count: int = 50) -> dict[str, Any]:
    """A row for each corruption and one for all, in seconds of wall time for `COUNT` images."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        images, name = _images(count)
        few = images[:peer_count].permute(0, 2, 3, 1).contiguous().numpy()
        seconds = np.empty((len(CORRUPTIONS), repeats, 2))
        for place, corruption in enumerate(CORRUPTIONS):
            generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
            corrupt(images[:500], corruption, 5, generator)  # not counted

            def ours(corruption: str = corruption, generator: torch.Generator = generator) -> float:
                start = time.perf_counter()
                corrupt(images, corruption, 5, generator)
                return (time.perf_counter() - start) * COUNT / len(images)

            def theirs(corruption: str = corruption, rng: Rng = rng) -> float:
                start = time.perf_counter()
                peer(few, corruption, 5, rng)
                return (time.perf_counter() - start) * COUNT / len(few)

            for repeat in range(repeats):
                sides: list[Callable[[], float]] = [ours, theirs]
                for side in (0, 1) if repeat % 2 == 0 else (1, 0):
                    seconds[place, repeat, side] = sides[side]()
    finally:
        torch.set_num_threads(before)
    rows = [_row(name, seconds[place]) for place, name in enumerate(CORRUPTIONS)]
    notes = [
        f"{name}, {threads} thread(s); ours on {len(images):,} images, the peer on {len(few)}, both scaled to {COUNT:,}",
        "frost: both sides use the same procedural texture, a substitute for the benchmark's photographs",
    ]
    return {"rows": [*rows, _row("all 15", seconds.sum(0))], "notes": notes}


def _row(case: str, seconds: np.ndarray) -> dict[str, Any]:
    """One row from (repeats, 2) seconds: medians, and the median of the paired ratios with a bootstrap interval."""
    ratios = seconds[:, 1] / seconds[:, 0]
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    ours, theirs = np.median(seconds, axis=0)
    return {
        "case": case,
        "unit": "s",
        "n": len(ratios),
        "ours": float(ours),
        "peer": float(theirs),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
    }


def _images(count: int) -> tuple[torch.Tensor, str]:
    """CIFAR-10's test images, in whichever form they are here; else procedural shapes."""
    for name in ("cifar10", "cifar10-jpeg"):
        if data.status(name).state == "whole":
            found = data.load(name)
            return found.test.images[:count], found.title
    found = data.load("shapes")
    return torch.cat([found.train.images, found.test.images])[:count], found.title
