"""Probes see what is there, and training goes on as if nobody had looked."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.methods.probes import (  # noqa: E402
    activations,
    layers,
    logits_gradient,
    losses_along,
    losses_along_gradient,
    moments,
    weight_gradients,
)


def network(*, norm=True, dropout=0.3):
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.Conv2d(6, 4, 3)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 16, 5))


@pytest.fixture
def batch(generator):
    return torch.randn(10, 3, 8, 8, generator=generator), torch.randint(5, (10,), generator=generator)


def test_activations_are_those_of_the_pass(batch):
    model = network(dropout=0.0)
    names = layers(model, nn.Conv2d)
    assert names == ["0", "3"]
    with activations(model, names) as seen:
        model(batch[0])
    first = model[0](batch[0])
    assert torch.allclose(seen["0"].mean, first.mean([0, 2, 3]).double(), atol=1e-6)
    assert torch.allclose(seen["0"].variance, first.var([0, 2, 3], correction=0).double(), rtol=1e-4)
    assert list(seen) == names
    with activations(model, ["0"], reduce=lambda output: output.clone()) as whole:
        model(batch[0])
    assert torch.equal(whole["0"], first)


def test_moments_of_a_matrix():
    found = moments(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    assert found.mean.tolist() == [2, 2] and found.variance.tolist() == [1, 0]


def test_hooks_are_gone_even_after_an_error(batch):
    model = network()

    def fail(output):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"), activations(model, ["0"], reduce=fail):
        model(batch[0])
    assert not any(part._forward_hooks for part in model.modules())


def test_unknown_layers_are_named():
    with pytest.raises(ValueError, match="no layer conv9; it has 0, 1"), activations(network(), ["conv9"]):
        pass
    with pytest.raises(ValueError, match="no layer of the kinds asked for: LSTM"):
        layers(network(), nn.LSTM)


def trained(batch, look):
    """Three steps of training with dropout and batch norm, with `look` before each."""
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(1)
    for _ in range(3):
        look(model)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        look(model)
        optimiser.step()
    return model.state_dict()


@pytest.mark.parametrize("probe", ["weight_gradients", "losses_along_gradient", "activations"])
def test_looking_changes_nothing(batch, probe):
    def look(model):
        if probe == "weight_gradients":
            weight_gradients(model, *batch)
        elif probe == "losses_along_gradient":
            losses_along_gradient(model, *batch, [0.1, 1.0])
        else:
            with activations(model, layers(model, nn.Conv2d)):
                model.eval()
                model(batch[0])
                model.train()

    alone, watched = trained(batch, lambda model: None), trained(batch, look)
    assert all(torch.equal(value, watched[name]) for name, value in alone.items())


def test_gradients_are_autograds(batch):
    model = network(dropout=0.0)
    found = weight_gradients(model, *batch)
    assert all(p.grad is None for p in model.parameters())
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    assert {name: True for name, _ in model.named_parameters()} == {
        name: torch.allclose(found[name], p.grad, atol=1e-7) for name, p in model.named_parameters()
    }


def test_a_network_without_gradients_is_refused(batch):
    with pytest.raises(ValueError, match="no parameter"):
        weight_gradients(network().requires_grad_(False), *batch)


def test_the_logits_gradient(generator):
    logits = torch.randn(7, 5, generator=generator, requires_grad=True)
    labels = torch.randint(5, (7,), generator=generator)
    expected = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), logits)[0]
    found = logits_gradient(logits.detach(), labels)
    assert torch.allclose(found, expected, atol=1e-7)
    assert torch.allclose(found.sum(1), torch.zeros(7), atol=1e-7)


@pytest.mark.parametrize("norm", [True, False])
def test_the_loss_falls_along_the_gradient_with_its_slope(batch, norm):
    """loss(w − s g) = loss(w) − s ‖g‖² + O(s²)."""
    model = network(norm=norm, dropout=0.0).double()
    inputs, labels = batch[0].double(), batch[1]
    square = sum(g.square().sum() for g in weight_gradients(model, inputs, labels).values()).item()
    before, after = losses_along_gradient(model, inputs, labels, [0.0, 1e-5, 2e-5])
    assert before == pytest.approx(nn.functional.cross_entropy(model(inputs), labels).item())
    assert after[0].item() == before
    slopes = (after[1:] - before) / torch.tensor([1e-5, 2e-5])
    assert torch.allclose(slopes, torch.full((2,), -square, dtype=torch.float64), rtol=1e-3)


def test_a_step_is_plain_gradient_descent(batch):
    model = network(dropout=0.0)
    _, after = losses_along_gradient(model, *batch, torch.tensor([0.3]))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimiser.step()
    assert after.item() == pytest.approx(
        nn.functional.cross_entropy(model(batch[0]), batch[1]).item(), rel=1e-5
    )
    with pytest.raises(ValueError, match="step_sizes is empty"):
        losses_along_gradient(model, *batch, [])


def test_along_another_direction(batch):
    model = network(dropout=0.0)
    ones = {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}
    found = losses_along(model, *batch, ones, [0.0, 0.1])
    before = [nn.functional.cross_entropy(model(batch[0]), batch[1]).item()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1
    after = nn.functional.cross_entropy(model(batch[0]), batch[1]).item()
    assert found.tolist() == pytest.approx([*before, after], rel=1e-5)
    with pytest.raises(ValueError, match="no parameter nowhere"):
        losses_along(model, *batch, {"nowhere": torch.ones(1)}, [0.1])
