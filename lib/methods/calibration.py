"""Calibration of predicted probabilities: whether answers given with 80 % confidence are right 80 % of the time.

    calibration_error(confidence, right)                 # the expected calibration error, between 0 and 1
    bins = reliability(confidence, right, n_bins=15)     # counts, mean confidence and accuracy by bin, for a diagram

Source: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of Modern Neural Networks, arXiv 1706.04599, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Reliability:
    """What is in each bin of confidence, the least confident first; NaN means where a bin is empty."""

    count: Float[Tensor, " bins"]
    confidence: Float[Tensor, " bins"]
    accuracy: Float[Tensor, " bins"]


def reliability(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], n_bins: int = 15) -> Reliability:
    """Bins of equal width; bin m has confidences in ((m − 1) / n_bins, m / n_bins].

    Raises ValueError for no examples, for fewer than one bin, and for confidences outside 0 to 1.
    """
    if n_bins < 1 or not len(confidence):
        raise ValueError(f"{len(confidence)} examples in {n_bins} bins; 1 or more of both are wanted")
    if not ((confidence >= 0) & (confidence <= 1.0001)).all():
        raise ValueError("a confidence is outside 0 to 1")
    place = (confidence.double() * n_bins).ceil().long().sub(1).clamp(0, n_bins - 1)
    zeros = torch.zeros(n_bins, dtype=torch.float64, device=confidence.device)
    count = zeros.index_add(0, place, torch.ones_like(confidence, dtype=torch.float64))
    sums = zeros.index_add(0, place, confidence.double())
    hits = zeros.index_add(0, place, right.double())
    return Reliability(count, sums / count, hits / count)


def calibration_error(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], n_bins: int = 15) -> float:
    """ECE = Σ_m |B_m| / n · |accuracy(B_m) − confidence(B_m)|."""
    found = reliability(confidence, right, n_bins)
    gap = (found.accuracy - found.confidence).abs().nan_to_num(0.0)
    return float((found.count * gap).sum() / found.count.sum())
