"""The experiments of the TENT post: what arms share, what mistakes do, and that the test set decides nothing."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")

from lib.convnets import CompiledGroup, convolutions  # noqa: E402
from lib.core import PROFILES, InputError  # noqa: E402
from lib.data.corruptions import CORRUPTIONS  # noqa: E402
from lib.data.images import tiny  # noqa: E402
from lib.experiments import tent as post  # noqa: E402
from lib.experiments.tent import ARMS, ByCorruption, Methods, Mistakes, Sensitivity, Source, Streams  # noqa: E402
from lib.methods.tent import affine_parameters  # noqa: E402
from tests.test_training import Interrupted, Memory  # noqa: E402

SOURCE = Source(
    network="resnet", depth=8, width=6, data="tiny", images=700, validation=50, epochs=4, batch_size=50, lr=0.3,
    weight_decay=5e-4, precision="float32", seed=0,
)  # fmt: skip
BASE = {
    "source": SOURCE,
    "data": "tiny",
    "images": 120,
    "severity": 5,
    "seed": 0,
    "corruptions": ("gaussian_noise", "contrast"),
    "arms": ("norm", "tent"),
    "batch_size": 40,
    "lr": 1e-2,
    "mode": "online",
    "order": "random",
    "delta": 0.0,
    "passes": 1,
    "stream_data": "generated",
}


DEMO = {
    name: BASE[name]
    for name in ("source", "data", "images", "severity", "seed", "corruptions", "batch_size", "lr")
}


pytestmark = pytest.mark.usefixtures("one_thread")
MADE: dict = {}
"""Artifacts of all tests: a source takes a second."""

Room = partial(tests.room.Room, post.run, made=MADE)


@pytest.fixture(scope="module")
def data():
    return tiny(n_train=750, n_test=240, channels=3, size=32)


@pytest.fixture
def room(data):
    return Room(data)


def found(room, kind=ByCorruption, **changes):
    return post.run(kind(**(BASE | changes)), room)


# --- the profiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_no_config_twice_and_sources_for_all(profile):
    configs = post.configs(profile)
    keys = [config.key for config in configs]
    assert len(set(keys)) == len(keys)
    sources = {config.key for config in configs if isinstance(config, Source)}
    assert {config.source.key for config in configs if not isinstance(config, Source)} == sources
    assert all(config.source.seed == config.seed for config in configs if not isinstance(config, Source))
    seeds = {config.seed for config in configs}
    assert len(seeds) >= (2 if profile == "smoke" else 3)
    assert {config.experiment for config in configs} == {
        "source", "entropy", "demo", "by_corruption", "mistakes", "sensitivity", "source_quality", "source_size",
        "streams", "length", "methods",
    }  # fmt: skip


def test_the_rate_is_fixed_beforehand():
    """Every arm of the corrected protocol has the reference implementation's rate; only the grid has others."""
    for profile in PROFILES:
        for config in post.configs(profile):
            if isinstance(config, post.Adaptation):
                assert config.lr == 1e-3
    assert {config.batch_size for config in post.configs("laptop") if isinstance(config, ByCorruption)} == {
        200
    }


# --- sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["fast", "resnet", "wide"])
def test_a_source_is_its_artifact(room, network):
    kind = {
        "network": network,
        "depth": 10 if network == "wide" else 8,
        "width": 2 if network == "wide" else 4,
    }
    config = SOURCE.replace(**kind, epochs=1, images=200)
    found = post.run(config, room)
    network = post.build(config)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in found.artifact.items()})
    network.eval()
    inputs = post.Scaling(*post.SCALING)(room.set.test.images)
    with torch.no_grad():
        wrong = (network(inputs).argmax(1) != room.set.test.labels).double().mean()
    assert found.metrics["clean_error"] == pytest.approx(float(wrong), abs=0.01)
    assert found.outcome == "done" and affine_parameters(network)


