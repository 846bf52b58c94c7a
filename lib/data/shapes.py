"""Procedural shapes: an embedded set of 32 × 32 colour images in ten classes, neither trivial nor hopeless.

`generate(n, seed)` draws filled outlines on textured, cluttered, noisy backgrounds; `read()` is the data set,
5,000 for training and 1,000 for testing. Colours, contrast, position, size, angle, texture and clutter are
drawn alike for all classes: a linear classifier gets a third to two fifths of the test images right, a
multilayer perceptron two thirds, and a small ConvNet nearly all after half a minute on one core. All draws
are uniform numbers from PCG64, and edges are soft, so that every platform makes the same bytes. Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lib.data.images import ImageSet

SIZE = 32
SEED = 0
LIGHTER = 0.8
"""Share of images whose figure is lighter than the ground; at one half, a linear classifier would be at
chance."""
TILT = 0.5
"""Largest angle by which a figure is turned, either way, in radians."""
CHUNK = 250
"""Images that are drawn at a time: their intermediate planes then fit the processor's cache."""

# A figure is where its function is negative; coordinates are relative to its size, values about distances.
Figure = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _box(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.72) - 0.22


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(x * x + y * y) - 1.0, 0.78 - np.sqrt((x - 0.48) ** 2 + y * y))


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(0.8660254037844386 * np.abs(x) + 0.5 * y, -y) - 0.55


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five rays: fold the plane into half a ray, whose edge runs from (1.1, 0) to the notch at radius
    0.44."""
    half = np.pi / 5
    angle = np.abs(np.mod(np.arctan2(y, x), 2 * half) - half)
    radius = np.sqrt(x * x + y * y)
    along, across = radius * np.cos(half - angle), radius * np.sin(half - angle)
    notch = 0.44 * np.cos(half), 0.44 * np.sin(half)
    edge = notch[0] - 1.1, notch[1]
    return ((along - 1.1) * edge[1] - across * edge[0]) / np.hypot(*edge)


FIGURES: dict[str, Figure] = {
    "disc": lambda x, y: np.sqrt(x * x + y * y) - 0.85,
    "ring": _ring,
    "square": lambda x, y: _box(x, y, 0.76, 0.76),
    "frame": lambda x, y: np.abs(_box(x, y, 0.64, 0.64)) - 0.19,
    "triangle": _triangle,
    "star": _star,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.3, 0.95), _box(x, y, 0.95, 0.3)),
    "crescent": _crescent,
    "bar": lambda x, y: _box(x, y, 1.05, 0.32),
    "hourglass": lambda x, y: np.maximum(0.8 * (np.abs(x) - np.abs(y)) - 0.08, np.abs(y) - 0.85),
}
CLASSES = tuple(FIGURES)


def read() -> ImageSet:
    """The data set: 5,000 images for training, 1,000 for testing, classes even."""
    return make()


def make(n_train: int = 5_000, n_test: int = 1_000, seed: int = SEED) -> ImageSet:
    """A set of other size or seed; the two splits are drawn from different streams."""
    from lib.data.images import image_set

    return image_set(
        "shapes", "Procedural shapes", generate(n_train, 2 * seed), generate(n_test, 2 * seed + 1), CLASSES
    )


def generate(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` images (uint8, n × 3 × 32 × 32) and their labels (int64, n), which go round the classes in turn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(n) % len(CLASSES)
    images = np.empty((n, 3, SIZE, SIZE), np.uint8)
    for start in range(0, n, CHUNK):
        images[start : start + CHUNK] = _drawn(labels[start : start + CHUNK], rng)
    return images, labels


def _drawn(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * rng.random((n, *shape))

    def per_image(low: float, high: float) -> np.ndarray:
        return uniform(low, high, 1, 1)

    grid = np.arange(SIZE) - (SIZE - 1) / 2
    rows, columns = grid[None, :, None], grid[None, None, :]

    # figure and ground: colours at some distance in lightness
    ground = uniform(70, 185, 3, 1, 1)
    away = np.where(uniform(0, 1, 1, 1, 1) < LIGHTER, 1.0, -1.0)
    ground = ground - away * 45
    figure = ground + away * uniform(55, 125, 1, 1, 1) + uniform(-35, 35, 3, 1, 1)

    # texture: a wave across the ground, another across the figure
    def wave() -> np.ndarray:
        angle, pitch, phase = per_image(0, np.pi), per_image(0.25, 1.1), per_image(0, 2 * np.pi)
        return np.sin(pitch * (np.cos(angle) * rows + np.sin(angle) * columns) + phase)[:, None]

    canvas = ground + uniform(-22, 22, 3, 1, 1) * wave()
    inside = figure + uniform(-16, 16, 3, 1, 1) * wave()

    # clutter: short strokes of any colour, below the figure
    for _ in range(3):
        angle, length = per_image(0, np.pi), per_image(1, 6)
        y, x = rows - per_image(-15, 15), columns - per_image(-15, 15)
        along = np.cos(angle) * x + np.sin(angle) * y
        across = np.cos(angle) * y - np.sin(angle) * x
        stroke = _cover(np.maximum(np.abs(along) - length, np.abs(across) - 1.0))
        canvas += stroke * (uniform(0, 255, 3, 1, 1) - canvas)

    radius, angle = per_image(7, 12), per_image(-TILT, TILT)
    y, x = rows - per_image(-3.5, 3.5), columns - per_image(-3.5, 3.5)
    x, y = (np.cos(angle) * x + np.sin(angle) * y) / radius, (np.cos(angle) * y - np.sin(angle) * x) / radius
    distance = np.empty((n, SIZE, SIZE))
    for label, name in enumerate(CLASSES):
        mine = labels == label
        distance[mine] = FIGURES[name](x[mine], y[mine])
    canvas += _cover(distance * radius) * (inside - canvas)

    # noise: the difference of two uniform draws, triangular with a standard deviation of about 10 grey levels
    noise = rng.integers(0, 25, canvas.shape, np.uint8).astype(np.int16)
    noise -= rng.integers(0, 25, canvas.shape, np.uint8)
    canvas += noise
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _cover(distance: np.ndarray) -> np.ndarray:
    """The share of each pixel that is covered, from distances in pixels: a soft edge, one pixel wide; n × 1 ×
    h × w."""
    return np.clip(0.5 - distance, 0.0, 1.0)[:, None]
