"""Similarities of pairs of profiles, feature by feature: whole blocks of pairs, or listed pairs.

Similarities are whole numbers from 0 to 100 (uint8), as rapidfuzz makes them. `token_sort_ratio` is computed as the Indel
ratio of texts whose words were sorted before: the same numbers at three times the speed, since each text is sorted once and
not once a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer, UInt8
from rapidfuzz import fuzz, process
from rapidfuzz.distance import JaroWinkler, Levenshtein

from lib.core import InputError
from lib.methods.linkage.tables import Cell, Table


def _words_sorted(text: str) -> str:
    return " ".join(sorted(text.split()))


def _words_joined(text: str) -> str:
    return text.replace(" ", "")


@dataclass(frozen=True)
class Scorer:
    """How two texts are compared. prepare: what is done to each text first; score: in rapidfuzz's form; top: its best."""

    score: Callable[..., float]
    prepare: Callable[[str], str] = str
    top: int = 100


SCORERS: Mapping[str, Scorer] = {
    "ratio": Scorer(fuzz.ratio),
    "token_sort_ratio": Scorer(fuzz.ratio, _words_sorted),
    "token_set_ratio": Scorer(fuzz.token_set_ratio),
    "partial_ratio": Scorer(fuzz.partial_ratio, _words_sorted),
    "jaro_winkler": Scorer(JaroWinkler.normalized_similarity, top=1),
    "joined_ratio": Scorer(fuzz.ratio, _words_joined),
    "levenshtein": Scorer(Levenshtein.distance, top=0),
}
"""`levenshtein` is the original post's ratio, 1 − d / (|a| + |b|); see `similarity`."""


@dataclass(frozen=True)
class Feature:
    """A field and how it is compared. Where a profile has several values of it, the most similar ones count."""

    field: str
    scorer: str

    def __post_init__(self) -> None:
        if self.scorer not in SCORERS:
            raise InputError(f"no scorer {self.scorer!r}; there are: {', '.join(SCORERS)}")


def similarity(scorer: str, left: Sequence[str], right: Sequence[str]) -> UInt8[np.ndarray, "n m"]:
    """Every text of one list against every one of the other, already folded; an empty text is similar to nothing."""
    if scorer not in SCORERS:
        raise InputError(f"no scorer {scorer!r}; there are: {', '.join(SCORERS)}")
    prepare = SCORERS[scorer].prepare
    return _compared(scorer, [prepare(text) for text in left], [prepare(text) for text in right])


def _compared(scorer: str, a: Sequence[str], b: Sequence[str]) -> UInt8[np.ndarray, "n m"]:
    """As `similarity`, of prepared texts."""
    used = SCORERS[scorer]
    if not a or not b:
        return np.zeros((len(a), len(b)), dtype=np.uint8)
    if scorer == "levenshtein":
        distance = process.cdist(a, b, scorer=used.score, dtype=np.int32)
        return _ratio(distance, _lengths(a)[:, None], _lengths(b)[None])
    if used.top == 1:
        found = np.rint(100 * process.cdist(a, b, scorer=used.score, dtype=np.float32)).astype(np.uint8)
    else:
        found = process.cdist(a, b, scorer=used.score, dtype=np.uint8)
    found[_lengths(a) == 0] = 0
    found[:, _lengths(b) == 0] = 0
    return found


def _compared_pairs(scorer: str, a: Sequence[str], b: Sequence[str]) -> UInt8[np.ndarray, " n"]:
    """As `similarity`, of prepared texts, pair by pair."""
    used = SCORERS[scorer]
    if not a:
        return np.zeros(0, dtype=np.uint8)
    if scorer == "levenshtein":
        distance = process.cpdist(a, b, scorer=used.score, dtype=np.int32)
        return _ratio(distance, _lengths(a), _lengths(b))
    if used.top == 1:
        found = np.rint(100 * process.cpdist(a, b, scorer=used.score, dtype=np.float32)).astype(np.uint8)
    else:
        found = process.cpdist(a, b, scorer=used.score, dtype=np.uint8)
    found[(_lengths(a) == 0) | (_lengths(b) == 0)] = 0
    return found


def _ratio(distance: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found = np.rint(100 * (1 - distance / np.maximum(a + b, 1))).astype(np.uint8)
    found[(a == 0) | (b == 0)] = 0
    return found


def _lengths(texts: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))


@dataclass(frozen=True)
class _Column:
    """One side of a feature: distinct cells, and which of them each profile has.

    cells: distinct. codes: (n,) into cells. texts: distinct values of all cells. starts, members: the values of cell c are
    texts[members[starts[c] : starts[c + 1]]]; a cell without any has the empty text.
    """

    cells: tuple[Cell, ...]
    codes: np.ndarray
    texts: tuple[str, ...]
    starts: np.ndarray
    members: np.ndarray

    @staticmethod
    def of(values: Sequence[Cell]) -> _Column:
        places: dict[Cell, int] = {}
        codes = np.fromiter((places.setdefault(cell, len(places)) for cell in values), np.int64, len(values))
        cells = tuple(places)
        texts: dict[str, int] = {}
        members = [[texts.setdefault(text, len(texts)) for text in cell or ("",)] for cell in cells]
        starts = np.concatenate([[0], np.cumsum([len(member) for member in members])]).astype(np.int64)
        flat = np.array([m for member in members for m in member], dtype=np.int64)
        return _Column(cells, codes, tuple(texts), starts, flat)

    def prepared(self, prepare: Callable[[str], str]) -> _Column:
        """The same with every text as a scorer wants it."""
        return replace(self, texts=tuple(map(prepare, self.texts)))

    @property
    def simple(self) -> bool:
        """Whether every cell is one text."""
        return len(self.members) == len(self.cells)


