"""What hyperplane hashing does on average, exactly: agreement of a bit, and recall of probing all buckets within a radius.

    agreement(np.pi / 3)                                   # 2/3: a random plane leaves a 60° pair together
    probing_recall(theta, radius=2, bits=16, tables=4)     # of each true neighbour, by its angle
    agreement_2d(0.3, np.pi / 3, shift=0.5)                # the original post's planes: it depends on where the pair lies

Sources: Charikar (2002), Similarity estimation techniques from rounding algorithms, equation 3.1 (for independent planes);
Goemans and Williamson (1995), lemma 3.2.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import bdtr, ndtr


def agreement(theta: Float[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"] | float:
    """The probability 1 − θ/π that a random plane leaves two vectors at the angle θ (radians) on one side."""
    return 1 - theta / math.pi


def probing_recall(
    theta: Float[np.ndarray, " n"], radius: int, bits: int, tables: int = 1
) -> Float[np.ndarray, " n"]:
    """The probability that a point at each angle from the query is found within a Hamming radius in any of L tables.

    1 − (1 − F(r; b, θ/π))^L, F the binomial distribution function: exact for independent planes (kind `normal`, no
    centring), a mean over plane sets.
    """
    inside = bdtr(radius, bits, theta / math.pi) if radius < bits else np.ones_like(theta)
    return 1 - (1 - inside) ** tables


def agreement_2d(start: float, theta: float, shift: float = 0.0) -> float:
    """In the plane: the probability that a normal N(−shift·(1, 1), I) leaves the directions `start` and `start` + θ together.

    Angles in radians. With `shift` 0 it is 1 − θ/π for every `start`. The direction φ of the normal has the density of a
    projected normal, (e^{−m²/2} / 2π) (1 + t Φ(t) / ϕ(t)) with t = m cos(φ − φ₀); the pair is parted where φ lies within
    θ of being perpendicular to it, on either side.
    """
    mean, length = math.atan2(-1.0, -1.0), shift * math.sqrt(2)
    parted = 0.0
    nodes, weights = np.polynomial.legendre.leggauss(64)
    for side in (math.pi / 2, 3 * math.pi / 2):
        # v · x changes sign between the two directions where φ passes from start + side to start + θ + side
        phi = start + side + theta * (nodes + 1) / 2
        t = length * np.cos(phi - mean)
        density = np.exp(-(length**2) / 2) / (2 * math.pi)
        density = density * (1 + t * ndtr(t) * math.sqrt(2 * math.pi) * np.exp(t**2 / 2))
        parted += float(np.sum(weights * density)) * theta / 2
    return 1 - parted
