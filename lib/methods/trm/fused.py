"""What lies between the matrix products of a tiny recursive model, in one pass each, on a processor.

    gated(x)              # silu(gate) ⊙ value, where gate and value are the halves of the last axis
    normed_sum(x, y)      # (x + y) / √(mean of its squares over the last axis + eps)

A recursion applies a small network dozens of times a step, so that on a CPU the many passes of these two over memory cost
more than the matrix products. Here each is one compiled pass forwards and one backwards, for float32 and bfloat16; inner
values are in single precision, and only results are rounded. On other devices, for other types and within
`torch.compile` they are the formulas in torch. Neither can be differentiated twice where it is compiled.

exp is that of the Cephes library (Moshier) in single precision.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
EPS = 1e-5
f32, i32 = np.float32, np.int32


def gated(x: Float[Tensor, "*batch both"]) -> Float[Tensor, "*batch inner"]:
    """silu(gate) ⊙ value: (…, 2 inner) to (…, inner). Source: Shazeer (2020), arXiv 2002.05202, equation 6."""
    if _compiled(x):
        return _Gated.apply(x)
    gate, value = x.chunk(2, dim=-1)
    return functional.silu(gate) * value


def normed_sum(
    x: Float[Tensor, "*batch n"], y: Float[Tensor, "*batch n"], eps: float = EPS
) -> Float[Tensor, "*batch n"]:
    """`rms_norm(x + y)`: both of one shape (…, n) and type, which the result has too."""
    if _compiled(x) and x.dtype == y.dtype and x.shape == y.shape:
        return _NormedSum.apply(x, y, eps)
    return rms_norm(x + y, eps)


def rms_norm(x: Float[Tensor, "*batch n"], eps: float = EPS) -> Float[Tensor, "*batch n"]:
    """x / √(mean of squares over the last axis + eps), computed in single precision, in the type of `x`."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def _compiled(x: Tensor) -> bool:
    known = x.dtype in (torch.float32, torch.bfloat16)
    return known and x.device.type == "cpu" and x.numel() > 0 and not torch.compiler.is_compiling()


def _rows(x: Tensor) -> np.ndarray:
    """As a matrix of the last axis, which shares the memory of a contiguous tensor; bfloat16 as the words it is."""
    flat = x.detach().reshape(-1, x.shape[-1])
    return (flat.view(torch.int16) if x.dtype == torch.bfloat16 else flat).numpy()


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        _gate(_rows(x), _rows(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gradient = torch.empty_like(x)
        _gate_back(_rows(x), _rows(above.contiguous()), _rows(gradient))
        return gradient


class _NormedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
        x, y = x.contiguous(), y.contiguous()
        out, scales = torch.empty_like(x), torch.empty(x.shape[:-1])
        _norm(_rows(x), _rows(y), f32(eps), _rows(out), scales.numpy().reshape(-1))
        ctx.save_for_backward(out, scales)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None]:
        out, scales = ctx.saved_tensors
        gradient = torch.empty_like(out)
        _norm_back(_rows(out), scales.numpy().reshape(-1), _rows(above.contiguous()), _rows(gradient))
        return gradient, gradient, None


# --- compiled --------------------------------------------------------------------------------------------------------


@intrinsic
@no_type_check
def _as_float(typingctx, word):
    """The number with these bits."""
    return types.float32(types.int32), lambda _, builder, __, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
@no_type_check
def _as_word(typingctx, number):
    """The bits of a number."""
    return types.int32(types.float32), lambda _, builder, __, args: builder.bitcast(args[0], ir.IntType(32))


def _number(stored):
    """What is stored as a float32: itself, or the number that is the upper half of one."""


def _stored(number, like):
    """A float32 as it is stored beside `like`; rounded to the nearest, to even where it lies between."""


@overload(_number)
@no_type_check
def _number_of(stored):
    if isinstance(stored, types.Float):
        return lambda stored: stored
    return lambda stored: _as_float(i32(i32(stored) << i32(16)))


@overload(_stored)
@no_type_check
def _stored_as(number, like):
    if isinstance(like, types.Float):
        return lambda number, like: number

    def rounded(number, like):
        word = _as_word(number)
        odd = i32(i32(word >> i32(16)) & i32(1))
        return np.int16(i32(word + i32(i32(0x7FFF) + odd)) >> i32(16))

    return rounded


@njit(**OPTIONS)
@no_type_check
def _sigmoid(x):
    """1 / (1 + e^−x), with e^−x = 2^k e^r and |r| ≤ ½ ln 2."""
    y = min(max(-x, f32(-87)), f32(87))
    k = i32(y * f32(1.44269504) + (f32(0.5) if y > 0 else f32(-0.5)))
    r = y - f32(k) * f32(0.693359375) - f32(k) * f32(-2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    power = (p * r * r + r + f32(1)) * _as_float(i32(i32(k + i32(127)) << i32(23)))
    return f32(1) / (f32(1) + power)


@njit(**OPTIONS)
@no_type_check
def _gate(x, out):
    inner = out.shape[1]
    for row in range(len(x)):
        gate, value, to = x[row, :inner], x[row, inner:], out[row]
        for i in range(inner):
            g = _number(gate[i])
            to[i] = _stored(g * _sigmoid(g) * _number(value[i]), to[i])


@njit(**OPTIONS)
@no_type_check
def _gate_back(x, above, gradient):
    inner = above.shape[1]
    for row in range(len(x)):
        gate, value, from_above = x[row, :inner], x[row, inner:], above[row]
        to_gate, to_value = gradient[row, :inner], gradient[row, inner:]
        for i in range(inner):
            g, a = _number(gate[i]), _number(from_above[i])
            s = _sigmoid(g)
            to_value[i] = _stored(a * g * s, to_value[i])
            # silu' = s (1 + g (1 − s))
            to_gate[i] = _stored(a * _number(value[i]) * s * (f32(1) + g * (f32(1) - s)), to_gate[i])


@njit(**OPTIONS)
@no_type_check
def _norm(x, y, eps, out, scales):
    n = x.shape[1]
    for row in range(len(x)):
        first, second, to, total = x[row], y[row], out[row], f32(0)
        for i in range(n):
            value = _number(first[i]) + _number(second[i])
            total += value * value
        scale = f32(1) / np.sqrt(total / f32(n) + eps)
        scales[row] = scale
        for i in range(n):
            to[i] = _stored((_number(first[i]) + _number(second[i])) * scale, to[i])


@njit(**OPTIONS)
@no_type_check
def _norm_back(out, scales, above, gradient):
    n = out.shape[1]
    for row in range(len(out)):
        result, from_above, to, along = out[row], above[row], gradient[row], f32(0)
        for i in range(n):
            along += _number(result[i]) * _number(from_above[i])
        along /= f32(n)
        scale = scales[row]
        for i in range(n):
            # ∂ / ∂s of s r with r = (mean s² + eps)^−½: r (δ − s r · mean(s r δ))
            to[i] = _stored(scale * (_number(from_above[i]) - _number(result[i]) * along), to[i])
