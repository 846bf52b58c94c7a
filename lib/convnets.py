"""The convolutional networks that several posts share, with the normalisation and the initial weights as arguments.

    conv4(generator=generator)                                  # MNIST: 1 × 28 × 28 to 10 logits
    convnet(norm="batch", init="kaiming_normal_fan_out", linear="xavier_uniform", generator=generator)
    resnet(110, init="xavier_uniform", generator=generator)     # CIFAR: depth 6n + 2
    resnet(26, shortcut="projection", norm="group"), resnet18(width=16), wide_resnet(28, 10)
    disable_bn(resnet(56))                                      # every batch norm an identity
    convolutions(network)[54]                                   # layer 55

Weights are drawn on the CPU from `generator` (None: torch's global one), layer by layer in the order of the forward pass;
normalisation draws nothing, so that networks that differ in `norm` alone begin with the same weights. Widths are
arguments: narrow ones for laptops.

Sources: Rolnick et al. (arXiv 1705.10694, section 3) for Conv4; Arpit et al. (arXiv 1706.05394) for the ConvNet; He et al.
(arXiv 1512.03385, section 4.2) for CIFAR ResNets, whose shortcuts of option A have no weights; Zagoruyko and Komodakis
(arXiv 1605.07146) for wide ones; Ba et al. (arXiv 1607.06450) and Wu and He (arXiv 1803.08494) for layer and group norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from lib.nets import initialise_linear

Norm = Literal["batch", "group", "layer", "none"]
"""`group`: groups of 8 channels, or of the largest smaller size that divides them; `layer`: one group of all channels."""

Init = Literal[
    "torch", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "kaiming_normal_fan_out"
]
"""`torch`: that of `nn.Linear` and `nn.Conv2d`, uniform in ± 1 / √fan_in; the others are those of `nn.init` (Kaiming
for ReLU), with biases of 0."""

Shortcut = Literal["pad", "projection"]
"""Where a block changes shape: every second pixel and channels of 0 (He's option A), or a 1 × 1 convolution (option B)."""


# --- layers --------------------------------------------------------------------------------------------------------


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """The layer after a convolution with so many channels; `none` is an identity."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm is {norm!r}; one of {', '.join(get_args(Norm))} is wanted")
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "none":
        return nn.Identity()
    size = next(size for size in range(8, 0, -1) if channels % size == 0) if norm == "group" else channels
    return nn.GroupNorm(channels // size, channels)


def _norm1d(norm: Norm, features: int) -> nn.Module:
    return nn.BatchNorm1d(features) if norm == "batch" else normalisation(norm, features)


def _conv(n_in: int, n_out: int, kernel: int = 3, stride: int = 1, padding: int = 1, bias: bool = False):
    return nn.utils.skip_init(nn.Conv2d, n_in, n_out, kernel, stride=stride, padding=padding, bias=bias)


def _linear(n_in: int, n_out: int) -> nn.Module:
    return nn.utils.skip_init(nn.Linear, n_in, n_out)


def initialise(
    network: nn.Module,
    init: Init = "torch",
    *,
    linear: Init | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Fresh weights for all convolutions and linear layers, in place; `linear`: another scheme for linear layers.

    Normalisation layers are left alone. The network has to be on the generator's device (the CPU where there is none).
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            _initialise(module, linear or init, generator)
        elif isinstance(module, nn.Conv2d):
            _initialise(module, init, generator)


@torch.no_grad()
def _initialise(layer: nn.Linear | nn.Conv2d, init: Init, generator: torch.Generator | None) -> None:
    if init not in get_args(Init):
        raise ValueError(f"init is {init!r}; one of {', '.join(get_args(Init))} is wanted")
    weight, bias = layer.weight, layer.bias
    if init == "torch":
        if bias is None:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
        else:
            initialise_linear(weight.flatten(1), bias, generator)
        return
    if init == "kaiming_normal_fan_out":
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    elif init.startswith("kaiming"):
        getattr(nn.init, f"{init}_")(weight, nonlinearity="relu", generator=generator)
    else:
        getattr(nn.init, f"{init}_")(weight, generator=generator)
    if bias is not None:
        nn.init.zeros_(bias)


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """All convolutions of a network of this module, in the order of the forward pass: layer 1 first."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def disable_bn(network: nn.Module) -> nn.Module:
    """Replace every batch norm by an identity, in place; the same network."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, nn.Identity())
    return network


# --- plain networks ------------------------------------------------------------------------------------------------


def conv4(
    widths: Sequence[int] = (32, 64, 128, 256),
    hidden: int = 1000,
    *,
    n_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 28,
    norm: Norm = "none",
    init: Init = "torch",
    linear: Init | None = None,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """[3 × 3 convolution, ReLU, 2 × 2 max pooling] for each width, then one hidden layer with ReLU.

    The widths of the defaults turn 28 × 28 pixels into 1 × 1 × 256.
    """
    layers: list[nn.Module] = []
    channels, side = in_channels, image_size
    for width in _checked(widths):
        layers += [_conv(channels, width, bias=True), normalisation(norm, width), nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = width, side // 2
    if side < 1:
        raise ValueError(
            f"image_size is {image_size}; at least {2 ** len(widths)} is wanted for {len(widths)} poolings"
        )
    layers += [nn.Flatten(), _linear(channels * side**2, hidden), nn.ReLU(), _linear(hidden, n_classes)]
    return _finished(layers, init, linear, generator)


def convnet(
    widths: Sequence[int] = (200, 200),
    hidden: Sequence[int] = (384, 192),
    *,
    n_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    norm: Norm = "batch",
    init: Init = "torch",
    linear: Init | None = None,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """[5 × 5 convolution without padding, norm, ReLU, 3 × 3 max pooling by 3] for each width, then hidden layers.

    Each hidden layer has norm and ReLU behind it. The defaults turn 32 × 32 (or 28 × 28) pixels into 200 features.
    """
    layers: list[nn.Module] = []
    channels, side = in_channels, image_size
    for width in _checked(widths):
        layers += [
            _conv(channels, width, kernel=5, padding=0, bias=True),
            normalisation(norm, width),
            nn.ReLU(),
            nn.MaxPool2d(3),
        ]
        channels, side = width, (side - 4) // 3
    if side < 1:
        raise ValueError(
            f"image_size is {image_size}; it is too small for {len(widths)} convolutions and poolings"
        )
    layers.append(nn.Flatten())
    features = channels * side**2
    for size in hidden:
        layers += [_linear(features, size), _norm1d(norm, size), nn.ReLU()]
        features = size
    layers.append(_linear(features, n_classes))
    return _finished(layers, init, linear, generator)


def _finished(
    layers: list[nn.Module], init: Init, linear: Init | None, generator: torch.Generator | None
) -> nn.Sequential:
    network = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
    initialise(network, init, linear=linear, generator=generator)
    return network


def _checked(widths: Sequence[int]) -> Sequence[int]:
    if len(widths) < 1 or min(widths) < 1:
        raise ValueError(f"widths is {widths!r}; one or more positive numbers of channels are wanted")
    return widths
