"""The normalisation layers of a model: which of its weights adapt, and whose statistics it normalises by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

PARAMETERS = ("affine", "all", "last")

NORMALISING = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, _InstanceNorm)


def norms(model: nn.Module) -> list[nn.Module]:
    """The normalisation layers of a model, in its order."""
    return [module for module in model.modules() if isinstance(module, (*NORMALISING, BlendedNorm))]


def affine_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Scale γ and shift β of every normalisation layer, by name: what TENT updates (section 3.2).

    Raises ValueError where the model has no such layer, or none with scale and shift.
    """
    layers = norms(model)
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no normalisation layer to adapt; BatchNorm, GroupNorm, LayerNorm or InstanceNorm "
            "is wanted (or parameters='all')"
        )
    mine = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in mine}
    if not found:
        raise ValueError(
            f"the {len(layers)} normalisation layers of {type(model).__name__} have no scale and shift to adapt"
        )
    return found


def last_layer(model: nn.Module) -> nn.Linear:
    """The last linear layer of a model. Raises ValueError where it has none."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer")
    return linear[-1]


def chosen_parameters(model: nn.Module, parameters: str) -> dict[str, nn.Parameter]:
    """Freeze all of the model's parameters but the chosen ones, which are returned by name.

    parameters: "affine" (of the normalisation layers), "all", or "last" (weight and bias of the last linear layer).
    """
    if parameters == "affine":
        found = affine_parameters(model)
    elif parameters == "all":
        found = dict(model.named_parameters())
    elif parameters == "last":
        mine = {id(parameter) for parameter in last_layer(model).parameters()}
        found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in mine}
    else:
        raise ValueError(f"parameters is {parameters!r}; one of {', '.join(PARAMETERS)} is wanted")
    model.requires_grad_(False)
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


def use_batch_statistics(model: nn.Module, prior: float) -> None:
    """Make every BatchNorm normalise by the batch, blended with its source statistics as if those were `prior` examples.

    0: the batch alone; the running statistics are dropped. Infinity: the source's alone, as in evaluation. Raises
    ValueError where there are no source statistics to blend with.
    """
    if not prior >= 0:
        raise ValueError(f"prior is {prior}; 0 (the batch alone), a number of examples or infinity is wanted")
    if math.isinf(prior):
        return
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, _BatchNorm) and prior:
                setattr(parent, name, BlendedNorm(module, prior))
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None


class BlendedNorm(nn.Module):
    """A BatchNorm whose statistics are N/(N + n) source + n/(N + n) batch, n being the examples of the batch.

    Source: Schneider et al. (2020), Improving robustness against common corruptions by covariate shift adaptation,
    arXiv 2006.16971, equation 2.
    """

    def __init__(self, source: _BatchNorm, prior: float) -> None:
        super().__init__()
        if source.running_mean is None or source.running_var is None:
            raise ValueError(
                "a BatchNorm keeps no running statistics: there is no source to blend the batch with"
            )
        self.weight, self.bias = source.weight, source.bias
        self.eps, self.prior = source.eps, float(prior)
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", source.running_mean.clone())
        self.register_buffer("var", source.running_var.clone())

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        var, mean = torch.var_mean(x, dims, correction=0)
        share = self.prior / (self.prior + len(x))
        # μ̄ = N/(N+n) μ_source + n/(N+n) μ_batch, and σ̄² likewise
        mean = share * self.mean + (1 - share) * mean
        var = share * self.var + (1 - share) * var
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (1, -1, *[1] * (x.ndim - 2))
        return x * scale.view(shape) + shift.view(shape)
