"""The whole of it: fitted on labelled matches, applied to two tables of any size, saved and loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from lib.core import InputError
from lib.methods.linkage.blocks import candidates as blocked
from lib.methods.linkage.classifier import PairClassifier, training_pairs
from lib.methods.linkage.compare import Comparison, Feature
from lib.methods.linkage.decisions import DECISIONS, Candidates, cut, decide
from lib.methods.linkage.tables import Table

FULL = 10_000
"""Up to so many profiles a side every pair is compared."""
CHUNK_PAIRS = 4_000_000
"""Pairs compared at a time: about 15 bytes each, 60 MB, whatever the size of the tables."""
FORMAT, VERSION = "linker", 1


class Linker:
    """Features, a pair classifier, and a decision with its threshold.

    features: similarities, in order. decision: one of `DECISIONS`. threshold: 'no match' below that probability. block_on:
    the field whose words make the keys beyond `FULL` profiles a side (default: that of the first feature).
    """

    def __init__(
        self,
        features: Sequence[Feature],
        *,
        decision: str = "assignment",
        threshold: float = 0.5,
        block_on: str | None = None,
        classifier: PairClassifier | None = None,
    ) -> None:
        if not features:
            raise InputError("a linker without features; at least one is wanted")
        if decision not in DECISIONS:
            raise InputError(f"no decision {decision!r}; there are: {', '.join(DECISIONS)}")
        if not math.isfinite(cut(threshold)):
            raise InputError(f"threshold is {threshold!r}; a probability between 0 and 1 is wanted")
        self.features, self.decision, self.threshold = tuple(features), decision, threshold
        self.block_on = features[0].field if block_on is None else block_on
        self.classifier = classifier

    def fit(
        self,
        left: Table,
        right: Table,
        matches: Integer[np.ndarray, "m 2"],
        *,
        rng: np.random.Generator,
        k: int = 10,
    ) -> Linker:
        """Learn from labelled matches (left, right), with `k` random negatives for each; see `training_pairs`."""
        if len(matches) and (
            matches.min() < 0 or matches[:, 0].max() >= len(left) or matches[:, 1].max() >= len(right)
        ):
            raise InputError(
                f"a labelled match lies outside the {len(left)} left and {len(right)} right profiles"
            )
        pairs, is_match = training_pairs(matches, len(right), k, rng)
        found = Comparison(left, right, self.features).pairs(pairs[:, 0], pairs[:, 1])
        self.classifier = PairClassifier.fit(found, is_match)
        return self

    def candidates(self, left: Table, right: Table, *, floor: float | None = None) -> Candidates:
        """All pairs whose probability is above `floor` (default: the threshold), found by comparing all, or by blocks."""
        parts = list(self._scored(left, right, cut(self.threshold if floor is None else floor)))
        i, j, logit = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else _nothing()
        return Candidates(i, j, logit, left.rank, right.rank)

    def link(self, left: Table, right: Table) -> Int64[np.ndarray, " n"]:
        """The right position for each left profile, -1 for 'no match'."""
        return decide(self.decision, self.candidates(left, right), self.threshold)

    def _scored(
        self, left: Table, right: Table, floor: float
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        if self.classifier is None:
            raise InputError("this linker has learned nothing yet: call fit, or load one")
        comparison = Comparison(left, right, self.features)
        if max(comparison.shape) <= FULL:
            yield from scored_blocks(comparison, self.classifier, floor)
            return
        for i, j in blocked(left[self.block_on], right[self.block_on]):
            logit = self.classifier.logit(comparison.pairs(i, j))
            kept = logit > floor
            yield i[kept], j[kept], logit[kept]

    # --- saved and loaded ------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        if self.classifier is None:
            raise InputError("this linker has learned nothing yet: there is nothing to save")
        return {
            "features": [[feature.field, feature.scorer] for feature in self.features],
            "decision": self.decision,
            "threshold": self.threshold,
            "block_on": self.block_on,
            "weights": self.classifier.weights.tolist(),
            "bias": self.classifier.bias,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file with a version and a checksum; the old content stays until the new one is whole."""
        body = json.dumps(self.to_dict(), sort_keys=True)
        seal = hashlib.sha256(body.encode()).hexdigest()
        text = json.dumps(
            {"format": FORMAT, "version": VERSION, "sha256": seal, "linker": json.loads(body)}, indent=1
        )
        beside = Path(f"{os.fspath(path)}.new")
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Linker:
        """What `save` wrote. Raises InputError, naming the file, where it is missing, cut short, changed, or something else."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path} is no linker, or was cut short: it is not JSON") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{path} is no linker: it was written by something else")
        if found.get("version") != VERSION:
            raise InputError(
                f"{path} has version {found.get('version')!r}; this package reads version {VERSION}"
            )
        inner: Any = found.get("linker")
        if found.get("sha256") != hashlib.sha256(json.dumps(inner, sort_keys=True).encode()).hexdigest():
            raise InputError(f"{path} is damaged: its content does not fit its checksum")
        return Linker(
            [Feature(*item) for item in inner["features"]],
            decision=inner["decision"],
            threshold=inner["threshold"],
            block_on=inner["block_on"],
            classifier=PairClassifier(np.array(inner["weights"], dtype=float), float(inner["bias"])),
        )


def scored_blocks(
    comparison: Comparison, classifier: PairClassifier, floor: float, *, chunk_pairs: int = CHUNK_PAIRS
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every pair of two tables, in chunks of at most `chunk_pairs`: those with log odds above `floor`, and their log odds."""
    n, m = comparison.shape
    weights = (classifier.weights / 100).astype(np.float32)
    if comparison.width != len(weights):
        raise InputError(f"{comparison.width} features for a classifier of {len(weights)}")
    rows = max(1, chunk_pairs // max(m, 1))
    for start in range(0, n if m else 0, rows):
        total = np.zeros((min(start + rows, n) - start, m), dtype=np.float32)
        for weight, similarity in zip(weights, comparison.block(start, min(start + rows, n)), strict=True):
            # One look-up a pair; a table of 101 products is faster than a conversion and a product.
            table = np.arange(256, dtype=np.float32) * weight
            total += np.take(table, similarity)
        i, j = np.nonzero(total > np.float32(floor - classifier.bias))
        exact = comparison.pairs(i + start, j)
        logit = classifier.logit(exact)
        kept = logit > floor
        yield i[kept] + start, j[kept], logit[kept]


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
