"""Tables of numbers as one tensor with named columns, in the order of their rows, with a fingerprint.

    table = load("air_quality")
    table.column("T")                        # (n,)
    table.others("T")                        # (n, columns − 1)

`air_quality`: 8,991 hours, March 2004 to April 2005, of five metal-oxide sensors, temperature and humidity beside a road in
an Italian city (UCI Air Quality; De Vito et al., 2008), as the authors of engression ship it, hours with gaps left out, in
the order of time; the hour of the day is a column. `diabetes`: scikit-learn's copy, 442 patients (Efron et al., 2004), on
the original scale.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lib.core import InputError
from lib.data.files import Known, read_checked

AIR_QUALITY = Known("air_quality.csv", "96fbb59ddccfde97f59a0aaa6197c444", 543770)
AIR_COLUMNS = {
    "PT08.S1.CO.": "CO",
    "PT08.S2.NMHC.": "NMHC",
    "PT08.S3.NOx.": "NOx",
    "PT08.S4.NO2.": "NO2",
    "PT08.S5.O3.": "O3",
    "T": "T",
    "RH": "RH",
    "AH": "AH",
}
"""The file's columns, and what they are called here: responses of the sensors, °C, %, g/m³."""


@dataclass(frozen=True)
class Table:
    """A data set of n rows: values (n, c) as float32, and a name for each column."""

    name: str
    title: str
    columns: tuple[str, ...]
    values: Float[Tensor, "n c"]
    fingerprint: str

    def column(self, name: str) -> Float[Tensor, " n"]:
        """One column. Raises InputError for a name that is none."""
        return self.values[:, self._place(name)]

    def others(self, name: str) -> Float[Tensor, "n rest"]:
        """All columns but one."""
        place = self._place(name)
        return torch.cat([self.values[:, :place], self.values[:, place + 1 :]], dim=1)

    def to(self, device: str | torch.device) -> Table:
        """This table on `device`."""
        return replace(self, values=self.values.to(device))

    def _place(self, name: str) -> int:
        if name not in self.columns:
            raise InputError(f"{self.name} has no column {name!r}; there are: {', '.join(self.columns)}")
        return self.columns.index(name)


def table(name: str, title: str, columns: Sequence[str], values: np.ndarray) -> Table:
    """A table with its fingerprint: SHA-256 over name, columns, shape and little-endian float32 values."""
    if values.ndim != 2 or values.shape[1] != len(columns) or not np.isfinite(values).all():
        raise InputError(
            f"{name}: values are {values.shape} for {len(columns)} columns; finite numbers in n rows of as many are wanted"
        )
    kept = np.ascontiguousarray(values, dtype="<f4")
    head = json.dumps({"name": name, "columns": list(columns), "shape": list(kept.shape)}, sort_keys=True)
    digest = hashlib.sha256(head.encode())
    digest.update(kept.data)
    return Table(
        name, title, tuple(columns), torch.from_numpy(kept.astype(np.float32)), digest.hexdigest()[:16]
    )


def read_air_quality(place: Path) -> Table:
    """The hours in `place/air_quality.csv`. Raises InputError where the file is missing or another one."""
    return parse_air_quality(read_checked(place, AIR_QUALITY, _REMEDY).decode("ascii"))


def check_air_quality(place: Path) -> None:
    """InputError where the file is missing or another one."""
    read_checked(place, AIR_QUALITY, _REMEDY)


def parse_air_quality(text: str) -> Table:
    """The hours of a file's text. Raises InputError naming the line that cannot be read."""
    rows = csv.DictReader(io.StringIO(text))
    try:
        names, entries = rows.fieldnames or (), list(rows)
    except csv.Error as error:
        raise InputError(f"{AIR_QUALITY.name}, line {rows.line_num + 1}: {error}. {_REMEDY}") from error
    if missing := [name for name in ("Time", *AIR_COLUMNS) if name not in names]:
        raise InputError(f"{AIR_QUALITY.name} has no column {', '.join(missing)}. {_REMEDY}")
    values = []
    for line, row in enumerate(entries, 2):
        try:
            hour = float(row["Time"].split(":")[0])
            values.append([*(float(row[column]) for column in AIR_COLUMNS), hour])
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{AIR_QUALITY.name}, line {line}: {error}. {_REMEDY}") from error
    if not values:
        raise InputError(f"{AIR_QUALITY.name} has no rows. {_REMEDY}")
    return table("air_quality", "Air quality", [*AIR_COLUMNS.values(), "hour"], np.array(values))


def read_diabetes() -> Table:
    """scikit-learn's copy of the diabetes data, unscaled, with the response `progression`."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    values = np.column_stack([bunch.data, bunch.target])
    return table("diabetes", "Diabetes", [*bunch.feature_names, "progression"], values)


_REMEDY = "It is data/air_quality.csv of the authors' repository, github.com/xwshen51/engression."
