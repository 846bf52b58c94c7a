"""TENT and its relatives: what adapts and what stays, closed forms, limits, and the way back."""

from __future__ import annotations

import copy
import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from lib.methods.tent import (  # noqa: E402
    METHODS,
    Lame,
    NotFinite,
    adapt,
    affine_parameters,
    chosen_parameters,
    entropy,
    entropy_gradient,
    flips_and_crops,
)
from lib.methods.tent._lame import affinity, assigned  # noqa: E402

CLASSES = 5
LEARNING = ("tent", "pseudo", "eata", "sar")


class Net(nn.Module):
    """A small convolutional classifier with two normalisation layers of a kind, and dropout."""

    def __init__(self, norm: str = "batch") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm1, self.norm2 = made_norm(norm, 6), made_norm(norm, 4)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.relu(self.norm2(self.conv2(x)))
        return self.out(self.drop(x.mean((2, 3))))


def made_norm(norm, size):
    return {
        "batch": nn.BatchNorm2d(8),
        "group": nn.GroupNorm(2, 8),
        "layer": nn.LayerNorm([8, size, size]),
        "instance": nn.InstanceNorm2d(8, affine=True),
        "none": nn.Identity(),
    }[norm]


def made(norm="batch"):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Net(norm)
        with torch.no_grad():
            net.out.weight.mul_(8)  # some answers are sure, so that every method has something to learn from
            for layer in (net.norm1, net.norm2):
                if norm == "batch":
                    layer.running_mean.normal_(0, 0.3)
                    layer.running_var.uniform_(0.5, 1.5)
                if norm != "none":
                    layer.weight.uniform_(0.5, 1.5)
    return net


@pytest.fixture
def net():
    return made()


@pytest.fixture
def stream(generator):
    """Four batches, the last of them smaller."""
    return [torch.randn(size, 3, 8, 8, generator=generator) + 0.5 for size in (32, 32, 32, 10)]


def options(method, generator=None):
    more = {"memo": {"generator": generator or torch.Generator().manual_seed(0), "copies": 4}}
    return more.get(method, {})


def learned(adapted, stream):
    """The answers to a stream."""
    return torch.cat([adapted(batch) for batch in stream])


# --- entropy -------------------------------------------------------------------------------------------------------


def test_entropy_is_between_certainty_and_ignorance():
    logits = torch.tensor([[0.0, 0, 0, 0], [200.0, 0, 0, 0], [0.0, 0, -300, -300]])
    torch.testing.assert_close(entropy(logits), torch.tensor([math.log(4), 0, math.log(2)]))


