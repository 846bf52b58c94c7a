"""The noise model: uniform, drawn once, and equal on average to one soft target; the original's shifted labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from scipy import stats  # noqa: E402
from torch import nn  # noqa: E402

from lib.methods.label_noise import (  # noqa: E402
    ORDERS,
    NoisyLabels,
    against_shares,
    label_shares,
    pair_order,
    shifted_labels,
    soft_target,
    uniform_labels,
)
from lib.methods.noise_ceiling import noisy_accuracy  # noqa: E402
from lib.nets import StackedMLP, mlp  # noqa: E402

N, ALPHA, CLASSES = 20_000, 10, 10
MNIST = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.fixture
def table(generator):
    return uniform_labels(N, ALPHA, CLASSES, generator)


@pytest.fixture
def labels():
    """Labels in MNIST's proportions, in random order."""
    weights = torch.tensor(MNIST, dtype=torch.float64)
    return torch.multinomial(weights, N, replacement=True, generator=torch.Generator().manual_seed(1))


def p_uniform(values, n_classes=CLASSES):
    """The p-value of Pearson's χ² for uniform classes."""
    return stats.chisquare(torch.bincount(values.flatten().long(), minlength=n_classes).numpy()).pvalue


# --- the table -----------------------------------------------------------------------------------------------------


def test_noise_is_uniform(table):
    """Overall, in each column, and for the images of each place in the set."""
    assert table.shape == (N, ALPHA) and table.dtype == torch.uint8
    assert p_uniform(table) > 1e-3
    parts = [*table.T, *table.view(10, -1)]
    assert min(map(p_uniform, parts)) > 1e-3 / len(parts)


def test_noise_is_independent_of_the_own_label(table, labels):
    """One in ten noisy labels is right, for every class; a contingency table of own and noisy label shows nothing."""
    own = (table.long() == labels[:, None]).float().mean().item()
    assert abs(own - 0.1) < 4 * (0.1 * 0.9 / (N * ALPHA)) ** 0.5
    joint = np.zeros((CLASSES, CLASSES))
    np.add.at(joint, (labels.numpy().repeat(ALPHA), table.flatten().numpy()), 1)
    assert stats.chi2_contingency(joint).pvalue > 1e-3


def test_copies_of_an_image_are_independent(table):
    """With replacement: two copies agree one time in ten."""
    pairs = (table[:, :1] == table[:, 1:]).float().mean().item()
    assert abs(pairs - 0.1) < 4 * (0.1 * 0.9 / N) ** 0.5


def test_shifted_labels_are_not_uniform(labels):
    """The χ² above does see what the original did."""
    assert p_uniform(shifted_labels(labels, ALPHA, 123)) < 1e-12


def test_a_seed_decides_the_table():
    def make(seed):
        return uniform_labels(100, 3, 10, torch.Generator().manual_seed(seed))

    assert torch.equal(make(1), make(1)) and not torch.equal(make(1), make(2))


@given(st.integers(1, 30), st.integers(0, 8), st.integers(2, 256))
@settings(max_examples=30, deadline=None)
def test_tables_of_any_size(n, alpha, n_classes):
    table = uniform_labels(n, alpha, n_classes, torch.Generator().manual_seed(0))
    assert table.shape == (n, alpha)
    assert alpha == 0 or int(table.max()) < n_classes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((0, 1, 10), "n is 0"),
        ((5, -1, 10), "alpha is -1"),
        ((5, 1, 1), "n_classes"),
        ((5, 1, 257), "n_classes"),
    ],
)
def test_bad_tables(options, named):
    with pytest.raises(ValueError, match=named):
        uniform_labels(*options, torch.Generator())


# --- pairs ---------------------------------------------------------------------------------------------------------


def test_pairs_are_each_image_once_clean_and_alpha_times_noisy(table, labels):
    pairs = NoisyLabels(labels, table)
    assert len(pairs) == N * (ALPHA + 1)
    image, label = pairs.take(torch.arange(len(pairs)))
    assert torch.equal(image, torch.arange(N).repeat_interleave(ALPHA + 1))
    label = label.view(N, ALPHA + 1)
    assert torch.equal(label[:, 0], labels) and torch.equal(label[:, 1:], table.long())


def test_labels_are_the_same_whenever_they_are_read(table, labels, generator):
    """In any order and in any batch: passes over the data do not draw again."""
    pairs = NoisyLabels(labels, table)
    first = pairs.take(torch.arange(len(pairs)))[1]
    for _ in range(3):
        order = torch.randperm(len(pairs), generator=generator)
        parts = [pairs.take(part)[1] for part in order.split(4096)]
        assert torch.equal(torch.cat(parts), first[order])


