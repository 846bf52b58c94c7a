"""The experiments on batch normalisation: what a config decides, what probing leaves alone, and the original's mistakes."""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.convnets import convolutions  # noqa: E402
from lib.core import PROFILES, InputError  # noqa: E402
from lib.data.images import tiny  # noqa: E402
from lib.experiments import understanding_bn as post  # noqa: E402
from tests.test_training import Interrupted, Memory  # noqa: E402

BASE = {"depth": 8, "width": 4, "bn": True, "data": "tiny", "images": None, "batch_size": 20, "seed": 0}
CURVE = BASE | {"arm": "corrected", "lr": 0.1, "epochs": 4, "evaluated": 40, "images": 60}


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def data():
    return tiny(n_train=120, n_test=60, channels=3, size=32)


@pytest.fixture
def room(data):
    return Room(data)


# --- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_every_experiment_and_no_config_twice(profile):
    configs = post.configs(profile)
    keys = [config.key for config in configs]
    assert len(set(keys)) == len(keys)
    assert {config.experiment for config in configs} == {
        "learning_curves", "initial_gradients", "step_sizes", "activations", "class_bias", "divergence", "largest_rate",
        "channels",
    }  # fmt: skip
    for config in configs:
        if isinstance(config, post.InitialGradients) and (config.weights, config.linear) == post.PAPERS:
            assert (config.depth, config.width) == (110, 16)  # the paper's network in every profile
    seeds = {config.seed for config in configs if config.experiment == "divergence"}
    assert len(seeds) >= (2 if profile == "smoke" else 5)


def test_full_is_the_papers():
    curves = [c for c in post.configs("full") if isinstance(c, post.LearningCurves) and c.arm == "corrected"]
    assert {(c.bn, c.lr) for c in curves} == {(False, 1e-4), (True, 1e-4), (True, 0.003), (True, 0.1)}
    assert {(c.depth, c.epochs, c.images, c.batch_size) for c in curves} == {(110, 165, None, 128)}
    sizes = next(c for c in post.configs("full") if isinstance(c, post.StepSizes))
    assert (sizes.batches, sizes.steps, sizes.low, sizes.high) == ((1, 4, 7), 80, -5.5, 0.5)


# --- what runs share -----------------------------------------------------------------------------------------------


def test_a_subset_is_drawn_from_all_classes_and_by_the_seed():
    images = torch.arange(1000, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.arange(1000) // 100  # sorted by class
    _, first = post._drawn(images, labels, 200, 0)
    _, again = post._drawn(images, labels, 200, 0)
    _, other = post._drawn(images, labels, 200, 1)
    assert first.bincount(minlength=10).min() >= 8
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert post._drawn(images, labels, 1000, 0)[1] is labels


def test_channel_moments_are_those_of_the_pixels(data):
    mean, std = post.channel_moments(data.train.images)
    pixels = data.train.images.double() / 255
    assert mean == pytest.approx(pixels.mean([0, 2, 3]).tolist(), rel=1e-12)
    assert std == pytest.approx(pixels.std([0, 2, 3], correction=0).tolist(), rel=1e-9)


def test_training_and_test_images_have_moments_of_their_own(room, data):
    found = post.run(post.Channels(data="tiny", seed=0), room)
    assert found.arrays["mean"][0].tolist() == post.channel_moments(data.train.images)[0]
    assert found.arrays["mean"][1].tolist() == post.channel_moments(data.test.images)[0]
    assert not np.array_equal(found.arrays["std"][0], found.arrays["std"][1])


def test_the_networks_with_and_without_batch_norm_share_their_weights(room):
    config = post.Activations(**BASE)
    sets = post._sets(config, room)
    with_bn, without = (post._network(config.replace(bn=bn), sets) for bn in (True, False))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in without.modules())
    for a, b in zip(convolutions(with_bn), convolutions(without), strict=True):
        assert torch.equal(a.weight, b.weight)


@pytest.mark.parametrize("images", [19, 121])
def test_a_number_of_images_that_cannot_be_is_refused(room, images):
    with pytest.raises(InputError, match=f"images is {images}; 20 to 120"):
        post.run(post.Activations(**BASE | {"images": images}), room)


def test_a_config_of_another_post_is_refused(room):
    with pytest.raises(InputError, match="not a config of understanding-bn"):
        post.run(object(), room)


