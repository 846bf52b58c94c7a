"""LAME: the weights stay, and the answers of a batch are made to agree with those of their neighbours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.methods.tent._adapted import Adapted
from lib.methods.tent._layers import last_layer


class Lame(Adapted):
    """Laplacian adjusted maximum-likelihood estimation of a batch's classes.

    neighbours: k of the nearest neighbours, by the inputs of the last linear layer. iterations: at most. The model is
    that of `source`. Good where labels come in runs; elsewhere it can only follow the source's mistakes. Source:
    Boudiaf et al. (2022), Parameter-free Online Test-time Adaptation, arXiv 2201.05718, equations 4 to 6.
    """

    def __init__(
        self, model: nn.Module, *, neighbours: int = 5, iterations: int = 100, episodic: bool = False
    ) -> None:
        super().__init__(model, episodic=episodic)
        if neighbours < 1 or iterations < 1:
            raise ValueError(f"neighbours is {neighbours} and iterations {iterations}; 1 or more are wanted")
        self.neighbours, self.iterations = neighbours, iterations
        last_layer(self.model)
        self._keep_start()

    def _logits(self, inputs: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = last_layer(self.model).register_forward_pre_hook(
            lambda _, given: seen.append(given[0].detach())
        )
        try:
            logits = super()._logits(inputs)
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].ndim != 2 or logits.ndim != 2:
            raise ValueError("LAME wants one feature vector an example, at the last linear layer")
        return assigned(logits.log_softmax(1), affinity(seen[0], self.neighbours), self.iterations).log()


def affinity(features: Float[Tensor, "batch dim"], neighbours: int) -> Float[Tensor, "batch batch"]:
    """W_ij = 1 where j is among the k nearest of i by Euclidean distance between unit vectors, i itself left out."""
    unit = nn.functional.normalize(features, dim=1)
    distance = torch.cdist(unit, unit)
    distance.fill_diagonal_(torch.inf)
    k = min(neighbours, len(features) - 1)
    weights = torch.zeros_like(distance)
    return weights.scatter_(1, distance.topk(k, largest=False).indices, 1.0)


def assigned(
    log_p: Float[Tensor, "batch n_classes"], weights: Float[Tensor, "batch batch"], iterations: int
) -> Float[Tensor, "batch n_classes"]:
    """Assignments Z by the concave-convex procedure: Z ← softmax(log p + W Z) until the energy stays (equation 6)."""
    z = log_p.softmax(1)
    energy = torch.inf
    for _ in range(iterations):
        pull = weights @ z
        z = (log_p + pull).softmax(1)
        # Σ z (log z − log p) − z · (W z)
        found = float((z * (z.clamp(min=1e-20).log() - log_p - weights @ z)).sum())
        if abs(energy - found) <= 1e-8 * abs(found):
            break
        energy = found
    return z.clamp(min=1e-20)
