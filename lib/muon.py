"""Muon: momentum whose update of each matrix has all its singular values near 1.

    kernels, others = [...], [...]
    optimizer = Muon([{"params": kernels, "orthogonal": True, "lr": 0.24, "momentum": 0.6}, {"params": others}], lr=0.05)

Groups with `orthogonal` are updated by Muon, those without by SGD; both with Nesterov's momentum. A kernel counts as the
matrix of its outputs. Its norm means nothing where a batch norm stands behind it, so it is kept at that of an
orthogonal one instead of decaying.

Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon;
the coefficients of the iteration are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""p(s) = a s + b s³ + c s⁵, which brings singular values from (0, 1] to about 0.7 to 1.2 in a few rounds."""


def orthogonalised(
    matrix: Float[Tensor, "rows columns"], *, rounds: int = 3, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "rows columns"]:
    """U V' of the matrix U S V', roughly: its singular vectors with singular values near 1, by Newton and Schulz."""
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype)
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        # X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal`, SGD with weight decay for the others.

    lr: of Muon, the spectral norm of a step; of SGD, the rate. weight_decay: of SGD alone.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.85,
        weight_decay: float = 0.0,
        orthogonal: bool = False,
        rounds: int = 3,
    ) -> None:
        if lr < 0 or not 0 <= momentum < 1 or weight_decay < 0:
            raise ValueError(
                f"lr is {lr}, momentum {momentum}, weight_decay {weight_decay}; none may be negative, momentum less than 1"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "orthogonal": orthogonal,
            "rounds": rounds,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if not group["orthogonal"] and group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                # m ← μ m + g,  u = g + μ m
                buffer = state["momentum_buffer"].mul_(momentum).add_(gradient)
                update = gradient.add(buffer, alpha=momentum)
                if group["orthogonal"]:
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                    update = orthogonalised(update.flatten(1), rounds=group["rounds"]).view(update.shape)
                parameter.sub_(update, alpha=lr)
        return loss
