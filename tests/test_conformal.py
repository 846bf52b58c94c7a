"""Split conformal prediction: the promised coverage on exchangeable data, and nothing moved without need."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jaxtyping")

from lib.methods.conformal import conformal_quantiles, conformal_shift

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_coverage_on_exchangeable_data_whatever_the_intervals_were(factor, rng):
    """At least 90 % over many calibration sets, and at most 1 / (n + 1) more; the intervals start wrong by `factor`."""
    n, covered = 59, []
    for _ in range(2000):
        y = rng.standard_normal(n + 1)
        low = np.full(n, -1.645 * factor)
        shift = conformal_shift(low, -low, y[:n], 0.9)
        covered.append(low[0] - shift <= y[n] <= -low[0] + shift)
    margin = 4 * (0.09 / 2000) ** 0.5
    assert 0.9 - margin < np.mean(covered) < 0.9 + 1 / (n + 1) + margin


def test_the_shift_is_an_order_statistic():
    y = np.arange(1.0, 10.0)
    zero = np.zeros(9)
    assert conformal_shift(zero, zero, y, 0.5) == 5  # the ceil(10 · .5)-th
    assert conformal_shift(zero, zero, y, 0.9) == 9
    assert conformal_shift(zero, zero, y, 0.95) == np.inf  # nine examples promise no more than 90 %
    assert conformal_shift(zero, zero + 20, y, 0.5) < 0  # intervals that were too wide shrink


def test_all_levels_are_moved_and_none_cross(rng):
    y = 3 * rng.standard_normal(5000)
    normal = np.array([-1.645, -0.674, 0.0, 0.674, 1.645])
    quantiles = np.tile(normal, (5000, 1))
    moved = conformal_quantiles(quantiles, quantiles, y, LEVELS)
    np.testing.assert_allclose(moved[0], 3 * normal, atol=0.2)
    assert (np.diff(moved, axis=1) >= 0).all() and (moved[:, 2] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": 1.0}, "coverage is 1.0"),
        ({"y": np.full(3, np.nan)}, "NaN"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    zero = np.zeros(3)
    with pytest.raises(ValueError, match=message):
        conformal_shift(**{"low": zero, "high": zero, "y": zero, "coverage": 0.5} | change)


def test_levels_must_be_symmetric():
    with pytest.raises(ValueError, match="symmetric"):
        conformal_quantiles(np.zeros((2, 2)), np.zeros((3, 2)), np.zeros(3), (0.1, 0.5))
