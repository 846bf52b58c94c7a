"""CIFAR-10: 50,000 + 10,000 colour photographs, 32 × 32, ten classes; the lossless original.

Reads the pickled batches of `cifar-10-batches-py`, the layout of `torchvision.datasets.CIFAR10`. A batch is
unpickled only after its MD5 sum was found right. Source: Krizhevsky, Learning Multiple Layers of Features
from Tiny Images, 2009.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.data.files import Known, read_checked, remedy

if TYPE_CHECKING:
    from lib.data.images import ImageSet

FOLDER = "cifar-10-batches-py"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

TRAIN = (
    Known("data_batch_1", "c99cafc152244af753f735de768cd75f"),
    Known("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
    Known("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
    Known("data_batch_4", "634d18415352ddfa80567beed471001a"),
    Known("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
)
TEST = (Known("test_batch", "40351d587109b95175f43aff81a1287e"),)
META = Known("batches.meta", "5ff9c542aee3614f3951f8cda6e48888")


def read(place: Path) -> ImageSet:
    """CIFAR-10 from `place/cifar-10-batches-py`. Raises InputError for a missing or altered file."""
    from lib.data.images import image_set

    return image_set("cifar10", "CIFAR-10", _split(place, TRAIN), _split(place, TEST), CLASSES)


def check(place: Path) -> None:
    """Raises InputError for a missing or altered file."""
    for known in TRAIN + TEST:
        _content(place, known)


def download(place: Path) -> tuple[str, ...]:
    """Download to `place` through torchvision, which checks the archive; returns the batches."""
    from lib.data.vision import torchvision

    with warnings.catch_warnings():
        _old_dtypes()
        torchvision.datasets.CIFAR10(place, download=True)
    return tuple(f"{FOLDER}/{known.name}" for known in (*TRAIN, *TEST, META))


def _content(place: Path, known: Known) -> bytes:
    return read_checked(place / FOLDER, known, remedy("cifar10"))


def _split(place: Path, files: tuple[Known, ...]) -> tuple[np.ndarray, np.ndarray]:
    batches = [_unpickled(_content(place, known)) for known in files]
    # a row of a batch holds one image: 1,024 red values, then green, then blue
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return images, np.concatenate([np.asarray(batch["labels"], dtype=np.int64) for batch in batches])


def _unpickled(content: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        _old_dtypes()
        return pickle.loads(content, encoding="latin1")


def _old_dtypes() -> None:
    """The batches were pickled by a NumPy that wrote 0 for False; NumPy 2.4 warns of it."""
    warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