class Comparison:
    """Two tables under a set of features, ready to be compared.

    left, right: tables. features: in the order of the last axis of what is returned. encoded: vectors of unit length,
    (n, d) and (m, d), each pair of which makes one more feature at the end: 100 times their scalar product, at least 0.
    """

    def __init__(
        self,
        left: Table,
        right: Table,
        features: Sequence[Feature],
        encoded: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> None:
        if not features and not encoded:
            raise InputError("nothing to compare; at least one feature is wanted")
        self.left, self.right, self.features, self.encoded = left, right, tuple(features), tuple(encoded)
        for a, b in self.encoded:
            if len(a) != len(left) or len(b) != len(right) or a.shape[1:] != b.shape[1:]:
                raise InputError(
                    f"vectors of shapes {a.shape} and {b.shape} for {len(left)} and {len(right)} profiles"
                )
        columns = {
            name: (_Column.of(left[name]), _Column.of(right[name])) for name in {f.field for f in features}
        }
        self._columns = [
            tuple(side.prepared(SCORERS[feature.scorer].prepare) for side in columns[feature.field])
            for feature in self.features
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """Profiles on the left and on the right."""
        return len(self.left), len(self.right)

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.features) + len(self.encoded)

    def block(self, start: int, stop: int) -> Iterator[UInt8[np.ndarray, "rows m"]]:
        """Every right profile against the left ones from `start` to `stop`: one matrix a feature, one after the other."""
        for feature, (a, b) in zip(self.features, self._columns, strict=True):
            here, rows = np.unique(a.codes[start:stop], return_inverse=True)
            members = np.concatenate([a.members[a.starts[c] : a.starts[c + 1]] for c in here])
            found = _compared(feature.scorer, [a.texts[m] for m in members], b.texts)
            if not a.simple:
                sizes = a.starts[here + 1] - a.starts[here]
                found = np.maximum.reduceat(found, np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=0)
            if not b.simple:
                found = np.maximum.reduceat(found[:, b.members], b.starts[:-1], axis=1)
            elif len(b.texts) != len(b.cells) or not np.array_equal(b.members, np.arange(len(b.cells))):
                found = found[:, b.members]
            whole = len(b.cells) == len(b.codes)  # then codes count up, and there is nothing to spread
            found = found if whole else np.take(found, b.codes, axis=1)
            yield (
                found
                if len(here) == stop - start and np.array_equal(rows, np.arange(len(rows)))
                else found[rows]
            )
        for first, second in self.encoded:
            yield np.rint(100 * np.clip(first[start:stop] @ second.T, 0, 1)).astype(np.uint8)

    def pairs(self, i: Integer[np.ndarray, " p"], j: Integer[np.ndarray, " p"]) -> UInt8[np.ndarray, "p f"]:
        """Left profile i[p] against right profile j[p], for every p."""
        out = np.empty((len(i), self.width), dtype=np.uint8)
        for k, (feature, (a, b)) in enumerate(zip(self.features, self._columns, strict=True)):
            out[:, k] = _listed(feature.scorer, a, b, a.codes[i], b.codes[j])
        for k, (first, second) in enumerate(self.encoded, len(self.features)):
            product = np.einsum("pd,pd->p", first[i], second[j])
            out[:, k] = np.rint(100 * np.clip(product, 0, 1)).astype(np.uint8)
        return out


class Remembered(Comparison):
    """A comparison whose every similarity is computed once and kept: n × m bytes a feature, for tables of a few thousand."""

    def __init__(self, compared: Comparison) -> None:
        self.left, self.right = compared.left, compared.right
        self.features, self.encoded = compared.features, compared.encoded
        self.matrices = list(compared.block(0, len(self.left)))

    def block(self, start: int, stop: int) -> Iterator[UInt8[np.ndarray, "rows m"]]:
        yield from (matrix[start:stop] for matrix in self.matrices)

    def pairs(self, i: Integer[np.ndarray, " p"], j: Integer[np.ndarray, " p"]) -> UInt8[np.ndarray, "p f"]:
        return np.column_stack([matrix[i, j] for matrix in self.matrices])


def _listed(scorer: str, a: _Column, b: _Column, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cells by code, pair by pair; the best of their values. Pairs of cells that come again are compared once."""
    distinct, back = np.unique(left * len(b.cells) + right, return_inverse=True)
    left, right = np.divmod(distinct, len(b.cells))
    n_left, n_right = a.starts[left + 1] - a.starts[left], b.starts[right + 1] - b.starts[right]
    counts = n_left * n_right
    if not len(counts):
        return np.zeros(0, dtype=np.uint8)
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    pair = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(counts.sum()) - begins[pair]
    texts_a = a.members[a.starts[left][pair] + number // n_right[pair]]
    texts_b = b.members[b.starts[right][pair] + number % n_right[pair]]
    found = _compared_pairs(scorer, [a.texts[m] for m in texts_a], [b.texts[m] for m in texts_b])
    return np.maximum.reduceat(found, begins)[back]
