"""The ceiling that noise with class frequencies puts on accuracy, against its definition and MNIST's numbers."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.methods.noise_ceiling import ceiling, noisy_accuracy, thresholds

TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any)


def kept_by_brute_force(counts, alpha):
    """Whether the most frequent label among the copies of an image of each class is its own; ties are kept."""
    frequencies = np.array(counts) / sum(counts)
    mixtures = (np.eye(len(counts)) + alpha * frequencies) / (1 + alpha)  # (image's class, label)
    return np.diag(mixtures) >= mixtures.max(1)


def test_thresholds_of_mnist():
    expected = {5: 45.4, 4: 66.7, 8: 67.3, 6: 72.8, 0: 73.3, 9: 75.7, 2: 76.5, 3: 98.2, 7: 125.8}
    found = thresholds(TRAIN)
    assert {k: round(found[k], 1) for k in expected} == expected
    assert math.isinf(found[1])


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(0, 1.0), (25, 1.0), (45, 1.0), (46, 0.9108), (50, 0.9108), (75, 0.5214), (100, 0.2163), (126, 0.1135)],
)
def test_ceilings_of_mnist(alpha, expected):
    assert ceiling(TRAIN, alpha, TEST) == pytest.approx(expected, abs=5e-5)


def test_the_counts_are_mnists(posts_data):
    pytest.importorskip("torch")
    from lib import data

    mnist = data.load("mnist", root=posts_data)
    assert np.bincount(mnist.train.labels).tolist() == TRAIN
    assert np.bincount(mnist.test.labels).tolist() == TEST


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.floats(0, 1000))
def test_classes_are_lost_as_the_mixture_says(counts, alpha):
    """Away from a threshold, where rounding decides nothing."""
    limits = thresholds(counts)
    if np.isclose(limits, alpha, rtol=1e-6).any():
        return
    assert ((limits >= alpha) == kept_by_brute_force(counts, alpha)).all()
    share = np.array(counts)[kept_by_brute_force(counts, alpha)].sum() / sum(counts)
    assert ceiling(counts, alpha) == pytest.approx(share)


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.floats(0, 500), st.floats(0, 500))
def test_more_noise_never_raises_the_ceiling(counts, one, two):
    assert ceiling(counts, min(one, two)) >= ceiling(counts, max(one, two))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 20), st.integers(1, 1000), st.floats(0, 1e6))
def test_uniform_noise_has_no_ceiling(n_classes, count, alpha):
    assert ceiling([count] * n_classes, alpha) == 1.0
    assert np.isinf(thresholds([count] * n_classes)).all()


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.floats(0, 500), st.integers(2, 50))
def test_only_frequencies_matter(counts, alpha, times):
    assert thresholds([times * c for c in counts]) == pytest.approx(thresholds(counts))


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1], np.ones((2, 2), int)])
def test_bad_counts(counts):
    with pytest.raises(ValueError, match="class_counts"):
        thresholds(counts)


def test_bad_alpha_and_test_counts():
    with pytest.raises(ValueError, match="alpha is -1"):
        ceiling(TRAIN, -1)
    with pytest.raises(ValueError, match="test_counts"):
        ceiling(TRAIN, 1, TEST[:9])
    with pytest.raises(ValueError, match="test_counts"):
        ceiling(TRAIN, 1, [0] * 10)


def test_reading_it_needs_no_torch():
    """Notebooks draw the ceiling where torch is not installed."""
    code = "import sys; import lib.methods.noise_ceiling; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_noisy_accuracy_in_the_limits():
    """Without noise it is the accuracy; guessing stays guessing; it rises with accuracy by 1 / (1 + α)."""
    assert noisy_accuracy(0.7, 0) == 0.7
    assert noisy_accuracy(0.1, 50) == pytest.approx(0.1)
    assert noisy_accuracy(0.25, 7, n_classes=4) == pytest.approx(0.25)
    assert noisy_accuracy(0.9, 50) - noisy_accuracy(0.4, 50) == pytest.approx(0.5 / 51)


@pytest.mark.parametrize(("alpha", "n_classes"), [(-1, 10), (5, 1)])
def test_noisy_accuracy_of_nothing(alpha, n_classes):
    with pytest.raises(ValueError, match=f"alpha is {alpha} and n_classes is {n_classes}"):
        noisy_accuracy(0.5, alpha, n_classes)
