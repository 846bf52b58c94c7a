"""Inputs and labels without pattern have the moments and shares they should; dispersion is 1 for equal difficulty."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from lib.methods.memorization import dispersion, random_inputs, random_labels  # noqa: E402


def test_noise_has_the_moments_of_the_data(generator):
    """Channel by channel, within four standard errors; an N(0, 1) would be far off."""
    images = torch.rand(400, 3, 8, 8, generator=generator) * torch.tensor([0.2, 0.5, 1.0]).view(-1, 1, 1)
    noise = random_inputs(images, generator)
    m = images.numel() // 3
    for channel in range(3):
        real, made = images[:, channel].double(), noise[:, channel].double()
        sd = real.std(correction=0)
        assert abs(made.mean() - real.mean()) < 4 * sd / m**0.5
        assert abs(made.var() / sd**2 - 1) < 4 * (2 / m) ** 0.5
    assert (noise.std(0).mean() - images.std(0).mean()).abs() < 0.02  # across examples, not within them
    assert noise.dtype == images.dtype and noise.shape == images.shape


def test_noise_is_independent_of_the_image(generator):
    images = torch.rand(2000, 1, 4, 4, generator=generator)
    noise = random_inputs(images, generator)
    correlation = torch.corrcoef(torch.stack([images.flatten(), noise.flatten()]))[0, 1].abs()
    assert correlation < 4 / images.numel() ** 0.5
    with pytest.raises(ValueError, match="more than one value"):
        random_inputs(images[:1, :, :1, :1], generator)


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 1.0])
def test_a_share_of_the_labels_is_drawn_anew(generator, share):
    """Of those one in ten is right, class by class; the others are as they were."""
    n, classes = 20_000, 10
    labels = torch.randint(classes, (n,), generator=generator)
    drawn = random_labels(labels, classes, share, generator)
    changed = round(share * n)
    kept = (drawn == labels).double().mean().item()
    sd = (changed * 0.1 * 0.9) ** 0.5 / n
    assert abs(kept - (1 - share + share / classes)) <= 4 * sd
    assert abs((torch.bincount(drawn, minlength=classes) / n - 0.1).abs().max()) < 0.02
    assert torch.equal(random_labels(labels, classes, 0, generator), labels)


@pytest.mark.parametrize(
    ("classes", "share", "says"), [(10, 1.5, "share is"), (10, -0.1, "share is"), (1, 1, "n_classes")]
)
def test_impossible_shares_are_refused(generator, classes, share, says):
    with pytest.raises(ValueError, match=says):
        random_labels(torch.zeros(5, dtype=torch.int64), classes, share, generator)


@pytest.mark.parametrize(("members", "p"), [(10, 0.3), (100, 0.5), (100, 0.95)])
def test_equal_difficulty_has_dispersion_1(generator, members, p):
    n = 4000
    counts = (torch.rand(n, members, generator=generator) < p).sum(1)
    assert dispersion(counts, members) == pytest.approx(1, abs=4 * (2 / n) ** 0.5)


def test_the_dispersion_of_a_beta_binomial(generator):
    """Var / binomial = 1 + (m − 1) ρ, with ρ = 1 / (a + b + 1)."""
    n, members, a, b = 20_000, 20, 2.0, 3.0
    p = torch.distributions.Beta(a, b)
    torch.manual_seed(0)
    counts = (torch.rand(n, members, generator=generator) < p.sample((n, 1))).sum(1)
    assert dispersion(counts, members) == pytest.approx(1 + (members - 1) / (a + b + 1), rel=0.05)


def test_all_or_nothing_is_as_dispersed_as_can_be():
    members = 50
    counts = torch.tensor([0, members] * 500)
    assert dispersion(counts, members) == pytest.approx(members, rel=0.01)
    assert math.isnan(dispersion(torch.full((10,), members), members))


@pytest.mark.parametrize(("counts", "members"), [([1], 10), ([1, 2], 1), ([-1, 2], 10), ([1, 11], 10)])
def test_impossible_counts_are_refused(counts, members):
    with pytest.raises(ValueError, match=r"wanted"):
        dispersion(torch.tensor(counts), members)
