"""How good links are: for each left profile correct, incorrect or missed, as the original post counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int8, Int64, Integer

from lib.core import InputError

CORRECT, INCORRECT, MISSED = 0, 1, 2


def outcomes(
    links: Int64[np.ndarray, " n"], left: Integer[np.ndarray, " n"], right: Integer[np.ndarray, " m"]
) -> Int8[np.ndarray, " n"]:
    """CORRECT, INCORRECT or MISSED for each left profile.

    links: right positions, -1 for 'no match'. left, right: whose each profile is. Correct is a link to any profile of the
    same person, and 'no match' where there is none. Incorrect is a link to somebody else, missed a 'no match' where there is
    a match.
    """
    if len(links) and (links.min() < -1 or links.max() >= len(right)):
        raise InputError(f"links from {links.min()} to {links.max()} for {len(right)} right profiles")
    linked = links >= 0
    same = linked & (right[np.maximum(links, 0)] == left) if len(right) else np.zeros(len(links), dtype=bool)
    exists = np.isin(left, right)
    out = np.where(linked, np.where(same, CORRECT, INCORRECT), np.where(exists, MISSED, CORRECT))
    return out.astype(np.int8)


def shares(found: Int8[np.ndarray, " n"], links: Int64[np.ndarray, " n"]) -> dict[str, float]:
    """Shares of left profiles: correct + incorrect + missed = 1; and has_match, those with a link."""
    if not len(found):
        raise InputError("no profiles: there are no shares")
    names = ("correct", "incorrect", "missed")
    return {name: float(np.mean(found == code)) for code, name in enumerate(names)} | {
        "has_match": float(np.mean(links >= 0))
    }
