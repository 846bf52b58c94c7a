"""Scores: closed forms at the truth, a minimum there, exact pairs in value and gradient, and clear refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from lib.methods import scores  # noqa: E402
from lib.methods.scores import energy_loss, energy_scores, energy_terms, pinball, threshold  # noqa: E402

N = 40_000


def pairwise(y, samples, beta=1.0):
    """The loss, example by example and pair by pair."""
    n, m, _ = samples.shape
    total = samples.new_zeros(())
    for i in range(n):
        first = sum((samples[i, j] - y[i]).norm() ** beta for j in range(m)) / m
        second = sum(
            (samples[i, j] - samples[i, k]).norm() ** beta for j in range(m) for k in range(m) if j != k
        ) / (m * (m - 1))
        total = total + first - second / 2
    return total / n


# --- closed forms at the truth -------------------------------------------------------------------------------------

LAWS = {
    "normal, σ = 2": (lambda g, *s: 2 * torch.randn(*s, generator=g), 2 / math.sqrt(math.pi)),
    "uniform": (lambda g, *s: torch.rand(*s, generator=g), 1 / 6),
    "exponential": (lambda g, *s: -torch.rand(*s, generator=g).log(), 1 / 2),
    "Laplace, b = 3": (
        lambda g, *s: 3 * (torch.rand(*s, generator=g).log() - torch.rand(*s, generator=g).log()),
        0.75 * 3,
    ),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("m", [2, 7])
def test_loss_at_the_truth_is_half_the_mean_distance(law, m, generator):
    sample, expected = LAWS[law]
    found = energy_scores(sample(generator, N), sample(generator, N, m))
    assert abs(found.mean() - expected) < 4 * found.std() / N**0.5


@pytest.mark.parametrize("d", [2, 5])
def test_loss_at_the_truth_in_more_dimensions(d, generator):
    """σ Γ((d + 1) / 2) / Γ(d / 2) for a normal with variance σ² in each of d directions."""
    sigma = 1.5
    expected = sigma * math.gamma((d + 1) / 2) / math.gamma(d / 2)
    y = sigma * torch.randn(N, d, generator=generator)
    found = energy_scores(y, sigma * torch.randn(N, 3, d, generator=generator))
    assert abs(found.mean() - expected) < 4 * found.std() / N**0.5


@pytest.mark.parametrize("m", [2, 4, 16])
def test_the_minimum_is_at_the_truth_for_every_m(m, generator):
    """Scale and place of a normal, on a grid: the factor m / (m − 1) is what puts the best scale at 1."""
    y = torch.randn(N, generator=generator)
    z = torch.randn(N, m, generator=generator)
    scales = [0.4, 0.6, 0.8, 1.0, 1.25, 1.6]
    assert scales[int(torch.stack([energy_loss(y, s * z) for s in scales]).argmin())] == 1.0
    places = [-0.4, -0.2, 0.0, 0.2, 0.4]
    assert places[int(torch.stack([energy_loss(y, p + z) for p in places]).argmin())] == 0.0


def test_the_first_term_alone_wants_a_point_and_the_second_alone_wants_them_far_apart(generator):
    y, z = torch.randn(N, generator=generator), torch.randn(N, 4, generator=generator)
    terms = [energy_terms(y, scale * z) for scale in (0.01, 1.0, 3.0)]
    assert terms[0][0] < terms[1][0] < terms[2][0]
    assert terms[0][1] < terms[1][1] < terms[2][1]
    loss = energy_loss(y, 3 * z)
    assert loss == terms[2][0] - terms[2][1] / 2


# --- exact pairs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("m", [2, 3, 8])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0])
def test_value_and_gradient_are_those_of_the_loops(d, m, beta, generator):
    """Sorted (d = 1, β = 1), blocked, and two samples alone: all agree with the plain definition."""
    y = torch.randn(5, d, generator=generator, dtype=torch.float64)
    samples = torch.randn(5, m, d, generator=generator, dtype=torch.float64, requires_grad=True)
    found, wanted = energy_loss(y, samples, beta), pairwise(y, samples, beta)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(value, samples)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("block", [1, 100, 10_000])
def test_blocks_do_not_show(block, monkeypatch, generator):
    y = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    samples = torch.randn(7, 9, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    wanted = energy_loss(y, samples)
    (gradient,) = torch.autograd.grad(wanted, samples)
    monkeypatch.setattr(scores, "BLOCK", block)
    found = energy_loss(y, samples)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, samples)[0], gradient)


@pytest.mark.parametrize("d", [1, 2])
def test_far_from_zero_no_digits_are_lost(d, generator):
    """cdist takes a matrix product for more than 25 samples, and is off by percents at an offset of 100."""
    samples = torch.randn(20, 64, d, generator=generator)
    near, far = (energy_terms(torch.zeros(20, d), samples + offset)[1] for offset in (0.0, 100.0))
    torch.testing.assert_close(near, far, rtol=2e-5, atol=0)
    moved = samples[..., :1] + 100
    truth = (moved.double()[:, :, None] - moved.double()[:, None]).abs()[..., 0]
    assert (torch.cdist(moved, moved).double() - truth).abs().max() > 1e-2


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("m", [2, 5])
@pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.0])
def test_samples_that_coincide_give_finite_gradients(d, m, beta):
    samples = torch.ones(3, m, d, requires_grad=True)
    loss = energy_loss(torch.ones(3, d), samples, beta)
    loss.backward()
    assert loss == 0 and torch.isfinite(samples.grad).all()


def test_the_expectation_does_not_depend_on_m(generator):
    """Unbiased: the mean over many examples is the same for 2 samples and for 20, also away from the truth."""
    y = torch.randn(N, generator=generator)
    found = [energy_scores(y, 0.5 + 2 * torch.randn(N, m, generator=generator)) for m in (2, 20)]
    error = math.hypot(*(float(values.std()) / N**0.5 for values in found))
    assert abs(found[0].mean() - found[1].mean()) < 4 * error


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.5, 1.0, 1.5]),
    st.floats(-50, 50),
    st.floats(0.1, 10),
    st.integers(1, 3),
)
def test_translation_changes_nothing_and_scale_comes_out(seed, beta, shift, scale, d):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(6, d, generator=generator, dtype=torch.float64)
    samples = torch.randn(6, 4, d, generator=generator, dtype=torch.float64)
    loss = energy_loss(y, samples, beta)
    torch.testing.assert_close(energy_loss(y + shift, samples + shift, beta), loss, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(energy_loss(scale * y, scale * samples, beta), scale**beta * loss)


def test_at_beta_two_only_the_mean_counts(generator):
    """E|Y − y|² − ½ E|Y − Y'|² = (E Y − y)²: wider samples around the same mean have the same expected loss."""
    y = torch.randn(N, generator=generator)
    z = torch.randn(N, 8, generator=generator)
    narrow, wide = (energy_scores(y, 0.3 + scale * z, 2) for scale in (0.5, 1.5))
    assert abs(wide.mean() - narrow.mean()) < 4 * float((wide - narrow).std()) / N**0.5
    assert abs(narrow.mean() - (1 + 0.3**2)) < 0.05


