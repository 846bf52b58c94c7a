"""From probabilities of pairs to links: at most one right profile for each left one, or 'no match'.

    found = Candidates(i, j, logits, left.rank, right.rank)
    argmax(found, threshold=0.5)                          # (n,) right positions, -1 for 'no match'

`first` and `argmax` let two professors share a review profile; `assignment` and `mutual_best` do not. Ties are decided by
`rank`, which depends on what a profile says and not on where it stands: but for `first`, no decision depends on the order of
the lists. A pair that is not listed is no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from lib.core import InputError

DENSE = 3000
"""Up to so many left profiles with candidates the assignment is solved dense."""

Links = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Candidates:
    """Pairs with their log odds, each at most once.

    i, j: positions (p,), left and right. logit: (p,). left, right: ranks (n,), (m,) of all profiles of a side
    (`Table.rank`), whose lengths are the sizes of the two lists.
    """

    i: Int64[np.ndarray, " p"]
    j: Int64[np.ndarray, " p"]
    logit: Float[np.ndarray, " p"]
    left: Int64[np.ndarray, " n"]
    right: Int64[np.ndarray, " m"]

    def above(self, threshold: float) -> Candidates:
        """Those whose probability is above `threshold`."""
        return self.of(self.logit > cut(threshold))

    def of(self, chosen: np.ndarray) -> Candidates:
        """Some of the pairs, by mask or positions."""
        return Candidates(self.i[chosen], self.j[chosen], self.logit[chosen], self.left, self.right)


def cut(threshold: float) -> float:
    """The log odds of a probability. Raises InputError outside 0 to 1."""
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold!r}; a probability from 0 to 1 is wanted")
    if threshold in (0, 1):
        return math.copysign(math.inf, threshold - 0.5)
    return math.log(threshold) - math.log1p(-threshold)


def decide(name: str, candidates: Candidates, threshold: float) -> Links:
    """The decision called `name`. Raises InputError for one that does not exist."""
    if name not in DECISIONS:
        raise InputError(f"no decision {name!r}; there are: {', '.join(DECISIONS)}")
    return DECISIONS[name](candidates, threshold)


def first(candidates: Candidates, threshold: float) -> Links:
    """The first right profile of the list above the threshold, however good a later one is: the original's old way."""
    found = candidates.above(threshold)
    order = np.lexsort((found.j, found.i))
    return _links(found.of(order))


def argmax(candidates: Candidates, threshold: float) -> Links:
    """The most probable right profile, if it is above the threshold."""
    found = candidates.above(threshold)
    order = np.lexsort((found.right[found.j], -found.logit, found.i))
    return _links(found.of(order))


def mutual_best(candidates: Candidates, threshold: float) -> Links:
    """The most probable right profile, if it is above the threshold and its own most probable one is this left profile."""
    links = argmax(candidates, threshold)
    turned = Candidates(candidates.j, candidates.i, candidates.logit, candidates.right, candidates.left)
    back = argmax(turned, threshold)
    has = links >= 0
    links[has] = np.where(back[links[has]] == np.flatnonzero(has), links[has], -1)
    return links


def assignment(candidates: Candidates, threshold: float, *, dense: bool | None = None) -> Links:
    """The links that together have the largest sum of max(logit p − logit t, 0), each right profile used at most once.

    dense: solve by `linear_sum_assignment` on the whole matrix; else by a sparse solver on the candidates alone. By default
    dense up to `DENSE` left profiles that have candidates. Both find the same sum.
    """
    found = candidates.above(threshold)
    if not len(found.i):
        return np.full(len(found.left), -1, dtype=np.int64)
    if not math.isfinite(cut(threshold)):
        raise InputError(
            "threshold is 0; an assignment needs one above 0, for the weights are measured from it"
        )
    # Sorted by rank, so that among equally good solutions the same one is found whatever the order of the lists.
    by_rank_left = np.unique(found.left[found.i])
    by_rank_right = np.unique(found.right[found.j])
    i, j = (
        np.searchsorted(by_rank_left, found.left[found.i]),
        np.searchsorted(by_rank_right, found.right[found.j]),
    )
    order = np.lexsort((j, i))
    i, j, weight = i[order], j[order], found.logit[order] - cut(threshold)
    shape = len(by_rank_left), len(by_rank_right)
    use_dense = shape[0] <= DENSE if dense is None else dense
    chosen_i, chosen_j = (_dense if use_dense else _sparse)(i, j, weight, shape)
    links = np.full(len(found.left), -1, dtype=np.int64)
    left, right = np.argsort(found.left), np.argsort(found.right)
    links[left[by_rank_left[chosen_i]]] = right[by_rank_right[chosen_j]]
    return links


def _dense(
    i: np.ndarray, j: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.zeros(shape)
    matrix[i, j] = weight
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    kept = matrix[rows, columns] > 0  # a weight of 0 is 'no match'
    return rows[kept], columns[kept]


def _sparse(
    i: np.ndarray, j: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Every left profile also has a 'no match' of its own. All are matched, so 1 added to every weight changes nothing."""
    n, m = shape
    own = np.arange(n)
    rows, columns = np.concatenate([i, own]), np.concatenate([j, m + own])
    values = np.concatenate([weight + 1, np.ones(n)])
    graph = csr_array((values, (rows, columns)), shape=(n, m + n))
    left, right = min_weight_full_bipartite_matching(graph, maximize=True)
    kept = right < m
    return left[kept], right[kept]


def _links(best_first: Candidates) -> Links:
    """Of candidates sorted by left profile the first of each."""
    links = np.full(len(best_first.left), -1, dtype=np.int64)
    left, place = np.unique(best_first.i, return_index=True)
    links[left] = best_first.j[place]
    return links


DECISIONS: Mapping[str, Callable[[Candidates, float], Links]] = {
    "first": first,
    "argmax": argmax,
    "assignment": assignment,
    "mutual_best": mutual_best,
}
