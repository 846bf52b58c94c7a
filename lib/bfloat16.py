"""What small convolutional networks are made of, in bfloat16 and channels last, quicker on a processor than torch's own.

    gelu(x)                # as torch.nn.functional.gelu
    max_pool_by_two(x)     # as torch.nn.functional.max_pool2d(x, 2)
    convolved(layer, x)    # as layer(x)

A number of 16 bits has 65,536 values, so that GELU and its slope are tables; the order of such numbers is that of integers,
so that a pooling compares words; and the gradient of a kernel, which on maps of a few pixels costs several times its
arithmetic, is that of 4 × 4 maps laid out as one. The tables are the formulas in double precision, rounded once: torch's
GELU differs from them in the last bit here and there. On other devices, for other types and memory formats, and within
`torch.compile`, all are torch's. None can be differentiated twice where it is compiled.

Source of GELU: Hendrycks and Gimpel (2016), arXiv 1606.08415, equation 1.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
BLOCK = 1024
SIDE = 4
SMALL = 8
"""Maps of at most so many columns are laid out, `SIDE` by `SIDE` of them, as one."""
f32, i16, u16, u32 = np.float32, np.int16, np.uint16, np.uint32


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x Φ(x), of any shape; Φ: the normal distribution function."""
    return _Gelu.apply(x) if _compiled(x) and _order(x) is not None else nn.functional.gelu(x)


