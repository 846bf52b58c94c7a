"""Orders in which test examples arrive: at random, by class, or in runs of similar classes.

    order = label_shifted(labels, concentration=0.1, slots=50, rng=np.random.default_rng(seed))
    stream = split.subset(torch.from_numpy(order))

Every order is a permutation: the same examples, each once. Source of the runs: the Dirichlet streams of Boudiaf et al.
(arXiv 2201.05718) and Gong et al. (arXiv 2208.05117).
"""

from __future__ import annotations

import numpy as np

from lib.core import InputError


def sorted_by_class(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All examples of the lowest class first, and so on; at random within a class."""
    order = rng.permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def label_shifted(
    labels: np.ndarray, concentration: float, slots: int, rng: np.random.Generator
) -> np.ndarray:
    """Each class is spread over consecutive slots by shares drawn from Dirichlet(δ, …, δ); slots are shuffled inside.

    concentration: δ; large values give nearly the same mixture in every slot, .01 gives runs of few classes. Infinity is
    a random order. Raises InputError for a δ that is not positive or fewer than one slot.
    """
    if not concentration > 0 or slots < 1:
        raise InputError(f"concentration is {concentration} and slots {slots}; positive numbers are wanted")
    if np.isinf(concentration):
        return rng.permutation(len(labels))
    parts: list[list[np.ndarray]] = [[] for _ in range(slots)]
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(slots, concentration))
        for slot, part in enumerate(np.split(mine, np.round(np.cumsum(shares)[:-1] * len(mine)).astype(int))):
            parts[slot].append(part)
    return np.concatenate([rng.permutation(np.concatenate(part)) for part in parts])