# --- learning curves -----------------------------------------------------------------------------------------------


def test_the_rate_falls_after_half_and_three_quarters_of_the_epochs():
    factor = post.rates(165, 391)
    at = {epoch: factor(391 * epoch) for epoch in (0, 81, 82, 83, 122, 123, 124, 164)}
    assert at == pytest.approx({0: 1, 81: 1, 82: 0.1, 83: 0.1, 122: 0.1, 123: 0.01, 124: 0.01, 164: 0.01})
    assert factor(391 * 82 - 1) == 1  # the last step of epoch 82, counted from 1


def test_a_scheduler_that_is_handed_the_loss_keeps_the_rate():
    weight = nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones=[82, 123], gamma=0.1)
    kept = post.rates(165, 1, "rate_kept")
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the epoch as an argument
        for _ in range(165):
            seen.append(optimiser.param_groups[0]["lr"])
            scheduler.step(2.3 / 128)
    assert seen == pytest.approx([0.1 * kept(epoch) for epoch in range(165)])


def test_trainings_are_as_long_as_their_arm_lets_them(room):
    corrected = post.run(post.LearningCurves(**CURVE), room)
    kept = post.run(post.LearningCurves(**CURVE | {"arm": "rate_kept"}), room)
    stopped = post.run(post.LearningCurves(**CURVE | {"arm": "stopped_early", "epochs": 30, "lr": 3.0}), room)
    assert corrected.series["rate"] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert kept.series["rate"] == [0.1] * 4
    assert corrected.series["test_loss"][:2] == kept.series["test_loss"][:2]
    assert stopped.metrics["epochs_done"] < 30
    assert len(corrected.series["train_accuracy"]) == 4
    assert corrected.metrics["test_accuracy"] == corrected.series["test_accuracy"][-1]


def test_a_training_goes_on_from_its_checkpoint(data):
    config = post.LearningCurves(**CURVE)
    whole = post.run(config, Room(data))
    memory = Memory(interrupt_at={2})
    with pytest.raises(Interrupted):
        post.run(config, Room(data, memory))
    resumed = post.run(config, Room(data, memory))
    assert resumed.series == whole.series and resumed.metrics == whole.metrics


# --- gradients -----------------------------------------------------------------------------------------------------


def gradients(room, **changes):
    fields = {"architecture": "cifar", "weights": "xavier_uniform", "linear": True, "layer": 4}
    return post.run(post.InitialGradients(**BASE | fields | changes), room)


def test_the_papers_network_has_109_convolutions(room):
    found = gradients(room, depth=110, width=16, layer=55, images=20)
    assert found.metrics["layers"] == 109 and found.metrics["parameters"] == 1_727_962
    assert found.metrics["n_weights"] == 32 * 32 * 9  # layer 55 lies in the second of three stages


@pytest.mark.parametrize("bn", [True, False])
def test_a_gradient_is_that_of_the_loss_by_hand(room, bn):
    config = post.InitialGradients(
        **BASE | {"bn": bn}, architecture="cifar", weights="xavier_uniform", linear=True, layer=4
    )
    sets = post._sets(config, room)
    network = post._initial(config, sets).train()
    inputs, labels = post._first(config, sets)
    nn.functional.cross_entropy(network(inputs), labels).backward()
    by_hand = convolutions(network)[3].weight.grad.double()
    found = gradients(room, bn=bn)
    assert found.metrics["sd"] == pytest.approx(by_hand.std(correction=0).item(), rel=1e-5)
    assert found.arrays["counts"].sum() == by_hand.numel()


def test_without_batch_norm_the_papers_network_has_far_larger_gradients(room):
    bn, none = (gradients(room, depth=110, width=16, layer=55, images=20, bn=bn) for bn in (True, False))
    assert none.metrics["sd"] > 100 * bn.metrics["sd"]
    assert none.metrics["kurtosis"] > bn.metrics["kurtosis"]


def test_linear_layers_are_drawn_anew_only_where_that_is_asked_for(room):
    def last(linear):
        config = post.InitialGradients(
            **BASE, architecture="cifar", weights="kaiming_normal", linear=linear, layer=4
        )
        return [
            p for p in post._initial(config, post._sets(config, room)).modules() if isinstance(p, nn.Linear)
        ]

    (ours,), (torchs,) = last(True), last(False)
    assert torchs.weight.abs().max() <= 1 / math.sqrt(torchs.in_features)  # torch's is uniform
    assert ours.weight.abs().max() > 1 / math.sqrt(ours.in_features)


