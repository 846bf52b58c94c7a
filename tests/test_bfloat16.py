"""The layers in bfloat16 are torch's: values, slopes, odd sizes, ties, other types."""

import pytest
import torch
from torch import nn

from lib import bfloat16
from lib.bfloat16 import GELU, convolved, gelu, max_pool_by_two

LAST = torch.channels_last


def images(*shape, dtype=torch.bfloat16, seed=0):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return made.contiguous(memory_format=LAST) if len(shape) == 4 else made


def with_gradient(function, x, seed=1):
    """The answer, and the gradient of its product with fixed numbers."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = function(x)
    above = images(*out.shape, dtype=out.dtype, seed=seed)
    return out.detach(), *torch.autograd.grad(out, x, above)


def compiled(monkeypatch):
    """Fails where torch's own function is called."""

    def never(*args, **kwargs):
        raise AssertionError("not compiled")

    for name in ("gelu", "max_pool2d"):
        monkeypatch.setattr(bfloat16.nn.functional, name, never)


@pytest.mark.parametrize("shape", [(3,), (7, 5), (1030,), (4, 6, 5, 7), (2, 1, 3, 3)])
def test_gelu_is_torchs_but_for_the_last_bit(shape, monkeypatch):
    x = images(*shape) * 3
    expected = with_gradient(nn.functional.gelu, x)
    compiled(monkeypatch)
    for ours, theirs in zip(with_gradient(gelu, x), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=1e-4)
        assert ours.stride() == theirs.stride()
    assert torch.equal(GELU()(x), gelu(x))


def test_gelu_of_every_number_of_16_bits():
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    wide = every.double()
    exact = wide * 0.5 * torch.erfc(-wide * 0.5**0.5)
    torch.testing.assert_close(gelu(every), exact.bfloat16(), rtol=0, atol=0, equal_nan=True)
    finite = wide[every.isfinite()].requires_grad_()
    slopes = torch.autograd.grad(nn.functional.gelu(finite).sum(), finite)[0]
    x = every[every.isfinite()].requires_grad_()
    found = torch.autograd.grad(gelu(x), x, torch.ones_like(x))[0]
    # torch's slopes have 1 + erf, which keeps no digits of what is smaller
    torch.testing.assert_close(found, slopes.bfloat16(), rtol=2**-7, atol=1e-15)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 24, 31, 30), (3, 1, 7, 9), (1, 5, 2, 3)])
def test_pooling_is_torchs(shape, monkeypatch):
    x = (images(*shape) * 2).round()  # many ties, zeros of both signs, negatives
    expected = with_gradient(lambda x: nn.functional.max_pool2d(x, 2), x + 0.0)
    compiled(monkeypatch)
    ours = with_gradient(max_pool_by_two, x + 0.0)
    assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])


def test_pooling_keeps_what_is_no_number():
    x = images(1, 2, 4, 4)
    x[0, 0, 1, 2] = float("nan")
    assert max_pool_by_two(x).isnan().sum() == 1 and max_pool_by_two(x)[0, 0, 0, 1].isnan()


@pytest.mark.parametrize("size", [(7, 7), (3, 3), (5, 8)])
def test_a_convolution_of_small_maps_is_torchs(size, monkeypatch):
    layer = nn.Conv2d(8, 16, 3, padding=1, bias=False).to(memory_format=LAST)
    x = images(32, 8, *size)
    seen = []
    whole = bfloat16._gradients
    monkeypatch.setattr(bfloat16, "_gradients", lambda *a: seen.append(a[-1]) or whole(*a))
    grads = {}
    for name, function in {"ours": lambda x: convolved(layer, x), "torch": layer}.items():
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
            out = function(inputs)
        out.backward(images(*out.shape, seed=2))
        grads[name] = out, inputs.grad, layer.weight.grad.clone()
    assert seen == [False, True] and grads["ours"][2].dtype == torch.float32
    assert torch.equal(grads["ours"][0], grads["torch"][0]) and torch.equal(
        grads["ours"][1], grads["torch"][1]
    )
    exact = torch.nn.grad.conv2d_weight(
        x.float(), layer.weight.shape, images(*grads["ours"][0].shape, seed=2).float(), padding=1
    )
    for found in (grads["ours"][2], grads["torch"][2]):
        assert (found - exact).norm() < 0.005 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_types_are_left_to_torch(dtype):
    x, layer = images(16, 8, 6, 6, dtype=dtype), nn.Conv2d(8, 8, 3, padding=1, bias=False).to(dtype)
    assert torch.equal(gelu(x), nn.functional.gelu(x))
    assert torch.equal(max_pool_by_two(x), nn.functional.max_pool2d(x, 2))
    assert torch.equal(convolved(layer, x), layer(x))


def test_odd_batches_frozen_kernels_and_no_gradient_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(bfloat16, "_Convolved", None)
    layer = nn.Conv2d(8, 8, 3, padding=1, bias=False).bfloat16()
    for x in (images(15, 8, 6, 6), images(16, 8, 6, 9)):
        assert torch.equal(convolved(layer, x), layer(x))
    with torch.no_grad():
        convolved(layer, images(16, 8, 6, 6))
    layer.requires_grad_(False)
    x = images(16, 8, 6, 6).requires_grad_()
    assert convolved(layer, x).requires_grad


def test_what_is_empty_or_not_dense_is_left_to_torch():
    x = images(4, 6, 8, 8)
    for strange in (x[:0], x[:, :, ::2], x[..., :5]):
        assert torch.equal(gelu(strange), nn.functional.gelu(strange))
        assert torch.equal(max_pool_by_two(strange), nn.functional.max_pool2d(strange, 2))
    part = x[1:]  # dense, and not at the beginning of its memory
    assert torch.equal(gelu(part), gelu(part.clone())) and torch.equal(
        max_pool_by_two(part), nn.functional.max_pool2d(part, 2)
    )


@pytest.mark.parametrize(
    "change", [{"bias": True}, {"stride": 2}, {"padding": 0}, {"groups": 2}, {"kernel_size": 5}]
)
def test_other_convolutions_are_refused(change):
    layer = nn.Conv2d(8, 8, **{"kernel_size": 3, "padding": 1, "bias": False} | change)
    with pytest.raises(ValueError, match="is not a 3 × 3 convolution"):
        convolved(layer, images(16, 8, 6, 6))
