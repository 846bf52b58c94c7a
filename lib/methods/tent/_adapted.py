"""What every method is from outside: a callable that answers, learns, and can be put back."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class NotFinite(ValueError):
    """The model answered with NaN or infinity; nothing was learned from that batch."""


class Adapted:
    """A copy of a model that adapts to what it is asked about.

    model: the copy; on a CPU its convolutions are kept with channels last, which is faster and rounds differently.
    episodic: whether every call begins by `reset`. Subclasses say in `_answer` what a call does, and in `_memory` and
    `_remember` what else than weights and optimiser they carry from batch to batch.
    """

    def __init__(self, model: nn.Module, *, episodic: bool = False) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model is a {type(model).__name__}; a torch.nn.Module is wanted")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.episodic = episodic
        self.optimizer: torch.optim.Optimizer | None = None
        kinds = {type(module) for module in model.modules()}
        on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
        # torch 2.13 crashes in the backward pass of a GroupNorm with channels last and a frozen layer below
        self._channels_last = on_cpu and nn.Conv2d in kinds and nn.GroupNorm not in kinds
        if self._channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _keep_start(self) -> None:
        """Remember weights, optimiser and memory as they are now: where `reset` leads."""
        self._start = copy.deepcopy(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "memory": self._memory(),
        }

    def _memory(self) -> Any:
        return None

    def _remember(self, memory: Any) -> None:
        pass

    def reset(self) -> None:
        """Put weights, optimiser and memory back to the start, exactly."""
        self.model.load_state_dict(self._start["model"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(copy.deepcopy(self._start["optimizer"]))
            self.optimizer.zero_grad()
        self._remember(copy.deepcopy(self._start["memory"]))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of a batch, and what the method learns from it. Raises ValueError for an empty batch, NotFinite for
        answers that are not finite."""
        self._check(inputs)
        if self.episodic:
            self.reset()
        return self._answer(inputs).detach()

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Logits with the weights as they are; nothing is learned."""
        self._check(inputs)
        return self._logits(inputs)

    def _answer(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return self._logits(inputs)

    def _logits(self, inputs: Tensor) -> Tensor:
        if self._channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.model(inputs)
        if not isinstance(logits, Tensor) or logits.ndim < 2:
            raise ValueError(f"the model answers {_described(logits)}; logits of batch × classes are wanted")
        if not torch.isfinite(logits.detach()).all():
            rows = (~torch.isfinite(logits.detach())).flatten(1).any(1).sum().item()
            raise NotFinite(f"the logits of {rows} of {len(logits)} examples are not finite")
        return logits

    @staticmethod
    def _check(inputs: Tensor) -> None:
        if not isinstance(inputs, Tensor) or inputs.ndim < 2 or not len(inputs):
            raise ValueError(f"the batch is {_described(inputs)}; a tensor of at least one example is wanted")


class Source(Adapted):
    """No adaptation: the model in evaluation mode, with its running statistics."""

    def __init__(self, model: nn.Module, *, episodic: bool = False) -> None:
        super().__init__(model, episodic=episodic)
        self._keep_start()


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of {' × '.join(map(str, value.shape)) or 'no dimension'}"
    return f"a {type(value).__name__}"