def test_no_noise_is_the_set_itself(labels, generator):
    pairs = NoisyLabels(labels, uniform_labels(N, 0, 10, generator))
    image, label = pairs.take(torch.arange(N))
    assert len(pairs) == N and torch.equal(image, torch.arange(N)) and torch.equal(label, labels)


@given(st.integers(1, 40), st.integers(0, 6), st.integers(0, 100), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_shifted_labels_are_the_originals(n, alpha, shift, random):
    """Its Dataset, pair by pair: `y = dataset[(idx + shift) % n][1]` unless idx is a multiple of α + 1."""
    own = [random.randrange(10) for _ in range(n)]
    labels = torch.tensor(own)
    pairs = NoisyLabels(labels, shifted_labels(labels, alpha, shift))
    expected = [
        own[i // (alpha + 1)] if i % (alpha + 1) == 0 else own[(i + shift) % n] for i in range(len(pairs))
    ]
    assert pairs.take(torch.arange(n * (alpha + 1)))[1].tolist() == expected


def test_a_table_of_another_length(table, labels):
    """ValueError; where shapes are checked, as in these tests, jaxtyping says it first."""
    for noise in (table[:-1], table[:, 0]):
        with pytest.raises((ValueError, TypeError), match=r"noise has shape|parameter 'noise'"):
            NoisyLabels(labels, noise)


# --- what noise is on average --------------------------------------------------------------------------------------


def gradient(network, inputs, target):
    loss = nn.functional.cross_entropy(network(inputs), target)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*network.parameters()])])


@pytest.fixture
def network():
    return mlp((12, 8, 10), generator=torch.Generator().manual_seed(2)).double()


FREQUENCIES = {"uniform": [1.0] * 10, "mnist": MNIST}


@pytest.mark.parametrize("kind", FREQUENCIES)
@pytest.mark.parametrize("alpha", [0, 1, 7, 50])
def test_the_mixtures_gradient_is_the_soft_targets(network, generator, kind, alpha):
    """Expected gradient over the α + 1 pairs: the own label once, each class α times its frequency."""
    frequencies = torch.tensor(FREQUENCIES[kind], dtype=torch.float64)
    frequencies /= frequencies.sum()
    for label in (0, 4, 9):
        inputs = torch.randn(1, 12, generator=generator).double()
        own = torch.tensor([label])
        expected = gradient(network, inputs, own)
        for k in range(10):
            expected = expected + alpha * frequencies[k] * gradient(network, inputs, torch.tensor([k]))
        soft = soft_target(own, alpha, frequencies)
        assert soft.sum().item() == pytest.approx(1)
        found = gradient(network, inputs, soft)
        torch.testing.assert_close(found, expected / (1 + alpha), rtol=1e-10, atol=1e-13)


def test_the_gradient_over_all_copies_of_an_image(network, generator):
    """Through the pairs themselves: their mean gradient is that of the soft target with their own frequencies."""
    alpha, inputs = 40, torch.randn(1, 12, generator=generator).double()
    labels = torch.tensor([3])
    table = uniform_labels(1, alpha, 10, generator)
    _, targets = NoisyLabels(labels, table).take(torch.arange(alpha + 1))
    mean = gradient(network, inputs.expand(alpha + 1, -1), targets)
    drawn = torch.bincount(table[0].long(), minlength=10).double() / alpha
    found = gradient(network, inputs, soft_target(labels, alpha, drawn))
    torch.testing.assert_close(found, mean, rtol=1e-10, atol=1e-13)


def test_a_stack_takes_the_soft_target_too(generator):
    """The hand-written gradient: over all pairs of three images, what their soft targets give."""
    alpha, inputs = 20, torch.rand(3, 12, generator=generator)
    labels, table = torch.tensor([1, 8, 2]), uniform_labels(3, alpha, 10, generator)
    stack = StackedMLP((12, 8, 10), 2)
    stack.initialise(generator)
    image, targets = NoisyLabels(labels, table).take(torch.arange(3 * (alpha + 1)))
    stack.backward(inputs[image], targets)
    pairs = stack.gradients.clone()
    drawn = [torch.bincount(row.long(), minlength=10).float() / alpha for row in table]
    soft = [soft_target(labels[i : i + 1], alpha, drawn[i]) for i in range(3)]
    stack.backward(inputs, torch.cat(soft))
    torch.testing.assert_close(stack.gradients, pairs, rtol=1e-4, atol=1e-7)


