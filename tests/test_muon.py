"""Muon: singular values near 1, SGD for the rest as torch has it, exact resumption."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lib.muon import COEFFICIENTS, Muon, orthogonalised  # noqa: E402


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_rounds_are_the_polynomial_of_the_singular_values(shape):
    """The same singular vectors; each singular value goes through p(s) = a s + b s³ + c s⁵ once a round."""
    matrix = torch.randn(shape, dtype=torch.float64, generator=seeded())
    found = orthogonalised(matrix, rounds=4, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / (matrix.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(4):
        s = a * s + b * s**3 + c * s**5
    assert torch.allclose(found, u @ s.diag() @ v, atol=1e-10)


def test_singular_values_come_near_one():
    """For those that begin above a hundredth of the norm; the scale of the matrix means nothing."""
    matrix = torch.randn(64, 200, generator=seeded())
    found = orthogonalised(matrix, rounds=5)
    values = torch.linalg.svdvals(found)
    assert (values > 0.6).all() and (values < 1.3).all()
    assert torch.allclose(orthogonalised(1000 * matrix, rounds=5), found, atol=0.02)
    assert found.dtype == matrix.dtype


def test_other_groups_are_torchs_sgd():
    """Nesterov's momentum and weight decay, to rounding."""
    mine, theirs = (torch.nn.Parameter(torch.randn(5, 3, generator=seeded())) for _ in range(2))
    ours = Muon([mine], lr=0.1, momentum=0.8, weight_decay=0.01)
    reference = torch.optim.SGD([theirs], lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=True)
    generator = seeded(1)
    for _ in range(20):
        mine.grad = torch.randn(5, 3, generator=generator)
        theirs.grad = mine.grad.clone()
        ours.step()
        reference.step()
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_kernel_keeps_its_norm_and_moves_by_the_rate():
    """Before each step its norm is √outputs, and the step's singular values are near the rate."""
    kernel = torch.nn.Parameter(torch.randn(16, 4, 3, 3, generator=seeded()))
    optimizer = Muon([{"params": [kernel], "orthogonal": True}], lr=0.1, momentum=0.0, rounds=5)
    kernel.grad = torch.randn(16, 4, 3, 3, generator=seeded(1))
    before = kernel.detach() * 4 / kernel.detach().norm()
    optimizer.step()
    values = torch.linalg.svdvals((before - kernel.detach()).flatten(1))
    assert (values > 0.06).all() and (values < 0.13).all()


def test_resumed_is_uninterrupted():
    def run(interrupted):
        kernel = torch.nn.Parameter(torch.randn(8, 4, 3, 3, generator=seeded()))
        bias = torch.nn.Parameter(torch.zeros(8))
        groups = [{"params": [kernel], "orthogonal": True, "lr": 0.2}, {"params": [bias]}]
        optimizer = Muon(groups, lr=0.1)
        generator = seeded(1)
        for step in range(8):
            kernel.grad = torch.randn(8, 4, 3, 3, generator=generator)
            bias.grad = torch.randn(8, generator=generator)
            optimizer.step()
            if interrupted and step == 4:
                state = optimizer.state_dict()
                optimizer = Muon(groups, lr=0.1)
                optimizer.load_state_dict(state)
        return kernel, bias

    for whole, part in zip(run(False), run(True), strict=True):
        assert torch.equal(whole, part)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="momentum 1.0"):
        Muon([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=1.0)
