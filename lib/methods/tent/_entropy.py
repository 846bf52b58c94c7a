"""Shannon entropy of the classes that logits predict, and its gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def entropy(logits: Float[Tensor, "batch n_classes *places"]) -> Float[Tensor, " batch *places"]:
    """H = −Σ_c p_c log p_c with p = softmax(z), in nats: from 0 to log n_classes (TENT, section 3.1)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def entropy_gradient(
    logits: Float[Tensor, "batch n_classes *places"],
) -> Float[Tensor, "batch n_classes *places"]:
    """∂H/∂z_c = −p_c (log p_c + H): downhill, the likely classes rise and the others fall."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    return -p * (log_p - (p * log_p).sum(1, keepdim=True))
