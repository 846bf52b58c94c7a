"""CIFAR-10-C itself, where a user has it: 10,000 test images, 15 corruptions, five severities, read as they are needed.

    data = load("cifar10-c")
    part = data.split("glass_blur", 5)          # a Split of 10,000 images in the set's own order, which is random

The folder `CIFAR-10-C` holds one file of 50,000 images for each corruption, its severities one after the other, and
`labels.npy`. Files are mapped into memory, so that one corruption costs no more than itself; the fingerprint covers
all of them and takes some seconds. Source: Hendrycks and Dietterich (2019), arXiv 1903.12261; Zenodo record 2535967.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np

from lib.core import InputError

if TYPE_CHECKING:
    import torch

    from lib.data.images import Split

FOLDER = "CIFAR-10-C"
LABELS = "labels.npy"
COUNT = 10_000
"""Images of each corruption and severity."""


@dataclass(frozen=True)
class CorruptedSet:
    """The set in `folder`; nothing is read before it is asked for."""

    folder: Path
    device: str | torch.device = "cpu"

    name = "cifar10-c"
    title = "CIFAR-10-C"

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 digits of SHA-256 over all files, in the order of their names."""
        digest = hashlib.sha256()
        for path in _files(self.folder):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()[:16]

    def split(self, corruption: str, severity: int) -> Split:
        """The 10,000 images of a corruption at a severity from 1 to 5. Raises InputError for another name or number."""
        import torch

        from lib.data.corruptions import CORRUPTIONS, SEVERITIES
        from lib.data.images import Split

        if corruption not in CORRUPTIONS or severity not in SEVERITIES:
            raise InputError(
                f"CIFAR-10-C has no {corruption!r} at severity {severity!r}: {', '.join(CORRUPTIONS)} at 1 to 5"
            )
        rows = slice(COUNT * (severity - 1), COUNT * severity)
        images = np.ascontiguousarray(
            _mapped(self.folder / f"{corruption}.npy")[rows].transpose(0, 3, 1, 2)
        )
        labels = _mapped(self.folder / LABELS)[rows].astype(np.int64)
        return Split(torch.from_numpy(images), torch.from_numpy(labels)).to(self.device)

    def to(self, device: str | torch.device) -> CorruptedSet:
        """The same set, its splits on `device`."""
        return CorruptedSet(self.folder, device)


def read(place: Path) -> CorruptedSet:
    """CIFAR-10-C from `place/CIFAR-10-C`. Raises InputError for a missing file or one of another shape."""
    check(place)
    return CorruptedSet(place / FOLDER)


def check(place: Path) -> None:
    """Raises InputError for a missing file or one of another shape; reads no images."""
    for path in _files(place / FOLDER):
        shape = (5 * COUNT,) if path.name == LABELS else (5 * COUNT, 32, 32, 3)
        found = _mapped(path)
        if found.shape != shape or found.dtype != np.uint8:
            raise InputError(f"{path} has {found.dtype} of {found.shape}; uint8 of {shape} is wanted")


def _files(folder: Path) -> list[Path]:
    from lib.data.corruptions import CORRUPTIONS

    return [folder / name for name in sorted([LABELS, *(f"{name}.npy" for name in CORRUPTIONS)])]


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError, TypeError, TokenError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{path} {reason}; CIFAR-10-C is Zenodo record 2535967") from error
