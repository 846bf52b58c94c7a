"""The passes between a tiny recursive model's matrix products: what torch computes, in both types, forwards and backwards."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from torch.nn import functional  # noqa: E402

from lib.methods.trm import fused  # noqa: E402
from lib.methods.trm.fused import gated, normed_sum, rms_norm  # noqa: E402

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def exact_gated(x):
    gate, value = x.double().chunk(2, dim=-1)
    return functional.silu(gate) * value


def exact_sum(x, y, eps=1e-5):
    total = x.double() + y.double()
    return total / (total.square().mean(-1, keepdim=True) + eps).sqrt()


def drawn(*shape, dtype, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator)).to(dtype)


def within_rounding(found, exact, steps):
    """Within so many steps of the type, by the size of what is exact, or of a thousandth where that is smaller."""
    step = torch.finfo(found.dtype).eps
    assert ((found.double() - exact).abs() <= steps * step * exact.abs().clamp(min=1e-3)).all()


@TYPES
@pytest.mark.parametrize("shape", [(2,), (5, 6), (3, 4, 34), (0, 4)])
def test_gated_is_the_formula(shape, dtype):
    x = drawn(*shape, dtype=dtype)
    found = gated(x)
    assert found.dtype == dtype and found.shape == (*shape[:-1], shape[-1] // 2)
    within_rounding(found, exact_gated(x), 1 if dtype == torch.bfloat16 else 8)


@TYPES
@pytest.mark.parametrize("shape", [(1,), (5, 7), (2, 3, 36), (0, 4)])
def test_the_normed_sum_is_the_formula(shape, dtype):
    x, y = drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1)
    found = normed_sum(x, y)
    assert found.dtype == dtype and found.shape == shape
    within_rounding(found, exact_sum(x, y), 1 if dtype == torch.bfloat16 else 8)


@TYPES
def test_gradients_are_those_of_the_formulas(dtype):
    steps = 2 if dtype == torch.bfloat16 else 64
    x, y = drawn(6, 34, dtype=dtype), drawn(6, 34, dtype=dtype, seed=1)
    for ours, exact, inputs in ((gated, exact_gated, [x]), (normed_sum, exact_sum, [x, y])):
        mine = [one.clone().requires_grad_() for one in inputs]
        theirs = [one.double().requires_grad_() for one in inputs]
        out = ours(*mine)
        above = drawn(*out.shape, dtype=dtype, seed=2)
        found = torch.autograd.grad(out, mine, above)
        wanted = torch.autograd.grad(exact(*theirs), theirs, above.double())
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            size = other.abs().amax(-1, keepdim=True).clamp(min=1e-3)
            assert ((one.double() - other).abs() <= steps * torch.finfo(dtype).eps * size).all()


@TYPES
def test_layouts_do_not_matter(dtype):
    """Transposed inputs, and gradients that come expanded from a sum."""
    x = drawn(8, 6, dtype=dtype).mT
    y = drawn(6, 8, dtype=dtype, seed=1)
    assert torch.equal(gated(x), gated(x.contiguous()))
    assert torch.equal(normed_sum(x, y), normed_sum(x.contiguous(), y))
    leaf = y.clone().requires_grad_()
    (expanded,) = torch.autograd.grad(gated(leaf).sum(), leaf)
    (whole,) = torch.autograd.grad((gated(leaf) * torch.ones(6, 4, dtype=dtype)).sum(), leaf)
    assert torch.equal(expanded, whole)


@TYPES
def test_far_out_nothing_overflows_and_nan_stays(dtype):
    x = torch.tensor([[-1e4, 1e4, 100.0, -100.0, 0.0, 2, 2, 2, 2, 2]]).to(dtype)
    found = gated(x)
    assert found[0].tolist() == pytest.approx([0, x[0, 1].item() * 2, 200, 0, 0], abs=1e-30)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(gated(leaf).sum(), leaf)
    assert slope[0, :5].tolist() == pytest.approx([0, 2, 2, 0, 1], abs=1e-30)
    broken = x.clone()
    broken[0, 2] = float("nan")
    assert gated(broken).isnan().tolist() == [[False, False, True, False, False]]
    assert normed_sum(broken, x).isnan().all() and not normed_sum(x[:, 1:3], x[:, 1:3]).isnan().any()


def test_words_are_rounded_to_even():
    """bfloat16 as torch rounds: to the nearest, ties to the even word."""
    ties = torch.tensor([1.00390625, 1.01171875, -1.00390625, 3.0e-39, 1.0]).reshape(1, -1)
    ones = torch.ones_like(ties)
    out = torch.empty(1, 5, dtype=torch.bfloat16)
    # a number scaled by 1: the mean of squares is made 1 by eps
    eps = 1 - float(((ties + ones) ** 2).mean())
    fused._norm(fused._rows(ties), fused._rows(ones), np.float32(eps), fused._rows(out), np.empty(1, "f4"))
    assert torch.equal(out, (ties + ones).to(torch.bfloat16))


def test_other_types_take_torchs_way():
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gated, (x,))
    torch.testing.assert_close(normed_sum(x, x), rms_norm(2 * x))
    assert gated(torch.empty(3, 4, device="meta")).shape == (3, 2)
