"""Adam without an epsilon, a warm-up, and the exponential average of the weights that is used to predict.

Sources: Everett et al. (2024), Scaling Exponents Across Parameterizations and Optimizers, arXiv 2407.05872 (Adam-atan2);
Loshchilov and Hutter (2019), arXiv 1711.05101 (decoupled weight decay).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class AdamATan2(torch.optim.Optimizer):
    """AdamW whose step is scale · atan2(m̂, √v̂): bounded, without an epsilon, and the same whatever unit the loss has.

    lr, betas, weight_decay: as in AdamW. scale: 4/π makes a step of m̂ = √v̂ as long as Adam's.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        scale: float = 4 / math.pi,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"lr is {lr}, betas {betas}, weight_decay {weight_decay}; none may be negative, betas are below 1"
            )
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "scale": scale})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {
                        "step": 0,
                        "mean": torch.zeros_like(weight),
                        "square": torch.zeros_like(weight),
                    }
                self.state[weight]["step"] += 1
            gradients = [weight.grad for weight in weights]
            means = [self.state[weight]["mean"] for weight in weights]
            squares = [self.state[weight]["square"] for weight in weights]
            first, second = group["betas"]
            torch._foreach_lerp_(means, gradients, 1 - first)
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for weight, mean, square in zip(weights, means, squares, strict=True):
                number = self.state[weight]["step"]
                m, v = mean / (1 - first**number), square / (1 - second**number)
                weight.add_(torch.atan2(m, v.sqrt()), alpha=-group["lr"] * group["scale"])
        return loss


def warm_up(optimizer: torch.optim.Optimizer, lr: float, step: int, steps: int) -> None:
    """Set the learning rate for the step after `step` others: it rises in a straight line to `lr` over `steps` steps."""
    for group in optimizer.param_groups:
        group["lr"] = lr * min(1.0, (step + 1) / max(1, steps))


class Average:
    """The exponential average of a model's weights: average ← decay · average + (1 − decay) · weights.

    It begins with the weights as they are. All tensors are renewed at once.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; a number from 0 to below 1 is wanted")
        self.decay = decay
        self.weights = [parameter.detach() for parameter in model.parameters()]
        self.names = [name for name, _ in model.named_parameters()]
        self.average = [weight.clone() for weight in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are now into the average."""
        torch._foreach_lerp_(self.average, self.weights, 1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return dict(zip(self.names, self.average, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put averaged weights back."""
        for name, tensor in zip(self.names, self.average, strict=True):
            tensor.copy_(state[name])

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Give the averaged weights to another model of the same form."""
        for parameter, tensor in zip(model.parameters(), self.average, strict=True):
            parameter.copy_(tensor)
