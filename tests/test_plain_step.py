"""The step of the plain network written out: what autograd does, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
numba = pytest.importorskip("numba")

from lib.methods import plain_kernels  # noqa: E402
from lib.methods.engression import Engressor, StochasticNet, Trainer  # noqa: E402
from lib.methods.plain_step import PlainTrainer, fits  # noqa: E402


class WithTorchsNoise(PlainTrainer):
    """With the noise that `Trainer` has."""

    def draw_noise(self):
        self.network.draw_noise(self.m, self.batch_size, self.noise_generator, [self.noise])


def made(kind, m, n_out, offset=0.0):
    generator = torch.Generator().manual_seed(0)
    network = StochasticNet(3, n_out, width=9, noise_dim=4, generator=generator)
    x = torch.randn(40, 3, generator=generator) + offset
    y = torch.randn(40, n_out, generator=generator)
    return kind(network, x, y, m=m, batch_size=15, lr=0.01, seed=1)


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("m", [2, 3])
def test_the_step_is_autograds(m, n_out, offset):
    """Losses, weights and running statistics after some steps; with inputs far from 0 too.

    The bias before batch norm is left out, and with it the running mean that it moves: its gradient is 0, of which
    autograd leaves rounding errors that Adam blows up to whole steps.
    """
    plain, other = (made(kind, m, n_out, offset) for kind in (WithTorchsNoise, Trainer))
    for _ in range(6):
        torch.testing.assert_close(plain.step(), other.step(), rtol=1e-3, atol=1e-4)
    bias = other.network.noisy[0].bias.detach() - plain.network.noisy[0].bias.detach()
    first, second = plain.network.state_dict(), other.network.state_dict()
    for name in first:
        if name not in ("noisy.0.bias", "noisy_norms.0.running_mean"):
            torch.testing.assert_close(first[name], second[name], rtol=2e-2, atol=2e-3)
    moved = second["noisy_norms.0.running_mean"] - first["noisy_norms.0.running_mean"]
    assert moved.abs().max() <= bias.abs().max() + 1e-2


@pytest.mark.parametrize("n_out", [1, 2])
def test_its_gradients_are_autograds(n_out):
    """Of one step, exactly."""
    plain, other = (made(kind, 3, n_out) for kind in (WithTorchsNoise, Trainer))
    for trainer in (plain, other):
        trainer.step()
    for (name, first), second in zip(
        plain.network.named_parameters(), other.network.parameters(), strict=True
    ):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_training_goes_on_from_its_state():
    straight, halved, resumed = (made(PlainTrainer, 2, 1) for _ in range(3))
    losses = [float(straight.step()) for _ in range(9)]
    for _ in range(4):
        halved.step()
    resumed.load(halved.state())
    assert [float(resumed.step()) for _ in range(5)] == losses[4:]


def test_it_is_for_the_plain_network_only():
    assert fits(StochasticNet(1, 1))
    others = [{"layers": 2}, {"blocks": 1}, {"noise_dim": 0}, {"batch_norm": False}]
    assert not any(fits(StochasticNet(1, 1, **settings)) for settings in others)
    assert not fits(StochasticNet(1, 1), "bf16") and not fits(StochasticNet(1, 1).double())
    assert not fits(StochasticNet(1, 1).to("meta"))
    with pytest.raises(ValueError, match="one noisy layer with batch norm"):
        PlainTrainer(StochasticNet(1, 1, blocks=1), torch.zeros(4, 1), torch.zeros(4, 1))


def test_the_estimator_uses_it_where_it_can(monkeypatch, rng):
    used = []
    monkeypatch.setattr(PlainTrainer, "step", lambda self: used.append(1) or torch.zeros(()))
    x = rng.standard_normal((30, 2))
    Engressor(epochs=2, batch_size=None).fit(x, x[:, 0])
    assert len(used) == 2
    Engressor(epochs=2, batch_size=None, layers=2).fit(x, x[:, 0])
    assert len(used) == 2


def drawn(n, state=77):
    out = np.empty(n, np.float32)
    plain_kernels.normals(out, np.uint64(state))
    return out.astype(float)


def test_normals_are_normal_and_independent():
    """Four moments, the distribution function, and the tail; pairs share a word, neighbours do not."""
    n = 4_000_000
    x = drawn(n)
    for power, (mean, variance) in {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}.items():
        assert abs((x**power).mean() - mean) < 4.5 * np.sqrt(variance / n), power
    assert stats.kstest(x[: n // 4], "norm").pvalue > 1e-4
    beyond = 2 * stats.norm.sf(4) * n  # 253 are expected
    assert abs((np.abs(x) > 4).sum() - beyond) < 4.5 * np.sqrt(beyond)
    first, second = x[: n // 2], x[n // 2 :]
    for one, other in ((first, second), (first**2, second**2), (x[1:], x[:-1]), (x[1:] ** 2, x[:-1] ** 2)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / np.sqrt(len(one))


def test_a_radius_is_that_of_box_and_muller():
    """Of a pair: r² = −2 ln u is exponential, the angle uniform over the whole circle."""
    x = drawn(400_000, 5)
    first, second = np.split(x, 2)
    assert stats.kstest((first**2 + second**2) / 2, "expon").pvalue > 1e-4
    octants = np.floor((np.arctan2(second, first) + np.pi) / (np.pi / 4)).clip(0, 7)
    assert stats.chisquare(np.bincount(octants.astype(int))).pvalue > 1e-4


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_normals_of_any_number(n):
    assert np.isfinite(drawn(n)).all() and (drawn(n) == drawn(n)).all()
    assert (drawn(n) != drawn(n, 78)).all()


def test_noise_has_its_scale_and_kind():
    """Uniform noise and scales other than 1 are the network's own."""
    x = torch.zeros(2000, 1)
    for settings, mean, sd in (
        ({}, 0, 1),
        ({"noise_scale": 3}, 0, 3),
        ({"noise": "uniform"}, 0.5, 12**-0.5),
        ({"noise": "uniform", "noise_scale": 2}, 1, 2 * 12**-0.5),
    ):
        trainer = PlainTrainer(StochasticNet(1, 1, **settings), x, x, seed=3)
        trainer.draw_noise()
        assert abs(trainer.noise.mean() - mean) < 0.02 * sd and abs(trainer.noise.std() - sd) < 0.02 * sd
