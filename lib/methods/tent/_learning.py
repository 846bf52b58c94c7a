"""Norm, and the methods that take gradient steps on what the model itself predicts: TENT, pseudo-labels, EATA, SAR."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from lib.methods.tent._adapted import Adapted
from lib.methods.tent._entropy import entropy
from lib.methods.tent._layers import chosen_parameters, use_batch_statistics

Optimizer = str | Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]] = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=0.0),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
}
"""By name: Adam as in the reference implementation (β 0.9 and 0.999, no decay), AdamW as torch has it, SGD with momentum."""

RELIABLE = 0.4
"""EATA's and SAR's margin: entropies below this share of log n_classes are learned from."""


class Norm(Adapted):
    """Test-time normalisation: BatchNorm by the statistics of the batch; no weight changes.

    prior: N, how many examples the source's statistics count for; 0 is the batch alone, infinity the source. Source:
    Schneider et al. (2020), arXiv 2006.16971; Nado et al. (2020), arXiv 2006.10963.
    """

    def __init__(self, model: nn.Module, *, prior: float = 0.0, episodic: bool = False) -> None:
        super().__init__(model, episodic=episodic)
        if not any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            raise ValueError(
                f"{type(model).__name__} has no BatchNorm, whose statistics 'norm' would take from the batch"
            )
        use_batch_statistics(self.model, prior)
        self._keep_start()


class Learning(Adapted):
    """A method that takes gradient steps on a loss of its own answers.

    lr: learning rate. steps: gradient steps a batch; the answer is that of the last step's forward pass, before its
    update, as in the reference. parameters: "affine", "all" or "last". optimizer: a name or a function from parameters
    and rate to an optimiser. prior: see `Norm`. Raises ValueError for values that make no sense and for a model without
    what is to adapt.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 1e-3,
        steps: int = 1,
        parameters: str = "affine",
        optimizer: Optimizer = "adam",
        prior: float = 0.0,
        episodic: bool = False,
    ) -> None:
        super().__init__(model, episodic=episodic)
        if not (lr >= 0 and math.isfinite(lr)):
            raise ValueError(f"lr is {lr}; a rate of 0 or more is wanted")
        if steps < 1:
            raise ValueError(f"steps is {steps}; 1 or more are wanted")
        use_batch_statistics(self.model, prior)
        self.parameters = chosen_parameters(self.model, parameters)
        self.steps = steps
        self.optimizer = self._optimizer(optimizer, lr)
        self._keep_start()

    def _optimizer(self, optimizer: Optimizer, lr: float) -> torch.optim.Optimizer:
        if isinstance(optimizer, str):
            if optimizer not in OPTIMIZERS:
                raise ValueError(
                    f"optimizer is {optimizer!r}; one of {', '.join(OPTIMIZERS)}, or a function, is wanted"
                )
            return OPTIMIZERS[optimizer](self.parameters.values(), lr)
        return optimizer(self.parameters.values(), lr)

    def _answer(self, inputs: Tensor) -> Tensor:
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = self._logits(inputs)
                self._step(inputs, logits)
        return logits

    def _step(self, inputs: Tensor, logits: Tensor) -> None:
        loss = self._loss(logits)
        if loss is not None:
            loss.backward()
            self._update()

    def _update(self) -> None:
        assert self.optimizer is not None  # made in __init__
        self.optimizer.step()
        self.optimizer.zero_grad()

    @abstractmethod
    def _loss(self, logits: Tensor) -> Tensor | None:
        """What a step lowers; None where there is nothing to learn from the batch."""


class Tent(Learning):
    """Entropy minimisation: L = mean H(ŷ), by gradient steps on γ and β (TENT, equation 1)."""

    def _loss(self, logits: Tensor) -> Tensor:
        return entropy(logits).mean()


class PseudoLabels(Learning):
    """Cross-entropy with the model's own answers as labels, where their probability is at least `threshold`.

    Source: Lee (2013), Pseudo-Label; as a baseline in TENT, section 4.
    """

    def __init__(self, model: nn.Module, *, threshold: float = 0.0, **options: Any) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold is {threshold}; 0 up to 1 is wanted")
        self.threshold = threshold
        super().__init__(model, **options)

    def _loss(self, logits: Tensor) -> Tensor | None:
        probability, label = logits.detach().softmax(1).max(1)
        sure = probability >= self.threshold
        if not sure.any():
            return None
        return functional.cross_entropy(logits, label, reduction="none")[sure].mean()


