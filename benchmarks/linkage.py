"""Comparing names and linking them: all pairs of two lists, and 5,000 people of FEBRL 4.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

All pairs of 10,000 × 10,000 generated names, `token_sort_ratio` as whole numbers from 0 to 100, in chunks of 256 rows on both
sides: ours is `lib.methods.linkage.Comparison.block`, which sorts the words of each name once; the peer is rapidfuzz's own
`process.cdist` with `fuzz.token_sort_ratio`, which sorts them for each pair. Same numbers, same memory. FEBRL 4: from two data frames
to links by name, suburb, address, postcode and date of birth; ours learns from 100 labels and compares every pair, splink learns
without labels and compares pairs that share a field, as in the post's table.

The two sides take turns, and swap who goes first. Reported: medians, and the median of the paired ratios with the smallest and the
largest of them as its interval (for five repeats, the sign test's at 94 %).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lib import data
from lib.core import Context, NoCheckpoint, PostsError
from lib.data.names import two_sites
from lib.experiments import fuzzy_name_matching as post
from lib.methods.linkage import Comparison, Feature, Table

NAME = "linkage"
TITLE = "Linking names"
N, ROWS = 10_000, 256

Side = Callable[[], Any]


class Room(Context):
    """Data and nothing else."""

    def data(self, name: str) -> Any:
        return data.load(name)

    def artifact(self, config: Any) -> Any:
        raise NotImplementedError

    @property
    def checkpoint(self) -> NoCheckpoint:
        return NoCheckpoint()


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """Both comparisons; `threads` must be 1, which is what both sides use."""
    import rapidfuzz

    rows = [_row("all pairs of 10,000 × 10,000 names", "ns a pair", 1e9 / N**2, *_all_pairs(), repeats)]
    notes = ["Processor time on one thread. The peer of the first row is rapidfuzz's own token_sort_ratio."]
    rate = 1e3 / rows[0]["ours"]
    notes.append(
        f"Ours compares {rate:.0f} million pairs a second, {N**2 / 1e6:.0f} million in chunks of {ROWS * N / 1e6:.2f} MB."
    )
    versions = {"rapidfuzz": rapidfuzz.__version__}
    try:
        import splink
    except ModuleNotFoundError:
        notes.append("splink is not installed: no comparison on FEBRL 4.")
    else:
        rows.append(_row("FEBRL 4, five fields, from tables to links", "s", 1.0, *_febrl(), min(repeats, 3)))
        notes.append("splink's processor time includes DuckDB's threads.")
        versions["splink"] = splink.__version__
    return {"rows": rows, "notes": notes, "versions": versions}


def _all_pairs() -> tuple[Side, Side]:
    from rapidfuzz import fuzz, process

    sites = two_sites(data.load("names"), N, 0.15, np.random.default_rng(0))
    left, right = (Table.of({"name": site.names[:N]}) for site in (sites.school, sites.review))
    a, b = ([cell[0] for cell in table["name"]] for table in (left, right))

    def ours() -> np.ndarray:
        compared = Comparison(left, right, [Feature("name", "token_sort_ratio")])
        last = None
        for start in range(0, N, ROWS):
            (last,) = compared.block(start, min(start + ROWS, N))
        return last

    def peer() -> np.ndarray:
        last = None
        for start in range(0, N, ROWS):
            last = process.cdist(a[start : start + ROWS], b, scorer=fuzz.token_sort_ratio, dtype=np.uint8)
        return last

    if not np.array_equal(ours(), peer()):
        raise PostsError("the two sides have different similarities")
    return ours, peer


def _febrl() -> tuple[Side, Side]:
    options = {
        "data": "febrl4",
        "n": 5000,
        "noise": 0.0,
        "labels": 100,
        "seed": 0,
        "fields": "five",
        "steps": 0,
    }
    sides = [post.SideBySide(**options, arm=arm) for arm in ("assignment", "splink")]
    first, second = (lambda config=config: post.run(config, Room()) for config in sides)
    first(), second()  # imports and caches
    return first, second


def _row(case: str, unit: str, scale: float, ours: Side, peer: Side, repeats: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for repeat in range(repeats):
        order = [("ours", ours), ("peer", peer)]
        for name, side in order if repeat % 2 == 0 else order[::-1]:
            begin = time.process_time()
            side()
            times[name].append(time.process_time() - begin)
    ratios = np.array(times["peer"]) / np.array(times["ours"])
    return {
        "case": case,
        "ours": float(np.median(times["ours"]) * scale),
        "peer": float(np.median(times["peer"]) * scale),
        "unit": unit,
        "ratio": float(np.median(ratios)),
        "low": float(ratios.min()),
        "high": float(ratios.max()),
        "n": repeats,
    }
