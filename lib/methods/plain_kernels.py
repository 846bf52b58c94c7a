"""The inner loops of `lib.methods.plain_step`, compiled: normal noise, and what lies between the matrix products.

Matrices have a row for each hidden unit and a column for each sample (sample by sample, each with all examples), so that
a unit's row stays in the nearest cache while all is done that batch norm and ReLU ask for. Arrays are float32 and
C-contiguous.

Normals: the words of SplitMix64 (Steele, Lea and Flood, 2014, Fast splittable pseudorandom number generators), and of each
a pair by the method of Box and Muller (1958): ln by a polynomial on [1/√2, √2), the angle in an octant that three bits
choose, so that sine and cosine are short polynomials (those of the Cephes library, Moshier, in single precision).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}

f32, i32, u64 = np.float32, np.int32, np.uint64
GOLDEN, FIRST, SECOND = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9), u64(0x94D049BB133111EB)
HALF_ROOT = i32(0x3F3504F3)
"""The bits of 1/√2."""
ONE, MANTISSA, SIGN = i32(0x3F800000), i32(0x007FFFFF), i32(-0x80000000)


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


@njit(**OPTIONS)
@no_type_check
def _pairs(first, second, state):
    """Normals into two arrays of one length; pair i is made from word i of the sequence that begins at `state`."""
    for i in range(first.size):
        word = state + u64(i) * GOLDEN
        word = (word ^ (word >> u64(30))) * FIRST
        word = (word ^ (word >> u64(27))) * SECOND
        word = word ^ (word >> u64(31))
        low, high = i32(word), i32(word >> u64(32))
        # radius √(−2 ln u) with u in (0, 1) from 31 bits: u = 2^e (1 + x)
        bits = i32(_as_word((f32(i32(low & ~SIGN)) + f32(0.5)) * f32(2.0**-31)) + i32(ONE - HALF_ROOT))
        e = f32(i32(i32(bits >> i32(23)) - i32(127)))
        x = _as_float(i32(i32(bits & MANTISSA) + HALF_ROOT)) - f32(1)
        p = f32(7.0376836292e-2)
        p = p * x + f32(-1.1514610310e-1)
        p = p * x + f32(1.1676998740e-1)
        p = p * x + f32(-1.2420140846e-1)
        p = p * x + f32(1.4249322787e-1)
        p = p * x + f32(-1.6668057665e-1)
        p = p * x + f32(2.0000714765e-1)
        p = p * x + f32(-2.4999993993e-1)
        p = p * x + f32(3.3333331174e-1)
        log = x + (p * x - f32(0.5)) * x * x + e * f32(np.log(2))
        radius = _as_word(np.sqrt(np.abs(f32(-2) * log)))
        # an angle in [0, π / 4) from 30 bits; of the bits left one swaps sine and cosine, two are their signs
        t = f32(i32(high & i32(0x3FFFFFFF))) * f32(np.pi / 4 * 2.0**-30)
        q = t * t
        sine = t + t * q * (f32(-1.6666654611e-1) + q * (f32(8.3321608736e-3) + q * f32(-1.9515295891e-4)))
        cosine = (
            f32(1)
            - f32(0.5) * q
            + q * q * (f32(4.1666645683e-2) + q * (f32(-1.3887316255e-3) + q * f32(2.4433157118e-5)))
        )
        swap = low < 0
        first[i] = _as_float(i32(radius ^ i32(high & SIGN))) * (sine if swap else cosine)
        second[i] = _as_float(i32(radius ^ i32(i32(high << i32(1)) & SIGN))) * (cosine if swap else sine)


@njit(**OPTIONS)
@no_type_check
def normals(out, state):
    """Standard normals into `out`, flat; the same `state` (an unsigned word of 64 bits) gives the same numbers."""
    half = out.size // 2
    _pairs(out[:half], out[half : 2 * half], state)
    if out.size > 2 * half:
        last = np.empty(2, np.float32)
        _pairs(last[:1], last[1:], state + u64(half) * GOLDEN)
        out[2 * half] = last[0]


@njit(**OPTIONS)
@no_type_check
def forward(z, shared, gamma, beta, eps, weight, bias, scaled, drawn):
    """From z = W_ε ε (w, m n) to samples: adds `shared` (w, n) to those of each example, then batch norm, ReLU, output.

    z is written over; scaled (4, w): mean, variance, and factor and offset with h = max(factor z + offset, 0); drawn
    (k, m n): W_o h + b_o.
    """
    width, columns = z.shape
    n = shared.shape[1]
    mean, variance, factor, offset = scaled
    for output in range(len(drawn)):
        drawn[output] = bias[output]
    for unit in range(width):
        same, total, square = shared[unit], f32(0), f32(0)
        for start in range(0, columns, n):
            part = z[unit, start : start + n]
            for i in range(n):
                value = part[i] + same[i]
                part[i] = value
                total += value
                square += value * value
        mean[unit] = total / f32(columns)
        variance[unit] = max(square / f32(columns) - mean[unit] * mean[unit], f32(0))
        factor[unit] = gamma[unit] / np.sqrt(variance[unit] + f32(eps))
        offset[unit] = beta[unit] - mean[unit] * factor[unit]
        slope, level, own = factor[unit], offset[unit], z[unit]
        for output in range(len(drawn)):
            out, size = drawn[output], weight[output, unit]
            for i in range(columns):
                value = own[i] * slope + level
                out[i] += size * (value if value > f32(0) else f32(0))


@njit(**OPTIONS)
@no_type_check
def backward(z, scaled, eps, weight, above, delta, shared, d_weight, d_gamma, d_beta):
    """From the gradient with respect to samples, above (k, m n), to that with respect to z, delta (w, m n).

    shared (w, n): delta summed over the samples of an example. d_weight (k, w), d_gamma, d_beta (w,): gradients of the
    output's weights and of batch norm's. Through batch norm the gradient is γ / sd (δ − mean δ − (z − mean) / sd · dγ / rows);
    its sum over the batch, the gradient of a bias before it, is 0.
    """
    width, columns = z.shape
    n = shared.shape[1]
    mean, variance, factor, offset = scaled
    hidden = np.empty(columns, np.float32)
    for unit in range(width):
        own, back, slope, level, middle = z[unit], delta[unit], factor[unit], offset[unit], mean[unit]
        for i in range(columns):
            value = own[i] * slope + level
            hidden[i] = value if value > f32(0) else f32(0)
        back[:] = 0
        for output in range(len(above)):
            from_above, size, sum_ = above[output], weight[output, unit], f32(0)
            for i in range(columns):
                sum_ += from_above[i] * hidden[i]
                back[i] += from_above[i] * size
            d_weight[output, unit] = sum_
        total, along = f32(0), f32(0)
        for i in range(columns):
            value = back[i] if hidden[i] > f32(0) else f32(0)
            back[i] = value
            total += value
            along += value * (own[i] - middle)
        precision = f32(1) / np.sqrt(variance[unit] + f32(eps))
        d_beta[unit], d_gamma[unit] = total, along * precision
        tilt = slope * precision * d_gamma[unit] / f32(columns)
        base = middle * tilt - slope * total / f32(columns)
        same = shared[unit]
        same[:] = 0
        for start in range(0, columns, n):
            ours, part = own[start : start + n], back[start : start + n]
            for i in range(n):
                value = part[i] * slope - ours[i] * tilt + base
                part[i] = value
                same[i] += value
