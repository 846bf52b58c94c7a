"""Which pairs are worth comparing when there are too many to compare them all.

Two profiles are candidates where they share a key. A key of a name pairs the first four letters of one word with the initial
of another, so that 'Juan Pérez' and 'J. Perez' share 'pere j', whatever else is misspelt. In a key that many profiles share
(a frequent surname with a frequent initial) the initial is replaced by as many letters of the other word as it takes:
then 'hern juan' and 'hern jose' part, and the work grows with the number of profiles and not with its square. What that
loses, an initial beside a frequent surname, is measured by whoever uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from lib.core import InputError
from lib.methods.linkage.tables import Cell

PREFIX = 4
LETTERS = (1, 2, 4, 8)
"""Letters of the second word, as a key grows."""


def keys(text: str, letters: int = 1) -> set[str]:
    """The keys of a folded text: the beginning of each word with that of each other word; of one word, the word's alone."""
    words = text.split()
    if len(words) == 1:
        return {words[0][:PREFIX]}
    pairs = ((a, b) for i, a in enumerate(words) for j, b in enumerate(words) if i != j)
    return {f"{a[:PREFIX]} {b[:letters]}" for a, b in pairs if len(a) > 1}


def candidates(
    left: Sequence[Cell], right: Sequence[Cell], *, most: int = 100_000, chunk: int = 2_000
) -> Iterator[tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]]:
    """Pairs that share a key, each once, in chunks of about `chunk` left profiles, in the order of the left ones.

    left, right: the values by which profiles are found, folded (a column of a `Table`). most: a key with more pairs than
    that is made longer; at its full length it is used whatever its size. Raises InputError for `most` or `chunk` below 1.
    """
    if most < 1 or chunk < 1:
        raise InputError(f"most is {most} and chunk is {chunk}; numbers from 1 are wanted")
    tables = [_Keys(left, right, letters) for letters in LETTERS]
    for start in range(0, len(left), chunk):
        rows = range(start, min(start + chunk, len(left)))
        found_i, found_j = [], []
        for i in rows:
            lists = list(_sharing(left[i], tables, most))
            if lists:
                found = np.unique(np.concatenate(lists))
                found_i.append(np.full(len(found), i, dtype=np.int64))
                found_j.append(found.astype(np.int64))
        if found_i:
            yield np.concatenate(found_i), np.concatenate(found_j)


class _Keys:
    """Right profiles by key, and how many pairs each key makes."""

    def __init__(self, left: Sequence[Cell], right: Sequence[Cell], letters: int) -> None:
        self.letters = letters
        members: dict[str, list[int]] = {}
        for j, cell in enumerate(right):
            for key in _of(cell, letters):
                members.setdefault(key, []).append(j)
        self.right = {key: np.array(places, dtype=np.int32) for key, places in members.items()}
        counts: dict[str, int] = {}
        for cell in left:
            for key in _of(cell, letters):
                if key in self.right:
                    counts[key] = counts.get(key, 0) + 1
        self.pairs = {key: count * len(self.right[key]) for key, count in counts.items()}


def _of(cell: Cell, letters: int) -> set[str]:
    return set().union(*(keys(text, letters) for text in cell)) if cell else set()


def _sharing(cell: Cell, tables: list[_Keys], most: int) -> Iterator[np.ndarray]:
    """The right profiles of each key of a left profile, taken from the shortest form of the key that is small enough."""
    for text in cell:
        words = text.split()
        if len(words) == 1:
            yield from _found(tables[0], words[0][:PREFIX])
        for a, b in _ordered(words):
            for table in tables:
                key = f"{a[:PREFIX]} {b[: table.letters]}"
                if table is tables[-1] or table.pairs.get(key, 0) <= most:
                    yield from _found(table, key)
                    break


def _ordered(words: list[str]) -> Iterable[tuple[str, str]]:
    return ((a, b) for i, a in enumerate(words) if len(a) > 1 for j, b in enumerate(words) if i != j)


def _found(table: _Keys, key: str) -> Iterator[np.ndarray]:
    if key in table.right:
        yield table.right[key]
