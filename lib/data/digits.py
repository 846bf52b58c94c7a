"""scikit-learn's digits as small MNIST: 1,797 real handwritten digits, 28 × 28, one channel; needs no file.

The 8 × 8 images are enlarged to 20 × 20 and placed with their centre of mass in the middle of 28 × 28, as
MNIST's are. All arithmetic is on integers, so that every platform makes the same set. 1,437 for training and
360 for testing, stratified by class. Source: UCI, Optical Recognition of Handwritten Digits (test part),
Alpaydin and Kaynak, 1998.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lib.data.images import ImageSet

SPLIT_SEED = 0
SIZE, BOX, SMALL = 28, 20, 8


def read() -> ImageSet:
    """The set, made from scikit-learn's copy of the data."""
    from sklearn.datasets import load_digits

    from lib.data.images import image_set

    bunch = load_digits()
    images = enlarged(bunch.data.astype(np.int64).reshape(-1, SMALL, SMALL))[:, None]
    labels = bunch.target.astype(np.int64)
    train, test = _split(labels)
    return image_set(
        "digits",
        "scikit-learn digits",
        (images[train], labels[train]),
        (images[test], labels[test]),
        [str(digit) for digit in range(10)],
    )


def enlarged(images: np.ndarray) -> np.ndarray:
    """uint8 n × 28 × 28 from integers 0 to 16, n × 8 × 8: bilinear to 20 × 20, centred by mass."""
    weights = _weights()
    # exact: each of the two steps sums integer weights to at most 10, so 1,600 stands for full ink
    fine = np.einsum("ij,njk,lk->nil", weights, images, weights)
    boxes = ((fine * 255 + 800) // 1600).astype(np.uint8)
    mass = np.maximum(boxes.sum((1, 2), dtype=np.int64), 1)
    centre = np.arange(BOX)
    rows = (boxes.sum(2, dtype=np.int64) * centre).sum(1) / mass
    columns = (boxes.sum(1, dtype=np.int64) * centre).sum(1) / mass
    margin = SIZE - BOX
    tops = np.clip(np.rint((SIZE - 1) / 2 - rows), 0, margin).astype(int)
    lefts = np.clip(np.rint((SIZE - 1) / 2 - columns), 0, margin).astype(int)
    out = np.zeros((len(images), SIZE, SIZE), np.uint8)
    for canvas, box, top, left in zip(out, boxes, tops, lefts, strict=True):
        canvas[top : top + BOX, left : left + BOX] = box
    return out


def _weights() -> np.ndarray:
    """20 × 8, in tenths: pixel i of 20 lies at (i + ½) · 8/20 − ½ = (4 i − 3) / 10 among the 8; no ink
    outside."""
    weights = np.zeros((BOX, SMALL), np.int64)
    for i in range(BOX):
        low, tenths = divmod(4 * i - 3, 10)
        for source, weight in ((low, 10 - tenths), (low + 1, tenths)):
            if 0 <= source < SMALL:
                weights[i, source] += weight
    return weights


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every fifth example of a random order within classes is for testing: each class has its share, within
    one."""
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    test = np.arange(len(labels)) % 5 == 0
    return by_class[~test], by_class[test]
