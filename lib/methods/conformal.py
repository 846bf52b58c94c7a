"""Split conformal prediction of intervals: finite-sample coverage for any quantiles, if the data are exchangeable.

    shift = conformal_shift(low, high, y, coverage=0.9)      # from calibration data that trained nothing
    low - shift, high + shift                                # intervals that cover new data

Source: Romano, Patterson and Candès (2019), Conformalized Quantile Regression, arXiv 1905.03222, equations 6 and 7. The
shift is negative where the intervals were too wide. Over calibration sets P(y in interval) ≥ coverage, and < coverage +
1 / (n + 1) where scores have no ties. Drift breaks the promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def conformal_shift(
    low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], coverage: float
) -> float:
    """By how much to widen intervals on both sides: the ⌈(n + 1) · coverage⌉-th smallest of max(low − y, y − high).

    Infinite where n is too small for the coverage. Raises ValueError for shapes that differ, NaN, a coverage outside
    (0, 1) or no data.
    """
    if not (low.shape == high.shape == y.shape) or y.ndim != 1 or len(y) == 0:
        raise ValueError(
            f"low, high and y are {low.shape}, {high.shape} and {y.shape}; three times (n,) is wanted"
        )
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage!r}; a number in (0, 1) is wanted")
    scores = np.maximum(low - y, y - high)
    if np.isnan(scores).any():
        raise ValueError("low, high or y holds NaN; numbers are wanted")
    rank = math.ceil((len(y) + 1) * coverage - 1e-9)
    return math.inf if rank > len(y) else float(np.partition(scores, rank - 1)[rank - 1])


def conformal_quantiles(
    quantiles: Float[np.ndarray, "n levels"],
    calibration: Float[np.ndarray, "n_calibration levels"],
    y: Float[np.ndarray, " n_calibration"],
    levels: Sequence[float],
) -> Float[np.ndarray, "n levels"]:
    """All pairs of quantiles τ, 1 − τ moved by their own shift; the median stays; sorted, so that none cross.

    levels: increasing and symmetric about a half. calibration: the quantiles at the data that y belongs to.
    """
    taus = np.asarray(levels, dtype=float)
    if len(taus) != quantiles.shape[1] or not np.allclose(taus + taus[::-1], 1) or (np.diff(taus) <= 0).any():
        raise ValueError(
            f"levels are {tuple(levels)}; {quantiles.shape[1]} increasing levels, symmetric about .5, are wanted"
        )
    moved = quantiles.copy()
    for i in range(len(taus) // 2):
        j = len(taus) - 1 - i
        shift = conformal_shift(calibration[:, i], calibration[:, j], y, float(taus[j] - taus[i]))
        moved[:, i] -= shift
        moved[:, j] += shift
    return np.sort(moved, axis=1)