def max_pool_by_two(x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h2 w2"]:
    """The largest of each 2 × 2 pixels; a last row or column that has no partner is left out."""
    known = _compiled(x) and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return _MaxPool.apply(x) if known and min(x.shape[2:]) > 1 else nn.functional.max_pool2d(x, 2)


def _compiled(x: Tensor) -> bool:
    known = x.dtype is torch.bfloat16 and x.is_cpu and x.numel() > 0
    return known and not torch.compiler.is_compiling()


def _order(x: Tensor) -> torch.memory_format | None:
    """The memory format in which a tensor is dense."""
    if x.is_contiguous():
        return torch.contiguous_format
    dense = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if dense else None


def _words(x: Tensor, kind: torch.dtype = torch.uint16) -> np.ndarray:
    """The bits of a dense tensor as they lie in memory."""
    return x.detach().as_strided((x.numel(),), (1,)).view(kind).numpy()


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """GELU of each number of 16 bits as such, and its slope Φ(x) + x φ(x) in single precision."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).double()
    below = 0.5 * torch.erfc(-x * math.sqrt(0.5))
    slope = below + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return _words((x * below).to(torch.bfloat16)), slope.float().numpy()


def convolved(layer: nn.Conv2d, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c2 h w"]:
    """`layer(x)`, of a 3 × 3 convolution with a padding of 1 and no bias. Raises ValueError for another one."""
    kind = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias
    if kind != ((3, 3), (1, 1), (1, 1), (1, 1), 1, None):
        raise ValueError(f"{layer} is not a 3 × 3 convolution with a padding of 1 and no bias")
    n, _, _, w = x.shape
    small = w <= SMALL and n % SIDE**2 == 0 and x.is_contiguous(memory_format=torch.channels_last)
    if small and _compiled(x) and torch.is_grad_enabled() and layer.weight.requires_grad:
        return _Convolved.apply(x, layer.weight.to(x.dtype))
    return layer(x)


class GELU(nn.Module):
    """`gelu` as a layer."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return gelu(inputs)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        _look_up(_words(x), _tables()[0], _words(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient = torch.empty_like(x)
        above = above.contiguous(memory_format=_order(x) or torch.contiguous_format)
        _times_slope(_words(x), _tables()[1], _words(above), _words(gradient))
        return gradient


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = ctx.shape = x.shape
        out = torch.empty(n, c, h // 2, w // 2, dtype=x.dtype, memory_format=torch.channels_last)
        ctx.places = np.empty((n, h // 2, w // 2, c), np.int8)
        _pool(_pixels(x), _pixels(out), ctx.places)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> Tensor:
        above = above.contiguous(memory_format=torch.channels_last)
        gradient = torch.empty(ctx.shape, dtype=above.dtype, memory_format=torch.channels_last)
        _back_to_places(_pixels(above), ctx.places, _pixels(gradient))
        return gradient


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return nn.functional.conv2d(x, kernel, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor]:
        x, kernel = ctx.saved_tensors
        below, _ = _gradients(above, x, kernel, ctx.needs_input_grad[0], False)
        _, of_kernel = _gradients(_side_by_side(above), _side_by_side(x), kernel, False, True)
        return below, of_kernel


def _gradients(above: Tensor, x: Tensor, kernel: Tensor, for_x: bool, for_kernel: bool) -> Any:
    options = [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [for_x, for_kernel, False]
    return torch.ops.aten.convolution_backward(above, x, kernel, None, *options)[:2]


def _side_by_side(x: Tensor) -> Tensor:
    """(batch, c, h, w) as (batch / 16, c, 4 (h + 1), 4 (w + 1)): maps with a row and a column of zeros between them."""
    n, c, h, w = x.shape
    out = x.new_zeros(n // SIDE**2, SIDE, h + 1, SIDE, w + 1, c)
    out[:, :, :h, :, :w] = x.permute(0, 2, 3, 1).reshape(-1, SIDE, SIDE, h, w, c).transpose(2, 3)
    return out.view(-1, SIDE * (h + 1), SIDE * (w + 1), c).permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> np.ndarray:
    """Words as (batch, h, w, c), of a tensor whose channels lie together."""
    return _words(x, torch.int16).reshape(x.permute(0, 2, 3, 1).shape)


# --- compiled --------------------------------------------------------------------------------------------------------


@njit(**OPTIONS)
@no_type_check
def _look_up(x, table, out):
    for i in range(len(x)):
        out[i] = table[x[i]]


@njit(**OPTIONS)
@no_type_check
def _times_slope(x, slopes, above, gradient):
    wide = np.empty(BLOCK, u32)
    product = wide.view(f32)
    for start in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - start)
        words, from_above, to = x[start : start + n], above[start : start + n], gradient[start : start + n]
        for i in range(n):
            wide[i] = u32(from_above[i]) << u32(16)
        for i in range(n):
            product[i] *= slopes[words[i]]
        for i in range(n):  # to the nearest, to even where it lies between
            to[i] = u16((wide[i] + u32(0x7FFF) + ((wide[i] >> u32(16)) & u32(1))) >> u32(16))


@njit(**OPTIONS)
@no_type_check
def _rank(word):
    """Integers in the order of the numbers that have these bits."""
    return i16(word ^ ((word >> i16(15)) & i16(0x7FFF)))


@njit(**OPTIONS)
@no_type_check
def _pool(x, out, places):
    for image in range(len(out)):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                first, second = x[image, 2 * row, 2 * column], x[image, 2 * row, 2 * column + 1]
                third, fourth = x[image, 2 * row + 1, 2 * column], x[image, 2 * row + 1, 2 * column + 1]
                to, place = out[image, row, column], places[image, row, column]
                for c in range(out.shape[3]):
                    best, at = _rank(first[c]), np.int8(0)
                    rank = _rank(second[c])
                    best, at = (rank, np.int8(1)) if rank > best else (best, at)
                    rank = _rank(third[c])
                    best, at = (rank, np.int8(2)) if rank > best else (best, at)
                    rank = _rank(fourth[c])
                    best, at = (rank, np.int8(3)) if rank > best else (best, at)
                    to[c], place[c] = _rank(best), at


@njit(**OPTIONS)
@no_type_check
def _back_to_places(above, places, gradient):
    height, width = above.shape[1:3]
    for image in range(len(gradient)):
        gradient[image, 2 * height :] = 0
        gradient[image, :, 2 * width :] = 0
        for row in range(height):
            for column in range(width):
                from_above, place = above[image, row, column], places[image, row, column]
                for k in range(4):
                    to = gradient[image, 2 * row + k // 2, 2 * column + k % 2]
                    for c in range(above.shape[3]):
                        to[c] = from_above[c] if place[c] == k else i16(0)
