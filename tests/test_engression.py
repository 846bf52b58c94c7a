"""Engression: the network, its training, the estimator in scikit-learn's terms, and the authors' package beside it."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from lib.methods.engression import (  # noqa: E402
    Engressor,
    StochasticNet,
    Trainer,
    draw,
    energy_loss,
    marginal_score,
)

SMALL = {"width": 40, "noise_dim": 5, "epochs": 60, "batch_size": None, "n_draws": 100, "random_state": 0}


def line(n, rng, sd=0.5):
    x = rng.uniform(-1, 1, (n, 1))
    return x, 2 * x[:, 0] + sd * rng.standard_normal(n)


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("blocks", [0, 2])
def test_all_samples_in_one_pass_are_those_of_one_pass_each(layers, blocks, generator):
    """In evaluation mode, given the same noise; so is a network that is given x and ε side by side."""
    net = StochasticNet(3, 2, width=8, layers=layers, blocks=blocks, noise_dim=4, generator=generator).eval()
    x = torch.randn(6, 3, generator=generator)
    noise = net.draw_noise(5, 6, generator)
    together = net(x, 5, noise=noise)
    assert together.shape == (6, 5, 2)
    for j in range(5):
        alone = net(x, 1, noise=[eps[j : j + 1] for eps in noise])
        torch.testing.assert_close(together[:, j], alone[:, 0])
        if layers == 1:
            hidden = net.noisy_norms[0](net.noisy[0](torch.cat([x, noise[0][j]], dim=1))).relu()
            for i in range(0, 2 * blocks, 2):
                inner = net.block_norms[i](net.block_layers[i](hidden)).relu()
                hidden = (hidden + net.block_norms[i + 1](net.block_layers[i + 1](inner))).relu()
            torch.testing.assert_close(net.out(hidden), together[:, j])


def test_without_noise_it_is_an_ordinary_network(generator):
    net = StochasticNet(1, 1, width=8, noise_dim=0, generator=generator)
    samples = net(torch.randn(6, 1, generator=generator), 3)
    assert (samples == samples[:, :1]).all()


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_noise_has_the_law_and_the_scale_that_were_asked_for(law, generator):
    net = StochasticNet(1, 1, noise=law, noise_scale=2.0, noise_dim=50)
    (noise,) = net.draw_noise(20, 100, generator)
    mean, sd = (0.0, 2.0) if law == "normal" else (1.0, 2 / math.sqrt(12))
    assert abs(noise.mean() - mean) < 0.03 and abs(noise.std() - sd) < 0.03


def test_the_same_generator_gives_the_same_weights_and_samples():
    def made():
        generator = torch.Generator().manual_seed(3)
        return draw(StochasticNet(1, 1, generator=generator), torch.ones(4, 1), 7, generator)

    assert torch.equal(made(), made())


def test_drawing_leaves_batch_norm_and_mode_alone(generator, monkeypatch):
    """And its blocks do not show, where the noise is common to all rows."""
    net = StochasticNet(1, 1, width=8, generator=generator)
    net(torch.randn(50, 1, generator=generator), 2, generator)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(30, 1, generator=generator)
    whole = draw(net, x, 4, torch.Generator().manual_seed(0), common=True)
    monkeypatch.setattr("lib.methods.engression.ROWS", 8)
    parts = draw(net, x, 4, torch.Generator().manual_seed(0), common=True)
    torch.testing.assert_close(parts, whole)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"noise_dim": -1}, "noise_dim -1"),
        ({"noise": "cauchy"}, "'cauchy'; 'normal' or 'uniform'"),
        ({"noise_scale": math.nan}, "noise_scale is nan"),
    ],
)
def test_networks_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        StochasticNet(1, 1, **settings)


# --- training ------------------------------------------------------------------------------------------------------


def test_a_step_is_adam_on_the_energy_loss(generator):
    """One step of the trainer, and the same by hand."""
    x, y = torch.randn(12, 1, generator=generator), torch.randn(12, 1, generator=generator)
    # no batch norm: it takes out the biases before it, whose gradients would be rounding errors, which Adam blows up
    settings = {"width": 8, "batch_norm": False}
    nets = [StochasticNet(1, 1, **settings, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    trainer = Trainer(nets[0], x, y, m=3, lr=0.01, seed=5)
    optimizer = torch.optim.Adam(nets[1].parameters(), lr=0.01)
    noise = torch.Generator().manual_seed(6)
    for _ in range(3):
        loss = trainer.step()
        optimizer.zero_grad()
        wanted = energy_loss(y, nets[1](x, 3, noise))
        wanted.backward()
        optimizer.step()
        torch.testing.assert_close(loss, wanted.detach())
    for first, second in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [4, None])
def test_training_goes_on_from_its_state(batch_size, generator):
    x, y = torch.randn(22, 1, generator=generator), torch.randn(22, 1, generator=generator)

    def made():
        net = StochasticNet(1, 1, width=8, generator=torch.Generator().manual_seed(1))
        return Trainer(net, x, y, batch_size=batch_size, seed=2)

    straight, halved = made(), made()
    losses = [float(straight.step()) for _ in range(13)]
    for _ in range(7):
        halved.step()
    state = halved.state()
    resumed = made()
    resumed.load(state)
    assert [float(resumed.step()) for _ in range(6)] == losses[7:]


def test_a_pass_sees_each_example_at_most_once(generator):
    x = torch.arange(23.0)[:, None]
    trainer = Trainer(StochasticNet(1, 1, width=4), x, x, batch_size=5)
    assert trainer.steps_per_epoch == 4
    seen = []
    for _ in range(4):
        seen += trainer.batch()[0][:, 0].tolist()
        trainer.done += 1
    assert len(set(seen)) == 20 and seen != sorted(seen)
    ordered = Trainer(StochasticNet(1, 1, width=4), x, x, batch_size=5, shuffle=False)
    assert ordered.batch()[0][:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"m": 1}, "m is 1"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"beta": 3.0}, "beta is 3.0"),
    ],
)
def test_training_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Trainer(StochasticNet(1, 1), torch.zeros(4, 1), torch.zeros(4, 1), **settings)


# --- the estimator -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Can't check dok sparse")
@parametrize_with_checks([Engressor(**SMALL)])
def test_scikit_learn_accepts_the_estimator(estimator, check, monkeypatch):
    """Every check of scikit-learn's, without an exception.

    Its contract is that the constructor takes any value and `fit` judges it, so the run-time check of types that these
    tests put around every function is taken off here.
    """
    monkeypatch.setattr(Engressor, "__init__", inspect.unwrap(Engressor.__init__))
    check(estimator)


def test_quantiles_of_a_normal_are_learned(rng):
    x, y = line(4000, rng)
    model = Engressor(width=50, noise_dim=10, epochs=60, batch_size=500, random_state=0).fit(x, y)
    at = np.linspace(-0.9, 0.9, 7)[:, None]
    found = model.predict(at, quantiles=[0.1, 0.5, 0.9])
    truth = 2 * at + 0.5 * np.array([-1.2816, 0, 1.2816])
    assert found.shape == (7, 3) and np.abs(found - truth).max() < 0.3
    assert np.abs(model.predict(at) - 2 * at[:, 0]).max() < 0.2
    np.testing.assert_array_equal(model.predict(at, quantiles=0.5), found[:, 1])
    # at the truth the energy score is σ / √π
    fresh = line(4000, rng)
    assert abs(model.energy_score(*fresh) - 0.5 / math.sqrt(math.pi)) < 0.02
    assert 0.5 < model.score(*fresh) < 0.9
    assert model.loss_[-1] < model.loss_[0]


def test_shapes_of_one_and_of_several_responses(rng):
    x = rng.standard_normal((40, 3))
    y = np.column_stack([x[:, 0], np.full(40, 7.0)])
    model = Engressor(**SMALL | {"epochs": 2}).fit(x, y)
    assert model.predict(x).shape == (40, 2)
    assert model.predict(x, quantiles=[0.1, 0.9, 0.5]).shape == (40, 3, 2)
    samples = model.sample(x, 11)
    assert samples.shape == (40, 11, 2)
    assert (samples[..., 1] == 7).all(), "a constant column is met exactly"
    assert Engressor(**SMALL | {"epochs": 2}).fit(x, y[:, 0]).sample(x, 11).shape == (40, 11)


def test_a_constant_target_is_predicted_as_that_constant(rng):
    model = Engressor(**SMALL).fit(rng.standard_normal((20, 2)), np.full(20, 0.1))
    at = rng.standard_normal((5, 2))
    assert (model.predict(at) == np.float64(0.1)).all() or np.allclose(model.predict(at), 0.1, rtol=1e-15)
    assert (model.sample(at, 3) == 0.1).all() and model.score(at, np.full(5, 0.1)) == 1


def test_samples_repeat_and_a_row_does_not_depend_on_the_others(rng):
    x, y = line(100, rng)
    model = Engressor(**SMALL).fit(x, y)
    np.testing.assert_array_equal(model.sample(x, 5), model.sample(x, 5))
    assert (model.sample(x, 5) != model.sample(x, 5, random_state=1)).all()
    np.testing.assert_allclose(model.predict(x)[:3], model.predict(x[:3]), rtol=1e-10)
    again = Engressor(**SMALL).fit(x, y)
    np.testing.assert_array_equal(model.predict(x), again.predict(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"m": 1}, "m is 1"),
        ({"beta": 0}, "beta is 0"),
        ({"epochs": 0}, "epochs 0"),
        ({"noise_dim": 0}, "noise_dim is 0"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_fit(settings, message, rng):
    with pytest.raises(ValueError, match=message):
        Engressor(**SMALL | settings).fit(*line(20, rng))


def test_bad_data_are_refused_in_words(rng):
    x, y = line(20, rng)
    with pytest.raises(ValueError, match="NaN"):
        Engressor(**SMALL).fit(np.where(x > 0, np.nan, x), y)
    with pytest.raises(ValueError, match="n_samples=1"):
        Engressor(**SMALL).fit(x[:1], y[:1])
    model = Engressor(**SMALL | {"epochs": 1}).fit(x, y)
    with pytest.raises(ValueError, match=r"quantiles are \[0.5, 1.5\]"):
        model.predict(x, quantiles=[0.5, 1.5])
    with pytest.raises(ValueError, match="n_samples is 0"):
        model.sample(x, 0)
    with pytest.raises(ValueError, match="sample_weight"):
        model.score(x, y, sample_weight=y)


def test_the_score_of_the_marginal(generator):
    """½ E|Y − Y'|: σ / √π for a normal; half the distance for two points."""
    y = 3 * torch.randn(20_000, 1, generator=generator)
    assert abs(marginal_score(y) - 3 / math.sqrt(math.pi)) < 0.05
    assert marginal_score(torch.tensor([[0.0], [4.0]])) == 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_as_good_as_the_authors_package(rng):
    """The same data, the same settings: held-out energy scores agree within what seeds do to either."""
    peer = pytest.importorskip("engression")
    (x, y), (x_test, y_test) = line(2000, rng), line(4000, rng)
    ours, theirs = [], []
    for seed in range(3):
        settings = {"lr": 0.01, "batch_size": 500}
        model = Engressor(epochs=40, random_state=seed, **settings).fit(x, y)
        samples = [torch.as_tensor(model.sample(x_test, 100))]
        torch.manual_seed(seed)
        tensors = [torch.as_tensor(part, dtype=torch.float32) for part in (x, y[:, None], x_test)]
        other = peer.engression(*tensors[:2], num_epochs=40, verbose=False, **settings)
        samples.append(other.sample(tensors[2], sample_size=100)[:, 0].double())
        for found, drawn in zip((ours, theirs), samples, strict=True):
            found.append(float(energy_loss(torch.as_tensor(y_test), drawn)))
    noise = 4 * math.hypot(np.std(ours, ddof=1), np.std(theirs, ddof=1)) + 1e-3
    assert abs(np.mean(ours) - np.mean(theirs)) < noise
    assert abs(np.mean(ours) - 0.5 / math.sqrt(math.pi)) < 0.02
