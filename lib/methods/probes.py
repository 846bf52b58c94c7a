"""Looking into a network without touching it: activations and gradients by layer, and the loss along the gradient.

    with activations(network, layers(network, nn.Conv2d)) as seen:
        network(images)
    seen["layer3.0.conv1"]                                  # Moments: mean and variance of each channel
    grads = weight_gradients(network, images, labels)       # {"layer3.0.conv1.weight": tensor, …}
    losses = losses_along_gradient(network, images, labels, step_sizes)

Hooks are gone when the block ends, whatever ended it. Nothing here changes parameters, their `.grad`, buffers (a batch
norm's running statistics among them), modes or generators: training goes on as if nobody had looked, to the bit. (A network
with dropout draws from torch's generator in every forward pass; `weight_gradients` and `losses_along_gradient` put it back.)

Source: Bjorck, Gomes, Selman and Weinberger (2018), Understanding Batch Normalization, arXiv 1806.02375, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
State = dict[str, Tensor]


# --- activations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance of each channel, over batch and places."""

    mean: Float[Tensor, " channels"]
    variance: Float[Tensor, " channels"]


def moments(output: Float[Tensor, "batch channels *places"]) -> Moments:
    """The moments of one layer's output, in double precision."""
    variance, mean = torch.var_mean(output.double(), dim=[0, *range(2, output.ndim)], correction=0)
    return Moments(mean, variance)


def layers(network: nn.Module, *kinds: type[nn.Module]) -> list[str]:
    """Names of the modules of these kinds, in the order in which the network lists them.

    Raises ValueError where it has none.
    """
    names = [name for name, part in network.named_modules() if isinstance(part, kinds)]
    if not names:
        wanted = ", ".join(kind.__name__ for kind in kinds) or "no kind at all"
        raise ValueError(f"the network has no layer of the kinds asked for: {wanted}")
    return names


@contextmanager
def activations(
    network: nn.Module, names: Sequence[str], reduce: Callable[[Tensor], object] = moments
) -> Iterator[dict[str, object]]:
    """Inside, each forward pass leaves `reduce(output)` of the named modules in the dict; a later pass replaces it.

    reduce: from the detached output to what is kept; the default keeps two numbers a channel, so that a deep network
    costs no memory. Raises ValueError for a name that the network does not have.
    """
    parts = dict(network.named_modules())
    missing = [name for name in names if name not in parts]
    if missing:
        raise ValueError(
            f"the network has no layer {', '.join(missing)}; it has {', '.join(filter(None, parts))}"
        )
    seen: dict[str, object] = {}

    def watcher(name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def watch(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            with torch.no_grad():
                seen[name] = reduce(output.detach())

        return watch

    hooks = [parts[name].register_forward_hook(watcher(name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


# --- gradients -------------------------------------------------------------------------------------------------------


def weight_gradients(
    network: nn.Module,
    inputs: Float[Tensor, "batch ..."],
    labels: Tensor,
    *,
    loss: Loss = nn.functional.cross_entropy,
) -> dict[str, Tensor]:
    """∂loss/∂w of every parameter that asks for a gradient, for one batch, in the network's present mode."""
    with _generators_kept(inputs.device):
        return _loss_and_gradients(network, inputs, labels, loss)[1]


def logits_gradient(
    logits: Float[Tensor, "batch n_classes"], labels: Int64[Tensor, " batch"]
) -> Float[Tensor, "batch n_classes"]:
    """∂/∂z of the mean cross-entropy: (softmax(z) − e_y) / batch. Rows sum to 0."""
    return (logits.softmax(1) - nn.functional.one_hot(labels, logits.shape[1])) / len(logits)


def losses_along_gradient(
    network: nn.Module,
    inputs: Float[Tensor, "batch ..."],
    labels: Tensor,
    step_sizes: Sequence[float] | Float[Tensor, " steps"],
    *,
    loss: Loss = nn.functional.cross_entropy,
) -> tuple[float, Float[Tensor, " steps"]]:
    """The loss before, and the losses after one plain gradient step of each size, on the same batch.

    loss(w − s ∇loss(w)), with neither momentum nor weight decay: one backward pass, then forward passes only. In training
    mode a batch norm uses the batch's statistics each time. Raises ValueError where there are no step sizes.
    """
    if not len(step_sizes):
        raise ValueError("step_sizes is empty; one or more are wanted")
    with _generators_kept(inputs.device):
        before, gradients = _loss_and_gradients(network, inputs, labels, loss)
    return before, losses_along(network, inputs, labels, gradients, step_sizes, loss=loss)


def losses_along(
    network: nn.Module,
    inputs: Float[Tensor, "batch ..."],
    labels: Tensor,
    direction: dict[str, Tensor],
    step_sizes: Sequence[float] | Float[Tensor, " steps"],
    *,
    loss: Loss = nn.functional.cross_entropy,
) -> Float[Tensor, " steps"]:
    """loss(w − s d) for each size s, on one batch; `direction`: d by parameter name, one that is not named stays.

    Forward passes only. Raises ValueError where there are no step sizes, or for a name that the network does not have.
    """
    sizes = [float(size) for size in step_sizes]
    if not sizes:
        raise ValueError("step_sizes is empty; one or more are wanted")
    parameters = dict(network.named_parameters())
    if strange := sorted(set(direction) - set(parameters)):
        raise ValueError(f"the network has no parameter {', '.join(strange)}")
    after = []
    with torch.no_grad():
        for size in sizes:
            moved = {
                name: parameter - size * direction[name] if name in direction else parameter
                for name, parameter in parameters.items()
            }
            with _generators_kept(inputs.device):
                out = torch.func.functional_call(network, {**moved, **_buffers(network)}, (inputs,))
            after.append(loss(_single(out), labels).item())
    return torch.tensor(after, dtype=torch.float64)


def _loss_and_gradients(
    network: nn.Module, inputs: Tensor, labels: Tensor, loss: Loss
) -> tuple[float, dict[str, Tensor]]:
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("no parameter of the network asks for a gradient")
    with torch.enable_grad():
        out = torch.func.functional_call(network, {**parameters, **_buffers(network)}, (inputs,))
        value = loss(_single(out), labels)
        found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }
    return value.item(), gradients


def _single(out: Tensor) -> Tensor:
    """At least single precision: the loss of half-precision logits would be half a number."""
    return out.float() if out.dtype in (torch.float16, torch.bfloat16) else out


def _buffers(network: nn.Module) -> State:
    """Copies, so that what a forward pass writes into running statistics is written elsewhere."""
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
