"""House numbers without labels: the first 1,083 training images of SVHN, in the order of its files.

Neighbours in that order are often cut from one photograph, which is what makes them worth looking at: the set is read in
its own order, unlike labelled ones. Source: Netzer et al., Reading Digits in Natural Images with Unsupervised Feature
Learning, 2011.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.data.files import Known, read_checked

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE = Known("svhn-train-first-1083.npz", "2ad72a943f34b7148f01b55f5f5dab2a", 2_805_197)
REMEDY = "Replace it by a good copy; `posts data fetch svhn` gets the whole set."


@dataclass(frozen=True)
class Crops:
    """Images without labels, uint8 of n × c × h × w. `fingerprint` identifies their content and order."""

    name: str
    title: str
    images: Tensor
    fingerprint: str

    def to(self, device: str | torch.device) -> Crops:
        """These images on `device`."""
        return replace(self, images=self.images.to(device))


def read(place: Path) -> Crops:
    """The crops from `place`. Raises InputError for a missing or altered file."""
    import torch

    from lib.data.images import Split, fingerprint

    with np.load(io.BytesIO(read_checked(place, FILE, REMEDY)), allow_pickle=False) as file:
        images = file["images"]
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    unlabelled = Split(pixels, torch.zeros(len(pixels), dtype=torch.int64))
    return Crops("svhn-crops", "SVHN (1,083 crops)", pixels, fingerprint("svhn-crops", unlabelled))


def check(place: Path) -> None:
    """Raises InputError for a missing or altered file."""
    read_checked(place, FILE, REMEDY)
