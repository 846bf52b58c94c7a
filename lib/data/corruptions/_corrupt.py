"""`corrupt`, the parameters of all corruptions, and how far a corruption moves the images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import UInt8
from torch import Tensor

from lib.core import InputError
from lib.data.corruptions._blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from lib.data.corruptions._digital import contrast, elastic_transform, jpeg_compression, pixelate
from lib.data.corruptions._draw import Draw
from lib.data.corruptions._noise import gaussian_noise, impulse_noise, shot_noise
from lib.data.corruptions._weather import brightness, fog, frost, snow

SIDE = 32
BLOCK = 500
"""Images that are corrupted at a time: their planes fit the processor's cache. It enters the order of draws."""

SEVERITIES = (1, 2, 3, 4, 5)

_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}

CORRUPTIONS = tuple(_FUNCTIONS)
"""In the benchmark's order."""

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "noise": CORRUPTIONS[:3],
        "blur": CORRUPTIONS[3:7],
        "weather": CORRUPTIONS[7:11],
        "digital": CORRUPTIONS[11:],
    }
)

PARAMETERS: Mapping[str, tuple[tuple[float, ...], ...]] = MappingProxyType(
    {
        "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
        "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        "elastic_transform": (
            (0, 0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
        "pixelate": ((30,), (28,), (27,), (24,), (20,)),
        "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    }
)
"""By corruption and severity (from 1), in the order of the arguments of its function."""


def corrupt(
    images: UInt8[Tensor, "n 3 32 32"], corruption: str, severity: int, generator: torch.Generator
) -> UInt8[Tensor, "n 3 32 32"]:
    """The images with one of CORRUPTIONS at a severity from 1 to 5, on their device; whole grey levels, cut as the
    benchmark cuts them.

    generator: decides all draws, on the CPU or on the images' device. Raises InputError for an unknown corruption or
    severity, and for images of another type or shape.
    """
    if corruption not in _FUNCTIONS:
        near = difflib.get_close_matches(str(corruption), CORRUPTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no corruption {corruption!r}: {', '.join(CORRUPTIONS)} are known{hint}")
    if severity not in SEVERITIES or isinstance(severity, bool):
        raise InputError(f"severity is {severity!r}; a whole number from 1 to 5 is wanted")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (3, SIDE, SIDE):
        found = f"{str(images.dtype).removeprefix('torch.')} of {' × '.join(map(str, images.shape))}"
        raise InputError(f"images are {found}; uint8 of n × 3 × {SIDE} × {SIDE} are wanted")
    parameters = PARAMETERS[corruption][severity - 1]
    function, draw = _FUNCTIONS[corruption], Draw(generator, images.device)
    out = torch.empty_like(images)
    for start in range(0, len(images), BLOCK):
        x = images[start : start + BLOCK].to(torch.float32).div_(255)
        worse = function(x, draw, *parameters)
        # 1e-3: a whole level that float32 holds as a little less stays that level
        out[start : start + BLOCK] = worse.clamp_(0, 1).mul_(255).add_(1e-3)  # cast to bytes: towards zero
    return out


def distance(images: UInt8[Tensor, "n c h w"], worse: UInt8[Tensor, "n c h w"]) -> float:
    """How far images were moved: the root mean square difference of each, in grey levels, averaged over them."""
    if images.shape != worse.shape or not images.numel():
        raise InputError(f"images of {tuple(images.shape)} and {tuple(worse.shape)} cannot be compared")
    squares = (images.float() - worse.float()).square_().flatten(1).mean(1)
    return float(squares.sqrt().mean(dtype=torch.float64))
