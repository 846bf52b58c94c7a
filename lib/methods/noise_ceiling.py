"""The best accuracy that any learner can reach when the label noise carries the data set's class frequencies.

An image of class k comes once with its own label and α times with a label drawn with frequencies p, so its labels are
distributed as (e_k + α p) / (1 + α). Whoever learns that mixture perfectly answers its most frequent class, which is k
only while 1 + α p_k ≥ α max(p). Class k is lost to the most frequent class once

    α > 1 / (max(p) − p_k)

With uniform noise no class is ever lost::

    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]   # MNIST's training set
    thresholds(counts)[5]                                                    # 45.4
    ceiling(counts, 50, test_counts)                                         # 0.911 on MNIST's test set

Accuracy that is itself measured on noisy labels is squeezed into a narrow band: `noisy_accuracy` says which.

Needs NumPy alone, so that notebooks can draw it. Source: own derivation; rolnick2017 (arXiv 1705.10694) has uniform noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def thresholds(class_counts: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
    """For each class, the α above which it is lost to the most frequent class; infinite for that class itself.

    class_counts: examples a class in the set that the noise is drawn from. Raises ValueError where it is empty or has
    a negative count.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or counts.size == 0 or (counts < 0).any() or counts.sum() == 0:
        raise ValueError(
            f"class_counts is {class_counts!r}; one count a class is wanted, none negative, not all zero"
        )
    frequencies = counts / counts.sum()
    with np.errstate(divide="ignore"):
        return 1 / (frequencies.max() - frequencies)


def ceiling(
    class_counts: Sequence[int] | NDArray[np.integer],
    alpha: int | float,
    test_counts: Sequence[int] | NDArray[np.integer] | None = None,
) -> float:
    """Share of the test examples whose class is not lost at `alpha` noisy labels a clean one.

    test_counts: examples a class in the test set; None for the frequencies of `class_counts`. Uniform noise is
    `class_counts` of ones, and gives 1. Raises ValueError for a negative `alpha`.
    """
    if alpha < 0:
        raise ValueError(f"alpha is {alpha}; a number of noisy labels, 0 or more, is wanted")
    kept = thresholds(class_counts) >= alpha
    test = np.asarray(class_counts if test_counts is None else test_counts, dtype=np.float64)
    if test.shape != kept.shape or test.sum() <= 0:
        raise ValueError(
            f"test_counts has shape {test.shape}; {kept.shape[0]} counts, not all zero, are wanted"
        )
    return float(test[kept].sum() / test.sum())


def noisy_accuracy(
    accuracy: float | NDArray[np.float64], alpha: int | float, n_classes: int = 10
) -> float | NDArray[np.float64]:
    """What a true accuracy becomes, on average, on images whose α + 1 labels have uniform noise: (a + α / K) / (1 + α).

    One label in α + 1 is the image's own, and a learner agrees with it as often as it is right; with the others it
    agrees by chance. Raises ValueError for a negative `alpha` or fewer than two classes.
    """
    if alpha < 0 or n_classes < 2:
        raise ValueError(f"alpha is {alpha} and n_classes is {n_classes}; 0 or more and 2 or more are wanted")
    return (accuracy + alpha / n_classes) / (1 + alpha)
