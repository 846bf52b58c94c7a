"""lib.data.files; and small data sets in the true formats, which the other tests of lib.data use."""

import gzip
import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from lib.core import InputError
from lib.data import files


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def mnist_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """60 training and 20 test images, sorted by class."""
    rng = np.random.default_rng(seed)
    return {
        "train_images": rng.integers(0, 256, (60, 28, 28)),
        "train_labels": np.arange(60) // 6,
        "test_images": rng.integers(0, 256, (20, 28, 28)),
        "test_labels": np.arange(20) // 2,
    }


def write_mnist(
    place: Path, monkeypatch: pytest.MonkeyPatch, *, seed: int = 0, packed: bool = False, flat: bool = False
) -> list[tuple[str, str]]:
    """Write a small MNIST under `place` and make lib.data expect it; name and MD5 sum of each file."""
    from lib.data import mnist
    from lib.data.files import Known

    folder = place if flat else place / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    written, known = [], {}
    for part, array in mnist_arrays(seed).items():
        name, content = mnist.FILES[part].name, idx(array)
        known[part] = Known(name, md5(content), len(content))
        stored, name = (gzip.compress(content), f"{name}.gz") if packed else (content, name)
        (folder / name).write_bytes(stored)
        written.append((name, md5(stored)))
    monkeypatch.setattr(mnist, "FILES", known)
    return written


class _OldDtypes(pickle.Pickler):
    """Pickles dtypes as the NumPy of 2009 did, with 0 for False."""

    def reducer_override(self, value: object) -> object:
        if isinstance(value, np.dtype):
            function, (code, _, _), state = value.__reduce__()
            return function, (code, 0, 1), state
        return NotImplemented


def old_pickle(value: object) -> bytes:
    """A pickle as the published batches are: protocol 2, old module names, old dtypes."""
    stream = io.BytesIO()
    _OldDtypes(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_cifar10(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write a small CIFAR-10 (5 × 8 + 8 images) and make lib.data and torchvision expect it; its rows."""
    from lib.data import cifar10
    from lib.data.files import Known
    from lib.data.vision import torchvision

    rng = np.random.default_rng(0)
    folder = place / cifar10.FOLDER
    folder.mkdir(parents=True)

    def put(name: str, value: object) -> Known:
        content = old_pickle(value)
        (folder / name).write_bytes(content)
        return Known(name, md5(content))

    arrays: dict[str, np.ndarray] = {}
    known = {}
    for name in [item.name for item in (*cifar10.TRAIN, *cifar10.TEST)]:
        arrays[name] = rng.integers(0, 256, (8, 3072)).astype(np.uint8)
        known[name] = put(name, {"data": arrays[name], "labels": [(i + len(known)) % 10 for i in range(8)]})
    meta = put("batches.meta", {"label_names": list(cifar10.CLASSES)})
    train, test = [known[f"data_batch_{i}"] for i in range(1, 6)], [known["test_batch"]]
    monkeypatch.setattr(cifar10, "TRAIN", tuple(train))
    monkeypatch.setattr(cifar10, "TEST", tuple(test))
    theirs = torchvision.datasets.CIFAR10
    monkeypatch.setattr(theirs, "train_list", [[item.name, item.md5] for item in train])
    monkeypatch.setattr(theirs, "test_list", [[item.name, item.md5] for item in test])
    monkeypatch.setattr(theirs, "meta", {"filename": meta.name, "key": "label_names", "md5": meta.md5})
    return arrays


def write_svhn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a small SVHN (40 + 20 images, labels 1 to 10) and make lib.data and torchvision expect it."""
    from scipy.io import savemat

    from lib.data import svhn
    from lib.data.files import Known
    from lib.data.vision import torchvision

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    listed = dict(torchvision.datasets.SVHN.split_list)
    for split, constant, n in (("train", "TRAIN", 40), ("test", "TEST", 20)):
        name = getattr(svhn, constant).name
        labels = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / name, {"X": rng.integers(0, 256, (32, 32, 3, n)).astype(np.uint8), "y": labels})
        sum_ = md5((folder / name).read_bytes())
        monkeypatch.setattr(svhn, constant, Known(name, sum_))
        listed[split] = ["", name, sum_]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", listed)


def write_folders(
    place: Path, name: str, classes: tuple[str, ...], per_class: tuple[int, int], size: int = 32
) -> None:
    """Write JPEG files in class folders: `place/name/{train,test}/CLASS/0000.jpg`, …"""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, n in zip(("train", "test"), per_class, strict=True):
        for label in classes:
            folder = place / name / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:04}.jpg", quality=90)


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")

    def fail(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(InputError, match=r"file cannot be read \(Permission denied\). Do this."):
        files.read_checked(tmp_path, files.Known("file", "0" * 32), "Do this.")


def test_plain_file_comes_before_a_packed_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file.gz").write_bytes(b"no gzip file")
    assert files.read_checked(tmp_path, files.Known("file", md5(b"content"), 7), "") == b"content"


def test_old_pickles_are_as_old_as_meant() -> None:
    content = old_pickle({"data": np.zeros(3, np.uint8)})
    assert b"numpy.core.multiarray" in content and b"numpy._core" not in content
    assert md5(content) != md5(pickle.dumps({"data": np.zeros(3, np.uint8)}, protocol=2))
