"""Whether a pair is a match: a logistic regression on similarities, and the pairs that it learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, UInt8

from lib.core import InputError


@dataclass(frozen=True)
class PairClassifier:
    """P(match | similarities) = σ(bias + weights · similarities / 100).

    weights: (f,), one a feature. bias: the log odds where nothing is similar.
    """

    weights: Float[np.ndarray, " f"]
    bias: float

    @staticmethod
    def fit(
        similarities: UInt8[np.ndarray, "p f"],
        matches: Bool[np.ndarray, " p"],
        *,
        l2: float = 1.0,
        steps: int = 100,
    ) -> PairClassifier:
        """Maximum likelihood with the penalty l2 |weights|² / 2, by Newton's method: scikit-learn's default, where C = 1 / l2.

        Raises InputError where all pairs are of one kind, for l2 ≤ 0 (separable pairs then have no finite solution), and
        where there is no convergence within `steps`.
        """
        if l2 <= 0:
            raise InputError(f"l2 is {l2!r}; a number above 0 is wanted")
        if matches.all() or not matches.any():
            raise InputError(
                f"{int(matches.sum())} matches among {len(matches)} pairs: both kinds are wanted"
            )
        x = np.column_stack([similarities / 100.0, np.ones(len(similarities))])
        y = matches.astype(float)
        penalty = np.append(np.full(x.shape[1] - 1, l2), 0.0)
        theta = np.zeros(x.shape[1])
        value = _loss(theta, x, y, penalty)
        for _ in range(steps):
            p = _sigmoid(x @ theta)
            gradient = x.T @ (p - y) + penalty * theta
            if np.abs(gradient).max() < 1e-7 * len(x):
                return PairClassifier(theta[:-1].copy(), float(theta[-1]))
            hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty + 1e-12)
            step, length = np.linalg.solve(hessian, gradient), 1.0
            while (found := _loss(theta - length * step, x, y, penalty)) > value and length > 1e-6:
                length /= 2
            theta, value = theta - length * step, found
        raise InputError(f"no convergence within {steps} steps of Newton's method")

    def logit(self, similarities: UInt8[np.ndarray, "*pairs f"]) -> Float[np.ndarray, "*pairs"]:
        """The log odds of a match."""
        self._check(similarities.shape[-1])
        return similarities @ (self.weights / 100) + self.bias

    def probability(self, similarities: UInt8[np.ndarray, "*pairs f"]) -> Float[np.ndarray, "*pairs"]:
        """The probability of a match, as far as the sample of negatives allows: more of them lower it."""
        return _sigmoid(self.logit(similarities))

    def _check(self, width: int) -> None:
        if width != len(self.weights):
            raise InputError(f"{width} similarities for a classifier of {len(self.weights)}")


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -500, 500))))


def _loss(theta: np.ndarray, x: np.ndarray, y: np.ndarray, penalty: np.ndarray) -> float:
    z = x @ theta
    return float(np.sum(np.logaddexp(0, z) - y * z) + penalty @ theta**2 / 2)


def training_pairs(
    matches: Integer[np.ndarray, "m 2"],
    n_right: int,
    k: int,
    rng: np.random.Generator,
    *,
    known: Integer[np.ndarray, "t 2"] | None = None,
    pool: Integer[np.ndarray, " r"] | None = None,
) -> tuple[Int64[np.ndarray, "p 2"], Bool[np.ndarray, " p"]]:
    """The labelled matches, and for each of them `k` right profiles drawn at random that are none.

    matches: positions (left, right). known: all pairs that are known to be matches, never drawn as negatives (default:
    `matches`; an empty array lets true matches slip in). pool: right profiles to draw from (default: all `n_right`).
    Returns positions and which of them are matches, the matches first. Raises InputError for k < 1, no matches, and where
    a pool has nothing to draw.
    """
    if k < 1 or not len(matches):
        raise InputError(f"{len(matches)} matches and k = {k}; at least one of each is wanted")
    known = matches if known is None else known
    pool = np.arange(n_right) if pool is None else np.asarray(pool)
    left = np.repeat(matches[:, 0], k)
    right = pool[rng.integers(len(pool), size=len(left))]
    forbidden = known[:, 0].astype(np.int64) * n_right + known[:, 1]
    for _ in range(1000):
        bad = np.isin(left * n_right + right, forbidden)
        if not bad.any():
            break
        right[bad] = pool[rng.integers(len(pool), size=int(bad.sum()))]
    else:
        raise InputError(f"no negatives among {len(pool)} profiles: all of them are matches")
    pairs = np.concatenate([matches, np.column_stack([left, right])]).astype(np.int64)
    return pairs, np.arange(len(pairs)) < len(matches)
