"""The order in which neighbouring buckets are looked into: by flipped bits, or by how little it takes to flip them.

    for ring in hamming_flips(bits=16, radius=2): …        # [0], [1, 2, 4, …], [3, 5, …]: masks, XORed with the query's code
    for mask in directed_flips(margins): …                 # 0, then masks by the sum of the squared margins of their bits

Source: Lv, Josephson, Wang, Charikar and Li (2007), Multi-probe LSH: efficient indexing for high-dimensional similarity
search, VLDB, sections 4.3 and 4.4; here a bit has one boundary, the plane itself, and its margin is the query's distance
to that plane.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float


def hamming_flips(bits: int, radius: int) -> Iterator[list[int]]:
    """For each number of flipped bits from 0 to `radius`, all masks with that many bits set, ascending by position."""
    for flipped in range(min(radius, bits) + 1):
        yield [sum(1 << bit for bit in chosen) for chosen in itertools.combinations(range(bits), flipped)]


def directed_flips(margins: Float[np.ndarray, " bits"], radius: int | None = None) -> Iterator[int]:
    """All masks (with at most `radius` bits set), by the sum of the squared margins of the bits set, smallest first.

    margins: how far the query is from each plane, 0 or more. Lazily, with a heap: from a set of bits (in order of their
    margins) come the one with its last bit moved on and the one with the next bit added (Lv et al., Algorithm 1), so that
    each set comes once and none before a smaller one.
    """
    order = np.argsort(margins, kind="stable")
    costs = [float(margins[i]) ** 2 for i in order]
    most = len(costs) if radius is None else radius
    yield 0
    if not costs or most < 1:
        return
    heap: list[tuple[float, tuple[int, ...]]] = [(costs[0], (0,))]
    while heap:
        cost, chosen = heapq.heappop(heap)
        yield sum(1 << int(order[i]) for i in chosen)
        last = chosen[-1]
        if last + 1 < len(costs):
            moved = cost - costs[last] + costs[last + 1]
            heapq.heappush(heap, (moved, (*chosen[:-1], last + 1)))
            if len(chosen) < most:
                heapq.heappush(heap, (cost + costs[last + 1], (*chosen, last + 1)))
