"""MNIST: 60,000 + 10,000 handwritten digits, 28 × 28, one channel.

Reads the IDX files (unpacked, or as .gz) of `MNIST/raw`, the layout of `torchvision.datasets.MNIST`, and
checks their MD5 sums. Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.core import InputError
from lib.data.files import Known, read_checked, remedy

if TYPE_CHECKING:
    from lib.data.images import ImageSet

FOLDER = "MNIST/raw"

# MD5 sums of the unpacked files (torchvision lists those of the packed ones)
FILES = {
    "train_images": Known("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", 47_040_016),
    "train_labels": Known("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", 60_008),
    "test_images": Known("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", 7_840_016),
    "test_labels": Known("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", 10_008),
}


def read(place: Path) -> ImageSet:
    """MNIST from `place/MNIST/raw`. Raises InputError for a missing, truncated or altered file."""
    from lib.data.images import image_set

    content = {part: parse_idx(data, FILES[part].name) for part, data in _contents(place).items()}
    train = content["train_images"][:, None], content["train_labels"]
    test = content["test_images"][:, None], content["test_labels"]
    return image_set("mnist", "MNIST", train, test, [str(digit) for digit in range(10)])


def check(place: Path) -> None:
    """Raises InputError for a missing, truncated or altered file."""
    _contents(place)


def download(place: Path) -> tuple[str, ...]:
    """Download to `place` through torchvision, which checks the packed files; returns the unpacked ones."""
    from lib.data.vision import torchvision

    torchvision.datasets.MNIST(place, download=True)
    return tuple(f"{FOLDER}/{known.name}" for known in FILES.values())


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array in an IDX file of unsigned bytes (read-only); InputError where `content` is not one.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each size as a
    big-endian 32-bit integer, then the values.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise InputError(
            f"{name} is not an IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    ndim = content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise InputError(f"{name} ends within the header of its {ndim} dimensions")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise InputError(f"{name} holds {len(content) - start:,} values where its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _contents(place: Path) -> dict[str, bytes]:
    return {part: read_checked(place / FOLDER, known, remedy("mnist")) for part, known in FILES.items()}
