"""Our batch norm against torch's: output, gradients, running statistics, evaluation; and the paper's equations."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.methods.batch_norm import BatchNorm, normalise  # noqa: E402

SHAPES = [(8, 5), (8, 5, 7), (6, 5, 4, 3)]
THEIRS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def pair(shape, generator):
    ours, theirs = BatchNorm(5).double(), THEIRS[len(shape)](5).double()
    with torch.no_grad():
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.copy_(torch.randn(5, generator=generator))
            other.copy_(own)
    return ours, theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_as_torch_does(shape, generator):
    ours, theirs = pair(shape, generator)
    for _ in range(3):
        x = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 2).requires_grad_()
        weights = torch.randn(shape, generator=generator, dtype=torch.float64)
        found, expected = ours(x), theirs(x)
        assert torch.allclose(found, expected)
        mine, others = (
            torch.autograd.grad((y * weights).sum(), [x, layer.weight, layer.bias], retain_graph=True)
            for y, layer in ((found, ours), (expected, theirs))
        )
        assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(mine, others, strict=True))
    assert torch.allclose(ours.running_mean, theirs.running_mean)
    assert torch.allclose(ours.running_var, theirs.running_var)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x))


def test_biased_for_the_output_unbiased_for_the_running_variance():
    x = torch.tensor([[0.0], [2.0]])  # mean 1, biased variance 1, unbiased 2
    layer = BatchNorm(1, eps=0.0, momentum=0.5)
    assert torch.allclose(layer(x), torch.tensor([[-1.0], [1.0]]))
    assert layer.running_var.item() == pytest.approx(0.5 * 1 + 0.5 * 2)
    assert layer.running_mean.item() == pytest.approx(0.5)


def test_each_channel_gets_mean_0_and_variance_1(generator):
    scaled, mean, variance = normalise(5 * torch.randn(20, 3, 6, 6, generator=generator) + 4, eps=0.0)
    assert torch.allclose(scaled.mean([0, 2, 3]), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.var([0, 2, 3], correction=0), torch.ones(3), atol=1e-5)
    assert mean.shape == variance.shape == (3,)


def test_one_value_has_no_variance():
    with pytest.raises(ValueError, match="more than one value"):
        normalise(torch.ones(1, 4))
