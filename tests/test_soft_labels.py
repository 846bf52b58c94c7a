"""Soft labels: the T² law, its limits, controls, cached answers, and the bias of a class that was never seen."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.methods.soft_labels import (  # noqa: E402
    answers,
    best_bias,
    distillation_loss,
    entropy,
    logit_matching_loss,
    matching_bias,
    one_hot,
    shuffled,
    smoothed,
    soft_cross_entropy,
    soften,
)

N, K = 64, 10


@pytest.fixture
def student(generator):
    return torch.randn(N, K, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def teacher(generator):
    return 3 * torch.randn(N, K, generator=generator, dtype=torch.float64)


@pytest.fixture
def labels(generator):
    return torch.randint(K, (N,), generator=generator)


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


# --- temperature ----------------------------------------------------------------------------------------------------


def test_softer_with_temperature_and_the_same_answer(teacher):
    temperatures = [0.5, 1, 2, 4, 8, 20, 1000]
    soft = [soften(teacher, t) for t in temperatures]
    assert all(torch.allclose(p.sum(-1), torch.ones(N, dtype=p.dtype)) for p in soft)
    entropies = [entropy(p) for p in soft]
    assert all((low < high).all() for low, high in pairwise(entropies))
    assert all((p.argmax(-1) == teacher.argmax(-1)).all() for p in soft)
    assert torch.allclose(entropies[-1], torch.full((N,), math.log(K), dtype=torch.float64), atol=1e-4)


def test_entropy_of_certainty_is_zero():
    assert entropy(torch.tensor([0.0, 1.0, 0.0])) == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_must_be_positive(teacher, temperature):
    with pytest.raises(ValueError, match="temperature is"):
        soften(teacher, temperature)


# --- losses ----------------------------------------------------------------------------------------------------------


def test_the_gradient_is_the_difference_over_the_temperature(student, teacher):
    """∂CE/∂z = (softmax(z / T) − q) / (T B)."""
    for temperature in (1.0, 3.0):
        found = gradient(soft_cross_entropy(student, soften(teacher, temperature), temperature), student)
        expected = (soften(student, temperature) - soften(teacher, temperature)) / (temperature * N)
        assert torch.allclose(found, expected, atol=1e-12)


def slope(norms, temperatures):
    return (math.log(norms[-1]) - math.log(norms[-2])) / (
        math.log(temperatures[-1]) - math.log(temperatures[-2])
    )


def test_the_slopes_of_the_gradient_norm(student, teacher, labels):
    """Targets that do not change with T give T⁻¹, the teacher's at T give T⁻²."""
    temperatures = (200.0, 400.0)
    fixed = [
        gradient(soft_cross_entropy(student, one_hot(labels, K).double(), t), student).norm().item()
        for t in temperatures
    ]
    taught = [
        gradient(soft_cross_entropy(student, soften(teacher, t), t), student).norm().item()
        for t in temperatures
    ]
    assert slope(fixed, temperatures) == pytest.approx(-1, abs=0.01)
    assert slope(taught, temperatures) == pytest.approx(-2, abs=0.01)


def test_at_high_temperature_logits_are_matched(student, teacher):
    soft = gradient(distillation_loss(student, teacher, temperature=1e4, soft_weight=1), student)
    matched = gradient(logit_matching_loss(student, teacher), student)
    assert (soft - matched).norm() < 1e-3 * matched.norm()
    assert logit_matching_loss(teacher + 7, teacher).item() == pytest.approx(0, abs=1e-20)


def test_cross_entropy_and_divergence_have_the_same_gradient(student, teacher):
    target = soften(teacher, 4)
    divergence = nn.functional.kl_div((student / 4).log_softmax(-1), target, reduction="batchmean")
    cross = soft_cross_entropy(student, target, 4)
    assert torch.allclose(gradient(cross, student), gradient(divergence, student), atol=1e-14)
    assert (cross - divergence).item() == pytest.approx(entropy(target).mean().item())


def test_without_the_soft_term_it_is_the_hard_loss(student, teacher, labels):
    hard = nn.functional.cross_entropy(student, labels)
    assert distillation_loss(student, teacher, labels, temperature=4, soft_weight=0).item() == hard.item()


def test_a_certain_teacher_is_the_hard_loss(student, labels):
    certain = torch.where(one_hot(labels, K) > 0, 0.0, -1e9).double()
    soft = distillation_loss(student, certain, temperature=1, soft_weight=1)
    assert soft.item() == pytest.approx(nn.functional.cross_entropy(student, labels).item())


def test_the_two_terms_are_weighed(student, teacher, labels):
    mixed = distillation_loss(student, teacher, labels, temperature=4, soft_weight=0.3)
    soft = distillation_loss(student, teacher, temperature=4, soft_weight=1)
    hard = nn.functional.cross_entropy(student, labels)
    assert mixed.item() == pytest.approx(0.3 * soft.item() + 0.7 * hard.item())


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_lies_between_0_and_1(student, teacher, labels, weight):
    with pytest.raises(ValueError, match="soft_weight is"):
        distillation_loss(student, teacher, labels, temperature=4, soft_weight=weight)


def test_labels_are_needed_for_the_hard_term(student, teacher):
    with pytest.raises(ValueError, match="no labels"):
        distillation_loss(student, teacher, temperature=4, soft_weight=0.5)


# --- labels ----------------------------------------------------------------------------------------------------------


