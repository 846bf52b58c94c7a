"""Intervals: closed forms, coverage on simulated data, agreement with scipy, and what happens at the
edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lib.core import InputError
from lib.stats import (
    Interval,
    bootstrap_interval,
    correlation_interval,
    interval,
    number,
    paired,
    ranks,
    ratio_interval,
    spearman,
    t_interval,
    wilson,
)

sample = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=2, max_size=12)


# --- t ------------------------------------------------------------------------------------------------------


def test_t_interval_of_two_values_is_the_cauchy_quantile() -> None:
    # One degree of freedom: t is Cauchy, with quantile tan(π (p − ½)); s / √2 = |a − b| / 2.
    found = t_interval([1.0, 3.0])
    half = math.tan(math.pi * (0.975 - 0.5))
    assert found.mean == 2
    assert found.high - 2 == pytest.approx(half) == 2 - found.low


@given(sample)
def test_t_interval_agrees_with_scipy(values: list[float]) -> None:
    found = t_interval(values, level=0.9)
    if len(set(values)) == 1:
        assert found.low == found.high == values[0]
        return
    error = scipy_stats.sem(values)
    low, high = scipy_stats.t.interval(0.9, len(values) - 1, loc=np.mean(values), scale=error)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert found.n == len(values)


def test_t_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(3.0, 2.0, (4000, 4))
    for level in (0.8, 0.95):
        hits = [found.low <= 3 <= found.high for found in (t_interval(row, level=level) for row in draws)]
        # Four standard errors of a proportion.
        assert np.mean(hits) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 4000))


def test_pairing_removes_what_the_seeds_share() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 8)
    a, b = shared + 0.5 + rng.normal(0, 0.1, 8), shared + rng.normal(0, 0.1, 8)
    found = paired(a, b)
    assert found.low > 0.2 and found.high < 0.8
    assert found == t_interval(a - b)
    assert t_interval(a).low < t_interval(b).high  # unpaired, nothing could be said
    assert paired(b, a).mean == -found.mean and paired(b, a).low == -found.high


# --- bootstrap ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_bootstrap_agrees_with_scipy_on_a_skewed_sample(method: str) -> None:
    x = np.random.default_rng(3).exponential(size=25)
    rng = np.random.default_rng(0)
    ours = bootstrap_interval(x, rng, method=method, resamples=20_000)  # type: ignore[arg-type]
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_bca_leans_to_the_long_side_and_percentile_less() -> None:
    x = np.random.default_rng(3).exponential(size=25)
    bca, percentile = (
        bootstrap_interval(x, np.random.default_rng(0), method=m)  # type: ignore[arg-type]
        for m in ("bca", "percentile")
    )
    assert bca.low > percentile.low and bca.high > percentile.high


def test_bootstrap_takes_another_statistic() -> None:
    x = np.random.default_rng(5).normal(size=31)
    found = bootstrap_interval(x, np.random.default_rng(0), statistic=np.median, method="percentile")
    assert found.mean == np.median(x)
    assert found.low < np.median(x) < found.high
    assert found.low in x and found.high in x  # a median of an odd resample is one of the values


def test_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        found = bootstrap_interval(rng.exponential(size=40), rng, resamples=500)
        hits += found.low <= 1 <= found.high
    assert 0.88 <= hits / 300 <= 0.98


def test_bootstrap_depends_on_its_generator_and_on_nothing_else() -> None:
    x = np.random.default_rng(2).normal(size=12)
    np.random.seed(0)  # noqa: NPY002
    first = bootstrap_interval(x, np.random.default_rng(7))
    np.random.seed(1)  # noqa: NPY002
    assert bootstrap_interval(x, np.random.default_rng(7)) == first
    assert bootstrap_interval(x, np.random.default_rng(8)) != first


@given(sample, st.integers(0, 5))
def test_bootstrap_of_a_mean_stays_within_the_data(values: list[float], seed: int) -> None:
    found = bootstrap_interval(values, np.random.default_rng(seed), resamples=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


# --- proportions, ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (481, 1000), (1, 1)])
def test_wilson_agrees_with_scipy(k: int, n: int) -> None:
    found = wilson(k, n)
    theirs = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == (
        pytest.approx(theirs.low, abs=1e-12),
        pytest.approx(theirs.high, abs=1e-12),
    )
    assert 0 <= found.low <= found.mean <= found.high <= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_ranks_agree_with_scipy_also_on_ties(values: list[int]) -> None:
    assert ranks(values).tolist() == scipy_stats.rankdata(values).tolist()


def test_spearman_sees_order_only_and_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    found = spearman(x, y)
    assert found.mean == pytest.approx(scipy_stats.spearmanr(x, y).statistic)
    assert spearman(np.exp(x), y).mean == pytest.approx(found.mean)
    assert -1 <= found.low < found.mean < found.high <= 1
    assert spearman(x, np.exp(x)) == Interval(1.0, 1.0, 1.0, 30, 0.95, "spearman")
    assert (spearman([1, 2, 3], [1, 3, 2]).low, spearman([1, 2, 3], [1, 3, 2]).high) == (-1, 1)


def test_spearman_covers_a_normal_pairs_rank_correlation() -> None:
    rng = np.random.default_rng(2)
    rho = 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's ρ of a bivariate normal
    hits = 0
    for _ in range(600):
        x = rng.normal(size=50)
        found = spearman(x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=50))
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 600 <= 0.98


# --- edges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [t_interval, lambda x: bootstrap_interval(x, np.random.default_rng(0))])
def test_one_value_has_no_spread_and_equal_values_are_a_point(make: Callable[[Any], Interval]) -> None:
    one = make([0.7])
    assert (one.mean, one.low, one.high, one.n, one.known) == (0.7, -math.inf, math.inf, 1, False)
    same = make([0.1, 0.1, 0.1])
    assert same.low == same.mean == same.high == pytest.approx(0.1) and same.known


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [0.1, math.inf], [[0.1, 0.2]], ["a"], 0.5])
def test_what_is_no_sample_is_refused(values: Any) -> None:
    for make in (
        t_interval,
        lambda x: bootstrap_interval(x, np.random.default_rng(0)),
        lambda x: paired(x, x),
    ):
        with pytest.raises(InputError):
            make(values)


def test_other_refusals_say_what_is_accepted() -> None:
    with pytest.raises(InputError, match="3 values cannot be paired with 2"):
        paired([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="there are: t, bootstrap"):
        interval([1, 2], "normal")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="default_rng"):
        interval([1, 2], "bootstrap")
    with pytest.raises(InputError, match="between 0 and 1"):
        t_interval([1, 2], level=95)
    with pytest.raises(InputError, match="11 of 10"):
        wilson(11, 10)
    with pytest.raises(InputError, match="all the same"):
        spearman([1, 1, 1], [1, 2, 3])
    assert interval([1, 2, 3]) == t_interval([1, 2, 3])


# --- how numbers are written --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.6644, ".1%", "66.4\u00a0%"),
        (-0.25, ".2f", "−0.25"),
        (-0.0001, ".2f", "0.00"),
        (1234.5, ",.0f", "1,234"),
    ],
)
def test_numbers_for_readers(value: float, spec: str, text: str) -> None:
    assert number(value, spec) == text


def test_intervals_for_readers() -> None:
    assert f"{Interval(0.664, 0.640, 0.688, 3):.1%}" == "66.4\u00a0% [64.0, 68.8]"
    assert f"{Interval(-0.5, -0.75, 0.25, 3):.2f}" == "−0.50 [−0.75, 0.25]"
    assert f"{t_interval([0.5]):.1f}" == "0.5"
    assert str(Interval(0.12345, 0.1, 0.2, 3)) == "0.123 [0.1, 0.2]"
    with pytest.raises(InputError, match="no format"):
        number(0.5, ".3k")


# --- correlations of several seeds --------------------------------------------------------------------------


@given(st.lists(st.floats(-0.999, 0.999), min_size=2, max_size=8))
def test_the_interval_of_correlations_is_fishers(values: list[float]) -> None:
    found, on_scale = correlation_interval(values, level=0.9), t_interval(np.arctanh(values), level=0.9)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    for one, other in ((found.low, on_scale.low), (found.mean, on_scale.mean), (found.high, on_scale.high)):
        assert one == pytest.approx(math.tanh(other), abs=1e-12)
    mirrored = correlation_interval([-value for value in values], level=0.9)
    assert mirrored.low == pytest.approx(-found.high) and mirrored.high == pytest.approx(-found.low)


def test_correlations_near_one_stay_below_it() -> None:
    values = [0.97, 0.99, 0.999]
    assert t_interval(values).high > 1 > interval(values, "correlation").high


def test_correlations_at_the_edges() -> None:
    assert correlation_interval([1.0, 1.0, 1.0]).low == 1
    cut = correlation_interval([1.0, 0.5, 0.8])
    assert (cut.low, cut.high) == (pytest.approx(t_interval([1.0, 0.5, 0.8]).low), 1)
    alone = correlation_interval([0.4])
    assert (alone.mean, alone.low, alone.high) == (0.4, -math.inf, math.inf)
    with pytest.raises(InputError, match="1.2 does not"):
        correlation_interval([0.1, 1.2])
    with pytest.raises(InputError):
        correlation_interval([0.1, math.nan])


# --- ratios of several seeds --------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8))
def test_the_interval_of_ratios_is_that_of_their_logarithms(values: list[float]) -> None:
    found, on_scale = ratio_interval(values, level=0.9), t_interval(np.log(values), level=0.9)
    assert 0 <= found.low <= found.mean * (1 + 1e-12) and found.mean <= found.high * (1 + 1e-12)
    for one, other in ((found.low, on_scale.low), (found.mean, on_scale.mean), (found.high, on_scale.high)):
        assert one == pytest.approx(np.exp(other), rel=1e-9)
    turned = ratio_interval([1 / value for value in values], level=0.9)
    assert turned.low == pytest.approx(1 / found.high, rel=1e-9)


def test_one_seed_with_a_small_denominator_does_not_decide_alone() -> None:
    values = [2.0, 2.1, 1.9, 2.0, 0.1]
    saved = [1 - 1 / value for value in values]
    assert t_interval(saved).mean < -1 and ratio_interval(values).mean > 1
    assert interval(values, "ratio") == ratio_interval(values)


def test_ratios_at_the_edges() -> None:
    alone = ratio_interval([0.4])
    assert (alone.mean, alone.low, alone.high) == (0.4, -math.inf, math.inf)
    assert ratio_interval([2.0, 2.0]).low == ratio_interval([2.0, 2.0]).high == pytest.approx(2)
    assert ratio_interval([1e-30, 1e30]).high == math.inf
    for bad in ([0.0, 1.0], [-1.0, 1.0], [math.nan, 1.0], []):
        with pytest.raises(InputError):
            ratio_interval(bad)


def test_what_has_no_number_is_a_dash() -> None:
    assert f"{Interval(math.nan, -math.inf, math.inf, 0):,.0f}" == "–"
