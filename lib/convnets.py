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
from jaxtyping import Float
from torch import Tensor, nn

from lib.bfloat16 import GELU, convolved, gelu, max_pool_by_two
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


# --- residual networks ---------------------------------------------------------------------------------------------


class _Pad(nn.Module):
    """He's option A: every second pixel, and channels of 0 behind."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        images = images[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(images, (0, 0, 0, 0, 0, self.channels - images.shape[1]))


class BasicBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), with 3 × 3 convolutions."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: Norm, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(n_in, n_out, stride=stride), normalisation(norm, n_out)
        self.conv2, self.norm2 = _conv(n_out, n_out), normalisation(norm, n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = (
                _Pad(n_out, stride)
                if shortcut == "pad"
                else nn.Sequential(_conv(n_in, n_out, 1, stride, padding=0), normalisation(norm, n_out))
            )

    def forward(self, inputs: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        hidden = self.norm1(self.conv1(inputs)).relu()
        return (self.norm2(self.conv2(hidden)) + self.shortcut(inputs)).relu()


class PreactivationBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); a projection begins behind the first norm and ReLU."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalisation(norm, n_in), _conv(n_in, n_out, stride=stride)
        self.norm2, self.conv2 = normalisation(norm, n_out), _conv(n_out, n_out)
        self.projection = None if n_in == n_out and stride == 1 else _conv(n_in, n_out, 1, stride, padding=0)

    def forward(self, inputs: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        active = self.norm1(inputs).relu()
        hidden = self.conv2(self.norm2(self.conv1(active)).relu())
        return hidden + (inputs if self.projection is None else self.projection(active))


class ResidualNetwork(nn.Module):
    """A 3 × 3 convolution, stages of blocks (each after the first halves height and width), mean over pixels, classes."""

    def __init__(
        self, stem: Sequence[nn.Module], stages: Sequence[nn.Module], head: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.stem, self.stages, self.head = nn.Sequential(*stem), nn.Sequential(*stages), nn.Sequential(*head)

    def forward(self, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch n_classes"]:
        return self.head(self.stages(self.stem(images)))


def resnet(
    depth: int,
    *,
    width: int = 16,
    n_classes: int = 10,
    in_channels: int = 3,
    norm: Norm = "batch",
    shortcut: Shortcut = "pad",
    init: Init = "kaiming_normal_fan_out",
    linear: Init | None = "torch",
    generator: torch.Generator | None = None,
) -> ResidualNetwork:
    """He's network for CIFAR, of depth 6n + 2: three stages of n basic blocks with `width`, 2 and 4 times as many channels.

    110 with the defaults has 109 convolutions and 1,727,962 parameters; 26 with `projection` is the R-26 of TENT.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth is {depth}; 6 n + 2 is wanted, with n of 1 or more: 8, 14, 20, …")
    return _basic(
        (width, 2 * width, 4 * width),
        (depth - 2) // 6,
        n_classes,
        in_channels,
        norm,
        shortcut,
        init,
        linear,
        generator,
    )


def resnet18(
    *,
    width: int = 64,
    n_classes: int = 10,
    in_channels: int = 3,
    norm: Norm = "batch",
    init: Init = "kaiming_normal_fan_out",
    linear: Init | None = "torch",
    generator: torch.Generator | None = None,
) -> ResidualNetwork:
    """ResNet-18 with a stem for 32 × 32 pixels (3 × 3, no pooling): four stages of two basic blocks, projections."""
    widths = (width, 2 * width, 4 * width, 8 * width)
    return _basic(widths, 2, n_classes, in_channels, norm, "projection", init, linear, generator)


