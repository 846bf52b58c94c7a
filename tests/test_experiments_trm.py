"""The post's runs: who sees which puzzles, equal compute, what validation and tests decide, resumption, arms, votes."""

from __future__ import annotations

import dataclasses
import math
import sys
from functools import partial

import numpy as np
import pytest

import tests.room

pytest.importorskip("numba")
torch = pytest.importorskip("torch")

from lib import data  # noqa: E402
from lib.core import PROFILES, Config, InputError, Suspended  # noqa: E402
from lib.data.sudoku import PuzzleSet, classes, solve, waves  # noqa: E402
from lib.data.sudoku.symmetries import solves  # noqa: E402
from lib.experiments import trm as post  # noqa: E402
from lib.experiments.trm import (  # noqa: E402
    AGGREGATORS,
    PLANS,
    Aggregation,
    Compared,
    PathIndependence,
    Paths,
    Puzzles,
    RandomisedDepth,
    Schedules,
    SeveralSolutions,
    Training,
    Walk,
    baseline,
    configs,
    passes,
)
from lib.experiments.trm.puzzles import PARTS, Sets, draw, due_steps  # noqa: E402
from lib.experiments.trm.training import start_of_tests, thinking  # noqa: E402
from lib.methods.trm import Nested, stream  # noqa: E402
from lib.runs.checkpoints import FileCheckpoint  # noqa: E402

TINY = {
    "width": 8,
    "multiple": 8,
    "heads": 2,
    "batch": 6,
    "steps": 6,
    "eval_every": 3,
    "snapshots": (4,),
    "val_puzzles": 8,
}
TINY |= {"test_puzzles": 12, "aligned": 4, "settling": 2, "depths": (1, 3)}


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def room():
    """What the tests share: the puzzles, and one network."""
    return Room()


def tiny(**changes):
    return baseline("smoke", 0, **TINY | changes)


def looking(kind=Aggregation, **changes):
    options = {"training": tiny(), "snapshot": 0, "diversity": "noise", "sigma": 0.5, "seed": 0}
    return kind(**options | {"passes": (1, 2, 4), "depths": (1, 3), "puzzles": 12} | changes)


def sets_of(room, config=None):
    return Sets.of((config or tiny()).puzzles, room)


# --- lists of configs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_each_config_comes_once_and_after_what_it_needs(profile):
    found = configs(profile)
    assert len({config.key for config in found}) == len(found)
    seen = set()
    for config in found:
        if isinstance(config, Training):
            assert config.puzzles in seen
        elif not isinstance(config, Puzzles):
            assert config.training in seen
        seen.add(config)


def test_every_arm_at_laptop_has_three_seeds_and_close_ones_five():
    seeds: dict[object, set[int]] = {}
    for config in configs("laptop"):
        if isinstance(config, Compared):
            seeds.setdefault((type(config), config.arm), set()).add(config.seed)
        elif isinstance(config, Aggregation):
            arm = (type(config), config.diversity, config.sigma, config.snapshot, config.training.start)
            seeds.setdefault(arm, set()).add(config.seed)
    assert all(len(found) >= 3 for found in seeds.values())
    assert len(seeds[RandomisedDepth, "T1"]) == len(seeds[PathIndependence, "batch"]) == 5
    # what the claims on passes compare: the posted start, and the middle noise
    assert len(seeds[Aggregation, "start", 0.0, 600, "batch"]) == 5
    assert len(seeds[Aggregation, "noise", 0.3, 600, "static"]) == 5
    assert len(seeds[SeveralSolutions, "start", 0.0, 600, "batch"]) == 5


def test_seeds_are_the_puzzles_too():
    for profile in PROFILES:
        assert all(c.puzzles.seed == c.seed for c in configs(profile) if isinstance(c, Training))


def test_arms_differ_from_the_baseline_in_what_they_say():
    main = baseline("laptop", 0).to_dict()
    for config in configs("laptop"):
        if isinstance(config, Compared) and config.seed == 0:
            other = config.training.to_dict()
            changed = {name for name in main if main[name] != other[name]}
            assert len(changed) <= 3
            assert bool(changed) != (config.arm in ("fixed", "none", "static", "final", "2:1", "64"))


@pytest.mark.parametrize("profile", PROFILES)
def test_randomised_depths_cost_what_fixed_ones_cost(profile):
    """Every arm but the curriculum makes as many passes a step as the baseline, on average."""
    for config in configs(profile):
        if isinstance(config, Compared) and config.seed == 0 and config.arm != "curriculum":
            network = config.training
            think = thinking(network)
            passes = np.mean([think(step).passes for step in range(400)])
            expected = network.T * (network.n + network.m)
            assert passes == pytest.approx(expected, rel=0.08)
            assert network.limit - network.limit_width >= 1


