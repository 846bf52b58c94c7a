"""The experiments of the post on label refinery: where labels come from, what crops hold, and that arms are paired."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.room

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.convnets import CompiledGroup, convolutions  # noqa: E402
from lib.core import PROFILES, InputError  # noqa: E402
from lib.data import load as data_set  # noqa: E402
from lib.data.images import Split, tiny  # noqa: E402
from lib.experiments import label_refinery as post  # noqa: E402
from lib.experiments.label_refinery import (  # noqa: E402
    Houses,
    Link,
    Mistake,
    Overlap,
    Pictures,
    Plateau,
    PostedStopping,
)
from lib.methods.soft_labels import entropy, soft_cross_entropy  # noqa: E402
from lib.training import Stopping  # noqa: E402
from tests.test_training import Interrupted, Memory  # noqa: E402

BASE = {
    "previous": None, "arm": "labels", "generation": 1, "data": "tiny", "images": 60, "validation": 20, "tested": 20,
    "noise": 0.0, "overlap": None, "crops": "strong", "network": "resnet", "width": 2, "epochs": 2, "batch_size": 20,
    "lr": 0.05, "optimizer": "sgd", "posted_stopping": False, "restore": "best", "all_copies": False, "temperature": 1.0,
    "teacher_mode": "evaluation", "precision": "float32", "seed": 0,
}  # fmt: skip
DIGITS = BASE | {"overlap": 1.0, "network": "digits"}
FIRST, FIRST_DIGITS = Link(**BASE), Overlap(**DIGITS)


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def colour():
    return Room(tiny(n_train=80, n_test=40, channels=3, size=32))


@pytest.fixture(scope="module")
def grey():
    return Room(tiny(n_train=80, n_test=40, size=28))


def refined(arm, room, **changes):
    """Arm, its sets, its teacher, and its labels."""
    first, base = (FIRST, BASE) if room.set.shape[0] == 3 else (FIRST_DIGITS, DIGITS)
    kind = type(first)
    teaches = arm in post.REFINED
    config = kind(**base | {"previous": first if teaches else None, "arm": arm, "generation": 2} | changes)
    sets = post.sets_of(config, room)
    teacher = None
    if teaches:
        teacher = post.loaded(first, room, sets.n_classes, sets.train.shape[1], sets.train.device)
    return config, sets, teacher, post.label_batches(config, sets, teacher)


# --- the profiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_every_link_before_the_one_that_needs_it(profile):
    configs = post.configs(profile)
    keys = [config.key for config in configs]
    assert len(set(keys)) == len(keys)
    place = {key: i for i, key in enumerate(keys)}
    for config in configs:
        before = getattr(config, "previous", None)
        if before is not None:
            assert before.seed == config.seed and before.generation == config.generation - 1
            if config.experiment != "variants":
                assert place[before.key] < place[config.key]
    assert {c.experiment for c in configs} == {
        "refine",
        "overlap",
        "mistakes",
        "variants",
        "pictures",
        "houses",
    }
    seeds = {e: {c.seed for c in configs if c.experiment == e} for e in ("refine", "overlap")}
    assert len(seeds["overlap"]) >= (2 if profile == "smoke" else 5)
    assert len(seeds["refine"]) >= (2 if profile == "smoke" else 3)


def test_only_full_asks_for_svhn():
    assert {p for p in PROFILES if any(getattr(c, "data", "") == "svhn" for c in post.configs(p))} == {"full"}


def test_each_fix_mends_one_thing():
    chains = [
        c for c in post.configs("laptop") if c.experiment == "mistakes" and c.seed == 0 and c.generation == 1
    ]
    posted = next(c for c in chains if c.fixed == "nothing").to_dict()
    for config in chains:
        changed = {k for k, v in config.to_dict().items() if v != posted[k]} - {"fixed"}
        assert len(changed - {"lr"}) == (0 if config.fixed in ("nothing", "labels") else 1), config.fixed


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["labels", "smoothed", *post.REFINED])
def test_labels_sum_to_one_and_need_no_gradient(colour, arm):
    *_, taught = refined(arm, colour)
    _, labels = taught.batches(0)
    assert labels.shape == (20, 10) and not labels.requires_grad
    assert torch.allclose(labels.sum(1), torch.ones(20))


def test_dynamic_labels_are_those_of_the_very_crop(colour):
    config, _, teacher, taught = refined("dynamic_soft", colour)
    inputs, labels = taught.batches(1)
    with torch.no_grad():
        assert torch.allclose(labels, teacher(inputs).softmax(1), atol=1e-6)
    hard = refined("dynamic_hard", colour)[3].batches(1)[1]
    assert torch.equal(hard, nn.functional.one_hot(labels.argmax(1), 10).float())


def by_image(taught, sets, passes):
    """Labels of each training image in each pass: found by the order of the batches, which the pairs give."""
    out = []
    for number in range(passes):
        rows = [taught.batches(number * taught.per_pass + step)[1] for step in range(taught.per_pass)]
        out.append(torch.cat(rows))
    return out


def test_static_labels_do_not_change_with_the_crop_and_dynamic_ones_do(colour):
    _, sets, teacher, static = refined("static_full", colour)
    scaling = post._scaling(FIRST)
    with torch.no_grad():
        whole = teacher(scaling(sets.train)).softmax(1)
    for labels in by_image(static, sets, 2):
        assert torch.allclose(labels.sort(0).values, whole.sort(0).values, atol=1e-5)
    *_, dynamic = refined("dynamic_soft", colour)
    first, second = by_image(dynamic, sets, 2)
    assert not torch.allclose(first.sort(0).values, second.sort(0).values, atol=1e-4)


def test_without_crops_dynamic_and_static_labels_are_the_same(colour):
    static, dynamic = (refined(arm, colour, crops="none")[3] for arm in ("static_full", "dynamic_soft"))
    for step in range(4):
        assert torch.allclose(static.batches(step)[1], dynamic.batches(step)[1], atol=1e-5)


def test_frozen_copies_are_three_views_each_with_a_label_of_its_own(colour):
    config, sets, teacher, taught = refined("static_frozen", colour)
    assert taught.per_pass == 9
    for step in (0, 5):
        inputs, labels = taught.batches(step)
        with torch.no_grad():
            assert torch.allclose(labels, teacher(inputs).softmax(1), atol=1e-5)
    again = refined("static_frozen", colour)[3]
    assert torch.equal(taught.batches(9)[1], again.batches(9)[1])


def test_a_teacher_stays_as_it_is_unless_it_is_in_training_mode(colour):
    for mode in ("evaluation", "training"):
        *_, teacher, taught = refined("dynamic_soft", colour, teacher_mode=mode)
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
        for step in range(3):
            taught.batches(step)
        moved = {
            name for name, tensor in teacher.state_dict().items() if not torch.equal(tensor, before[name])
        }
        assert bool(moved) == (mode == "training") and all("weight" not in name for name in moved)


def test_temperature_softens_labels(colour):
    cold, hot = (refined("dynamic_soft", colour, temperature=t)[3].batches(0)[1] for t in (1.0, 4.0))
    assert (entropy(hot) > entropy(cold)).all() and torch.equal(hot.argmax(1), cold.argmax(1))


def test_cross_entropy_is_divergence_and_the_teachers_entropy(colour):
    _, labels = refined("dynamic_soft", colour)[3].batches(0)
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    divergence = nn.functional.kl_div(logits.log_softmax(1), labels, reduction="batchmean")
    assert soft_cross_entropy(logits, labels).item() == pytest.approx(
        (divergence + entropy(labels).mean()).item()
    )


def test_arms_see_the_same_crops_and_begin_with_the_same_weights(colour):
    arms = ("labels", "smoothed", "static_full", "dynamic_soft", "dynamic_hard")
    made = [refined(arm, colour) for arm in arms]
    first = made[0][3].batches(2)[0].clone()
    assert all(torch.equal(taught.batches(2)[0], first) for *_, taught in made)
    weights = [next(post.build(config, 10, 3).parameters()) for config, *_ in made]
    assert all(torch.equal(one, weights[0]) for one in weights)
    assert not torch.equal(next(post.build(FIRST, 10, 3).parameters()), weights[0])


def test_equal_updates_unless_as_posted(colour):
    steps = {
        arm: post.run(refined(arm, colour)[0], colour).metrics["steps"]
        for arm in ("static_full", "static_frozen")
    }
    assert set(steps.values()) == {6}
    posted = Mistake(**BASE | {"all_copies": True, "fixed": "nothing", "crops": "mild"})
    assert post.run(posted, colour).metrics["steps"] == 18


# --- images of several digits ---------------------------------------------------------------------------------------


def test_composed_images_have_neighbours_of_other_classes_in_the_share_asked_for():
    data = tiny(n_train=400, n_test=10, size=28).train
    for overlap in (0.0, 0.5, 1.0):
        images, classes = post.composed(data.images, data.labels, overlap, torch.Generator().manual_seed(0))
        assert images.shape == (400, 3, 28, 60) and torch.equal(classes[:, 0], data.labels)
        having = images[:, 1:].flatten(1).sum(1) > 0
        assert having.double().mean().item() == pytest.approx(overlap, abs=0.08)
        assert (classes[:, 1] != classes[:, 0]).all() and (classes[:, 2] != classes[:, 0]).all()
        assert torch.equal(post.middle(images)[:, 0], data.images[:, 0])


def test_the_known_label_is_the_share_of_ink():
    crops = torch.zeros(3, 3, 4, 4)
    crops[0, 0, 0, :3] = 1
    crops[0, 1, 1, :1] = 1
    crops[1, 1:, 0, :2] = 0.5
    known = post.known_labels(crops, torch.tensor([[2, 5, 1], [0, 7, 7], [4, 1, 1]]), 10)
    assert known[0, 2] == 0.75 and known[0, 5] == 0.25
    assert known[1, 7] == 1 and known[2, 4] == 1
    assert torch.allclose(known.sum(1), torch.ones(3))


def test_without_neighbours_the_oracle_is_the_hard_label(grey):
    *_, taught = refined("oracle", grey, overlap=0.0)
    *_, hard = refined("labels", grey, overlap=0.0)
    assert torch.equal(taught.batches(0)[1], hard.batches(0)[1])
    mixed = refined("oracle", grey)[3].batches(0)[1]
    assert (entropy(mixed) > 0).any()


def test_windows_are_parts_of_the_image_and_reach_as_far_as_they_may():
    images = torch.arange(60.0).expand(500, 1, 28, 60).contiguous()
    crops = post.windows(images, torch.Generator().manual_seed(0), reach=5)
    starts = crops[:, 0, 0, 0]
    assert crops.shape == (500, 1, 28, 28) and set(starts.tolist()) == set(range(11, 22))
    assert torch.equal(crops[:, 0, 3, 27], starts + 27)


def test_the_divergence_of_labels_is_zero_for_the_oracle_and_high_for_hard_labels(grey):
    divergence = {
        arm: post._label_quality(refined(arm, grey)[3])["label_divergence"] for arm in ("oracle", "labels")
    }
    assert divergence["oracle"] == pytest.approx(0, abs=1e-6)
    assert 0.02 < divergence["labels"] < np.log(2)


# --- house numbers -------------------------------------------------------------------------------------------------


def test_crops_that_overlap_are_found_and_others_are_not():
    digits = data_set("digits").train.images[:180]
    made = post.streets(digits)
    assert made.shape == digits.shape and torch.equal(made[0, :, :, 16:], made[1, :, :, :12])
    grey = made[:, 0].float() / 255
    found = post.likeness(grey[:-1], grey[1:]) > post.ALIKE
    assert found.tolist() == [i % 3 < 2 for i in range(179)]
    raised = torch.nn.functional.pad(grey[1::3], (0, 0, 0, 2))[:, 2:]  # two pixels higher
    assert (post.likeness(grey[::3], raised) > post.ALIKE).all()
    assert (post.likeness(torch.zeros(2, 28, 28), grey[:2]) == -1).all()  # nothing to compare


def test_shares_are_told_for_a_part_of_the_crops():
    config = Houses(data="digits", images=180, parts=2, apart=40, seed=1)
    result = post.run(config, Room())
    assert (
        result.metrics["next"] == pytest.approx(result.metrics["known"]) and result.metrics["further"] < 0.05
    )
    assert result.metrics["looked_at"] == 90 and not result.arrays
    assert not set(result.metrics) & set(config.to_dict())  # a frame could not hold both
    assert post.run(config.replace(seed=0), Room()).arrays["samples"].shape == (25, 1, 28, 28)
    for changes in ({"seed": 2}, {"apart": 90}):
        with pytest.raises(InputError, match="180 images"):
            post.run(config.replace(**changes), Room())


# --- training ------------------------------------------------------------------------------------------------------


def test_a_chain_runs_to_its_third_network(colour):
    second = Link(**BASE | {"previous": FIRST, "arm": "dynamic_soft", "generation": 2})
    third = Link(**BASE | {"previous": second, "arm": "dynamic_soft", "generation": 3})
    result = post.run(third, colour)
    assert result.outcome == "done" and set(colour.made) >= {FIRST, second}
    assert {"test_accuracy", "nll", "ece", "train_accuracy", "val_accuracy"} <= set(result.metrics)


def test_the_original_rule_keeps_the_last_weights_and_stops_without_ten_points(colour):
    changes = {"posted_stopping": True, "epochs": 9, "lr": 1e-6, "fixed": "nothing"}
    kept = {
        restore: post.run(Mistake(**BASE | changes | {"restore": restore}), colour)
        for restore in ("best", "last")
    }
    assert (
        kept["last"].metrics["steps"] == kept["best"].metrics["steps"] == 6 * 3
    )  # the first, and five without a gain
    assert len(kept["last"].series["val_accuracy_by_epoch"]) == 6


@given(
    st.lists(st.floats(0, 1).map(lambda value: round(value, 2)) | st.just(math.nan), min_size=1, max_size=15)
)
def test_the_best_weights_are_those_of_the_highest_value_whatever_stops(values):
    """It stops where ten points are missing for five evaluations; the state kept is that of the best value until then."""
    rule, posted = Stopping(5, min_delta=0.1), PostedStopping()
    for step, value in enumerate(values):
        by_rule = rule.update(value, step, dict)
        assert posted.update(value, step, lambda step=step: {"step": torch.tensor(step)}) == by_rule
        if by_rule:
            break
    seen = [-1.0 if math.isnan(value) else value for value in values[: step + 1]]
    if max(seen) >= 0:
        assert posted.best["step"] == posted.best_step == seen.index(max(seen))


def test_a_plateau_lowers_the_rate_after_its_patience():
    plateau, factors = Plateau(patience=2), []
    for value in (0.1, 0.2, 0.2, 0.1, 0.3, 0.3, 0.3):
        plateau.update(value)
        factors.append(plateau.factor)
    assert factors == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


def test_the_large_stem_leaves_one_pixel(colour):
    network = post.build(FIRST.replace(network="stem7"), 10, 3)
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[-1]))
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sizes[0] == 16 and min(sizes) == 1


def test_labels_of_the_test_set_decide_nothing(colour):
    data = colour.set
    other = Room(dataclasses.replace(data, test=Split(data.test.images, data.test.labels.flip(0))))
    one, two = post.run(FIRST, colour), post.run(FIRST, other)
    assert all(np.array_equal(one.artifact[name], two.artifact[name]) for name in one.artifact)


def test_noise_is_in_training_labels_only(colour):
    plain, sets = (post.sets_of(FIRST.replace(noise=share), colour) for share in (0.0, 0.5))
    assert 0.3 < (plain.classes != sets.classes).double().mean() < 0.6
    assert torch.equal(plain.held_labels, sets.held_labels) and torch.equal(
        plain.test_labels, sets.test_labels
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_interrupted_run_gives_the_same_numbers(colour, optimizer):
    config = FIRST.replace(epochs=4, optimizer=optimizer, lr=0.01)
    whole = post.run(config, colour)
    slot = Memory({1, 3})
    for _ in range(2):
        with pytest.raises(Interrupted):
            post.run(config, Room(colour.set, slot))
    resumed = post.run(config, Room(colour.set, slot))
    assert resumed.metrics == whole.metrics and resumed.series == whole.series


def test_svhn_is_an_experiment_like_the_others(colour):
    made = Mistake(**BASE | {"data": "svhn", "crops": "mild", "fixed": "nothing"})
    assert post.run(made, Room({"svhn": colour.set})).outcome == "done"
    images = torch.arange(32.0).expand(1, 3, 32, 32).contiguous()
    mirrored = [
        bool(crop[0, 0, 16, 4] > crop[0, 0, 16, 28])
        for crop in (post.cropping(made)(images, torch.Generator().manual_seed(s)) for s in range(12))
    ]
    assert not any(mirrored)  # digits are never flipped


def test_pictures(colour, grey):
    last = Link(**BASE | {"previous": FIRST, "arm": "dynamic_soft", "generation": 2})
    first = Overlap(**DIGITS | {"data": "svhn"})
    digits = Overlap(**DIGITS | {"data": "svhn", "previous": first, "arm": "dynamic_soft", "generation": 2})
    room = Room({"tiny": colour.set, "svhn": grey.set})
    arrays = post.run(Pictures(last=last, digits=digits, seed=0), room).arrays
    assert arrays["samples"].shape == (25, 3, 32, 32) and arrays["digit_samples"].shape == (25, 28, 60)
    assert (arrays["pair_labels"][:, 0] != arrays["pair_labels"][:, 1]).all()
    assert arrays["chain"].shape == (2, 2, 10) and arrays["digit_labels"].shape == (3, 3, 10)
    assert np.allclose(arrays["digit_labels"].sum(2), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 61}, "80 training images"),
        ({"arm": "dynamic_soft"}, "do not fit"),
        ({"previous": FIRST}, "do not fit"),
        ({"arm": "oracle"}, "several digits only"),
    ],
)
def test_wrong_configs_are_named(colour, changes, message):
    with pytest.raises(InputError, match=message):
        post.run(Link(**BASE | changes), colour)


def test_a_loss_that_leaves_the_numbers_is_a_result(colour):
    assert post.run(FIRST.replace(lr=1e30), colour).outcome == "diverged"


def test_the_fast_network_learns_nothing_in_its_whitening_layer():
    config = next(c for c in post.configs("laptop") if isinstance(c, post.Link) and c.network == "fast")
    network = post.build(config, 10, 3)
    assert not any(p.requires_grad for p in network[0].parameters())
    assert all(p.requires_grad for layer in convolutions(network)[1:] for p in layer.parameters())
    assert sum(type(layer) is CompiledGroup for layer in network) == 3