def wide_resnet(
    depth: int = 28,
    factor: int = 10,
    *,
    n_classes: int = 10,
    in_channels: int = 3,
    norm: Norm = "batch",
    init: Init = "kaiming_normal_fan_out",
    linear: Init | None = "torch",
    generator: torch.Generator | None = None,
) -> ResidualNetwork:
    """WRN-depth-factor: three stages of (depth − 4) / 6 preactivation blocks with 16, 32 and 64 times `factor` channels."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth is {depth}; 6 n + 4 is wanted, with n of 1 or more: 10, 16, 22, 28, …")
    widths = _checked([16 * factor, 32 * factor, 64 * factor])
    stages, channels = [], 16
    for number, width in enumerate(widths):
        stages.append(nn.Sequential())
        for block in range((depth - 4) // 6):
            stride = 2 if number and not block else 1
            stages[-1].append(PreactivationBlock(channels, width, stride, norm))
            channels = width
    network = ResidualNetwork(
        [_conv(in_channels, 16)],
        stages,
        [normalisation(norm, channels), nn.ReLU(), *_pooled(channels, n_classes)],
    )
    initialise(network, init, linear=linear, generator=generator)
    return network


def _basic(
    widths: Sequence[int],
    blocks: int,
    n_classes: int,
    in_channels: int,
    norm: Norm,
    shortcut: Shortcut,
    init: Init,
    linear: Init | None,
    generator: torch.Generator | None,
) -> ResidualNetwork:
    """A network of basic blocks, so many in each stage."""
    if shortcut not in get_args(Shortcut):
        raise ValueError(f"shortcut is {shortcut!r}; one of {', '.join(get_args(Shortcut))} is wanted")
    channels = _checked(widths)[0]
    stem = [_conv(in_channels, channels), normalisation(norm, channels), nn.ReLU()]
    stages = []
    for number, width in enumerate(widths):
        stages.append(nn.Sequential())
        for block in range(blocks):
            stride = 2 if number and not block else 1
            stages[-1].append(BasicBlock(channels, width, stride, norm, shortcut))
            channels = width
    network = ResidualNetwork(stem, stages, _pooled(channels, n_classes))
    initialise(network, init, linear=linear, generator=generator)
    return network


def _pooled(channels: int, n_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _linear(channels, n_classes)]


# --- a fast one ----------------------------------------------------------------------------------------------------


class FastGroup(nn.Module):
    """conv, max pooling, norm, GELU, conv, norm, GELU; the convolutions begin as identities where they can."""

    def __init__(self, n_in: int, n_out: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(n_in, n_out), normalisation(norm, n_out)
        self.conv2, self.norm2 = _conv(n_out, n_out), normalisation(norm, n_out)
        for norm_layer in (self.norm1, self.norm2):
            if isinstance(norm_layer, nn.BatchNorm2d):
                norm_layer.momentum = 0.4
                norm_layer.weight.requires_grad_(False)

    def forward(self, inputs: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        hidden = nn.functional.gelu(self.norm1(nn.functional.max_pool2d(self.conv1(inputs), 2)))
        return nn.functional.gelu(self.norm2(self.conv2(hidden)))


class CompiledGroup(FastGroup):
    """The same in the layers of `lib.bfloat16`."""

    def forward(self, inputs: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h2 w2"]:
        hidden = gelu(self.norm1(max_pool_by_two(convolved(self.conv1, inputs))))
        return gelu(self.norm2(convolved(self.conv2, hidden)))


def with_compiled_layers(network: nn.Sequential) -> nn.Sequential:
    """A fast network, changed in place: its layers are those of `lib.bfloat16` from now on, its weights are what they were.

    Layers of other networks stay as they are.
    """
    for name, layer in network.named_children():
        if isinstance(layer, nn.GELU):
            setattr(network, name, GELU())
        elif isinstance(layer, FastGroup):
            layer.__class__ = CompiledGroup
    return network


class Scale(nn.Module):
    """Times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factor


def fast_convnet(
    images: Float[Tensor, "n c h w"],
    *,
    widths: Sequence[int] = (64, 256, 256),
    n_classes: int = 10,
    norm: Norm = "batch",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A frozen whitening layer, three groups of two convolutions, a bias-free classifier: quick to train on small images.

    images: training images, scaled as they will be in training, from which the whitening layer is computed (5,000 will
    do). The first channels of each convolution begin as identities; the scale of batch norms stays 1. Any size from 17 × 17
    pixels on will do, also one after the other.
    """
    if len(_checked(widths)) != 3:
        raise ValueError(f"widths is {widths!r}; three are wanted")
    whitening = whitening_layer(images)
    channels = whitening.out_channels
    groups = []
    for width in widths:
        groups.append(FastGroup(channels, width, norm))
        channels = width
    classifier = nn.utils.skip_init(nn.Linear, channels, n_classes, bias=False)
    for layer in [*(conv for group in groups for conv in convolutions(group)), classifier]:
        _initialise(layer, "torch", generator)
        if isinstance(layer, nn.Conv2d):
            same = min(layer.in_channels, layer.out_channels)
            nn.init.dirac_(layer.weight.data[:same])
    return nn.Sequential(
        whitening, nn.GELU(), *groups, nn.AdaptiveMaxPool2d(1), nn.Flatten(), classifier, Scale(1 / 9)
    )


def whitening_layer(images: Float[Tensor, "n c h w"], *, kernel: int = 2, eps: float = 5e-4) -> nn.Conv2d:
    """A frozen convolution whose answers are the whitened principal components of the patches, and their negatives.

    With patches x and E[x xᵀ] = V Λ Vᵀ its rows are ± vᵢ / √(λᵢ + eps), the largest λ first.
    """
    channels = images.shape[1]
    patches = images.unfold(2, kernel, 1).unfold(3, kernel, 1)  # (n, c, h', w', kernel, kernel)
    flat = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * kernel**2).double()
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    rows = (vectors / (values + eps).sqrt()).T.flip(0)  # (components, c · kernel²)
    layer = _conv(channels, 2 * len(rows), kernel, padding=0, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([rows, -rows]).view_as(layer.weight))
        layer.bias.zero_()
    layer.weight.requires_grad_(False)
    return layer


def _checked(widths: Sequence[int]) -> Sequence[int]:
    if len(widths) < 1 or min(widths) < 1:
        raise ValueError(f"widths is {widths!r}; one or more positive numbers of channels are wanted")
    return widths