@pytest.mark.parametrize("profile", ["smoke", "laptop"])
def test_the_long_arm_is_a_comparison_twice_as_long(profile):
    arms = {c.arm: c.training for c in configs(profile) if isinstance(c, Schedules) and c.seed == 0}
    assert arms["long"] == arms["curriculum"].replace(curriculum=(), steps=2 * arms["curriculum"].steps)


def test_the_curriculum_grows():
    network = baseline("laptop", 0, curriculum=PLANS["laptop"].curriculum)
    think = thinking(network)
    assert [think(step) for step in (0, 249, 250, 500, 749)] == [
        Nested(1, 1), Nested(1, 1), Nested(1, 2), Nested(2, 2), Nested(2, 2)
    ]  # fmt: skip


# --- puzzles -------------------------------------------------------------------------------------------------------


def test_no_part_has_a_puzzle_of_another(room):
    arrays = room.artifact(tiny().puzzles)
    shape = sets_of(room).shape
    grids = [
        np.concatenate([arrays[f"{part}_{kind}"] for part in PARTS]) for kind in ("puzzles", "solutions")
    ]
    sizes = [len(arrays[f"{part}_puzzles"]) for part in PARTS]
    parts = np.split(classes(*grids, shape), np.cumsum(sizes)[:-1])
    assert sizes == [tiny().puzzles.train, tiny().puzzles.val, tiny().puzzles.test]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[i]) & set(parts[j])
    assert (solve(arrays["several"], shape).counts == 2).all()
    assert (arrays["train_waves"] == waves(arrays["train_puzzles"], shape)).all()


def test_training_draws_from_training_puzzles_alone(room):
    """Every puzzle that training sees is equivalent to a training puzzle, so to none of the test puzzles."""
    sets, config = sets_of(room), tiny(batch=64)
    shape = sets.shape
    known = [grids.numpy() for grids in sets.parts["train"]]
    for step in range(3):
        batch = draw(config, sets)(step)
        seen = [
            np.concatenate([a, b.numpy()])
            for a, b in zip(known, (batch.puzzles, batch.solutions), strict=True)
        ]
        names = classes(*seen, shape)
        assert set(names[len(known[0]) :]) <= set(names[: len(known[0])])
        assert solves(batch.solutions, batch.puzzles, shape).all()


def test_a_mixture_keeps_its_shares_and_its_parts_apart():
    easy, hard = data.load("sudoku-6x6"), data.load("sudoku-6x6")
    half = len(easy) // 2
    named = {
        "easy": PuzzleSet("easy", "easy", easy.shape, easy.puzzles[:half]),
        "hard": PuzzleSet("hard", "hard", hard.shape, hard.puzzles[half:]),
    }
    mixed = Room()
    mixed.data = named.__getitem__
    config = Puzzles(
        sources=("hard", "easy"), shares=(0.75, 0.25), train=200, val=20, test=80, several="", seed=1
    )
    found = post.run(config, mixed)
    arrays = found.artifact
    grids = np.concatenate([arrays[f"{part}_puzzles"] for part in PARTS])
    full = np.concatenate([arrays[f"{part}_solutions"] for part in PARTS])
    easy_names, own = np.split(
        classes(
            np.concatenate([easy.puzzles[:half], grids]),
            np.concatenate([easy.solutions[:half], full]),
            easy.shape,
        ),
        [half],
    )
    assert np.isin(own, easy_names).mean() == pytest.approx(0.25, abs=0.08)
    assert len(np.unique(own)) == 300
    for shares in ((0.5, 0.25), (1.0,)):
        with pytest.raises(InputError, match="together 1"):
            post.run(config.replace(shares=shares), mixed)
    with pytest.raises(InputError, match="a share of 0.99"):
        post.run(config.replace(shares=(0.99, 0.01), train=2500), mixed)


def test_milestones_are_waves_or_their_shuffle(room):
    sets = sets_of(room)
    plain, shuffled = (due_steps(tiny(milestones=name), sets) for name in ("waves", "shuffled"))
    limit, clues = tiny().limit, sets.parts["train"][0] > 0
    found = sets.waves.long()
    assert due_steps(tiny(), sets) is None
    assert (plain[clues] == 0).all() and (shuffled[clues] == 0).all()
    assert torch.equal(plain, torch.where(found < 0, limit, found).clamp(max=limit))
    assert torch.equal(plain.sort(1).values, shuffled.sort(1).values)
    assert (plain != shuffled).any(1).float().mean() > 0.5
    batch = draw(tiny(milestones="waves"), sets)(0)
    assert ((batch.due == 0) == (batch.puzzles > 0)).all()


# --- training ------------------------------------------------------------------------------------------------------


