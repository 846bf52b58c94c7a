"""Profiles as columns of folded text, checked once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from lib.core import InputError

Cell = tuple[str, ...]
"""The values of one field of one profile, folded: none where it is missing, several where it has several."""


def fold(text: str) -> str:
    """Lower case without accents; whatever is no letter and no digit separates words, which one blank joins.

    An apostrophe separates nothing: O'Hara stays one word. Letters without a decomposition (ß, ø) stay as they are.
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c) and c not in "'’")
    return " ".join(re.findall(r"[^\W_]+", plain))


@dataclass(frozen=True)
class Table:
    """Profiles of one list.

    columns: by field, one cell a profile. ids: unique names of the profiles, in the same order.
    """

    columns: Mapping[str, tuple[Cell, ...]]
    ids: tuple[Hashable, ...]

    @staticmethod
    def of(columns: Mapping[str, Iterable[object]], ids: Iterable[Hashable] | None = None) -> Table:
        """Fold and check columns of texts; a value is a text, a sequence of texts, or None where it is missing.

        A value that folds to nothing counts as missing, and what is missing is similar to nothing (0). ids: default
        0, 1, … Raises InputError for columns of different lengths, none at all, a value of another type (NaN included), and
        ids that are not unique, each with the place.
        """
        folded = {
            name: tuple(_cell(value, name, i) for i, value in enumerate(values))
            for name, values in columns.items()
        }
        if not folded:
            raise InputError("a table without columns; at least one is wanted")
        lengths = {name: len(cells) for name, cells in folded.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns of different lengths: {lengths}")
        n = next(iter(lengths.values()))
        chosen = tuple(range(n)) if ids is None else tuple(ids)
        if len(chosen) != n:
            raise InputError(f"{len(chosen)} ids for {n} profiles")
        if len(set(chosen)) != n:
            seen: set[Hashable] = set()
            twice = next(i for i in chosen if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise InputError(f"the id {twice!r} is there twice; ids are unique")
        return Table(folded, chosen)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, field: str) -> tuple[Cell, ...]:
        if field not in self.columns:
            raise InputError(f"no column {field!r}; there are: {', '.join(self.columns)}")
        return self.columns[field]

    @cached_property
    def rank(self) -> Int64[np.ndarray, " n"]:
        """The place of each profile when they are sorted by content and then by id: it does not depend on their order.

        Ties between equally probable profiles go to the lower rank. Ids of mixed types are sorted as texts.
        """
        names = sorted(self.columns)
        order = sorted(
            range(len(self)), key=lambda i: ([self.columns[n][i] for n in names], _sortable(self.ids[i]))
        )
        rank = np.empty(len(self), dtype=np.int64)
        rank[order] = np.arange(len(self))
        return rank

    def missing(self) -> dict[str, int]:
        """How many profiles lack each field."""
        return {name: sum(not cell for cell in cells) for name, cells in self.columns.items()}


def _sortable(value: Hashable) -> tuple[int, float, str]:
    plain = isinstance(value, int | float | np.integer | np.floating)
    return (0, float(value), "") if plain else (1, 0.0, str(value))  # type: ignore[arg-type]


def _cell(value: object, name: str, place: int) -> Cell:
    if value is None:
        return ()
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(item, str) for item in values):
        raise InputError(
            f"{name}, profile {place}: {value!r} ({type(value).__name__}); a text, several texts, or None is wanted"
        )
    return tuple(dict.fromkeys(text for text in map(fold, values) if text))