@pytest.mark.parametrize("layer", [0, 8])
def test_a_layer_that_is_not_there_is_refused(room, layer):
    with pytest.raises(InputError, match=f"layer is {layer}; 1 to 7"):
        gradients(room, layer=layer)


@pytest.mark.long
def test_the_originals_layer_is_the_one_it_named(room):
    pytest.importorskip("lib.data.vision", exc_type=ImportError)
    config = post.InitialGradients(
        **BASE, architecture="imagenet", weights="xavier_uniform", linear=True, layer=53
    )
    sets = post._sets(config, room)
    network = post._initial(config, sets)
    assert post._forward_order(network, post._first(config, sets)[0])[52] == "layer3.9.conv1"
    bn, none = (gradients(room, architecture="imagenet", layer=53, bn=bn) for bn in (True, False))
    assert none.metrics["sd"] < bn.metrics["sd"]  # the puzzle


# --- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [0, 2])
def test_the_originals_tentative_steps_are_the_optimisers(room, warm):
    config = post.Activations(**BASE)
    sets = post._sets(config, room)
    network = post._network(config, sets).train()
    optimiser = post._optimiser(network, 0.05)
    batches = post._batches(config, sets, augmented=True)
    for step in range(warm):
        post._update(network, optimiser, *batches(step))
    inputs, labels = batches(warm)
    sizes = np.array([1e-3, 1e-2, 0.1])
    found = post._through_optimiser(network, optimiser, inputs, labels, sizes)
    for size, relative in zip(sizes, found, strict=True):
        other = copy.deepcopy(network)
        stepped = post._optimiser(other, float(size))
        state = copy.deepcopy(optimiser.state_dict())
        state["param_groups"][0]["lr"] = float(size)
        stepped.load_state_dict(state)
        before = post._update(other, stepped, inputs, labels)
        with torch.no_grad():
            after = nn.functional.cross_entropy(other(inputs), labels).item()
        assert relative == pytest.approx(after / before, rel=1e-4)


STEPS = {"arm": "gradient", "lr": 0.05, "steps": 3, "low": -4.0, "high": -1.0}


@pytest.mark.parametrize("arm", ["gradient", "as_posted"])
def test_looking_does_not_change_what_comes_after(room, arm):
    once = post.run(post.StepSizes(**BASE | STEPS | {"arm": arm, "batches": (2,)}), room)
    often = post.run(post.StepSizes(**BASE | STEPS | {"arm": arm, "batches": (0, 1, 2)}), room)
    assert np.array_equal(once.arrays["relative"][0], often.arrays["relative"][2])
    assert once.arrays["sizes"].tolist() == pytest.approx([1e-4, 10**-2.5, 0.1])


def test_the_largest_useful_step_comes_before_the_wall():
    sizes = np.array([0.1, 1.0, 10.0, 100.0])
    assert post.largest_useful(sizes, np.array([0.9, 0.8, 1.5, 0.5])) == 1.0
    assert post.largest_useful(sizes, np.array([0.9, 0.8, np.nan, np.nan])) == 1.0
    assert post.largest_useful(sizes, np.array([0.9, 0.8, 0.7, 0.6])) == 100.0
    assert math.isnan(post.largest_useful(sizes, np.array([1.1, 0.8, 0.7, 0.6])))


# --- activations, classes, divergence ------------------------------------------------------------------------------


def test_activations_are_of_all_channels_of_every_convolution(room):
    config = post.Activations(**BASE)
    found = post.run(config, room)
    sets = post._sets(config, room)
    network = post._network(config, sets).train()
    inputs, _ = post._first(config, sets)
    with torch.no_grad():
        output = convolutions(network)[0](inputs).double()
    assert {len(array) for array in found.arrays.values()} == {7}
    assert found.arrays["variance"][0] == pytest.approx(output.var([0, 2, 3], correction=0).mean().item())
    assert found.arrays["mean"][0] == pytest.approx(output.mean([0, 2, 3]).abs().mean().item())
    assert found.arrays["sd_first"][0] == pytest.approx(output[:, 0].std(correction=0).item())


