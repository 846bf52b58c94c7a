"""Intervals over seeds: what a claim's verdict and a figure's band are made of.

    t_interval([0.91, 0.92, 0.90])             # Interval(mean=0.91, low=0.885…, high=0.934…, n=3, …)
    f"{t_interval(accuracies):.1%}"            # '91.0 % [88.5, 93.5]'
    bootstrap_interval(values, rng)            # BCa; the generator is passed, never global
    correlation_interval([0.97, 0.99, 0.98])   # of correlations, within ±1
    ratio_interval([0.8, 1.6, 1.1])            # of ratios, a geometric mean
    wilson(93, 100)                            # a proportion

Rules that hold for all of them: values are finite (NaN or infinity raises InputError: whoever calls decides
what a diverged run means), there is at least one; with one value nothing is known about the spread, so the
interval is all numbers; values that are all the same give the interval of that one point. Below about ten
seeds a bootstrap interval is too narrow (at n = 3 it cannot leave the range of the data): the t interval is
the default everywhere.

Sources: Efron (1987), Better bootstrap confidence intervals, JASA 82; Wilson (1927), JASA 22; Bonett and
Wright (2000), Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
Psychometrika 65.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.core import InputError

Method = Literal["t", "bootstrap", "correlation", "ratio"]
METHODS: tuple[Method, ...] = ("t", "bootstrap", "correlation", "ratio")
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence interval.

    mean: the estimate (a mean, a proportion, a correlation, a ratio). low, high: the ends, infinite where n is too
    small to tell. n: observations, here mostly seeds. level: the coverage asked for. method: how the interval
    was made.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL
    method: str = "t"

    @property
    def known(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __format__(self, spec: str) -> str:
        """`66.4 % [64.0, 68.8]` for `.1%`; the estimate alone where n is 1, a dash where it is NaN."""
        if math.isnan(self.mean):
            return "–"
        mean = number(self.mean, spec)
        if not self.known:
            return mean
        low, high = (number(end, spec).removesuffix("\N{NO-BREAK SPACE}%") for end in (self.low, self.high))
        return f"{mean} [{low}, {high}]"

    def __str__(self) -> str:
        return f"{self:.3g}"


def number(value: float, spec: str = ".3g") -> str:
    """A number for a reader: a true minus sign, no minus before zero, a blank before the per cent sign.

    Raises InputError for a format that Python does not know.
    """
    try:
        text = format(value, spec)
    except ValueError as error:
        raise InputError(f"{spec!r} is no format for a number; '.3f' or '.1%' would be one") from error
    if text.startswith("-") and not any(digit in text for digit in "123456789") and math.isfinite(value):
        text = text[1:]
    return text.replace("-", "\N{MINUS SIGN}").replace("%", "\N{NO-BREAK SPACE}%")


# --- means --------------------------------------------------------------------------------------------------


def interval(
    values: ArrayLike, method: Method = "t", *, level: float = LEVEL, rng: np.random.Generator | None = None
) -> Interval:
    """The interval of the mean of `values` (n,) by name of the method; `bootstrap` needs a generator."""
    if method == "t":
        return t_interval(values, level=level)
    if method == "correlation":
        return correlation_interval(values, level=level)
    if method == "ratio":
        return ratio_interval(values, level=level)
    if method == "bootstrap":
        if rng is None:
            raise InputError("a bootstrap interval needs a generator: rng=np.random.default_rng(seed)")
        return bootstrap_interval(values, rng, level=level)
    raise InputError(f"no interval {method!r}; there are: {', '.join(METHODS)}")


def t_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Student's interval of the mean of independent `values` (n,): mean ± t s / √n with df = n − 1."""
    x = _checked(values, level)
    mean = _mean(x)
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf, 1, level, "t")
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean, len(x), level, "t")
    from scipy.special import stdtrit

    half = float(stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x), level, "t")


def correlation_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The interval of the mean of correlations (n,), one a seed: Student's of their Fisher transforms, taken back.

    It stays within [−1, 1], as Student's own does not where correlations are high. A correlation of ±1 has no transform:
    where there is one among others, it is Student's interval, cut off at ±1. Raises InputError for values beyond ±1.
    """
    x = _checked(values, level)
    size = np.abs(x)
    if size.max() > 1:
        raise InputError(f"correlations lie within [−1, 1]; {x[size.argmax()]:g} does not")
    if len(x) == 1:
        return t_interval(x, level=level)
    if size.max() == 1:
        found = t_interval(x, level=level)
        return Interval(found.mean, max(found.low, -1.0), min(found.high, 1.0), len(x), level, "correlation")
    found = t_interval(np.arctanh(x), level=level)
    mean, low, high = (math.tanh(value) for value in (found.mean, found.low, found.high))
    return Interval(mean, low, high, len(x), level, "correlation")


def ratio_interval(values: ArrayLike, *, level: float = LEVEL) -> Interval:
    """The interval of the geometric mean of ratios (n,), one a seed: Student's of their logarithms, taken back.

    Twice as much and half as much weigh the same, and one seed with a small denominator does not decide alone. Raises
    InputError for values that are not positive.
    """
    x = _checked(values, level)
    if x.min() <= 0:
        raise InputError(f"ratios are positive; {x.min():g} is not")
    if len(x) == 1:
        return t_interval(x, level=level)
    found = t_interval(np.log(x), level=level)
    with np.errstate(over="ignore"):  # two seeds far apart: no upper end
        mean, low, high = np.exp([found.mean, found.low, found.high]).tolist()
    return Interval(mean, low, high, len(x), level, "ratio")


def paired(a: ArrayLike, b: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Student's interval of the mean of a − b, where `a` and `b` (n,) are paired by position."""
    first, second = _checked(a, level), _checked(b, level)
    if len(first) != len(second):
        raise InputError(f"{len(first)} values cannot be paired with {len(second)}")
    return t_interval(first - second, level=level)


