"""Where noise enters: what each model can and cannot be, independent members, and the sign of the comparison; the chain."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lib.methods.engression import StochasticNet, Trainer  # noqa: E402
from lib.methods.multistep import Chain  # noqa: E402
from lib.methods.noise_placement import (  # noqa: E402
    PLACEMENTS,
    PlacementNet,
    paired_z,
    summed_energy,
)
from lib.methods.scores import energy_loss  # noqa: E402


@pytest.mark.parametrize("kind", PLACEMENTS)
def test_each_member_sees_its_own_column(kind, generator):
    """A change of one column of x changes that member's samples and no other's."""
    net = PlacementNet(kind, 3, width=8, generator=generator)
    x = torch.randn(20, 3, generator=generator)
    changed = x.clone()
    changed[:, 1] += 1
    before, after = (net(part, 4, torch.Generator().manual_seed(0)) for part in (x, changed))
    assert before.shape == (20, 4, 3)
    moved = (before != after).any(dim=0).any(dim=0)
    assert moved.tolist() == [False, True, False]


def test_noise_after_the_function_has_the_same_spread_everywhere(generator):
    """And before it not, where the function bends; given the same noise, samples differ by the function alone."""
    x = torch.tensor([[-2.0], [0.0], [2.0]])
    net = PlacementNet("post", 1, generator=generator)
    samples = net(x, 2000, generator)[..., 0]
    torch.testing.assert_close(samples.std(dim=1), samples.std(dim=1).mean().expand(3), rtol=0.1, atol=0)
    assert samples.std() > 0


def test_noise_before_the_function_is_a_shift_of_x(generator):
    """Samples at x are values of one function at x + n: with x moved by an observed n they are met again."""
    net = PlacementNet("pre", 1, generator=generator)
    eps = torch.empty(1, 50, net.noise_dim).normal_(generator=torch.Generator().manual_seed(3))
    shifts = net.noise(eps)[0]
    samples = net(torch.zeros(1, 1), 50, torch.Generator().manual_seed(3))[0]
    torch.testing.assert_close(samples, net.main(shifts[None])[0])


def test_the_loss_of_members_is_the_sum_of_their_losses(generator):
    y, samples = torch.randn(9, 3, generator=generator), torch.randn(9, 4, 3, generator=generator)
    alone = sum(energy_loss(y[:, i], samples[..., i]) for i in range(3))
    torch.testing.assert_close(summed_energy(y, samples), alone)


def test_z_is_above_zero_where_the_second_scores_are_better(generator):
    scores = torch.randn(1000, 3, generator=generator)
    worse = scores + torch.tensor([0.1, 0.0, -0.1]) + 0.1 * torch.randn(1000, 3, generator=generator)
    z = paired_z(worse, scores)
    assert z[0] > 10 and abs(z[1]) < 4 and z[2] < -10
    assert (paired_z(scores, scores) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("after", 2), "kind is 'after'"), (("pre", 0), "members, width and noise_dim")],
)
def test_models_that_cannot_be_are_refused(arguments, message):
    """Past the tests' own check of types, which would come first."""
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(PlacementNet.__init__)(PlacementNet.__new__(PlacementNet), *arguments)


# --- several steps -------------------------------------------------------------------------------------------------


def test_the_pairs_of_a_chain_lead_from_noise_to_data(generator):
    """The first step's input is pure noise, the last one's target the data, and what a step gives the next one takes."""
    chain = Chain([StochasticNet(3, 2, width=8) for _ in range(3)])
    x, y = torch.randn(50, 1, generator=generator), 5 + torch.randn(50, 2, generator=generator)
    steps = {k: chain.pairs(k, x, y, torch.Generator().manual_seed(k)) for k in (1, 2, 3)}
    for inputs, _ in steps.values():
        torch.testing.assert_close(inputs[:, :1], x)
    assert abs(steps[3][0][:, 1:].mean()) < 0.5  # Z
    torch.testing.assert_close(steps[1][1], y)
    same = [chain.pairs(k, x, y, torch.Generator().manual_seed(0)) for k in (1, 2, 3)]
    for lower, upper in pairwise(same):
        torch.testing.assert_close(lower[0][:, 1:], upper[1])


def test_a_chain_learns_and_samples(generator):
    x = torch.zeros(400, 1)
    y = 3 + 0.5 * torch.randn(400, 1, generator=generator)
    chain = Chain([StochasticNet(2, 1, width=16, noise_dim=4, generator=generator) for _ in range(2)])
    for k in (1, 2):
        trainer = Trainer(chain.networks[k - 1], *chain.pairs(k, x, y, generator), lr=0.01)
        for _ in range(150):
            trainer.step()
    samples = chain.eval()(x[:1], 2000, generator)
    assert samples.shape == (1, 2000, 1)
    assert abs(samples.mean() - 3) < 0.2 and abs(samples.std() - 0.5) < 0.2


def test_a_chain_takes_a_network_and_a_step_that_it_has():
    with pytest.raises(ValueError, match="one network or more"):
        Chain([])
    with pytest.raises(ValueError, match="k is 3; 1 to 1"):
        Chain([StochasticNet(2, 1)]).pairs(3, torch.zeros(2, 1), torch.zeros(2, 1))
