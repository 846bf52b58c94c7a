"""Engression's experiments: what each arm is trained on and judged by, errors measured point by point, resumption, profiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lib.core import PROFILES, Config, InputError  # noqa: E402
from lib.data import simulators  # noqa: E402
from lib.data.tables import table  # noqa: E402
from lib.experiments import engression as post  # noqa: E402
from lib.runs.checkpoints import FileCheckpoint  # noqa: E402


def Room(slot=None):
    """A context with one small table."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((240, 3)) + np.arange(240)[:, None] / 100
    return tests.room.Room(post.run, table("diabetes", "Toy", ["bmi", "bp", "s5"], values), slot)


def smoke(experiment: str, **fields) -> Config:
    """The first smoke config of an experiment with these fields."""
    return next(
        config
        for config in post.configs("smoke")
        if config.experiment == experiment and all(getattr(config, k) == v for k, v in fields.items())
    )


@pytest.fixture
def trainings(monkeypatch):
    """What every Trainer of a run was given."""
    seen = []
    inner = post.Trainer

    class Spy(inner):
        def __init__(self, network, x, y, **options):
            seen.append({"x": x.clone(), "y": y.clone(), "network": network, **options})
            super().__init__(network, x, y, **options)

    monkeypatch.setattr(post, "Trainer", Spy)
    return seen


# --- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_lists_each_run_once_and_all_seeds_of_each_arm(profile):
    configs = post.configs(profile)
    assert len({config.key for config in configs}) == len(configs)
    arms: dict[str, set[int]] = {}
    for config in configs:
        arms.setdefault(config.replace(seed=0).key, set()).add(config.seed)
    least = {"smoke": 2, "laptop": 3, "full": 5}[profile]
    assert all(seeds == set(range(len(seeds))) and len(seeds) >= least for seeds in arms.values())
    five = [c for c in configs if c.experiment == "figure_4" and c.function == "log"]
    assert len({c.seed for c in five}) == {"smoke": 2, "laptop": 5, "full": 20}[profile]


def test_full_has_the_papers_settings():
    config = next(
        c
        for c in post.configs("full")
        if c.experiment == "figure_4" and c.function == "cubic" and c.method == "engression"
    )
    wanted = {"n": 100_000, "batch_size": 1024, "epochs": 20, "lr": 5e-2, "m": 2, "draws": 512}
    wanted |= {"width": 100, "blocks": 3, "noise_dim": 100}
    assert {name: getattr(config, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "experiment",
    ["loss_terms", "distances", "figure_4", "m_sweep", "pre_or_post", "stacking", "tails", "multi_step"],
)
def test_a_config_gives_the_same_result_again(experiment):
    config = smoke(experiment)
    if experiment == "stacking":
        config = config.replace(target="s5")
    first, second = (post.run(config, Room()) for _ in range(2))
    assert first.outcome == "done" and first.metrics == second.metrics
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_another_config_is_refused():
    class Stray(Config, post="engression", experiment="stray"):
        seed: int

    with pytest.raises(InputError, match="Stray is not a config"):
        post.run(Stray(seed=0), Room())


# --- beyond the training range -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["engression", "l1"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_placement_reaches_data_baseline_and_scatter(method, placement, trainings):
    """Post-additive: what is left after taking f(x) away does not depend on x. Pre-additive data of the cubic function do."""
    config = smoke("figure_4", function="cubic", placement=placement, method=method, arm="corrected")
    result = post.run(config.replace(n=4000, batch_size=1000, epochs=1), Room())
    (given,) = trainings
    scatter = torch.from_numpy(result.arrays["scatter"].astype(np.float32))
    for x, y in ((given["x"][:, 0], given["y"][:, 0]), (scatter[:, 0], scatter[:, 1])):
        rest = y - simulators.truth("cubic", x)
        ratio = rest[x.abs() > 1].std() / rest[x.abs() < 0.7].std()
        assert (ratio < 1.3) if placement == "post" else (ratio > 2)


def test_as_posted_the_baseline_is_trained_on_pre_additive_data(trainings):
    fields = {"function": "cubic", "placement": "post", "method": "l1"}
    post.run(smoke("figure_4", arm="as_posted", **fields), Room())
    post.run(smoke("figure_4", arm="corrected", placement="pre", function="cubic", method="l1"), Room())
    assert torch.equal(trainings[0]["y"], trainings[1]["y"])


def test_the_methods_of_a_seed_share_their_data(trainings):
    for method in ("engression", "l1"):
        post.run(smoke("figure_4", function="log", placement="pre", method=method), Room())
    assert torch.equal(trainings[0]["x"], trainings[1]["x"])
    assert [given["m"] for given in trainings] == [2, 1]
    assert trainings[0]["objective"] is None and trainings[1]["network"].noise_dim == 0


@pytest.mark.parametrize("name", simulators.FUNCTIONS)
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_f_is_the_median_whatever_the_placement(name, placement):
    """In ten slices of x: half of the responses lie below f(x)."""
    x, y = simulators.additive(name, 200_000, placement, torch.Generator().manual_seed(0))
    f = simulators.function(name)
    below = (y < simulators.truth(name, x)).float()
    slices = ((x - f.low) / (f.high - f.low) * 10).long().clamp(0, 9)
    for i in range(10):
        part = below[slices == i]
        assert abs(part.mean() - 0.5) < 4 * 0.5 / math.sqrt(len(part))


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    """Stopped after some steps, it ends with the numbers of a run that was not."""
    config = smoke("figure_4", function="square", placement="pre", method="engression")

    class Stop(Exception):
        pass

    class Slot(FileCheckpoint):
        saves = 0

        def due(self):
            return True

        def save(self, state):
            super().save(state)
            self.saves += 1
            if self.saves == 3:
                raise Stop

    straight = post.run(config, Room())
    place = tmp_path / "slot"
    with pytest.raises(Stop):
        post.run(config, Room(Slot(place, "code", every=0, deadline=None)))
    resumed = post.run(config, Room(FileCheckpoint(place, "code", every=1e9, deadline=None)))
    assert resumed.metrics == straight.metrics


# --- samples an example --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_exact_quantiles_have_no_error(sigma):
    """Point by point it is 0; averaged over x first, as the original did, it is .52."""
    x = torch.linspace(-1, 1, 25)
    levels = torch.tensor(post.QUANTILES)
    exact = x[None] + torch.distributions.Normal(0.0, sigma).icdf(levels)[:, None]
    right, posted = post.quantile_errors(exact, x, sigma)
    assert max(right) < 1e-6
    np.testing.assert_allclose(posted, 0.52, atol=1e-6)
    # nor can the original's see quantiles that do not depend on x at all
    flat = exact.mean(dim=1, keepdim=True).expand_as(exact)
    assert post.quantile_errors(flat, x, sigma)[1] == pytest.approx([0.52] * 3)
    assert min(post.quantile_errors(flat, x, sigma)[0]) > 0.5


def test_as_posted_draws_in_training_mode_and_in_order(trainings):
    right, posted = (post.run(smoke("m_sweep", arm=arm), Room()) for arm in ("corrected", "as_posted"))
    assert [given["shuffle"] for given in trainings] == [True, False]
    assert right.metrics["error"] != posted.metrics["error"]
    assert posted.metrics["evaluated_error"] != posted.metrics["error"]


# --- before or after -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True])
def test_held_out_pairs_are_not_trained_on(real):
    config = smoke("pre_or_post", pairs=() if real else post.SIMULATED_PAIRS)
    x, y, x_test, y_test, names = post._pairs(config, Room())
    assert x.shape == y.shape == (config.n, len(names)) and x_test.shape == y_test.shape
    for i in range(len(names)):
        seen = {(float(a), float(b)) for a, b in zip(x[:, i], y[:, i], strict=True)}
        new = {(float(a), float(b)) for a, b in zip(x_test[:, i], y_test[:, i], strict=True)}
        assert not seen & new
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(len(names)), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(dim=0), torch.ones(len(names)))


