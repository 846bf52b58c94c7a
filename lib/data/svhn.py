"""SVHN, cropped digits: 73,257 + 26,032 house-number photographs, 32 × 32, ten classes.

Reads `train_32x32.mat` and `test_32x32.mat` from `SVHN/`, or from the place itself, where
`torchvision.datasets.SVHN` puts them. Source: Netzer et al., Reading Digits in Natural Images with
Unsupervised Feature Learning, 2011.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.data.files import Known, filled, read_checked, remedy

if TYPE_CHECKING:
    from lib.data.images import ImageSet

FOLDER = "SVHN"
TRAIN = Known("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373")
TEST = Known("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3")


def read(place: Path) -> ImageSet:
    """SVHN from `place/SVHN` or `place`. Raises InputError for a missing or altered file."""
    from lib.data.images import image_set

    classes = [str(digit) for digit in range(10)]
    return image_set("svhn", "SVHN", _split(place, TRAIN), _split(place, TEST), classes)


def check(place: Path) -> None:
    """Raises InputError for a missing or altered file."""
    for known in (TRAIN, TEST):
        _content(place, known)


def download(place: Path) -> tuple[str, ...]:
    """Download to `place` through torchvision, which checks both files; returns them."""
    from lib.data.vision import torchvision

    for split in ("train", "test"):
        torchvision.datasets.SVHN(place / FOLDER, split=split, download=True)
    return tuple(f"{FOLDER}/{known.name}" for known in (TRAIN, TEST))


def _content(place: Path, known: Known) -> bytes:
    folder = place / FOLDER
    return read_checked(folder if filled(folder) else place, known, remedy("svhn"))


def _split(place: Path, known: Known) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat

    content = loadmat(io.BytesIO(_content(place, known)))
    # X is h × w × c × n; the digit zero has the label 10
    return content["X"].transpose(3, 2, 0, 1), content["y"].astype(np.int64).reshape(-1) % 10
