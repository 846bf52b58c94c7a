"""Adam for training in bfloat16 on a CPU: weights stay float32, and one pass over memory makes the update and what follows.

    optimizer = MixedAdam([{"params": weights, "max_norm": 2.0}, {"params": biases}], lr=1e-3)
    narrow = optimizer.narrow(weight)       # bfloat16, a leaf: its gradient is the weight's
    loss_of(narrow).backward()
    optimizer.step()                        # weight and narrow have moved

With batches of a hundred images a perceptron's step takes as long in moving weights as in its products. A gradient that
stays in bfloat16, max-norm while a row is in the nearest cache, and the next step's bfloat16 weights written on the way
out leave one reading and one writing.

Source: Kingma and Ba (2015), arXiv 1412.6980, algorithm 1; Micikevicius et al. (2018), arXiv 1710.03740, section 3.1
(a master copy of the weights); max-norm as in Srivastava et al. (2014), section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import BFloat16, Float
from numba import njit
from torch import Tensor

f32, u16, u32 = np.float32, np.uint16, np.uint32


@torch.no_grad()
def limit_norms_(weight: Float[Tensor, "*stack n_out n_in"], limit: int | float) -> None:
    """Max-norm, in place, after an update: incoming weights of a unit with a norm above `limit` are scaled back to it.

    Shorter rows, rows of zeros among them, stay as they are to the bit. Raises ValueError for a limit that is not positive.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}; a positive number is wanted")
    norms = torch.linalg.vector_norm(weight, dim=-1, keepdim=True)
    # 1 leaves a row as it is, also one of zeros, whose quotient is infinite
    weight.mul_((limit / norms).clamp(max=1))


class MixedAdam(torch.optim.Adam):
    """torch's Adam, with a bfloat16 copy of any float32 weight that is asked for one, and max-norm.

    max_norm: the longest incoming weight vector of a unit, (…, n_out, n_in) by rows, after each update; 0 for no limit; may
    be given by group. A weight whose copy has a gradient is updated by that, others by their own. Elsewhere than on a CPU,
    and for other weights, the same is done by torch's steps one after the other. Raises ValueError for a negative max_norm.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_norm: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, fused=True)
        self._copies: dict[Tensor, tuple[int, Tensor]] = {}
        for group in self.param_groups:
            group.setdefault("max_norm", max_norm)
            if not group["max_norm"] >= 0:
                raise ValueError(
                    f"max_norm is {group['max_norm']}; a positive number, or 0 for no limit, is wanted"
                )

    def narrow(self, weight: Float[Tensor, "*shape"]) -> BFloat16[Tensor, "*shape"]:
        """The weight in bfloat16, as it is now: a leaf of its own, the same one until someone else changes the weight."""
        version, copy = self._copies.get(weight, (-1, weight))
        if version != weight._version:
            copy = weight.detach().to(torch.bfloat16).requires_grad_()
            self._copies[weight] = weight._version, copy
        return copy

    def forget(self) -> None:
        """The weights' data were exchanged: copies are made anew."""
        self._copies.clear()

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for _, copy in self._copies.values():
            copy.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; the closure, where there is one, is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        in_one_pass = []
        for group in self.param_groups:
            for weight in group["params"]:
                _, copy = self._copies.get(weight, (0, weight))
                if copy is weight or copy.grad is None:
                    continue
                together = weight.is_contiguous() and copy.grad.is_contiguous()
                if together and weight.is_cpu and weight.dtype is torch.float32:
                    in_one_pass.append((group, weight, copy))
                else:
                    weight.grad = torch.empty_like(weight).copy_(copy.grad)
        super().step()
        for group in self.param_groups:
            for weight in group["params"]:
                if group["max_norm"] and weight.grad is not None:
                    limit_norms_(weight, group["max_norm"])
        for group, weight, copy in in_one_pass:
            self._one_pass(group, weight, copy)
        return loss

    def _one_pass(self, group: dict[str, Any], weight: Tensor, copy: Tensor) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        steps, (first, second) = state["step"].item(), group["betas"]
        rows = (-1, weight.shape[-1]) if weight.ndim else (1, 1)
        _update(
            *(one.view(rows).numpy() for one in (weight.detach(), state["exp_avg"], state["exp_avg_sq"])),
            *(one.detach().view(torch.uint16).view(rows).numpy() for one in (copy.grad, copy)),  # type: ignore[union-attr]
            f32(first),
            f32(second),
            f32(float(group["lr"]) / (1 - first**steps)),
            f32((1 - second**steps) ** -0.5),
            f32(group["eps"]),
            f32(group["max_norm"]),
        )


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _update(weight, mean, square, gradient, copy, first, second, rate, debias, eps, limit):
    """Matrices by rows, in place; bfloat16 as words of 16 bits. rate: with the mean's correction of bias; debias: of √square."""
    n = weight.shape[1]
    wide = np.empty(n, u32)
    g = wide.view(f32)
    for row in range(weight.shape[0]):
        w, m, v = weight[row], mean[row], square[row]
        for i in range(n):
            wide[i] = u32(gradient[row, i]) << u32(16)
        total = f32(0)
        for i in range(n):
            m[i] = first * m[i] + (f32(1) - first) * g[i]
            v[i] = second * v[i] + (f32(1) - second) * g[i] * g[i]
            w[i] -= rate * m[i] / (np.sqrt(v[i]) * debias + eps)
            total += w[i] * w[i]
        if limit > 0 and total > limit * limit:
            factor = limit / np.sqrt(total)
            for i in range(n):
                w[i] *= factor
        words = w.view(u32)
        for i in range(n):  # to the nearest, ties to even
            copy[row, i] = u16((words[i] + u32(0x7FFF) + ((words[i] >> u32(16)) & u32(1))) >> u32(16))