def test_the_data_set_stays_as_it_was():
    room = Room()
    before = room.set.values.clone()
    post.run(smoke("pre_or_post", pairs=()), room)
    assert torch.equal(room.set.values, before)


# --- stacking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["random", "temporal"])
def test_no_row_is_predicted_by_a_model_that_saw_it(split, monkeypatch):
    """Out-of-fold and held-out predictions, and the test rows': the base's training rows are never predicted from memory."""
    config = smoke("stacking", split=split).replace(target="s5")
    room = Room()
    fits, predicted = [], []

    def base(config, x, y, *purpose):
        rows = {row.tobytes() for row in x}
        fits.append(len(rows))

        def predict(at):
            overlap = sum(row.tobytes() in rows for row in at)
            predicted.append((purpose[0], len(at), overlap))
            return np.sort(np.random.default_rng(len(at)).standard_normal((len(at), 19)), axis=1)

        return predict

    monkeypatch.setattr(post, "_base", base)
    post.run(config, room)
    for purpose, n, overlap in predicted:
        assert overlap == (n if purpose == "whole" and n == 168 else 0), (purpose, n, overlap)
    assert sum(n for purpose, n, _ in predicted if isinstance(purpose, int)) == 168


def test_a_temporal_split_tests_the_last_rows_and_folds_are_blocks():
    config = smoke("stacking", split="temporal").replace(folds=4)
    train, test, folds = post.split_rows(config, 1000)
    assert train.max() < test.min() and len(test) == 300
    assert all((np.diff(fold) == 1).all() for fold in folds)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(700))
    mixed, tested, _ = post.split_rows(config.replace(split="random"), 1000)
    assert set(mixed) | set(tested) == set(range(1000)) and not set(mixed) & set(tested)
    assert mixed.max() > 990


@pytest.mark.long
def test_catboost_gives_the_quantiles_too():
    pytest.importorskip("catboost")
    pytest.importorskip("quantile_forest")
    config = smoke("stacking", split="random").replace(base="catboost", target="s5")
    found = post.run(config, Room()).metrics
    assert {f"crps_{name}" for name in ("base", "forest", "head_conformal")} <= set(found)
    assert all(0 < value < 3 for name, value in found.items() if name.startswith("crps"))


# --- laws with tails and holes -------------------------------------------------------------------------------------


def test_simulated_laws_are_what_they_say():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(100_000, 1)
    ring, modes, heavy = (
        law(x, generator) for law in (simulators.ring, simulators.bimodal, simulators.heavy)
    )
    assert abs(ring.norm(dim=1).mean() - 1) < 0.02 and ring.norm(dim=1).min() > 0.5
    assert abs(modes.mean()) < 0.02 and (modes.abs() < 0.4).float().mean() < 1e-3
    # Student's t with three degrees of freedom: quartiles at ± .765
    assert abs(heavy.quantile(0.75) - 0.765) < 0.02 and heavy.abs().max() > 20


def test_unknown_functions_and_placements_are_refused():
    generator = torch.Generator()
    with pytest.raises(InputError, match="no function 'sine'; there are: softplus"):
        simulators.additive("sine", 3, "pre", generator)
    with pytest.raises(InputError, match="placement is 'after'"):
        simulators.additive("log", 3, "after", generator)
