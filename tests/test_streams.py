"""Orders of a stream are permutations, and as mixed as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from lib.core import InputError
from lib.data.streams import label_shifted, sorted_by_class

LABELS = np.arange(4000) % 10


def mixture(order, slots=40):
    """Over slots of equal length, how many classes there are on average, by the exponential of the entropy."""
    shares = np.stack(
        [np.bincount(part, minlength=10) / len(part) for part in np.split(LABELS[order], slots)]
    )
    return np.exp(-(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(1)).mean()


@pytest.mark.parametrize("concentration", [0.01, 0.1, 1.0, 1e4, np.inf])
def test_every_order_is_a_permutation_decided_by_its_generator(concentration):
    orders = [label_shifted(LABELS, concentration, 40, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(np.sort(orders[0]), np.arange(4000))
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])


def test_small_concentrations_make_runs_of_few_classes(rng):
    mixed = [mixture(label_shifted(LABELS, delta, 40, rng)) for delta in (np.inf, 1e4, 1.0, 0.1, 0.01)]
    assert mixed[0] == pytest.approx(mixed[1], rel=0.05) and mixed[0] > 8.5
    assert mixed[1] > mixed[2] > mixed[3] > mixed[4] and mixed[4] < 3
    assert mixture(sorted_by_class(LABELS, rng)) == pytest.approx(1)


def test_sorted_is_random_within_a_class(rng):
    order = sorted_by_class(LABELS, rng)
    assert (np.diff(LABELS[order]) >= 0).all() and not (np.diff(order[:400]) > 0).all()
    assert np.array_equal(np.sort(order), np.arange(4000))


@pytest.mark.parametrize(("concentration", "slots"), [(0.0, 3), (-1.0, 3), (np.nan, 3), (1.0, 0)])
def test_wrong_input_is_named(concentration, slots):
    with pytest.raises(InputError, match="positive numbers"):
        label_shifted(LABELS, concentration, slots, np.random.default_rng(0))