def test_the_gradient_of_the_entropy_is_its_closed_form(generator):
    logits = (3 * torch.randn(6, 5, 2, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    entropy(logits).sum().backward()
    torch.testing.assert_close(entropy_gradient(logits.detach()), logits.grad)
    assert torch.autograd.gradcheck(lambda z: entropy(z), logits)
    torch.testing.assert_close(logits.grad.sum(1), torch.zeros(6, 2, 3, dtype=torch.float64))


# --- what adapts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance"])
def test_scale_and_shift_of_normalisation_layers_change_and_nothing_else(norm, stream):
    source = made(norm)
    before = copy.deepcopy(source.state_dict())
    adapted = adapt(source, "tent")
    learned(adapted, stream)
    after = adapted.model.state_dict()
    expected = {f"{layer}.{part}" for layer in ("norm1", "norm2") for part in ("weight", "bias")}
    assert set(adapted.parameters) == expected
    for name, value in after.items():
        assert torch.equal(value, before[name]) != (name in expected), name
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


def test_only_what_is_chosen_can_be_trained(net):
    """The original post set `requires_grad` on modules, which freezes nothing: every weight then adapts."""
    for parameters, count in (("affine", 4), ("last", 2), ("all", 10)):
        chosen = chosen_parameters(net, parameters)
        trainable = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        assert trainable == set(chosen) and len(chosen) == count
    for module in net.modules():
        module.requires_grad = isinstance(module, nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("method", LEARNING)
def test_every_learning_method_keeps_to_its_parameters(method, net, stream):
    adapted = adapt(net, method, lr=1e-2)
    learned(adapted, stream)
    moved = {
        name
        for name, parameter in adapted.model.named_parameters()
        if not torch.equal(parameter, net.get_parameter(name))
    }
    assert moved == set(affine_parameters(net))


def test_tent_takes_the_step_that_the_formula_says(net, stream):
    """One step of plain gradient descent on the mean entropy, by hand."""
    rate = 0.1
    adapted = adapt(net, "tent", lr=rate, optimizer=lambda ps, lr: torch.optim.SGD(ps, lr=lr))
    adapted(stream[0])
    hand = copy.deepcopy(net).train()
    hand.drop.eval()
    logits = hand(stream[0])
    logits.backward(entropy_gradient(logits.detach()) / len(logits))
    for name, parameter in affine_parameters(hand).items():
        expected = parameter.detach() - rate * parameter.grad
        torch.testing.assert_close(adapted.model.get_parameter(name).detach(), expected)


def test_tent_lowers_the_entropy_of_what_it_sees(net, stream):
    adapted = adapt(net, "tent", lr=1e-2)
    before = entropy(adapted.predict(stream[0])).mean()
    for _ in range(20):
        adapted(stream[0])
    assert entropy(adapted.predict(stream[0])).mean() < 0.9 * before


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNING)
def test_a_rate_of_zero_is_norm(method, net, stream):
    assert torch.equal(
        learned(adapt(net, method, lr=0.0, optimizer="sgd"), stream), learned(adapt(net, "norm"), stream)
    )


def test_a_heavy_prior_is_the_source_and_none_is_the_batch(net, stream):
    source, norm = learned(adapt(net, "source"), stream), learned(adapt(net, "norm"), stream)
    assert torch.equal(learned(adapt(net, "norm", prior=math.inf), stream), source)
    torch.testing.assert_close(learned(adapt(net, "norm", prior=1e9), stream), source, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(learned(adapt(net, "norm", prior=1e-6), stream), norm, atol=1e-4, rtol=1e-4)
    halfway = learned(adapt(net, "norm", prior=32.0), stream)
    assert not torch.allclose(halfway, source) and not torch.allclose(halfway, norm)


def test_a_prior_counts_as_that_many_examples(net, stream):
    """With N = n the statistics are the plain average of source and batch."""
    adapted = adapt(net, "norm", prior=32.0)
    seen = []
    adapted.model.norm1.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    adapted(stream[0])
    x, out = seen[0]
    mean = (x.mean((0, 2, 3)) + net.norm1.running_mean) / 2
    var = (x.var((0, 2, 3), correction=0) + net.norm1.running_var) / 2
    expected = functional.batch_norm(x, mean, var, net.norm1.weight, net.norm1.bias, eps=net.norm1.eps)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_norm_does_not_depend_on_running_statistics(net, stream):
    before = learned(adapt(net, "norm"), stream)
    net.norm1.reset_running_stats()
    net.norm2.running_mean.fill_(7.0)
    assert torch.equal(learned(adapt(net, "norm"), stream), before)
    assert not torch.equal(learned(adapt(net, "source"), stream), before)


def test_norm_is_the_training_modes_forward(net, stream):
    train = copy.deepcopy(net).train()
    train.drop.eval()
    torch.testing.assert_close(adapt(net, "norm")(stream[0]), train(stream[0]).detach())


# --- order, and the way back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_episodic_answers_do_not_depend_on_the_order(method, net, stream):
    if method == "memo":  # always episodic, but its augmentations are drawn as it goes
        pytest.skip("draws")
    adapted = adapt(net, method, episodic=True)
    forward = [adapted(batch) for batch in stream]
    backward = [adapted(batch) for batch in reversed(stream)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


@pytest.mark.parametrize("method", LEARNING)
def test_online_answers_do(method, net, stream):
    forward = adapt(net, method, lr=1e-2)
    backward = adapt(net, method, lr=1e-2)
    first = [forward(batch) for batch in stream]
    second = [backward(batch) for batch in reversed(stream)]
    assert not torch.equal(first[-1], second[0])


@pytest.mark.parametrize("method", METHODS)
def test_reset_goes_back_exactly(method, net, stream, generator):
    adapted = adapt(net, method, **options(method, generator))
    start = copy.deepcopy(adapted._state())
    state = generator.get_state()
    first = learned(adapted, stream)
    adapted.reset()
    assert same(adapted._state(), start)
    generator.set_state(state)
    assert torch.equal(learned(adapted, stream), first)


def same(a, b):
    """Whether two nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_predict_teaches_nothing(net, stream):
    adapted = adapt(net, "tent")
    adapted(stream[0])
    before = copy.deepcopy(adapted._state())
    adapted.predict(stream[1])
    assert same(adapted._state(), before)


def test_several_steps_answer_with_the_last_forward_pass(net, stream):
    once = adapt(net, "tent", lr=1e-2)
    once(stream[0])
    second = once(stream[0])
    assert torch.equal(adapt(net, "tent", lr=1e-2, steps=2)(stream[0]), second)


# --- the relatives -------------------------------------------------------------------------------------------------


def test_pseudo_labels_are_the_models_own_answers(net, stream):
    adapted = adapt(net, "pseudo", lr=0.1, optimizer=lambda ps, lr: torch.optim.SGD(ps, lr=lr))
    adapted(stream[0])
    hand = copy.deepcopy(net).train()
    hand.drop.eval()
    logits = hand(stream[0])
    functional.cross_entropy(logits, logits.argmax(1)).backward()
    for name, parameter in affine_parameters(hand).items():
        torch.testing.assert_close(
            adapted.model.get_parameter(name).detach(), parameter.detach() - 0.1 * parameter.grad
        )


def test_examples_that_are_not_sure_teach_nothing(net, stream):
    for method, bar in (
        ("pseudo", {"threshold": 0.999999}),
        ("eata", {"margin": 1e-9}),
        ("sar", {"margin": 1e-9}),
    ):
        adapted = adapt(net, method, lr=1e-2, **bar)
        before = copy.deepcopy(adapted._state())
        adapted(stream[0])
        assert same(adapted._state(), before), method


def test_eata_learns_from_the_reliable_with_their_weights(net, stream):
    margin = 0.4 * math.log(CLASSES)
    adapted = adapt(net, "eata")
    logits = adapt(net, "norm")(stream[0])
    uncertainty = entropy(logits)
    kept = uncertainty < margin
    assert 0 < kept.sum() < len(kept)
    expected = ((margin - uncertainty).exp() * uncertainty)[kept].mean()
    torch.testing.assert_close(adapted._loss(logits), expected)
    torch.testing.assert_close(adapted.mean, logits.softmax(1)[kept].mean(0))
    # the second time only what is unlike the mean counts
    second = adapted._loss(logits)
    cosine = functional.cosine_similarity(logits.softmax(1), logits.softmax(1)[kept].mean(0)[None], dim=1)
    kept &= cosine < 0.4
    expected = ((margin - uncertainty).exp() * uncertainty)[kept].mean() if kept.any() else None
    assert (second is None) == (expected is None)
    if expected is not None:
        torch.testing.assert_close(second, expected)


def test_an_anchor_holds_eata_back(net, stream):
    def moved(**more):
        adapted = adapt(
            net, "eata", lr=1e-2, optimizer=lambda ps, lr: torch.optim.SGD(ps, lr=lr), redundancy=2.0, **more
        )
        for _ in range(3):
            learned(adapted, stream)
        parts = [(p - net.get_parameter(name)).square().sum() for name, p in adapted.parameters.items()]
        return float(torch.stack(parts).sum().detach())

    assert moved(anchor=stream[0], fisher=20.0) < 0.9 * moved()


def test_sar_climbs_before_it_steps(net, stream):
    rate, radius = 0.05, 0.05
    adapted = adapt(
        net,
        "sar",
        lr=rate,
        radius=radius,
        margin=1.1,
        floor=0.0,
        optimizer=lambda ps, lr: torch.optim.SGD(ps, lr=lr),
    )
    adapted(stream[0])
    hand = copy.deepcopy(net).train()
    hand.drop.eval()
    weights = affine_parameters(hand)
    start = {name: parameter.detach().clone() for name, parameter in weights.items()}
    entropy(hand(stream[0])).mean().backward()
    norm = torch.sqrt(sum(parameter.grad.square().sum() for parameter in weights.values()))
    with torch.no_grad():
        for parameter in weights.values():
            parameter += radius * parameter.grad / norm
            parameter.grad = None
    entropy(hand(stream[0])).mean().backward()
    for name, parameter in weights.items():
        expected = start[name] - rate * parameter.grad
        torch.testing.assert_close(adapted.model.get_parameter(name).detach(), expected)


def test_sar_comes_back_from_a_collapse(net, stream):
    adapted = adapt(net, "sar", lr=1e-2, floor=100.0)
    start = copy.deepcopy(adapted._state())
    adapted(stream[0])
    assert same(adapted._state(), start)


def test_lame_leaves_the_weights_and_follows_neighbours(net, stream):
    adapted = adapt(net, "lame")
    found = adapted(stream[0])
    assert isinstance(adapted, Lame) and found.shape == (32, CLASSES)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(32))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in adapted.model.state_dict().items())
    # one doubtful point among sure neighbours of class 1
    log_p = torch.tensor([[0.02, 0.98], [0.02, 0.98], [0.02, 0.98], [0.55, 0.45]]).log()
    features = torch.tensor([[1.0, 0], [1, 0.1], [1, -0.1], [1, 0.05]])
    weights = affinity(features, 3)
    assert torch.equal(weights, 1 - torch.eye(4))
    assert assigned(log_p, weights, 100).argmax(1).tolist() == [1, 1, 1, 1]
    alone = assigned(log_p, torch.zeros(4, 4), 100)
    torch.testing.assert_close(alone, log_p.exp())


def test_lame_answers_one_example_as_the_source(net, stream):
    one = stream[0][:1]
    torch.testing.assert_close(adapt(net, "lame")(one).softmax(1), adapt(net, "source")(one).softmax(1))


def test_memo_treats_every_image_alone(net, stream):
    few = stream[3][:3]
    adapted = adapt(
        net,
        "memo",
        generator=torch.Generator().manual_seed(5),
        copies=4,
        augment=lambda i, n, g: flipped(i, n),
    )
    together, alone = adapted(few), torch.cat([adapted(image[None]) for image in few])
    assert torch.equal(together, alone)
    assert same(adapted._state(), adapted._start)
    assert not torch.equal(together, torch.cat([adapted.predict(image[None]) for image in few]))


def flipped(image, copies):
    return torch.stack([image if i % 2 else image.flip(-1) for i in range(copies)])


def test_crops_hold_the_image_and_follow_the_generator(generator):
    image = torch.rand(3, 12, 12, generator=generator)
    found = flips_and_crops(image, 200, torch.Generator().manual_seed(1), pad=2)
    assert found.shape == (200, 3, 12, 12)
    assert torch.equal(found, flips_and_crops(image, 200, torch.Generator().manual_seed(1), pad=2))
    assert any(torch.equal(one, image) for one in found)
    assert any(torch.equal(one, image.flip(-1)) for one in found)


# --- segmentation, and wrong input ---------------------------------------------------------------------------------


def test_a_model_that_answers_places_adapts_too(generator):
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, CLASSES, 1)
    )
    x = torch.randn(4, 3, 8, 8, generator=generator)
    for method in ("source", "norm", "tent", "pseudo"):
        assert adapt(model, method)(x).shape == (4, CLASSES, 8, 8)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("tnet", {}, "did you mean 'tent'"),
        ("tent", {"rate": 1}, r"no option rate; it has lr, steps, parameters"),
        ("norm", {"lr": 1.0}, r"no option lr; it has prior, episodic"),
        ("eata", {"lr": -1.0}, "lr is -1.0"),
        ("tent", {"lr": math.nan}, "lr is nan"),
        ("tent", {"steps": 0}, "steps is 0"),
        ("tent", {"optimizer": "lion"}, "adam, adamw, sgd"),
        ("tent", {"parameters": "first"}, "affine, all, last"),
        ("norm", {"prior": -1.0}, "prior is -1.0"),
        ("pseudo", {"threshold": 1.0}, "threshold is 1.0"),
        ("lame", {"neighbours": 0}, "neighbours is 0"),
    ],
)
def test_wrong_options_are_named(net, method, given, message):
    with pytest.raises(ValueError, match=message):
        adapt(net, method, **given)


def test_a_model_without_what_adapts_is_named(stream):
    bare = made("none")
    with pytest.raises(ValueError, match="Net has no normalisation layer"):
        adapt(bare, "tent")
    with pytest.raises(ValueError, match="Net has no BatchNorm"):
        adapt(made("group"), "norm")
    with pytest.raises(ValueError, match="no scale and shift"):
        adapt(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), "tent")
    with pytest.raises(ValueError, match="no linear layer"):
        adapt(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "lame")
    with pytest.raises(ValueError, match="no running statistics"):
        adapt(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "norm", prior=4.0)
    assert adapt(bare, "tent", parameters="all")(stream[0]).shape == (32, CLASSES)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_batch_and_answers_that_are_not_finite_are_errors(method, net, stream, generator):
    adapted = adapt(net, method, **options(method, generator))
    with pytest.raises(ValueError, match="at least one example"):
        adapted(stream[0][:0])
    before = copy.deepcopy(adapted._state())
    broken = stream[0].clone()
    broken[3] = math.nan
    with pytest.raises(NotFinite, match=r"the logits of \d+ of \d+ examples are not finite"):
        adapted(broken)
    assert same(adapted._state(), before)
    assert torch.isfinite(adapted(stream[0])).all()
