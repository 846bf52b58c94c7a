"""Image folders, one folder a class: CIFAR-10 as JPEG files, title 'CIFAR-10 (JPEG)'.

The layout is `torchvision.datasets.ImageFolder`'s: `cifar10-jpeg/{train,test}/CLASS/*`. The pixels went
through JPEG: results on them are never called CIFAR-10. Decoding 60,000 files takes seconds, so the decoded
set is kept in the cache folder (`lib.data.files.cache_folder`) as safetensors, under the names, sizes and
times of the files, with its fingerprint as a checksum; a cache that does not fit is decoded anew, one that
cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.core import InputError
from lib.data.cifar10 import CLASSES
from lib.data.files import cache_folder

if TYPE_CHECKING:
    from lib.data.images import ImageSet

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp")
BLOCK = 256
"""Images that one thread decodes at a time."""


@dataclass(frozen=True)
class Folders:
    """A set in class folders: `per_class` is the number of images in each class folder of train and test."""

    name: str
    title: str
    classes: tuple[str, ...]
    per_class: tuple[int, int]
    size: int


CIFAR10_JPEG = Folders("cifar10-jpeg", "CIFAR-10 (JPEG)", CLASSES, (5_000, 1_000), 32)


@dataclass(frozen=True)
class _File:
    path: str
    label: int
    identity: str


def read_cifar10_jpeg(place: Path) -> ImageSet:
    """CIFAR-10 (JPEG) from `place/cifar10-jpeg`; InputError for missing classes, wrong counts, unreadable
    images."""
    return read_folders(place, CIFAR10_JPEG)


def check_cifar10_jpeg(place: Path) -> None:
    """Raises InputError for missing classes or wrong numbers of images; decodes nothing."""
    _listing(place, CIFAR10_JPEG)


def read_folders(place: Path, spec: Folders) -> ImageSet:
    """The set in `place/<name>`, three channels, from the cache where that fits."""
    from lib.data.images import image_set

    listing = _listing(place, spec)
    key = _key(spec, listing)
    folder = cache_folder()
    cache = folder / f"{spec.name}.safetensors" if folder else None
    if cache and (cached := _cached(cache, key, spec)):
        return cached
    train, test = ((_decoded(files, spec), np.array([file.label for file in files])) for files in listing)
    found = image_set(spec.name, spec.title, train, test, spec.classes)
    if cache:
        _keep(cache, key, found)
    return found


def _listing(place: Path, spec: Folders) -> tuple[list[_File], list[_File]]:
    """Files of both splits, sorted by class and name."""
    return _split_listing(place / spec.name, "train", spec), _split_listing(place / spec.name, "test", spec)


def _split_listing(top: Path, split: str, spec: Folders) -> list[_File]:
    expected = spec.per_class[split == "test"]
    folder = top / split
    remedy = f"Copy {spec.name} again as a whole, {expected:,} images in each folder of {split}."
    try:
        found = sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror or error}). {remedy}") from error
    if found != sorted(spec.classes):
        missing = ", ".join(sorted(set(spec.classes) - set(found))) or "none"
        foreign = ", ".join(sorted(set(found) - set(spec.classes))) or "none"
        raise InputError(
            f"{folder} has other class folders than expected: missing {missing}; unknown {foreign}. {remedy}"
        )
    files = []
    for label, name in enumerate(spec.classes):
        try:
            with os.scandir(folder / name) as entries:
                images = [
                    (entry.name, entry.stat()) for entry in entries if entry.name.lower().endswith(SUFFIXES)
                ]
        except OSError as error:
            raise InputError(
                f"{folder / name} cannot be read ({error.strerror or error}). {remedy}"
            ) from error
        images = sorted((item for item in images if not item[0].startswith(".")), key=lambda item: item[0])
        if len(images) != expected:
            raise InputError(
                f"{folder / name} has {len(images):,} images, {expected:,} are expected. {remedy}"
            )
        within = str(folder / name)
        for image, stat in images:
            identity = f"{split}/{name}/{image} {stat.st_size} {stat.st_mtime_ns}"
            files.append(_File(f"{within}{os.sep}{image}", label, identity))
    return files


def _decoded(files: list[_File], spec: Folders) -> np.ndarray:
    """uint8 n × 3 × size × size. PIL releases the interpreter's lock while it decodes, so threads help."""
    from PIL import Image

    out = np.empty((len(files), spec.size, spec.size, 3), np.uint8)

    def block(start: int) -> None:
        for i in range(start, min(start + BLOCK, len(files))):
            path = files[i].path
            try:
                with Image.open(path) as image:
                    size = image.size
                    if size == (spec.size, spec.size):  # of another size nothing is decoded
                        out[i] = np.asarray(image.convert("RGB"))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise InputError(
                    f"{path} cannot be decoded ({error}). "
                    f"Replace it by a good copy, or copy {spec.name} again."
                ) from error
            if size != (spec.size, spec.size):
                raise InputError(
                    f"{path} is {size[0]} × {size[1]}; {spec.size} × {spec.size} is expected"
                )

    with ThreadPoolExecutor(_cores()) as pool:
        for _ in pool.map(block, range(0, len(files), BLOCK)):
            pass
    return out.transpose(0, 3, 1, 2)


def _cores() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _key(spec: Folders, listing: tuple[list[_File], ...]) -> str:
    """What a cached copy must have been made from: these files, by this decoder, in this order."""
    from PIL import __version__, features

    from lib.data.images import ORDER_SEED

    digest = hashlib.sha256(repr((1, spec, ORDER_SEED, __version__, features.version("jpg"))).encode())
    for files in listing:
        digest.update("\n".join(file.identity for file in files).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _cached(path: Path, key: str, spec: Folders) -> ImageSet | None:
    """The set kept at `path`, when it was made from these files and is undamaged; otherwise None."""
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    from lib.data.images import ImageSet, Split, fingerprint

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            train, test = (
                Split(file.get_tensor(f"{s}_images"), file.get_tensor(f"{s}_labels"))
                for s in ("train", "test")
            )
    except (OSError, SafetensorError, InputError) as error:
        log.warning("%s is damaged and made anew (%s)", path, error)
        return None
    found = fingerprint(spec.name, train, test)
    if found != metadata.get("fingerprint"):
        log.warning("%s is damaged and made anew (its checksum is wrong)", path)
        return None
    return ImageSet(spec.name, spec.title, train, test, spec.classes, found)


def _keep(path: Path, key: str, data: ImageSet) -> None:
    """Write the cache whole or not at all; a folder that cannot be written costs time later, nothing else."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {
        f"{split}_{part}": getattr(getattr(data, split), part)
        for split in ("train", "test")
        for part in ("images", "labels")
    }
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, {"key": key, "fingerprint": data.fingerprint})
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        log.warning("%s is not kept (%s): the images are decoded again next time", path, error)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