def test_smoothing(labels):
    soft = smoothed(labels, K, 0.1)
    assert torch.allclose(soft.sum(-1), torch.ones(N))
    assert torch.allclose(soft.gather(1, labels[:, None]), torch.tensor(0.9 + 0.01))
    assert torch.equal(smoothed(labels, K, 0), one_hot(labels, K))
    with pytest.raises(ValueError, match="epsilon is 2"):
        smoothed(labels, K, 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(1, 30))
def test_shuffled_labels_keep_what_they_should(seed, n_classes, n):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    soft = torch.rand(n, n_classes, generator=generator).softmax(-1)
    mixed = shuffled(soft, labels, generator)
    assert torch.equal(mixed.sort(-1).values, soft.sort(-1).values)
    assert torch.equal(mixed.gather(1, labels[:, None]), soft.gather(1, labels[:, None]))


def test_shuffled_labels_are_shuffled_evenly(generator):
    """Each other class is as likely to get a given probability as any."""
    n = 30_000
    soft = torch.tensor([0.5, 0.3, 0.15, 0.05]).expand(n, -1)
    places = shuffled(soft, torch.zeros(n, dtype=torch.int64), generator)[:, 1:].argmax(-1)
    shares = torch.bincount(places, minlength=3) / n
    assert (shares - 1 / 3).abs().max() < 4 * (2 / 9 / n) ** 0.5


# --- a teacher's answers ---------------------------------------------------------------------------------------------


@pytest.fixture
def network(generator):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def test_cached_answers_are_the_recomputed_ones_and_leave_the_teacher_alone(network, generator):
    images = torch.randn(50, 3, 2, 2, generator=generator)
    network.train()
    network[3].eval()  # a part in a mode of its own
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = answers(network, images, batch_size=16)
    assert not found.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training and network[2].training and not network[3].training
    network.eval()
    with torch.no_grad():
        assert torch.allclose(found, network(images), atol=1e-6)


def test_answers_prepare_their_inputs():
    images = torch.full((5, 1, 2, 2), 255, dtype=torch.uint8)
    found = answers(lambda inputs: inputs.flatten(1), images, prepare=lambda part: part / 255)
    assert torch.equal(found, torch.ones(5, 4))
    with pytest.raises(ValueError, match="images is empty"):
        answers(lambda inputs: inputs, images[:0])


def test_modes_come_back_after_an_error(network):
    network.train()
    seen = []

    def fails(inputs):
        seen.append(any(part.training for part in network.modules()))
        raise RuntimeError("out of order")

    network.register_forward_pre_hook(lambda module, inputs: fails(inputs))
    with pytest.raises(RuntimeError, match="out of order"):
        answers(network, torch.zeros(2, 3, 2, 2))
    assert seen == [False]
    assert all(part.training for part in network.modules())


# --- biases ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 0.9), st.floats(0.1, 30))
def test_the_matched_mass_equals_its_target(seed, share, scale):
    logits = scale * torch.randn(200, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    bias = matching_bias(logits, {3: share})
    assert (logits + bias).softmax(-1).mean(0)[3].item() == pytest.approx(share, abs=1e-5)
    assert torch.equal(bias[[0, 1, 2, 4]], torch.zeros(4, dtype=torch.float64))


def test_several_classes_and_all_classes_are_matched(generator):
    logits = 4 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
    for mass in ({1: 0.2, 2: 0.3}, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}):
        shares = (logits + matching_bias(logits, mass)).softmax(-1).mean(0)
        for k, share in mass.items():
            assert shares[k].item() == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(
    "mass", [{}, {5: 0.1}, {0: 0.0}, {0: 1.0}, {0: 0.6, 1: 0.4}, dict.fromkeys(range(5), 0.1)]
)
def test_impossible_masses_are_refused(mass):
    with pytest.raises(ValueError, match=r"mass is|shares"):
        matching_bias(torch.zeros(10, 5), mass)


def test_logits_must_be_finite():
    with pytest.raises(ValueError, match="not finite"):
        matching_bias(torch.full((10, 5), math.nan), {0: 0.1})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 3))
def test_the_best_bias_is_the_best_of_all(seed, n, count):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 5, generator=generator).mul(4).round().div(4).double()  # with ties
    labels = torch.randint(5, (n,), generator=generator)
    classes = list(range(count))
    bias, errors = best_bias(logits, labels, classes)

    def errors_at(b):
        moved = logits.clone()
        moved[:, classes] += b
        return int((moved.argmax(-1) != labels).sum())

    assert errors == errors_at(bias)
    grid = torch.arange(-12, 12, 1 / 8).tolist()
    between = [
        b for b in grid if b * 4 != round(b * 4)
    ]  # at ties the answer depends on the order of the classes
    assert errors <= min(map(errors_at, between))


def test_errors_of_a_class_do_not_rise_with_its_bias(generator):
    logits = torch.randn(300, 5, generator=generator)
    labels = torch.full((300,), 3)
    wrong = [
        int(((logits + b * torch.eye(5)[3]).argmax(-1) != labels).sum()) for b in torch.arange(-3, 3, 0.25)
    ]
    assert all(after <= before for before, after in pairwise(wrong))


def test_a_constant_for_all_classes_changes_nothing(teacher):
    assert torch.equal((teacher + 5).argmax(-1), teacher.argmax(-1))
    assert torch.allclose(soften(teacher + 5, 2), soften(teacher, 2))


@pytest.mark.parametrize("classes", [[], [0, 1, 2, 3, 4]])
def test_best_bias_wants_some_classes(classes):
    with pytest.raises(ValueError, match="some, but not all"):
        best_bias(torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64), classes)