def test_the_spread_over_classes(room):
    found = post.run(post.ClassBias(**BASE), room)
    gradient = found.arrays["gradient"]
    assert gradient.shape == (20, 10)
    np.testing.assert_allclose(gradient.sum(1), 0, atol=1e-5)
    assert ((gradient < 0).sum(1) == 1).all()  # the true class, and no other
    assert 0.1 <= found.metrics["concentration"] <= 1 and 0.1 <= found.metrics["top_share"] <= 1
    assert 0 <= found.metrics["mean_entropy"] <= math.log(10) + 1e-6


def test_a_network_that_answers_one_class_is_concentrated(room, monkeypatch):
    def constant(config, sets):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
        nn.init.zeros_(network[1].weight)
        nn.init.zeros_(network[1].bias)
        network[1].bias.data[3] = 20.0
        return network

    monkeypatch.setattr(post, "_network", constant)
    found = post.run(post.ClassBias(**BASE), room)
    assert found.metrics["concentration"] == pytest.approx(1, abs=1e-6)
    assert found.metrics["top_share"] == 1
    assert found.metrics["mean_entropy"] == pytest.approx(0, abs=1e-6)


def test_a_divergence_ends_where_the_loss_does(room):
    wild = post.run(post.Divergence(**BASE | {"bn": False, "depth": 14, "lr": 1e12, "steps": 6}), room)
    calm = post.run(post.Divergence(**BASE | {"lr": 1e-3, "steps": 3}), room)
    assert wild.outcome == "diverged" and wild.metrics["diverged"] == 1
    assert len(wild.series["loss"]) == wild.metrics["updates"] < 6
    assert wild.arrays["variance"].shape == (wild.metrics["updates"], 13)
    assert (
        calm.outcome == "done" and calm.metrics["diverged"] == 0 and calm.arrays["variance"].shape == (3, 7)
    )


def test_the_bisection_closes_in_on_the_limit(room, monkeypatch):
    monkeypatch.setattr(post, "_trains", lambda config, sets, batches, lr: lr < 0.02)
    config = post.LargestRate(**BASE, steps=1, low=-5.0, high=1.0, halvings=8)
    found = post.run(config, room)
    assert found.metrics["trains_at"] <= math.log10(0.02) <= found.metrics["fails_at"]
    assert found.metrics["fails_at"] - found.metrics["trains_at"] == pytest.approx(6 / 2**8)


def test_a_rate_trains_if_the_loss_falls_and_the_network_lives(room):
    config = post.LargestRate(**BASE, steps=4, low=-5.0, high=1.0, halvings=1)
    sets = post._sets(config, room)
    batches = post._batches(config, sets, augmented=True)
    assert post._trains(config, sets, batches, 0.01)
    assert not post._trains(config, sets, batches, 1e3)
    assert not post._trains(config.replace(bn=False), sets, batches, 1e9)


def test_a_network_that_died_does_not_train(room, monkeypatch):
    config = post.LargestRate(**BASE, steps=2, low=-5.0, high=1.0, halvings=1)
    sets = post._sets(config, room)
    batches = post._batches(config, sets, augmented=True)
    usual = post._network

    def dead_after(config, sets):
        """Great losses at first, chance from the second batch on."""
        network = usual(config, sets)
        calls = iter([0.0, *[1.0] * 20])

        def answer(module, inputs, output):
            return output * 100 if next(calls) == 0 else output * 0

        network.register_forward_hook(answer)
        return network

    monkeypatch.setattr(post, "_network", dead_after)
    assert not post._trains(config, sets, batches, 1e-3)


SMALL = [
    post.LearningCurves(**CURVE),
    post.InitialGradients(**BASE, architecture="cifar", weights="xavier_normal", linear=True, layer=4),
    post.StepSizes(**BASE, **STEPS, batches=(0,)),
    post.Activations(**BASE),
    post.ClassBias(**BASE),
    post.Divergence(**BASE, lr=0.1, steps=1),
    post.LargestRate(**BASE, steps=1, low=-5.0, high=1.0, halvings=1),
    post.Channels(data="tiny", seed=0),
]


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.experiment)
def test_no_result_has_the_name_of_a_field(room, config):
    """A frame has a column for each."""
    found = post.run(config, room)
    assert found.outcome == "done"
    assert not set(found.metrics) & set(config.to_dict())
