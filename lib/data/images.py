"""Image sets as whole uint8 tensors in a fixed random order, with a fingerprint.

`image_set(...)` makes an `ImageSet` from arrays in whatever order their files have; `ImageSet.to(device)`
moves it. Both splits are permuted, because image folders are sorted by class and a prefix or a stream of a
sorted set is not a sample: batch statistics at test time, for one, go badly wrong on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lib.core import InputError

ORDER_SEED = 20180904
"""Seed of the order of every image set: this for the training split, one more for the test split. Changing it
changes every fingerprint, and makes every record that names one refer to another order."""

DIGITS = 16
"""Hexadecimal digits of a fingerprint."""


@dataclass(frozen=True)
class Split:
    """Images and their labels, on one device."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise InputError(f"images are {_described(self.images)}; uint8 of n × c × h × w are wanted")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(f"labels are {_described(self.labels)}; int64 of {len(self.images)} are wanted")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Int64[Tensor, " m"] | Sequence[int] | slice) -> Split:
        """The examples at `index`, in its order; a slice shares memory with this split."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index, device=self.labels.device)
            index = index if index.numel() else index.long()  # torch takes an empty list for floats
        return Split(self.images[index], self.labels[index])

    def to(self, device: str | torch.device) -> Split:
        """This split on `device`; itself where it is there already."""
        images, labels = self.images.to(device), self.labels.to(device)
        return self if images is self.images and labels is self.labels else Split(images, labels)


@dataclass(frozen=True)
class ImageSet:
    """A named image data set. `fingerprint` identifies its content and order, on any device and platform."""

    name: str
    title: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train.images.device

    def to(self, device: str | torch.device) -> ImageSet:
        """This set on `device`; itself where it is there already. InputError where there is no such
        device."""
        try:
            target = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"{device!r} is not a device that torch knows; 'cpu', 'cuda' or 'cuda:0' are"
            ) from error
        try:
            train, test = self.train.to(target), self.test.to(target)
        except torch.OutOfMemoryError:
            raise
        # a build without CUDA, a missing driver and a missing device raise different ones of these
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"device '{target}' cannot be used here ({reason}); 'cpu' always can") from error
        return self if train is self.train and test is self.test else replace(self, train=train, test=test)


def image_set(
    name: str,
    title: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
) -> ImageSet:
    """An image set from (images uint8 n × c × h × w, integer labels n) of both splits, permuted and
    fingerprinted.

    Raises InputError where shapes, types or labels do not fit together.
    """
    first = _permuted(name, *train, seed=ORDER_SEED)
    second = _permuted(name, *test, seed=ORDER_SEED + 1)
    for part in (first, second):
        if len(part) and not 0 <= int(part.labels.min()) <= int(part.labels.max()) < len(classes):
            span = f"from {part.labels.min()} to {part.labels.max()}"
            raise InputError(f"{name}: labels {span} for {len(classes)} classes")
    return ImageSet(name, title, first, second, tuple(classes), fingerprint(name, first, second))


def _permuted(name: str, images: np.ndarray, labels: np.ndarray, seed: int) -> Split:
    if len(images) != len(labels):
        raise InputError(f"{name}: {len(images):,} images with {len(labels):,} labels")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).numpy()
    # NumPy's indexing copies, so read-only buffers of files may come in
    shuffled = np.ascontiguousarray(images[order])
    return Split(torch.from_numpy(shuffled), torch.from_numpy(labels[order].astype(np.int64)))


def fingerprint(name: str, *splits: Split) -> str:
    """The first digits of SHA-256 over name, types, shapes and contents, in order.

    Labels are hashed as little-endian bytes, so that the platform does not matter.
    """
    tensors = [tensor for split in splits for tensor in (split.images, split.labels)]
    head = {"name": name, "tensors": [[str(t.dtype).removeprefix("torch."), list(t.shape)] for t in tensors]}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.cpu().numpy())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()[:DIGITS]


def tiny(
    *,
    n_train: int = 64,
    n_test: int = 32,
    channels: int = 1,
    size: int = 8,
    n_classes: int = 10,
    seed: int = 0,
) -> ImageSet:
    """A very small learnable set for tests: a random pattern for each class, under noise; classes as even as
    can be."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 200, (n_classes, channels, size, size))

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % n_classes
        noise = rng.integers(0, 56, (n, channels, size, size))
        return (patterns[labels] + noise).astype(np.uint8), labels

    return image_set("tiny", "Tiny", split(n_train), split(n_test), [str(c) for c in range(n_classes)])


def _described(tensor: Any) -> str:
    shape = " × ".join(map(str, tensor.shape)) or "no dimension"
    return f"{str(tensor.dtype).removeprefix('torch.')} of {shape}"
