"""The experiments of the distillation post: what students are taught by, what is left out, and that the test set decides nothing."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.core import PROFILES, InputError  # noqa: E402
from lib.data.images import Split, tiny  # noqa: E402
from lib.experiments import distilling_knowledge as post  # noqa: E402
from lib.experiments.distilling_knowledge import (  # noqa: E402
    HARD,
    OmittedDigit,
    Relatives,
    Slopes,
    Students,
    Teacher,
    Transfer,
    TransferSet,
)
from lib.methods.soft_labels import answers  # noqa: E402
from lib.training import Scaling  # noqa: E402
from tests.test_training import Interrupted, Memory  # noqa: E402

COMMON = {
    "data": "tiny", "images": 200, "validation": 60, "epochs": 2, "batch_size": 25, "lr": 3e-3, "patience": 0,
    "precision": "float32", "seed": 0,
}  # fmt: skip
TEACHER = Teacher(
    **COMMON, hidden=24, jitter=1, dropout=0.25, max_norm=0.5, jittered_validation=False,
)  # fmt: skip
GOOD = TEACHER.replace(jitter=0, dropout=0.0, epochs=12, lr=1e-2, max_norm=0.0)
SOFT = ("soft", 4.0, 0.9)
BASE = {**COMMON, "teacher": TEACHER, "hidden": 12, "jitter": 0, "arms": (HARD, SOFT), "omitted": ()}


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def data():
    return tiny(n_train=260, n_test=120, size=10)


@pytest.fixture(scope="module")
def room(data):
    return Room(data)


def found(room, kind=Transfer, **changes):
    return post.run(kind(**(BASE | changes)), room)


def taught(room, config=TEACHER):
    return post._taught(config, room, room.set)


# --- the profiles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_have_no_config_twice_and_teachers_of_their_own_seed(profile):
    configs = post.configs(profile)
    keys = [config.key for config in configs]
    assert len(set(keys)) == len(keys)
    students = [config for config in configs if isinstance(config, Students)]
    assert all(config.teacher.seed == config.seed for config in students)
    assert {config.teacher.key for config in students} <= set(keys)
    assert {config.experiment for config in configs} == {
        "teacher", "transfer", "teacher_quality", "temperature", "omitted_digit", "each_digit", "transfer_set", "relatives",
        "mistakes", "slopes",
    }  # fmt: skip
    for experiment in {config.experiment for config in configs}:
        seeds = {config.seed for config in configs if config.experiment == experiment}
        assert len(seeds) >= (2 if profile == "smoke" else 3)


def test_students_of_a_comparison_have_as_many_updates():
    for profile in PROFILES:
        for experiment in ("transfer", "teacher_quality", "temperature", "transfer_set", "relatives"):
            updates = {
                c.epochs * (c.images // c.batch_size)
                for c in post.configs(profile)
                if c.experiment == experiment
            }
            assert max(updates) <= 1.03 * min(updates), (profile, experiment)


def test_narrow_students_have_all_seeds_at_laptop():
    found = [c for c in post.configs("laptop") if isinstance(c, post.Temperature)]
    assert {(c.hidden, len({d.seed for d in found if d.hidden == c.hidden})) for c in found} == {
        (30, 5), (100, 5), (300, 3)
    }  # fmt: skip


# --- teachers ------------------------------------------------------------------------------------------------------


def test_cached_logits_are_those_of_the_network(room):
    teacher, cached = taught(room)
    again = answers(teacher, room.set.train.images, prepare=Scaling(), batch_size=7)
    assert torch.allclose(cached, again, atol=1e-5) and not teacher.training


def test_a_teacher_is_validated_on_images_as_they_are(room):
    plain = post.run(TEACHER.replace(epochs=1), room)
    assert plain.metrics["val_accuracy"] == pytest.approx(plain.metrics["clean_val_accuracy"])
    posted = post.run(TEACHER.replace(epochs=1, jittered_validation=True, jitter=4), room)
    assert posted.metrics["val_accuracy"] != posted.metrics["clean_val_accuracy"]
    assert "clean_accuracy" in posted.series and "clean_accuracy" not in plain.series


def test_a_teachers_rows_are_no_longer_than_the_limit(room):
    teacher, _ = taught(room)
    longest = max(layer.weight.norm(dim=1).max().item() for layer in teacher if isinstance(layer, nn.Linear))
    assert longest <= 0.5 + 1e-5
    free, _ = taught(room, TEACHER.replace(max_norm=0.0))
    assert max(layer.weight.norm(dim=1).max().item() for layer in free if isinstance(layer, nn.Linear)) > 0.6


def test_the_original_clamp_changes_weights_and_divides_by_zero():
    net = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    post.clamp_as_posted_(net, 2.0)
    assert torch.allclose(net[0].weight[0], torch.tensor([1.2, 1.6, 0.0]))
    assert net[0].weight[1].isnan().all()


def test_held_out_images_teach_nothing(data, room):
    changed = data.train.images.clone()
    changed[-60:] = 255 - changed[-60:]
    other = dataclasses.replace(data, train=Split(changed, data.train.labels))
    config = TEACHER.replace(epochs=1)
    first, second = (post.run(config, Room(one)).artifact for one in (data, other))
    assert all(np.array_equal(first[name], second[name]) for name in first if name != "logits")
    with pytest.raises(InputError, match="260 training images"):
        post.run(config.replace(images=201), room)


# --- students ------------------------------------------------------------------------------------------------------


def test_labels_of_the_test_set_decide_nothing_but_the_papers_bias(data, room):
    shuffled = data.test.labels.flip(0)
    other = Room(dataclasses.replace(data, test=Split(data.test.images, shuffled)), made=room.made)
    before, after = (found(one, OmittedDigit, omitted=(3,)).arrays for one in (room, other))
    for name in ("val_accuracy", "best_epoch", "mass", "matched_bias"):
        assert np.array_equal(before[name], after[name]), name
    assert not np.array_equal(before["errors"], after["errors"])
    assert not np.array_equal(before["best_bias"], after["best_bias"])


def test_without_the_soft_term_a_student_is_the_hard_one(room):
    arrays = found(room, arms=(HARD, ("soft", 4.0, 0.0), SOFT)).arrays
    assert np.array_equal(arrays["errors"][0], arrays["errors"][1])
    assert arrays["nll"][0] == pytest.approx(arrays["nll"][1], rel=1e-4) != arrays["nll"][2]


def test_arms_do_not_depend_on_each_other(room):
    together = found(room, arms=(SOFT, HARD, ("matched", 1.0, 0.9))).arrays["nll"]
    alone = [found(room, arms=(arm,)).arrays["nll"][0] for arm in (SOFT, HARD, ("matched", 1.0, 0.9))]
    assert together == pytest.approx(alone, rel=1e-3)


def test_students_learn(room):
    result = found(room, epochs=12, lr=1e-2, teacher=GOOD)
    assert result.arrays["errors"].sum(1).max() < 40 < 0.9 * len(room.set.test)
    assert result.arrays["curve"].shape == (2, 12) and result.metrics["teacher_errors"] < 20


def targets_of(config, room):
    teacher, cached = taught(room, config.teacher)
    train = room.set.train.subset(slice(config.images))
    batches, per_pass = post.transfer_batches(config, room.set, train, teacher, cached)
    return teacher, [(inputs.clone(), targets) for inputs, targets in map(batches, range(per_pass))]


def test_an_omitted_digit_is_in_no_batch_and_in_no_choice_of_the_epoch(room, monkeypatch):
    config = OmittedDigit(**(BASE | {"omitted": (3, 5)}))
    _, seen = targets_of(config, room)
    labels = torch.cat([targets.labels for _, targets in seen])
    assert len(labels) == (~torch.isin(room.set.train.labels[:200], torch.tensor([3, 5]))).sum()
    assert not torch.isin(labels, torch.tensor([3, 5])).any()
    held = []
    inner = post.validator
    monkeypatch.setattr(
        post, "validator", lambda images, labels: held.append(labels) or inner(images, labels)
    )
    post.run(config, room)
    assert len(held[0]) and not torch.isin(held[0], torch.tensor([3, 5])).any()


def test_cached_labels_belong_to_their_images(room):
    teacher, seen = targets_of(Transfer(**BASE), room)
    for inputs, targets in seen:
        assert torch.allclose(targets.logits, teacher(inputs), atol=1e-5)


def test_a_teacher_sees_the_jittered_image_that_the_student_sees(room):
    teacher, seen = targets_of(TransferSet(**(BASE | {"jitter": 2})), room)
    for inputs, targets in seen:
        assert torch.equal(targets.logits, teacher(inputs)) and not targets.logits.requires_grad


def test_shuffled_labels_keep_the_logit_of_the_right_class(room):
    config = Relatives(**(BASE | {"arms": (("shuffled", 4.0, 1.0),)}))
    _, seen = targets_of(config, room)
    for _, targets in seen:
        own = targets.labels[:, None]
        assert torch.equal(targets.control.gather(1, own), targets.logits.gather(1, own))
        assert torch.equal(targets.control.sort(1).values, targets.logits.sort(1).values)
        assert not torch.equal(targets.control, targets.logits)
        logits = torch.randn(len(own), 10, generator=torch.Generator().manual_seed(0))
        loss = post.arm_loss(("shuffled", 4.0, 1.0), logits, targets)
        swapped = targets._replace(logits=targets.control)
        assert loss == post.arm_loss(("soft", 4.0, 1.0), logits, swapped)


def test_mutual_learners_differ_and_learn_from_each_other(room):
    mutual = ("mutual", 1.0, 0.5)
    arrays = found(room, Relatives, arms=(mutual, mutual)).arrays
    assert arrays["nll"][0] != arrays["nll"][1]
    alone = found(room, Relatives, arms=(mutual, HARD)).arrays
    hard = found(room).arrays["nll"][0]
    assert alone["nll"] == pytest.approx([hard, hard], rel=1e-3)
    logits = torch.randn(4, 10, requires_grad=True)
    partner = torch.randn(4, 10, requires_grad=True)
    targets = post.Targets(torch.arange(4), torch.zeros(4, 10), torch.zeros(4, 10))
    post.arm_loss(mutual, logits, targets, partner).backward()
    assert logits.grad is not None and partner.grad is None


def test_hints_are_the_teachers_first_hidden_layer_and_only_a_matter_of_training(room):
    config = Relatives(**(BASE | {"arms": (("hint", 4.0, 0.1),)}))
    teacher, seen = targets_of(config, room)
    inputs, targets = seen[0]
    assert torch.equal(targets.hints, teacher[2](teacher[1](inputs.flatten(1))))
    student = post.Hinted(post.network(config, 100, 10), 24, torch.Generator().manual_seed(0))
    assert student(inputs).shape == (25, 34) and student.eval()(inputs).shape == (25, 10)
    assert np.isfinite(post.run(config, room).arrays["nll"]).all()


# --- biases --------------------------------------------------------------------------------------------------------


def test_the_matched_bias_gives_the_prior_on_images_held_out(room):
    config = OmittedDigit(**(BASE | {"omitted": (3, 8)}))
    generator = torch.Generator().manual_seed(0)
    tested, held = (torch.randn(2, n, 10, generator=generator) for n in (120, 60))
    arrays = post._biased(config, tested, held, room.set)
    share = torch.bincount(room.set.train.labels, minlength=10) / len(room.set.train)
    for row in range(2):
        bias = torch.from_numpy(arrays["matched_bias"][row])
        mass = (held[row] + bias).softmax(-1).mean(0)
        assert mass[[3, 8]].tolist() == pytest.approx(share[[3, 8]].tolist(), abs=1e-4)
        assert (bias[[0, 1, 2, 4, 5, 6, 7, 9]] == 0).all()
    assert (arrays["best_errors"].sum(1) <= arrays["matched_errors"].sum(1)).all()


def test_a_hard_student_never_names_an_omitted_digit_and_a_distilled_one_may(room):
    arrays = found(room, OmittedDigit, omitted=(3,), epochs=12, lr=1e-2, teacher=GOOD).arrays
    there = int((room.set.test.labels == 3).sum())
    assert arrays["errors"][0, 3] == there > arrays["matched_errors"][1, 3]
    assert arrays["mass"][0, 3] < 0.05


# --- the rest ------------------------------------------------------------------------------------------------------


def test_slopes_of_the_gradient(room):
    config = Slopes(
        teacher=TEACHER, student=TEACHER.replace(epochs=1, max_norm=0.0), temperatures=(1.0, 4.0, 300.0, 1000.0),
        shown=(1.0, 4.0, 20.0), data="tiny", seed=0,
    )  # fmt: skip
    result = post.run(config, room)
    assert result.metrics["slope_fixed"] == pytest.approx(-1, abs=0.02)
    assert result.metrics["slope_teacher"] == pytest.approx(-2, abs=0.02)
    assert result.metrics["answers_lost"] == 1 and 0 <= result.metrics["rows_moved"] <= 1
    assert (np.diff(result.arrays["entropies"]) > 0).all()
    assert (
        result.arrays["probabilities"].argmax(1).tolist() == [result.arrays["probabilities"][0].argmax()] * 3
    )


def test_an_interrupted_run_gives_the_same_numbers(data, room):
    config = Transfer(**(BASE | {"epochs": 4}))
    whole = post.run(config, room).arrays
    slot = Memory({1, 3})
    for _ in range(2):
        with pytest.raises(Interrupted):
            post.run(config, Room(data, slot, room.made))
    resumed = post.run(config, Room(data, slot, room.made)).arrays
    assert all(np.array_equal(resumed[name], whole[name], equal_nan=True) for name in whole)


def test_an_interrupted_teacher_jitters_its_validation_as_before(data):
    config = TEACHER.replace(epochs=3, jittered_validation=True)
    whole = post.run(config, Room(data))
    slot = Memory({1, 2})
    for _ in range(2):
        with pytest.raises(Interrupted):
            post.run(config, Room(data, slot))
    resumed = post.run(config, Room(data, slot))
    assert resumed.series == whole.series and resumed.metrics == whole.metrics


def test_a_loss_that_leaves_the_numbers_is_a_result(room):
    assert found(room, lr=1e30).outcome == "diverged"
    assert post.run(TEACHER.replace(lr=1e30, max_norm=0.0), room).outcome == "diverged"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ()}, "arm or more"),
        ({"omitted": (10,)}, "digits are wanted"),
        ({"images": 0}, "images is 0"),
    ],
)
def test_wrong_configs_are_named(room, changes, message):
    with pytest.raises(InputError, match=message):
        found(room, **changes)


def test_an_unknown_kind_of_arm_is_refused():
    with pytest.raises(InputError, match="'sfot'"):
        Transfer(**(BASE | {"arms": (("sfot", 1.0, 1.0),)}))