def test_soft_targets_closed_form():
    found = soft_target(torch.tensor([2]), 3, torch.full((4,), 0.25))
    assert found[0].tolist() == pytest.approx([3 / 16, 3 / 16, 7 / 16, 3 / 16])


# --- the order of the pairs ----------------------------------------------------------------------------------------


@given(st.sampled_from(ORDERS), st.integers(1, 30), st.integers(0, 6), st.integers(0, 99))
def test_an_order_goes_through_every_pair_once(order, n, alpha, seed):
    found = pair_order(order, n, alpha, torch.Generator().manual_seed(seed))
    assert torch.equal(found.sort().values, torch.arange(n * (alpha + 1)))
    clean = found % (alpha + 1) == 0
    if order == "clean_first":
        assert clean[:n].all()
    elif order == "noisy_first":
        assert clean[n * alpha :].all()
    elif order == "adjacent":
        images = (found // (alpha + 1)).view(n, alpha + 1)
        assert (images == images[:, :1]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_parts_of_an_order_are_shuffled_by_the_generator(order, generator):
    """Another seed, another order of the images, in each part; the same seed, the same."""
    one, other = (pair_order(order, 50, 3, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one[:50], other[:50]) and not torch.equal(one[-150:], other[-150:])
    assert torch.equal(one, pair_order(order, 50, 3, torch.Generator().manual_seed(0)))
    images = one // 4
    assert abs(np.corrcoef(np.arange(200), images.numpy())[0, 1]) < 0.5
    assert not torch.equal(images.unique_consecutive(), torch.arange(50))


def test_orders_that_do_not_exist(generator):
    with pytest.raises(Exception, match="sorted"):  # the checker of annotations, where it is on, is first
        pair_order("sorted", 3, 1, generator)
    with pytest.raises(ValueError, match="alpha is -1"):
        pair_order("shuffled", 3, -1, generator)


# --- measuring on noisy labels -------------------------------------------------------------------------------------


def test_shares_are_the_soft_target_on_average(labels, table):
    shares = label_shares(labels, table, CLASSES)
    assert torch.allclose(shares.sum(1), torch.ones(N))
    for k in range(CLASSES):
        target = soft_target(torch.tensor([k]), ALPHA, torch.full((CLASSES,), 0.1))[0]
        assert torch.allclose(shares[labels == k].mean(0), target, atol=0.01)


def test_shares_without_noise_are_the_labels(labels):
    shares = label_shares(labels, torch.zeros(N, 0, dtype=torch.uint8), CLASSES)
    assert torch.equal(shares, nn.functional.one_hot(labels, CLASSES).float())


def test_against_shares_is_the_mean_over_all_pairs(generator):
    """Accuracy and cross-entropy as one would compute them pair by pair."""
    n, alpha, members = 40, 7, 3
    labels = torch.randint(CLASSES, (n,), generator=generator)
    noise = uniform_labels(n, alpha, CLASSES, generator)
    logits = torch.randn(members, n, CLASSES, generator=generator)
    accuracy, loss = against_shares(logits, label_shares(labels, noise, CLASSES))
    image, label = NoisyLabels(labels, noise).take(torch.arange(n * (alpha + 1)))
    for member in range(members):
        answers = logits[member, image]
        assert accuracy[member].item() == pytest.approx((answers.argmax(1) == label).float().mean().item())
        assert loss[member].item() == pytest.approx(nn.functional.cross_entropy(answers, label).item(), 1e-5)


@pytest.mark.parametrize("right", [0.1, 0.6, 1.0])
def test_noisy_accuracy_is_what_a_learner_of_known_accuracy_gets(labels, table, right):
    """(a + α / 10) / (1 + α): answers that are right with probability a, against all labels."""
    draw = torch.Generator().manual_seed(5)
    correct = torch.rand(N, generator=draw) < right
    answers = torch.where(correct, labels, (labels + torch.randint(1, 10, (N,), generator=draw)) % 10)
    logits = nn.functional.one_hot(answers, CLASSES).float()[None]
    found, _ = against_shares(logits, label_shares(labels, table, CLASSES))
    expected = noisy_accuracy(correct.double().mean().item(), ALPHA)
    assert found.item() == pytest.approx(expected, abs=4 * (0.1 / (N * (ALPHA + 1))) ** 0.5)