def test_held_out_images_teach_nothing(data):
    """Other validation images, the same source."""
    changed = data.train.images.clone()
    changed[-50:] = 255 - changed[-50:]
    other = dataclasses.replace(data, train=post.Split(changed, data.train.labels))
    config = SOURCE.replace(epochs=1)
    first, second = (post.run(config, Room(one)).artifact for one in (data, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    with pytest.raises(InputError, match="750 training images"):
        post.run(config.replace(images=701), Room(data))


# --- adapting ------------------------------------------------------------------------------------------------------


def test_labels_of_the_test_set_decide_nothing(data, room):
    before = found(room).arrays
    shuffled = data.test.labels[torch.randperm(len(data.test), generator=torch.Generator().manual_seed(1))]
    other = Room(dataclasses.replace(data, test=post.Split(data.test.images, shuffled)))
    after = found(other).arrays
    assert np.array_equal(before["entropy"], after["entropy"])
    assert np.array_equal(before["confidence"], after["confidence"])
    assert not np.array_equal(before["error"], after["error"])


def test_arms_do_not_depend_on_each_other(room):
    alone = {arm: found(room, arms=(arm,)).arrays for arm in ("source", "norm", "tent", "posted_norm_reset")}
    together = found(room, arms=tuple(reversed(alone))).arrays
    for row, arm in enumerate(reversed(alone)):
        for name in ("error", "entropy", "clean_error"):
            assert np.array_equal(together[name][row], alone[arm][name][0]), (arm, name)


def test_every_corruption_begins_with_a_fresh_copy_unless_it_is_continual(room):
    pair = found(room, arms=("tent",)).arrays["entropy"][0]
    alone = found(room, arms=("tent",), corruptions=("contrast",)).arrays["entropy"][0]
    assert pair[1] == alone[0]
    continual = found(room, Streams, arms=("tent",), mode="continual").arrays["entropy"][0]
    assert continual[0] == pair[0] and continual[1] != pair[1]


def test_tent_at_rate_zero_is_norm_in_every_mode(room):
    for mode in ("online", "offline", "episodic", "continual", "mixed"):
        arrays = found(room, Streams, lr=0.0, mode=mode).arrays
        for name in ("error", "entropy", "ece", "clean_error"):
            assert np.array_equal(arrays[name][0], arrays[name][1]), (mode, name)


def test_every_image_counts_once():
    """10,000 images in batches of 128: in the mean of batch errors an image of the last batch weighs 7.9 times."""
    right = torch.ones(10_000)
    right[-16:] = 0
    one = post._Answers(torch.ones(10_000), right, torch.zeros(10_000), 128)
    assert one.error == pytest.approx(16 / 10_000)
    assert np.mean(one.batch_errors()) / one.error == pytest.approx(7.91, abs=0.01)


def test_the_originals_freezing_leaves_everything_trainable(room):
    network = post.source_network(SOURCE, room)
    tensors = sum(1 for _ in network.parameters())
    assert post._trainable_as_posted(network) == tensors > len(affine_parameters(network))
    metrics = post.run(post.Demo(**DEMO), room).metrics
    assert metrics["trainable"] == len(affine_parameters(network))
    assert metrics["trainable_as_posted"] == metrics["tensors"] == tensors


def test_the_two_norms_of_the_original_are_one(room):
    arrays = found(room, Mistakes, arms=("posted_norm", "posted_norm_reset")).arrays
    for name in ("error", "entropy", "batches"):
        assert np.array_equal(arrays[name][0], arrays[name][1])


def test_at_the_originals_rate_nothing_happens(room):
    arrays = found(room, Mistakes, arms=("norm", "slow", "tent")).arrays["entropy"]
    assert np.abs(arrays[1] - arrays[0]).max() < 0.05 * np.abs(arrays[2] - arrays[0]).min()


def test_a_sorted_stream_hurts_norm(room):
    random, by_class = (
        found(room, Streams, arms=("norm",), corruptions=("brightness",), images=240, order=order).arrays[
            "error"
        ]
        for order in ("random", "sorted")
    )
    assert by_class.mean() > random.mean() + 0.2


def test_passes_are_corrupted_anew_and_go_on_learning(room):
    once = found(room, post.Length, arms=("tent",)).arrays["batches"]
    twice = found(room, post.Length, arms=("tent",), passes=2).arrays["batches"]
    assert once.shape == (1, 2, 3) and twice.shape == (1, 2, 6)
    assert np.array_equal(once, twice[:, :, :3])
    streams = list(post._stream(ByCorruption(**(BASE | {"passes": 2})), room, "gaussian_noise"))
    assert not torch.equal(streams[0].images, streams[1].images)
    assert torch.equal(streams[0].labels, streams[1].labels)


def test_a_mixed_stream_has_each_image_once_with_one_corruption(room):
    config = Streams(**(BASE | {"mode": "mixed"}))
    stream, kind = post._mixed(config, room)
    clean = post.ordered(config, room)
    assert torch.bincount(kind).tolist() == [60, 60] and torch.equal(stream.labels, clean.labels)
    expected = post.corrupted(config, clean.images[kind == 1], "contrast", 5)
    assert torch.equal(stream.images[kind == 1], expected)


def test_the_fast_source_learns_nothing_in_its_whitening_layer():
    network = post.build(Source(**post.PLANS["laptop"].source, data="shapes", seed=0))
    assert not any(p.requires_grad for p in network[0].parameters())
    assert all(p.requires_grad for layer in convolutions(network)[1:] for p in layer.parameters())
    assert sum(type(layer) is CompiledGroup for layer in network) == 3


@pytest.mark.parametrize("mode", ["online", "mixed"])
def test_the_images_of_all_arms_are_made_once(room, monkeypatch, mode):
    made, corrupted = [], post.corrupted
    monkeypatch.setattr(
        post,
        "corrupted",
        lambda config, images, name, *rest: made.append(name) or corrupted(config, images, name, *rest),
    )
    found(room, Streams, arms=("source", "norm", "tent"), mode=mode)
    assert sorted(made) == sorted(BASE["corruptions"])


def test_every_method_runs_and_memo_on_few_images(room):
    arms = ("source", "norm", "norm_prior", "tent", "pseudo", "eta", "eata", "sar", "lame", "memo")
    result = found(room, Methods, arms=arms, images=40, corruptions=("fog",), memo_images=2, batch_size=20)
    assert result.arrays["error"].shape == (10, 1) and result.outcome == "done"
    assert np.isfinite(result.arrays["batches"][-1]).sum() == 1
    assert set(arms) <= set(ARMS)


def test_sensitivity_has_a_row_for_each_rate(room):
    rates = (0.0, 1e-2)
    result = found(room, Sensitivity, arms=("norm",), rates=rates, parameters="affine", optimizer="adam")
    assert result.arrays["error"].shape == (3, 2)
    assert np.array_equal(result.arrays["entropy"][0], result.arrays["entropy"][1])
    assert set(result.metrics) == {"error_norm", "error_tent_0", "error_tent_0.01"}


def test_answers_that_are_not_finite_are_wrong_and_the_run_diverged(room):
    result = found(room, Sensitivity, arms=(), rates=(1e30,), parameters="all", optimizer="sgd")
    assert result.outcome == "diverged"
    assert (result.arrays["finite"] < 1).all() and (result.arrays["error"] > 0.5).all()


def test_an_interrupted_run_gives_the_same_numbers(data):
    config = ByCorruption(**(BASE | {"arms": ("source", "norm", "tent")}))
    whole = post.run(config, Room(data)).arrays
    slot = Memory({1, 2})
    for _ in range(2):
        with pytest.raises(Interrupted):
            post.run(config, Room(data, slot))
    resumed = post.run(config, Room(data, slot)).arrays
    assert all(np.array_equal(resumed[name], whole[name], equal_nan=True) for name in whole)


def test_entropy_covers_clean_and_all_severities(room):
    config = post.Entropy(
        source=SOURCE, data="tiny", images=20, severity=2, seed=0, corruptions=CORRUPTIONS[:3]
    )
    result = post.run(config, room)
    assert result.arrays["severity"].tolist() == [0, 1, 2, 1, 2, 1, 2]
    assert len(result.arrays["bin_entropy"]) == 20 and (np.diff(result.arrays["bin_entropy"]) > 0).all()
    total = result.arrays["error"].mean()
    assert result.arrays["bin_error"].mean() == pytest.approx(total)
    assert -1 <= result.metrics["rank_correlation"] <= 1


def test_the_demo_shows_the_median_image(room):
    result = post.run(post.Demo(**DEMO), room)
    fall = result.arrays["fall"]
    assert result.arrays["pictures"].shape == (3, 3, 32, 32)
    shown = np.sort(fall)[len(fall) // 2]
    before, after = (-(p * np.log(p)).sum() for p in (result.arrays["before"], result.arrays["after"]))
    assert before - after == pytest.approx(shown, abs=1e-4)
    assert result.metrics["entropy_after"] < result.metrics["entropy_before"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ("tnet",)}, "no arm 'tnet'"),
        ({"images": 241}, "1 to 240 test images"),
        ({"images": 0}, "1 to 240 test images"),
        ({"corruptions": ("rain",)}, "no corruption 'rain'"),
        ({"stream_data": "cifar10-c", "passes": 2}, "streamed once"),
    ],
)
def test_wrong_configs_are_named(room, changes, message):
    with pytest.raises(InputError, match=message):
        found(room, **changes)