def bootstrap_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    statistic: Callable[..., NDArray[np.float64]] = np.mean,
    level: float = LEVEL,
    resamples: int = 9999,
    method: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """Bootstrap interval of `statistic` of `values` (n,): bias-corrected and accelerated, or percentile.

    `statistic` takes an array and `axis`, as NumPy's reductions do. `rng` decides the resamples.
    """
    x = _checked(values, level)
    if method not in ("bca", "percentile"):
        raise InputError(f"no bootstrap {method!r}; there are: bca, percentile")
    n, name = len(x), f"bootstrap ({method})"
    estimate = float(statistic(x, axis=-1))
    if n == 1:
        return Interval(estimate, -math.inf, math.inf, 1, level, name)
    if np.ptp(x) == 0:
        return Interval(estimate, estimate, estimate, n, level, name)
    draws = np.asarray(statistic(x[rng.integers(0, n, (resamples, n))], axis=-1), dtype=float)
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        leave_one_out = x[(np.arange(n) + np.arange(1, n)[:, None]) % n].T
        ends = _bca(ends, draws, estimate, np.asarray(statistic(leave_one_out, axis=-1), dtype=float))
    low, high = np.quantile(draws, ends)
    return Interval(estimate, float(low), float(high), n, level, name)


def _bca(ends: Floats, draws: Floats, estimate: float, jackknife: Floats) -> Floats:
    """The quantiles to read instead of `ends` (Efron 1987, equations 2.3 and 6.6)."""
    from scipy.special import ndtr, ndtri

    # Ties count half, so that a statistic with few values is not corrected for a bias that it does not have.
    # The share is kept off 0 and 1, where the correction would be infinite.
    share = np.mean(draws < estimate) + np.mean(draws == estimate) / 2
    z0 = ndtri(np.clip(share, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    u = jackknife.mean() - jackknife
    spread = np.sum(u**2)
    a = np.sum(u**3) / (6 * spread**1.5) if spread > 0 else 0.0
    z = z0 + ndtri(ends)
    return np.asarray(ndtr(z0 + z / (1 - a * z)), dtype=float)


# --- proportions and ranks ----------------------------------------------------------------------------------


def wilson(successes: int, n: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion; `mean` is successes / n. It stays within 0 and 1."""
    _checked_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise InputError(f"{successes} of {n} is no proportion; 0 ≤ successes ≤ n and n ≥ 1 are wanted")
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(p, low, high, n, level, "wilson")


def spearman(x: ArrayLike, y: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Spearman's rank correlation of `x` and `y` (n,), with Bonett and Wright's interval.

    Ties take their average rank. The interval is Fisher's with variance (1 + ρ²/2) / (n − 3); all of [−1, 1]
    where n ≤ 3. Where one side is constant there is no correlation: InputError.
    """
    a, b = _checked(x, level), _checked(y, level)
    if len(a) != len(b):
        raise InputError(f"{len(a)} values cannot be paired with {len(b)}")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise InputError("values that are all the same have no rank correlation")
    rho = float(np.clip(np.corrcoef(ranks(a), ranks(b))[0, 1], -1, 1))
    n = len(a)
    if n <= 3:
        return Interval(rho, -1.0, 1.0, n, level, "spearman")
    if abs(rho) > 1 - 1e-12:  # Fisher's transformation ends here
        return Interval(
            math.copysign(1.0, rho), math.copysign(1.0, rho), math.copysign(1.0, rho), n, level, "spearman"
        )
    from scipy.special import ndtri

    half = float(ndtri((1 + level) / 2)) * math.sqrt((1 + rho * rho / 2) / (n - 3))
    low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    return Interval(rho, low, high, n, level, "spearman")


def ranks(values: ArrayLike) -> Floats:
    """Ranks (n,) from 1, equal values at the average of their ranks."""
    _, place, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=float)


# --- checks -------------------------------------------------------------------------------------------------


def _mean(x: Floats) -> float:
    # The mean of equal values is that value, to the last bit; a sum would round.
    return float(x[0]) if np.ptp(x) == 0 else float(x.mean())


def _checked_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level!r}; a number between 0 and 1 is wanted")


def _checked(values: ArrayLike, level: float) -> Floats:
    _checked_level(level)
    try:
        x = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"numbers are wanted, not {values!r}") from error
    if x.ndim != 1 or len(x) == 0:
        raise InputError(f"a list of at least one number is wanted, not an array of shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError(
            f"{int((~np.isfinite(x)).sum())} of {len(x)} values are not finite: decide first what they mean"
        )
    return x