class Eata(Learning):
    """TENT on reliable and non-redundant examples, weighted by their certainty; with `anchor`, held near the source.

    margin: entropies below margin × log n_classes are reliable (E₀, equation 3). redundancy: an example whose
    probabilities have at least this cosine with the running mean of those learned from is left out (ε, equation 5).
    anchor: batch of source-like images for the Fisher information, or None (the method is then ETA). fisher: β, the
    weight of the penalty. Source: Niu et al. (2022), Efficient Test-Time Model Adaptation without Forgetting, arXiv
    2204.02610; ε for CIFAR-10 from their implementation.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        margin: float = RELIABLE,
        redundancy: float = 0.4,
        anchor: Tensor | None = None,
        fisher: float = 1.0,
        **options: Any,
    ) -> None:
        self.margin, self.redundancy, self.fisher = margin, redundancy, fisher
        self.mean: Tensor | None = None
        self.importance: dict[str, Tensor] = {}
        super().__init__(model, **options)
        if anchor is not None:
            self._check(anchor)
            self.importance = self._fisher(anchor)
            self._keep_start()
        self.origin = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def _fisher(self, images: Tensor, batch_size: int = 64) -> dict[str, Tensor]:
        """F_i = mean over batches of (∂ cross-entropy with the model's own labels / ∂θ_i)² (equation 9)."""
        batches = images.split(batch_size)
        found = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        for batch in batches:
            with torch.enable_grad():
                logits = self._logits(batch)
                functional.cross_entropy(logits, logits.detach().argmax(1)).backward()
            for name, parameter in self.parameters.items():
                if parameter.grad is not None:
                    found[name] += parameter.grad**2 / len(batches)
                parameter.grad = None
        return found

    def _memory(self) -> Any:
        return self.mean

    def _remember(self, memory: Any) -> None:
        self.mean = memory

    def _loss(self, logits: Tensor) -> Tensor | None:
        uncertainty = entropy(logits)
        bound = self.margin * math.log(logits.shape[1])
        probabilities = logits.detach().softmax(1)
        kept = uncertainty.detach() < bound
        if self.mean is not None:
            cosine = functional.cosine_similarity(self.mean.expand_as(probabilities), probabilities, dim=1)
            kept = kept & (cosine.abs() < self.redundancy)
        if not kept.any():
            return None
        fresh = probabilities[kept].mean(0)
        self.mean = fresh if self.mean is None else 0.9 * self.mean + 0.1 * fresh
        # S(x) = exp(E₀ − H) for the examples that are kept (equation 3)
        loss = (torch.exp(bound - uncertainty.detach()) * uncertainty)[kept].mean()
        for name, importance in self.importance.items():
            loss = loss + self.fisher * (importance * (self.parameters[name] - self.origin[name]) ** 2).sum()
        return loss


class Sar(Learning):
    """TENT on reliable examples, with steps towards flat minima, and a way back when the model collapses.

    margin: as in `Eata`. radius: ρ, how far the weights move to where the entropy is worst (equation 4). floor: when
    the running mean of the entropy falls below it, weights and optimiser are put back (section 3.2). Source: Niu et al.
    (2023), Towards Stable Test-Time Adaptation in Dynamic Wild World, arXiv 2302.12400. Unlike theirs, all of the
    normalisation layers adapt, the deepest too.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        margin: float = RELIABLE,
        radius: float = 0.05,
        floor: float = 0.2,
        **options: Any,
    ) -> None:
        self.margin, self.radius, self.floor = margin, radius, floor
        self.running: float | None = None
        super().__init__(model, **options)

    def _memory(self) -> Any:
        return self.running

    def _remember(self, memory: Any) -> None:
        self.running = memory

    def _loss(self, logits: Tensor) -> Tensor | None:
        uncertainty = entropy(logits)
        kept = uncertainty.detach() < self.margin * math.log(logits.shape[1])
        return uncertainty[kept].mean() if kept.any() else None

    def _step(self, inputs: Tensor, logits: Tensor) -> None:
        loss = self._loss(logits)
        if loss is None:
            return
        loss.backward()
        kept = entropy(logits.detach()) < self.margin * math.log(logits.shape[1])
        moved = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        before = [parameter.detach().clone() for parameter in moved]
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))
        with torch.no_grad():
            for parameter, gradient in zip(moved, gradients, strict=True):
                parameter.add_(self.radius * gradient / (norm + 1e-12))
        self._zero()
        # the reliable ones among the examples that were reliable before the climb (equation 5)
        second = self._loss(self._logits(inputs)[kept])
        if second is not None:
            second.backward()
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)
        if second is None:
            return
        self._update()
        found = float(second.detach())
        self.running = found if self.running is None else 0.9 * self.running + 0.1 * found
        if self.running < self.floor:
            self.reset()

    def _zero(self) -> None:
        assert self.optimizer is not None  # made in __init__
        self.optimizer.zero_grad()
