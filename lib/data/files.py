"""Files of data sets: where they are looked for, and reading them whole or saying what is wrong with them.

`places()` gives the folders in the order in which they are searched; `read_checked` returns the bytes of a
file only when its MD5 sum is the known one, so that nothing unverified is ever parsed (or unpickled). Needs
no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from lib.core import InputError


@dataclass(frozen=True)
class Known:
    """A file of a published data set: its name, its MD5 sum and, where known, its size in bytes."""

    name: str
    md5: str
    size: int | None = None


UNPACKED = 2**30
"""Bytes that a packed file may hold whose size is not known."""


def places(root: Path | None = None) -> tuple[Path, ...]:
    """Folders in which data sets are looked for, first match wins; only `root` where it is given.

    POSTS_DATA (several folders separated as in PATH, `~` expanded), then `data/` of the project.
    """
    if root is not None:
        return (Path(root).expanduser(),)
    named = [
        Path(part).expanduser() for part in os.environ.get("POSTS_DATA", "").split(os.pathsep) if part.strip()
    ]
    home = _project()
    return tuple(dict.fromkeys([*named, *([home / "data"] if home else [])]))


def cache_folder() -> Path | None:
    """Where decoded copies are kept: POSTS_CACHE, else `.store/data/` of the project, else nowhere."""
    named = os.environ.get("POSTS_CACHE", "").strip()
    if named:
        return Path(named).expanduser()
    home = _project()
    return home / ".store" / "data" if home else None


def _project() -> Path | None:
    from lib.project import root

    try:
        return root()
    except InputError:  # installed without a project around it: POSTS_DATA alone is searched
        return None


def filled(path: Path) -> bool:
    """Whether `path` is a file, or a folder with something in it."""
    try:
        return path.is_file() or (path.is_dir() and any(path.iterdir()))
    except OSError:
        return False


def read_checked(folder: Path, known: Known, remedy: str) -> bytes:
    """The bytes of `folder/known.name`, or of the same name with `.gz`, unpacked.

    Raises InputError, with the file's name, what is wrong with it and `remedy`, where it is missing,
    unreadable, truncated or altered.
    """
    plain = folder / known.name
    packed = folder / f"{known.name}.gz"
    path = packed if packed.is_file() and not plain.is_file() else plain
    if not path.is_file():
        raise InputError(f"{path} is missing. {remedy}")
    try:
        content = path.read_bytes() if path is plain else _unpacked(path, known.size or UNPACKED)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}). {remedy}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). {remedy}") from error
    if known.size is not None and len(content) != known.size:
        fault = "truncated" if len(content) < known.size else "too long"
        raise InputError(f"{path} is {fault}: {len(content):,} bytes, {known.size:,} are expected. {remedy}")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != known.md5:
        raise InputError(
            f"{path} is damaged: its {len(content):,} bytes have the MD5 sum {found}, "
            f"{known.md5} is expected. {remedy}"
        )
    return content


def _unpacked(path: Path, most: int) -> bytes:
    """The content of a gzip file, up to a byte more than `most`: a small file may claim to hold any amount."""
    with gzip.open(path) as file:
        return file.read(most + 1)


def remedy(name: str) -> str:
    """What to do about a bad file of a set that can be downloaded."""
    return f"Replace it by a good copy, or run `posts data fetch {name}`."