def same(a, b):
    """Equal bit for bit, through mappings and lists."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def same_result(a, b):
    return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))


class Interrupted(FileCheckpoint):
    """Saves whenever it may, and stops every third time."""

    saves = 0

    def due(self):
        return True

    def save(self, state):
        super().save(state)
        self.saves += 1
        if self.saves % 3 == 0:
            raise Suspended("time is up")


@pytest.mark.parametrize(
    "changes", [{"start": "cell", "T_width": 1, "optimizer": "atan2"}, {"precision": "bfloat16"}]
)
def test_a_resumed_run_is_an_uninterrupted_one(room, tmp_path, changes):
    config = tiny(**changes)
    whole = post.run(config, Room(made=room.made))
    slot = Interrupted(tmp_path / "state", "code", every=0)
    stops = 0
    while True:
        try:
            found = post.run(config, Room(slot=slot, made=room.made))
            break
        except Suspended:
            stops += 1
    assert stops >= 1 and same_result(found, whole)


def test_the_test_set_decides_nothing(room):
    """Other test puzzles: the same weights, the same course, the same validation."""
    config = tiny()
    other = Room(made=dict(room.made))
    arrays = dict(room.artifact(config.puzzles))
    for name in ("test_puzzles", "test_solutions"):
        arrays[name] = arrays[name][::-1].copy()
    arrays["test_puzzles"] = arrays["test_solutions"]  # nothing left to solve
    other.made[config.puzzles] = arrays
    one, two = post.run(config, Room(made=room.made)), post.run(config, other)
    assert same(one.series, two.series)
    kept = [name for name in one.artifact if name.startswith("weights.")]
    assert {name.split(".")[1] for name in kept} == {"0", "4", "6"}
    assert all(same(one.artifact[name], two.artifact[name]) for name in kept)
    assert two.metrics["solved_1"] == 1 or not same(one.arrays, two.arrays)


def test_validation_sees_validation_puzzles_alone(room, monkeypatch):
    module, seen = sys.modules["lib.experiments.trm.training"], []
    inner = module.explore
    monkeypatch.setattr(
        module,
        "explore",
        lambda model, puzzles, *args, **kw: seen.append(puzzles) or inner(model, puzzles, *args, **kw),
    )
    config = tiny()
    post.run(config, Room(made=room.made))
    *validations, test = seen
    assert len(validations) == 2
    assert all(torch.equal(v, sets_of(room).parts["val"][0][: config.val_puzzles]) for v in validations)
    assert torch.equal(test, sets_of(room).parts["test"][0][: config.test_puzzles])


def test_what_a_run_reports(room):
    config = tiny(exploration=0.0, halting_weight=0.0)
    found = post.run(config, Room(made=room.made))
    assert found.metrics["passes"] == config.steps * 6
    assert found.metrics["realised_steps"] == config.limit and found.metrics["puzzles_seen"] == config.batch
    assert found.arrays["solved_by_step"].shape == (3,) and found.arrays["gap_by_step"].shape == (2,)
    assert found.metrics["solved_3"] == pytest.approx(found.arrays["solved_by_step"][2])
    assert all(len(values) == 2 for values in found.series.values())
    assert found.metrics["val_solved"] == max(found.series["val_single"])
    assert 0 <= found.metrics["aas_puzzles"] <= found.metrics["aas_cells"] <= 1


def test_the_seed_decides(room):
    one, again = (post.run(tiny(), Room(made=room.made)) for _ in range(2))
    assert same_result(one, again)
    other = post.run(tiny(batch=5), Room(made=room.made))
    assert not same(one.series, other.series)


def test_a_run_that_diverges_is_a_result(room):
    config = tiny(lr=1e30, warmup=0)
    assert post.run(config, Room(made=room.made)).outcome == "diverged"
    arm = RandomisedDepth(arm="hot", training=config, seed=0)
    for look in (arm, looking(training=config), Walk(training=config, snapshot=0, puzzle=0, steps=1, seed=0)):
        assert post.run(look, Room(made=room.made)).outcome == "diverged"


def test_mixed_starts_are_zeros_in_tests_and_random_ones_random():
    assert [start_of_tests(tiny(start=s)) for s in ("mixed", "batch", "static")] == [
        "zeros",
        "batch",
        "static",
    ]


def test_an_arm_reports_its_training(room):
    config = tiny()
    whole = post.run(config, Room(made=room.made))
    room.made[config] = whole.artifact
    arm = post.run(PathIndependence(arm="static", training=config, seed=0), room)
    assert same(dict(arm.metrics), dict(whole.metrics)) and same(arm.series, whole.series)
    assert same(arm.arrays, whole.arrays)


@pytest.mark.parametrize("changes", [{"k": 3}, {"n": 1, "m": 2}, {"mixing": "attention"}, {"registers": 2}])
def test_other_forms_run(room, changes):
    assert post.run(tiny(**changes, steps=3), Room(made=room.made)).outcome == "done"


# --- several passes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Aggregation, SeveralSolutions])
@pytest.mark.parametrize("diversity", ["start", "noise", "symmetry"])
def test_aggregators_in_order(room, kind, diversity):
    config = looking(
        kind, diversity=diversity, training=tiny(start="cell"), sigma=0.5 if diversity == "noise" else 0.0
    )
    found = post.run(config, room)
    solved = dict(zip(AGGREGATORS, found.arrays["solved"], strict=True))  # each passes × depths
    assert found.arrays["solved"].shape == (len(AGGREGATORS), 3, 2)
    for name in AGGREGATORS:
        if not name.endswith("_all"):
            assert (solved[name][0] == solved["single"][0]).all(), "one pass leaves no choice"
        assert (solved["oracle"] >= solved[name]).all() or name.endswith("_all")
    assert (solved["check"] == solved["oracle"]).all() and (solved["check_all"] >= solved["check"]).all()
    assert (np.diff(solved["check"], axis=0) >= 0).all() and (solved["single"] == solved["single"][:1]).all()
    assert found.arrays["calibration"][0].sum() == 4 * 12
    assert 1 <= found.metrics["distinct"] <= 4


def test_without_diversity_all_passes_are_one(room):
    found = post.run(looking(sigma=0.0), room)
    solved = found.arrays["solved"]
    assert found.metrics["distinct"] == 1
    assert (
        solved[0] == solved[[AGGREGATORS.index(name) for name in ("cell_mode", "puzzle_mode", "check")]]
    ).all()


def test_several_solutions_are_looked_at_where_there_are_several(room, monkeypatch):
    seen = []
    inner = passes.answers_of
    monkeypatch.setattr(
        passes, "answers_of", lambda c, m, s, puzzles, i: seen.append(puzzles) or inner(c, m, s, puzzles, i)
    )
    post.run(looking(SeveralSolutions), room)
    assert torch.equal(torch.cat(seen), sets_of(room).several[:12])
    seen.clear()
    post.run(looking(), room)
    assert torch.equal(torch.cat(seen), sets_of(room).parts["test"][0][:12])


def test_snapshots_are_those_that_were_kept(room):
    first, last = (passes.trained(tiny(), step, room)[0].tokens for step in (4, 6))
    assert not torch.equal(first, last)
    with pytest.raises(InputError, match="snapshot is 5"):
        post.run(looking(snapshot=5), room)


def test_calibration_by_bins():
    confidence = torch.tensor([[-9.0, 9.0], [0.0, -9.0]])
    found = passes.calibration(confidence, torch.tensor([[False, True], [True, False]]))
    assert found[0].tolist() == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found[2].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found[1, 5] == 0.5


# --- single puzzles ------------------------------------------------------------------------------------------------


def test_a_walk_and_paths(room):
    walk = post.run(Walk(training=tiny(), snapshot=0, puzzle=1, steps=3, seed=0), room)
    assert walk.arrays["digits"].shape == walk.arrays["probability"].shape == (3, 16)
    assert len(walk.series["confidence"]) == 3
    model, sets = passes.trained(tiny(), 0, room)
    from lib.methods.trm import explore

    puzzle = sets.parts["test"][0][1:2]
    assert (
        explore(model, puzzle, Nested(2, 2), steps=3).grids[0, :, 0].numpy() == walk.arrays["digits"]
    ).all()
    right = walk.arrays["digits"] == walk.arrays["solution"]
    assert (walk.arrays["probability"][right] > 0.25).all()  # the largest of four
    paths = post.run(Paths(training=tiny(), snapshot=0, puzzle=0, starts=5, steps=4, seed=0), room)
    for name in "yz":
        assert paths.arrays[name].shape == (5, 5, 2)
        assert np.abs(paths.arrays[name].mean((0, 1))).max() < 1e-4
        first, second = paths.arrays[f"{name}_share"]
        assert 1 >= first >= second >= 0
    assert np.ptp(paths.arrays["y"][:, 0], axis=0).min() > 0  # they begin apart


def test_other_configs_are_refused(room):
    class Other(Config, post="trm", experiment="other"):
        seed: int

    with pytest.raises(InputError, match="Other is not a config of trm"):
        post.run(Other(seed=0), room)


def test_streams_are_not_shared():
    draws = {
        tuple(torch.rand(3, generator=stream(s, p, i)).tolist()) for s in (0, 1) for p in "ab" for i in (0, 1)
    }
    assert len(draws) == 8
