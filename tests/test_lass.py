"""LASS: inside the box, really another answer, right for a linear model, the same in a batch as one by one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib import bench  # noqa: E402
from lib.core import PostsError  # noqa: E402
from lib.methods.lass import critical_sample_ratio, lass  # noqa: E402

R = 0.1


def network(seed=0, n_classes=4, *parts):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), *parts, nn.ReLU(), nn.Linear(16, n_classes))


@pytest.fixture
def inputs(generator):
    return torch.randn(80, 3, 2, 2, generator=generator)


def search(model, inputs, seed=1, **options):
    options = {"r": R, "alpha": 0.08, "beta": 0.06, "max_iterations": 20} | options
    return lass(model, inputs, generator=torch.Generator().manual_seed(seed), **options)


def test_what_is_reported_lies_in_the_box_and_has_another_answer(inputs):
    model = network()
    before = [p.clone() for p in model.parameters()]
    found = search(model, inputs)
    assert 0 < found.ratio < 1
    assert (found.adversarial - inputs).abs().max() <= R + 1e-6
    with torch.no_grad():
        then, now = (model(x).argmax(1) for x in (inputs, found.adversarial))
    assert torch.equal(then != now, found.critical)
    assert torch.equal(found.before, then) and torch.equal(found.after, now)
    assert torch.equal(found.adversarial[~found.critical], inputs[~found.critical])
    assert (found.iterations[~found.critical] == 20).all() and (found.iterations >= 1).all()
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def linear(weights, bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.shape[1], 2))
    with torch.no_grad():
        model[1].weight.copy_(weights)
        model[1].bias.copy_(bias)
    return model


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31), st.floats(0.01, 1.0), st.sampled_from([0.07, 0.25, 2.0]), st.sampled_from([1, 100])
)
def test_a_linear_model_is_critical_where_the_margin_is_small(seed, r, step, scale):
    """|Δf(x)| < r ‖Δw‖₁, however certain the model is: the corner of the box is reached in ⌈r / α⌉ steps."""
    generator = torch.Generator().manual_seed(seed)
    weights, bias = (scale * torch.randn(*s, generator=generator) for s in ((2, 6), (2,)))
    inputs = torch.randn(50, 6, generator=generator)
    model = linear(weights, bias)
    with torch.no_grad():
        logits = model(inputs)
    margin = (logits[:, 0] - logits[:, 1]).abs() / (weights[0] - weights[1]).abs().sum()
    clear = (margin - r).abs() > 1e-4
    found = search(model, inputs, r=r, alpha=step * r, beta=0, max_iterations=math.ceil(1 / step))
    assert torch.equal(found.critical[clear], (margin < r)[clear])


def test_a_batch_is_its_examples(inputs):
    """Without noise: verdict, place and number of steps do not depend on the company."""
    model = network()
    together = search(model, inputs, beta=0)
    for i in range(len(inputs)):
        alone = search(model, inputs[i : i + 1], beta=0)
        assert alone.critical == together.critical[i] and alone.iterations == together.iterations[i]
        assert torch.allclose(alone.adversarial, together.adversarial[i : i + 1], atol=1e-6)


def test_an_example_that_is_done_does_not_move_the_others(inputs):
    """With noise: each element's noise belongs to its example, whoever has left."""
    model = network()
    found = search(model, inputs)
    stubborn = (~found.critical).nonzero()[:5, 0]
    again = search(model, inputs)
    assert torch.equal(found.adversarial, again.adversarial)
    assert not again.critical[stubborn].any()


def test_more_room_and_more_steps_find_more(inputs):
    model = network()
    ratios = [search(model, inputs, r=r, beta=0).ratio for r in (0.0, 0.02, 0.05, 0.1, 0.3)]
    assert ratios == sorted(ratios) and ratios[0] == 0 and ratios[-1] > ratios[1]
    few = search(model, inputs, max_iterations=1).critical
    many = search(model, inputs, max_iterations=20).critical
    assert (many | ~few).all()


def test_a_constant_classifier_has_no_critical_sample(inputs):
    logits = torch.tensor([1.0, 0.0])
    for constant in (lambda x: logits.expand(len(x), -1), lambda x: logits + 0 * x.flatten(1)[:, :2]):
        assert critical_sample_ratio(constant, inputs, max_iterations=3, generator=torch.Generator()) == 0


def test_the_ratio_over_batches(inputs):
    model = network()
    options = {"r": R, "alpha": 0.08, "beta": 0.0, "max_iterations": 5, "generator": torch.Generator()}
    whole = lass(model, inputs, **options).ratio
    assert critical_sample_ratio(model, inputs, batch_size=7, **options) == pytest.approx(whole)


def test_the_search_is_made_in_evaluation_mode(inputs):
    """Batch norm and dropout: nothing moves, and the modes come back."""
    model = network(0, 4, nn.BatchNorm1d(16), nn.Dropout(0.5)).train()
    model[3].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    search(model, inputs)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.training and model[2].training and not model[3].training


@pytest.mark.parametrize(
    "wrong", [{"r": -1}, {"alpha": -1}, {"beta": -1}, {"max_iterations": 0}, {"r": math.nan}]
)
def test_settings_out_of_range_are_refused(inputs, wrong):
    with pytest.raises(ValueError, match="are wanted"):
        search(network(), inputs, **wrong)


def test_bad_networks_and_inputs_are_refused(inputs):
    with pytest.raises(ValueError, match="inputs is empty"):
        search(network(), inputs[:0])
    with pytest.raises(ValueError, match="not finite"):
        search(lambda x: x.flatten(1) * math.nan, inputs)
    with pytest.raises(ValueError, match="2 or more classes"):
        search(lambda x: x.flatten(1)[:, :1], inputs)
    with pytest.raises(ValueError, match="batch_size is 0"):
        critical_sample_ratio(network(), inputs, batch_size=0, generator=torch.Generator())


# --- the benchmark -------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch):
    """On a few embedded images; the sides are called once and not timed."""
    module = bench._load(Path(__file__).resolve().parents[1], "lass")
    monkeypatch.setenv("POSTS_DATA", "")
    monkeypatch.setattr(module, "ITERATIONS", 5)

    def once(ours, peer, repeats):
        assert torch.equal(ours(), peer())
        return [np.ones((2, repeats))] * 2

    monkeypatch.setattr(module.bench, "in_turn", once)
    return module


def test_the_benchmarks_peers_agree_with_ours(compared):
    found = compared.run(repeats=2, count=6, epochs=1)
    assert [bench._missing(row) for row in found["rows"]] == [[]] * 6
    assert "none let go" in found["rows"][1]["case"] and "r = 8/255" in found["notes"][1]


def test_the_benchmark_refuses_a_peer_that_finds_something_else(compared, monkeypatch):
    monkeypatch.setattr(compared, "one_by_one", lambda *given: ~compared.to_the_end(*given))
    with pytest.raises(PostsError, match="one by one gives other verdicts"):
        compared.run(repeats=2, count=6, epochs=1)
