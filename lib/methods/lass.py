"""Critical samples: is there another answer within a small box around an example? Found by Langevin adversarial search.

    found = lass(network, inputs, r=0.3 / 255, generator=generator)      # any classifier, a whole batch at once
    found.critical                                                       # (n,): an answer changed inside the box
    found.adversarial[found.critical]                                    # inputs that do it
    critical_sample_ratio(network, inputs, r=0.3 / 255, generator=generator)

Steps and radius are in the units of the inputs: 0.3 / 255 is the paper's radius where pixels were scaled to [0, 1], and must
be divided by the standard deviation where they were standardised.

Source: Arpit et al. (2017), A Closer Look at Memorization in Deep Networks, arXiv 1706.05394, section 4.2, Algorithm 1 and
Definition 1 of the appendix (Langevin Adversarial Sample Search, critical sample ratio).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lib.methods.modes import evaluating

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Search:
    """What a search found for each of n examples.

    critical: whether another answer was found in the box. adversarial: the input that has it, or the example itself where
    none was found. iterations: steps made until then, or all of them. before, after: the answer to the example and to
    `adversarial`.
    """

    critical: Bool[Tensor, " n"]
    adversarial: Float[Tensor, "n ..."]
    iterations: Int64[Tensor, " n"]
    before: Int64[Tensor, " n"]
    after: Int64[Tensor, " n"]

    @property
    def ratio(self) -> float:
        """The critical sample ratio: the share of examples that are critical."""
        return self.critical.double().mean().item()


def lass(
    network: Network,
    inputs: Float[Tensor, "n ..."],
    *,
    r: int | float = 0.3 / 255,
    alpha: int | float = 0.25 / 255,
    beta: int | float = 0.2 / 255,
    max_iterations: int = 100,
    generator: torch.Generator,
) -> Search:
    """Langevin adversarial sample search on a batch, in evaluation mode; examples that are done leave the batch.

    r: half the side of the box (‖x̂ − x‖∞ ≤ r). alpha: size of the signed gradient step. beta: scale of the Gaussian noise,
    which is drawn for each element. generator: of the noise; on the CPU or on the inputs' device.

    The gradient is that of log Σ_{j≠k} exp f_j − f_k, with k the answer to the example: it has the signs of the gradient of
    the cross-entropy with k, which it equals up to a positive factor, and does not vanish where the network is certain.

    The network's parameters get no gradient. Raises ValueError for an empty batch, settings out of range, or logits
    that are not finite (n, n_classes).
    """
    _check(inputs, r, alpha, beta, max_iterations)
    n = len(inputs)
    with evaluating(network):
        before = _answers(network, inputs)
        after, adversarial = before.clone(), inputs.detach().clone()
        critical = torch.zeros(n, dtype=torch.bool, device=inputs.device)
        iterations = torch.full((n,), max_iterations, device=inputs.device)
        active = torch.arange(n, device=inputs.device)
        moving = inputs.detach().clone()  # x̃ of the examples still active
        for iteration in range(1, max_iterations + 1):
            signs = _ascent(network, moving, before[active]).sign()
            # Δ = α sign(∂f / ∂x̃) + β η, then x̃ ← x̃ + Δ, clipped to the box around x
            moving = moving.add_(signs, alpha=alpha)
            if beta:
                noise = torch.randn(inputs.shape, generator=generator, device=generator.device)
                moving = moving.add_(noise.to(inputs)[active], alpha=beta)
            centre = inputs[active]
            moving = torch.minimum(torch.maximum(moving, centre - r), centre + r)
            now = _answers(network, moving)
            changed = now != before[active]
            if changed.any():
                done = active[changed]
                critical[done], after[done] = True, now[changed]
                adversarial[done], iterations[done] = moving[changed], iteration
                active, moving = active[~changed], moving[~changed]
                if not len(active):
                    break
    return Search(critical, adversarial, iterations, before, after)


def critical_sample_ratio(
    network: Network,
    inputs: Float[Tensor, "n ..."],
    *,
    r: int | float = 0.3 / 255,
    alpha: int | float = 0.25 / 255,
    beta: int | float = 0.2 / 255,
    max_iterations: int = 100,
    batch_size: int = 500,
    generator: torch.Generator,
) -> float:
    """The share of examples with another answer within the box of half-side r around them (CSR); arguments as for `lass`."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; 1 or more is wanted")
    _check(inputs, r, alpha, beta, max_iterations)
    critical = [
        lass(
            network, part, r=r, alpha=alpha, beta=beta, max_iterations=max_iterations, generator=generator
        ).critical
        for part in inputs.split(batch_size)
    ]
    return torch.cat(critical).double().mean().item()


@torch.no_grad()
def _answers(network: Network, inputs: Tensor) -> Tensor:
    logits = network(inputs)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"the network answers {tuple(logits.shape)}; (n, n_classes), 2 or more classes, is wanted"
        )
    if not torch.isfinite(logits).all():
        raise ValueError("the network's logits are not finite")
    return logits.argmax(1)


@torch.enable_grad()
def _ascent(network: Network, inputs: Tensor, answers: Tensor) -> Tensor:
    """∂/∂x of log Σ_{j≠k} exp f_j − f_k, for each example of the batch."""
    leaf = inputs.detach().requires_grad_()
    logits = network(leaf).float()
    if not logits.requires_grad:  # answers that do not depend on the inputs
        return torch.zeros_like(leaf)
    own = answers[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(1)
    return torch.autograd.grad((others - logits.gather(1, own)[:, 0]).sum(), leaf)[0]


def _check(
    inputs: Tensor, r: int | float, alpha: int | float, beta: int | float, max_iterations: int
) -> None:
    if not len(inputs):
        raise ValueError("inputs is empty; one example or more is wanted")
    if not (r >= 0 and alpha >= 0 and beta >= 0 and max_iterations >= 1):
        raise ValueError(
            f"r, alpha, beta and max_iterations are {r}, {alpha}, {beta} and {max_iterations}; lengths of 0 or more "
            "and 1 iteration or more are wanted"
        )
