"""The experiments on memorization: what each kind of data is, what is counted, and the original's mistakes as arms."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.core import PROFILES, InputError  # noqa: E402
from lib.data.images import tiny  # noqa: E402
from lib.experiments import nn_memorization as post  # noqa: E402
from lib.methods.lass import lass  # noqa: E402
from tests.test_training import Interrupted, Memory  # noqa: E402

BASE = {"data": "tiny", "images": 60, "width": 6, "epochs": 2, "batch_size": 20, "lr": 0.02, "seed": 0}
COUNTED = BASE | {"kind": "real", "first": 1, "members": 4, "together": 2, "tested": 40}
SEARCHED = BASE | {
    "kind": "randx", "searched": 10, "interval": 1, "r": 2.0, "iterations": 3, "radii": (0.3, 8.0), "budgets": (2, 5),
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def data():
    return tiny(n_train=300, n_test=120, channels=3, size=32)


@pytest.fixture
def room(data):
    return Room(data)


SMALL = [
    post.PCorrect(**COUNTED),
    post.Filters(**BASE, kind="randy", shown=4),
    post.Csr(**SEARCHED),
    post.RandxMoments(**BASE, kind="randx_unit", searched=10, r=0.3, iterations=2),
    post.Regularisation(**BASE, kind="randy", regulariser="dropout", strength=0.5, tested=40),
    post.PartialNoise(**BASE, share=0.4, interval=1, tested=40),
]


# --- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_every_experiment_and_no_config_twice(profile):
    configs = post.configs(profile)
    keys = [config.key for config in configs]
    assert len(set(keys)) == len(keys)
    assert {config.experiment for config in configs} == {config.experiment for config in SMALL}
    for experiment in {config.experiment for config in configs}:
        seeds = {config.seed for config in configs if config.experiment == experiment}
        assert len(seeds) >= (2 if profile == "smoke" else 3)


def test_full_is_the_papers():
    counted = next(c for c in post.configs("full") if isinstance(c, post.PCorrect))
    assert (counted.width, counted.members, counted.batch_size, counted.lr) == (4096, 100, 256, 0.01)
    assert (counted.first, counted.epochs, counted.images) == (1, 10, None)
    searched = next(c for c in post.configs("full") if isinstance(c, post.Csr))
    assert (searched.width, searched.epochs, searched.r, searched.iterations) == (200, 140, 0.3, 100)


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.experiment)
def test_results_are_finite_repeatable_and_have_names_of_their_own(room, config):
    found, again = post.run(config, room), post.run(config, room)
    assert found.outcome == "done"
    assert not set(found.metrics) & set(config.to_dict())
    assert all(np.isfinite(value) for value in found.metrics.values())
    assert found.metrics == again.metrics and found.series == again.series


# --- kinds of data -------------------------------------------------------------------------------------------------


def of(room, kind, count=300, **changes):
    return post.sets(post.Filters(**BASE | {"images": count}, kind=kind, shown=1), kind, room, 100, **changes)


def test_randx_has_the_moments_of_the_data_and_the_original_s_has_not(room):
    real, matched, unit = (of(room, kind) for kind in ("real", "randx", "randx_unit"))
    over = [0, 2, 3]
    for images in (matched.images, matched.own_images):
        assert torch.allclose(images.mean(over), real.images.mean(over), atol=0.01)
        assert torch.allclose(images.var(over), real.images.var(over), rtol=0.05)
    assert torch.allclose(unit.images.var(over), torch.ones(3), rtol=0.05)
    assert (unit.images.var(over) > 4 * real.images.var(over)).all()


def test_fresh_noise_is_not_the_noise_that_was_trained_on(room):
    found = of(room, "randx", count=100)
    assert len(found.own_images) == 100
    assert not torch.isclose(found.own_images, found.images).all(dim=(1, 2, 3)).any()
    assert torch.equal(found.test_images, of(room, "real", count=100).test_images)


def test_randy_keeps_one_label_in_ten_by_chance(room):
    real, random = of(room, "real"), of(room, "randy")
    assert torch.equal(real.images, random.images)
    kept = (real.labels == random.labels).double().mean().item()
    assert abs(kept - 0.1) < 4 * (0.1 * 0.9 / 300) ** 0.5
    assert torch.equal(of(room, "randy", share=0.0).labels, real.labels)
    assert torch.equal(random.test_labels, real.test_labels)


def test_a_subset_is_drawn_from_all_classes_and_by_the_seed():
    images = torch.arange(1000, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.arange(1000) // 100  # sorted by class
    _, first = post._drawn(images, labels, 200, 0, "train")
    _, other = post._drawn(images, labels, 200, 1, "train")
    assert first.bincount(minlength=10).min() >= 8 and not torch.equal(first, other)


@pytest.mark.parametrize(("changes", "says"), [({"images": 301}, "images is 301; 2 to 300"), ({"images": 1}, "images is 1")])  # fmt: skip
def test_a_number_of_images_that_cannot_be_is_refused(room, changes, says):
    with pytest.raises(InputError, match=says):
        post.run(post.PCorrect(**COUNTED | changes), room)


def test_other_settings_that_cannot_be_are_refused(room):
    with pytest.raises(InputError, match="2 to 120"):
        post.run(post.PCorrect(**COUNTED | {"tested": 121}), room)
    with pytest.raises(InputError, match="first is 3; 1 to 2"):
        post.run(post.PCorrect(**COUNTED | {"first": 3}), room)
    with pytest.raises(InputError, match="batch_size is 61"):
        post.run(post.PCorrect(**COUNTED | {"batch_size": 61}), room)
    with pytest.raises(InputError, match="shown is 7; 1 to 6"):
        post.run(post.Filters(**BASE, kind="real", shown=7), room)
    with pytest.raises(InputError, match="not a config of nn-memorization"):
        post.run(object(), room)


def test_every_pass_has_an_order_of_its_own_and_each_example_once():
    inputs, labels = torch.arange(10.0).view(-1, 1), torch.arange(10)
    batches = post.Examples(inputs, labels, 5, seed=0)
    passes = [torch.cat([batches(step)[1] for step in pair]) for pair in ((0, 1), (2, 3))]
    assert all(torch.equal(one.sort().values, labels) for one in passes)
    assert not torch.equal(*passes)
    assert torch.equal(batches(1)[1], passes[0][5:])  # any step, in any order
    noisy = post.Examples(inputs, labels, 5, seed=0, noise=0.1)
    assert torch.equal(noisy(0)[1], batches(0)[1]) and not torch.equal(noisy(0)[0], batches(0)[0])
    assert torch.equal(inputs[:, 0], torch.arange(10.0))  # the examples themselves stay


# --- counts --------------------------------------------------------------------------------------------------------


def test_counts_are_of_the_examples_trained_on_and_add_up(room):
    found = post.run(post.PCorrect(**COUNTED), room)
    assert found.arrays["train"].shape == (2, 60) and found.arrays["test"].shape == (2, 40)
    assert found.arrays["train"].min() >= 0 and found.arrays["train"].max() <= 4
    assert found.metrics["train_last"] == pytest.approx(found.arrays["train"][1].mean() / 4)
    assert found.metrics["dispersion_train_last"] > 0


def test_together_or_one_by_one_the_counts_are_the_same(room):
    """Members are the same networks whichever way they are trained; rounding may turn an answer here or there."""
    several = post.run(post.PCorrect(**COUNTED), room).arrays["train"]
    single = post.run(post.PCorrect(**COUNTED | {"together": 1}), room).arrays["train"]
    assert np.abs(several - single).mean() < 0.05


def test_the_hardest_are_test_images_in_the_order_of_their_counts(room, data):
    found = post.run(post.PCorrect(**COUNTED | {"epochs": 6}), room)
    shown = {
        name: [
            int((data.test.images == torch.from_numpy(image)).all(dim=(1, 2, 3)).nonzero()[0])
            for image in found.arrays[name]
        ]
        for name in ("hardest", "easiest")
    }
    for name, places in shown.items():
        assert found.arrays[f"{name}_labels"].tolist() == data.test.labels[places].tolist()
    config = post.PCorrect(**COUNTED)
    pixels = post.sets(config, "real", room, 40).pixels
    where = {
        int((data.test.images == one).all(dim=(1, 2, 3)).nonzero()[0]): i for i, one in enumerate(pixels)
    }
    counts = found.arrays["test"][1]
    hard, easy = ([counts[where[place]] for place in shown[name]] for name in ("hardest", "easiest"))
    assert sorted(hard) == list(hard) and max(hard) <= min(easy)


def test_members_that_are_done_are_not_trained_again(data):
    config = post.PCorrect(**COUNTED)
    whole = post.run(config, Room(data))
    memory = Memory(interrupt_at={1})
    with pytest.raises(Interrupted):
        post.run(config, Room(data, memory))
    assert memory.saved["done"] == 1
    resumed = post.run(config, Room(data, memory))
    assert np.array_equal(resumed.arrays["train"], whole.arrays["train"])


# --- filters, searches ---------------------------------------------------------------------------------------------


def test_smoothness_is_the_correlation_of_neighbours():
    rows = torch.linspace(-1, 1, 5)
    smooth = (rows[:, None] + rows)[None, None]
    checkered = torch.tensor([(-1.0) ** (i + j) for i in range(4) for j in range(4)]).view(1, 1, 4, 4)
    noise = torch.randn(200, 3, 15, 15, generator=torch.Generator().manual_seed(0))
    assert post.smoothness(smooth) > 0.5
    assert post.smoothness(checkered) == pytest.approx(-1)
    assert abs(post.smoothness(noise)) < 0.02


def test_the_search_is_around_fresh_noise_and_around_real_images(room):
    found = post.run(post.Csr(**SEARCHED), room)
    assert len(found.series["own"]) == len(found.series["real"]) == 2
    assert found.arrays["grid"].shape == (2, 2)
    assert (np.diff(found.arrays["grid"], axis=0) >= 0).all()  # more room finds more
    assert found.metrics["own_last"] == found.series["own"][-1]
    on_real = post.run(post.Csr(**SEARCHED | {"kind": "real"}), room)
    assert on_real.series["own"] == on_real.series["real"]
    assert found.arrays["example"].shape == found.arrays["adversarial"].shape == (3, 32, 32)


def test_the_originals_radius_never_binds(room):
    found = post.run(post.Csr(**SEARCHED), room)
    assert 0 < found.metrics["posted_move"] < 40


def test_the_pair_is_an_example_and_what_changes_its_answer(room):
    config = post.Csr(**SEARCHED | {"kind": "real", "r": 8.0, "iterations": 20})
    found = post.sets(config, "real", room, 10)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with torch.no_grad():
        network[1].weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
        network[1].bias.zero_()
        found.test_labels[:] = network(found.test_images).argmax(1)  # every answer is right
    pair = post._pair(network, found, config)
    assert np.abs(pair["example"] - pair["adversarial"]).max() <= 8 / 255 + 1e-6
    before, after, label = pair["answers"]
    both = torch.from_numpy(np.stack([pair["example"], pair["adversarial"]]))
    assert network(both).argmax(1).tolist() == [before, after] and before == label != after
    constant = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    nn.init.zeros_(constant[1].weight)
    none = post._pair(constant, found, config)  # nothing to be found
    assert none["answers"][0] == none["answers"][1]
    assert np.array_equal(none["example"], none["adversarial"])


def test_noise_is_searched_by_the_papers_search_and_by_the_originals(room, monkeypatch):
    calls = []

    def watched(network, inputs, **options):
        calls.append((round(255 * options["r"], 3), options["max_iterations"]))
        return lass(network, inputs, **options)

    monkeypatch.setattr(post, "lass", watched)
    fields = BASE | {"searched": 8, "r": 0.3, "iterations": 3}
    result = post.run(post.RandxMoments(**fields, kind="randx_unit"), room)
    assert calls == [(0.3, 3), (40.0, 10)] * 2
    assert {"own", "posted_own", "on_real", "posted_on_real"} <= set(result.metrics)


@pytest.mark.long
def test_a_network_trained_on_wide_noise_answers_one_class_to_real_images(room):
    """The puzzle of the original post: nothing can flip where one class is all there is."""
    fields = BASE | {"images": 300, "width": 12, "epochs": 20, "searched": 60, "r": 0.3, "iterations": 10}
    matched, unit = (
        post.run(post.RandxMoments(**fields, kind=kind), room) for kind in ("randx", "randx_unit")
    )
    assert unit.metrics["top_share_on_real"] >= matched.metrics["top_share_on_real"]
    assert unit.metrics["on_real"] <= matched.metrics["on_real"]


# --- regularisation, partial noise ---------------------------------------------------------------------------------


def test_a_regulariser_is_where_it_says(room):
    found = post.sets(post.Filters(**BASE, kind="real", shown=1), "real", room, 10)
    generator = torch.Generator().manual_seed(0)
    parts = [type(part) for part in post._mlp(8, found, generator, 0.5)]
    assert parts == [nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    plain = post._mlp(8, found, generator)
    assert all(part.bias.abs().max() == 0 for part in plain if isinstance(part, nn.Linear))


def test_dropout_hinders_learning_random_labels(room):
    fields = BASE | {"kind": "randy", "width": 64, "epochs": 60, "tested": 40, "images": 40}
    free, held = (
        post.run(post.Regularisation(**fields, regulariser=name, strength=strength), room)
        for name, strength in (("none", 0.0), ("dropout", 0.9))
    )
    assert free.metrics["train_accuracy"] > held.metrics["train_accuracy"] + 0.2


def test_the_fall_is_from_the_best_to_the_last(room):
    found = post.run(post.PartialNoise(**BASE | {"epochs": 6}, share=0.6, interval=2, tested=40), room)
    accuracies = found.series["test_accuracy"]
    assert len(accuracies) == 3
    assert found.metrics["fall"] == max(accuracies) - accuracies[-1] >= 0
    assert found.metrics["best_epoch"] == 2 * (1 + accuracies.index(max(accuracies)))


def test_a_training_goes_on_from_its_checkpoint(data):
    config = post.PartialNoise(**BASE | {"epochs": 4}, share=0.4, interval=1, tested=40)
    whole = post.run(config, Room(data))
    memory = Memory(interrupt_at={2})
    with pytest.raises(Interrupted):
        post.run(config, Room(data, memory))
    assert post.run(config, Room(data, memory)).series == whole.series


def test_a_loss_that_is_not_finite_is_a_divergence(room):
    found = post.run(post.PartialNoise(**BASE | {"lr": 1e30}, share=0.4, interval=1, tested=40), room)
    assert found.outcome == "diverged"