def test_one_example_at_a_time_gives_the_same(generator):
    y, samples = torch.randn(9, generator=generator), torch.randn(9, 5, generator=generator)
    alone = [energy_loss(y[i : i + 1], samples[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(energy_scores(y, samples), torch.stack(alone))
    torch.testing.assert_close(energy_loss(y, samples), torch.stack(alone).mean())
    torch.testing.assert_close(energy_loss(y[:, None], samples[..., None]), energy_loss(y, samples))


# --- refusals ------------------------------------------------------------------------------------------------------

Y, S = torch.zeros(4, 2), torch.zeros(4, 3, 2)
WRONG = {
    "m of one": ((Y, S[:, :1]), "m is 1"),
    "rows that differ": ((Y[:3], S), r"\(3, 2\)"),
    "columns that differ": ((Y[:, :1], S), r"\(4, 1\)"),
    "flat with deep": ((Y[:, 0], S), r"\(4,\)"),
    "no rows": ((Y[:0], S[:0]), r"\(0, 2\)"),
    "NaN in y": ((Y + math.nan, S), "y holds NaN"),
    "infinite samples": ((Y, S + math.inf), "samples holds NaN or infinity"),
    "beta of zero": ((Y, S, 0), "beta is 0"),
    "beta above two": ((Y, S, 2.5), "beta is 2.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_in_words(case):
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        scores._shaped(
            *arguments, *(1,) * (len(arguments) == 2)
        )  # the tests' check of shapes comes before it elsewhere


# --- thresholds and quantiles --------------------------------------------------------------------------------------


def test_the_pinball_losses_of_many_levels_make_the_crps(generator):
    """Twice the mean over fine levels is the energy score, in one dimension."""
    y = torch.randn(300, generator=generator, dtype=torch.float64)
    samples = torch.randn(300, 2000, generator=generator, dtype=torch.float64)
    levels = [(i + 0.5) / 200 for i in range(200)]
    quantiles = samples.quantile(torch.tensor(levels, dtype=torch.float64), dim=1).T
    found = 2 * pinball(y, quantiles, levels).mean(dim=1)
    torch.testing.assert_close(found.mean(), energy_loss(y, samples), rtol=5e-3, atol=0)


def test_pinball_is_least_at_the_quantile(generator):
    y = torch.randn(N, generator=generator)
    places = torch.tensor([-0.5, 0.0, 0.5, 0.674, 0.9, 1.3])
    losses = [pinball(y, place.expand(N, 1), [0.75]).mean() for place in places]
    assert places[int(torch.stack(losses).argmin())] == 0.674
    with pytest.raises(ValueError, match="levels are"):
        pinball(y, places[:2].expand(N, 2), [0.5])


def test_a_threshold_hides_what_is_below(generator):
    """Two forecasts that agree above the threshold have the same score there; where they differ above, not."""
    y = torch.randn(50, generator=generator)
    samples = torch.randn(50, 20, generator=generator)
    lower = torch.where(samples < 1, samples - 5, samples)
    score = [energy_loss(threshold(y, 1.0), threshold(part, 1.0)) for part in (samples, lower, samples + 1)]
    assert score[0] == score[1] != score[2]
