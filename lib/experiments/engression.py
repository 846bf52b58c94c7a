"""Engression: the loss and its terms, extrapolation, hyperparameters, where noise enters, stacking, tails, several steps.

`loss_terms`: a density learned with either term of the loss alone, and with both. `distances`: what `cdist` and the factor
m / (m − 1) do to the loss. `figure_4`: engression and L1 regression beyond the training range, four functions, noise before
and after the function, the original's post-additive figure as posted. `learning_rate`: the same at other rates. `m_sweep`,
`m_budget`, `noise_scale`: samples an example, against epochs, and the noise's scale and law on y = x + noise, as the
original measured its errors and as they should be. `noise_size`: entries of the noise against width. `pre_or_post`: which
placement of the noise fits held-out data better, on simulated and on real pairs. `stacking`: a small engression head on a
tabular model beside its rivals. `tails`: β and a threshold-weighted loss. `multi_step`: K steps on laws with holes.

First weights, data, order and noise come from separate generators, derived from the seed (the original's had one).
Errors of the median are taken point by point: |median(x) − f(x)|, then averaged over x.

Source: Shen and Meinshausen (2024), arXiv 2307.00835; the original post's code; Shen, Meinshausen and Zhang (2025),
arXiv 2502.13747.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import singledispatch
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lib.core import Config, Context, InputError, Profile, Result
from lib.data import simulators
from lib.methods.conformal import conformal_quantiles
from lib.methods.engression import Engressor, StochasticNet, Trainer, draw
from lib.methods.multistep import Chain
from lib.methods.noise_placement import PLACEMENTS, PlacementNet, paired_z, summed_energy
from lib.methods.scores import energy_loss, energy_scores, energy_terms, pinball, threshold
from lib.training import Stages, derived_generator, derived_seed

POST = "engression"
SIMULATED = "simulated"
"""The name of data that a run draws for itself."""
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Quantiles that stacking is scored by, as in the original's competition."""
TAILS = (0.9, 0.95, 0.99)
"""Quantiles of y above which tails are scored."""


# --- configs -------------------------------------------------------------------------------------------------------


class LossTerms(Config, post=POST, experiment="loss_terms"):
    """Which terms of the loss are minimised. y is normal around x with standard deviation `sd`; `steps` batches."""

    terms: Literal["both", "first", "second"]
    sd: float
    n: int
    steps: int
    frames: int
    data: str
    seed: int


class Distances(Config, post=POST, experiment="distances"):
    """Errors of torch.cdist at each offset, with `m` samples, and the best scale for each m of `ms` without m / (m − 1)."""

    m: int
    offsets: tuple[float, ...]
    ms: tuple[int, ...]
    draws: int
    data: str
    seed: int


class Extrapolation(Config, post=POST):
    """One fit beyond the training range.

    placement: of the noise in the data. n: examples. width, blocks: of the residual network. draws: samples behind a
    median. points: of the grid from the lower end of the training range to the end of the test range.
    """

    function: Literal["softplus", "square", "cubic", "log"]
    placement: Literal["pre", "post"]
    method: Literal["engression", "l1"]
    n: int
    epochs: int
    batch_size: int
    lr: float
    width: int
    blocks: int
    noise_dim: int
    m: int
    draws: int
    points: int
    data: str
    seed: int


class Figure4(Extrapolation, experiment="figure_4"):
    """arm: `as_posted` trains on pre-additive data whatever `placement` says, as the original's L1 baseline did."""

    arm: Literal["corrected", "as_posted"]


class LearningRate(Extrapolation, experiment="learning_rate"):
    """Another learning rate."""


class NoiseSize(Extrapolation, experiment="noise_size"):
    """Another number of entries of the noise, and another width."""


class Toy(Config, post=POST):
    """y = x + σ η on [−1, 1], learned in small batches, errors of quantiles at every `eval_every` steps.

    arm: `as_posted` draws in training mode, one sample a pass (so that batch norm sees the grid of x and its statistics
    are disturbed), goes through the data in their order, and takes one seed for data and network.
    """

    arm: Literal["corrected", "as_posted"]
    sigma: float
    m: int
    epochs: int
    noise: Literal["normal", "uniform"]
    noise_scale: float
    noise_dim: int
    n: int
    batch_size: int
    lr: float
    width: int
    blocks: int
    eval_every: int
    draws: int
    data: str
    seed: int


class MSweep(Toy, experiment="m_sweep"):
    """The number of samples m at a fixed number of epochs."""


class MBudget(Toy, experiment="m_budget"):
    """The number of samples m at a fixed product of m and epochs."""


class NoiseScale(Toy, experiment="noise_scale"):
    """The noise's scale and law."""


class PreOrPost(Config, post=POST, experiment="pre_or_post"):
    """Three models of the same pairs, which differ in where the noise enters, compared on held-out examples.

    pairs: `function:placement` for simulated pairs; empty for all ordered pairs of `variables` of the table `data`. n:
    training examples (half of a table, at most). m: samples an example in training; draws: in scoring.
    """

    pairs: tuple[str, ...]
    variables: tuple[str, ...]
    n: int
    n_test: int
    steps: int
    batch_size: int
    lr: float
    m: int
    draws: int
    data: str
    seed: int


class Stacking(Config, post=POST, experiment="stacking"):
    """Predictive distributions of one column of a table from the others, by several methods that share their base models.

    base: `catboost` (one model of all quantiles), or `boosting` (scikit-learn's, one a quantile). split: `random`, or
    `temporal` with the last rows for testing; folds are blocks of neighbouring rows then. folds: for out-of-fold
    predictions. test: the share of rows for testing. epochs, draws: of the heads; trees: of the forest.
    """

    base: Literal["catboost", "boosting"]
    split: Literal["random", "temporal"]
    target: str
    iterations: int
    folds: int
    test: float
    epochs: int
    trees: int
    draws: int
    data: str
    seed: int


class Tails(Config, post=POST, experiment="tails"):
    """The energy loss with power β; with `weight` above 0, plus that times the loss of what lies above the upper decile."""

    beta: float
    weight: float
    n: int
    n_test: int
    epochs: int
    m: int
    draws: int
    data: str
    seed: int


class MultiStep(Config, post=POST, experiment="multi_step"):
    """`steps` engressions from noise to data, `budget` training batches in all."""

    law: Literal["bimodal", "ring"]
    steps: int
    budget: int
    n: int
    n_test: int
    draws: int
    data: str
    seed: int


# --- profiles ------------------------------------------------------------------------------------------------------

FOUR = tuple(simulators.FUNCTIONS)
BLOCKS = {"softplus": 2, "square": 2, "cubic": 3, "log": 3}
PAPER_N = {"softplus": 50_000, "square": 50_000, "cubic": 100_000, "log": 100_000}
SIMULATED_PAIRS = tuple(f"{name}:{placement}" for name in FOUR for placement in ("pre", "post"))
AIR = ("CO", "NMHC", "NOx", "NO2", "O3", "T", "RH", "AH")
FACTS: dict[str, Any] = {"data": SIMULATED}


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile."""
    return [config for part in PARTS for config in part(profile)]


def _pick(profile: Profile, smoke: Any, laptop: Any, full: Any) -> Any:
    return {"smoke": smoke, "laptop": laptop, "full": full}[profile]


def _loss(profile: Profile) -> list[Config]:
    n, steps, frames, seeds = _pick(profile, (500, 20, 5, 2), (10_000, 400, 21, 3), (10_000, 2000, 41, 5))
    terms: tuple[Literal["both", "first", "second"], ...] = ("both", "first", "second")
    shared = {"sd": 0.1, "n": n, "steps": steps, "frames": frames, **FACTS}
    found: list[Config] = [
        LossTerms(terms=term, seed=seed, **shared) for term in terms for seed in range(seeds)
    ]
    draws, seeds = _pick(profile, (2000, 2), (200_000, 5), (200_000, 10))
    offsets, ms = (0.0, 1.0, 10.0, 100.0), (2, 4, 16)
    found += [
        Distances(m=64, offsets=offsets, ms=ms, draws=draws, seed=seed, **FACTS) for seed in range(seeds)
    ]
    return found


def _fit(profile: Profile, name: str, method: str, **changes: Any) -> dict[str, Any]:
    """The paper's settings for one fit beyond the training range."""
    engression = method == "engression"
    found = {
        "function": name,
        "method": method,
        "placement": "pre",
        "n": _pick(profile, 600, PAPER_N[name], PAPER_N[name]),
        "epochs": _pick(profile, 2, 20, 20),
        "batch_size": _pick(profile, 100, 1024, 1024),
        "lr": 5e-2,
        "width": _pick(profile, 16, 100, 100),
        "blocks": BLOCKS[name],
        "noise_dim": 100 if engression else 0,
        "m": 2 if engression else 1,
        "draws": _pick(profile, 64, 512, 512) if engression else 1,
        "points": 51,
        **FACTS,
    }
    return found | changes


def _figure_4(profile: Profile) -> list[Config]:
    seeds = range(_pick(profile, 2, 5, 20))
    found: list[Config] = [
        Figure4(arm="corrected", seed=seed, **_fit(profile, name, method, placement=placement))
        for seed in seeds
        for placement in ("pre", "post")
        for name in FOUR
        for method in ("engression", "l1")
    ]
    found += [
        Figure4(arm="as_posted", seed=seed, **_fit(profile, name, "l1", placement="post"))
        for seed in seeds
        for name in FOUR
    ]
    return found


def _grids(profile: Profile) -> list[Config]:
    names, rates, seeds = _pick(
        profile,
        (("square",), (1e-2, 5e-2), 2),
        (("square", "log"), (1e-3, 1e-2, 5e-2), 5),
        (FOUR, (1e-4, 1e-3, 5e-3, 1e-2, 5e-2), 5),
    )
    fewer: dict[str, Any] = _pick(profile, {}, {"n": 10_000, "batch_size": 512}, {})
    found: list[Config] = [
        LearningRate(seed=seed, **_fit(profile, name, method, lr=lr, **fewer))
        for seed in range(seeds)
        for name in names
        for lr in rates
        for method in ("engression", "l1")
    ]
    widths, sizes, seeds = _pick(
        profile,
        ((8, 16), (2, 10), 2),
        ((32, 128), (2, 10, 50, 100, 200), 10),
        ((32, 64, 128, 256, 512), (2, 10, 50, 100, 200), 5),
    )
    found += [
        NoiseSize(seed=seed, **_fit(profile, "square", "engression", width=width, noise_dim=entries, **fewer))
        for seed in range(seeds)
        for width in widths
        for entries in sizes
    ]
    return found


def _toys(profile: Profile) -> list[Config]:
    n, seeds, draws, epochs = _pick(profile, (320, 2, 64, 1), (5000, 5, 512, 3), (5000, 10, 512, 3))

    def settings(**changes: Any) -> dict[str, Any]:
        found = {
            "arm": "corrected",
            "sigma": 1.0,
            "m": 2,
            "epochs": epochs,
            "noise": "normal",
            "noise_scale": 1.0,
            "noise_dim": 50,
            "n": n,
            "batch_size": 32,
            "lr": 1e-4,
            "width": _pick(profile, 16, 64, 64),
            "blocks": 2,
            "eval_every": _pick(profile, 5, 26, 26),
            "draws": draws,
            **FACTS,
        }
        return found | changes

    some = range(_pick(profile, 2, 10, 10))
    ms = (2, 4, 8, 16)
    found: list[Config] = [
        MSweep(seed=seed, **settings(m=m, sigma=sigma))
        for seed in range(seeds)
        for sigma in (0.1, 1.0)
        for m in (ms if sigma == 1 or profile == "full" else (2, 16))
    ]
    found += [MSweep(seed=seed, **settings(arm="as_posted", m=m)) for seed in range(seeds) for m in ms]
    most = _pick(profile, 2, 16, 48)
    found += [
        MBudget(seed=seed, **settings(m=m, epochs=max(1, most // m), eval_every=10**6))
        for seed in range(seeds)
        for m in ms
    ]
    found += [
        NoiseScale(seed=seed, **settings(noise=noise, noise_scale=scale, eval_every=10**6))
        for seed in some
        for noise in ("normal", "uniform")
        for scale in (0.1, 1.0, 2.0, 4.0)
    ]
    return found


def _real(profile: Profile) -> list[Config]:
    fit = _pick(
        profile,
        {"n": 120, "n_test": 100, "steps": 10, "batch_size": 64, "draws": 20},
        {"n": 4000, "n_test": 2000, "steps": 500, "batch_size": 256, "draws": 50},
        {"n": 4000, "n_test": 4000, "steps": 5000, "batch_size": 512, "draws": 200},
    )
    fit |= {"lr": 5e-3, "m": 2}
    seeds = range(_pick(profile, 2, 10, 10))
    data, names = _pick(
        profile, ("diabetes", ("bmi", "bp", "s5")), ("air_quality", AIR), ("air_quality", AIR)
    )
    # more examples than the table has, so that small differences show
    drawn = fit | _pick(
        profile,
        {},
        {"n": 20_000, "n_test": 10_000, "steps": 1000, "batch_size": 512},
        {"n": 50_000, "n_test": 50_000},
    )
    found: list[Config] = [
        PreOrPost(pairs=SIMULATED_PAIRS, variables=(), seed=seed, data=SIMULATED, **drawn) for seed in seeds
    ]
    found += [PreOrPost(pairs=(), variables=names, seed=seed, data=data, **fit) for seed in seeds]
    shared = _pick(
        profile,
        {"base": "boosting", "target": "progression", "iterations": 5, "folds": 2, "epochs": 2, "trees": 10},
        {"base": "catboost", "target": "CO", "iterations": 200, "folds": 4, "epochs": 30, "trees": 60},
        {"base": "catboost", "target": "CO", "iterations": 1000, "folds": 5, "epochs": 100, "trees": 300},
    )
    shared |= {"draws": _pick(profile, 20, 100, 500), "test": 0.3, "data": data}
    found += [
        Stacking(split=split, seed=seed, **shared)
        for seed in range(_pick(profile, 2, 10, 10))
        for split in ("random", "temporal")
    ]
    return found


def _beyond(profile: Profile) -> list[Config]:
    shared = _pick(
        profile,
        {"n": 300, "n_test": 200, "epochs": 2, "draws": 20},
        {"n": 10_000, "n_test": 5000, "epochs": 30, "draws": 200},
        {"n": 50_000, "n_test": 20_000, "epochs": 100, "draws": 500},
    )
    seeds = range(_pick(profile, 2, 10, 10))
    found: list[Config] = [
        Tails(beta=beta, weight=weight, m=4, seed=seed, **shared, **FACTS)
        for seed in seeds
        for beta, weight in ((0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (1.0, 4.0))
    ]
    shared = _pick(
        profile,
        {"n": 300, "n_test": 100, "budget": 12, "draws": 20},
        {"n": 10_000, "n_test": 1000, "budget": 1200, "draws": 200},
        {"n": 50_000, "n_test": 5000, "budget": 20_000, "draws": 500},
    )
    laws: tuple[Literal["bimodal", "ring"], ...] = ("bimodal", "ring")
    found += [
        MultiStep(law=law, steps=steps, seed=seed, **shared, **FACTS)
        for seed in seeds
        for law in laws
        for steps in (1, 2, 4)
    ]
    return found


# The ledger of laptop, in CPU-seconds on one thread of a 2.4 GHz EPYC. A fit of figure 4 at the paper's own settings costs 16
# (softplus, square) or 36 (cubic, log), its L1 half of that; five seeds of the paper's figure 780, of the same with noise
# after the function 780, as posted 260. pre_or_post 400 and stacking 800 with ten seeds each, multi_step 200, m_sweep and
# m_budget 100, learning_rate 200, noise_size 240, noise_scale and tails 130. In all about 3,900 s. Left to full: twenty seeds of
# figure 4, grids at the paper's number of examples, longer training elsewhere.
PARTS: tuple[Callable[[Profile], list[Config]], ...] = (_loss, _figure_4, _real, _toys, _beyond, _grids)


# --- what runs share -----------------------------------------------------------------------------------------------


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")


def _train(
    trainer: Trainer, steps: int, slot: Any, watch: Callable[[int, Tensor], None] | None = None
) -> bool:
    """Train up to `steps` batches, on from the checkpoint in `slot`; whether the loss stayed finite.

    watch: called with the number of the step and its loss (a run that watches keeps no checkpoint).
    """
    state = None if watch else slot.load()
    if state is not None:
        trainer.load(state)
    loss = torch.zeros(())
    while trainer.done < steps:
        loss = trainer.step()
        if watch is not None:
            watch(trainer.done, loss)
        elif slot.due():
            slot.save(trainer.state())
    return bool(torch.isfinite(loss))


def _noise(config: Any, context: Context, *purpose: str) -> torch.Generator:
    """A generator on the run's device."""
    return torch.Generator(device=context.device).manual_seed(derived_seed(config.seed, *purpose))


def _absolute(y: Tensor, samples: Tensor) -> Tensor:
    """L1 regression: the mean absolute error."""
    return (samples - y[:, None]).abs().mean()


# --- the loss ------------------------------------------------------------------------------------------------------

_AT = 0.0
"""Where the learned density is looked at."""
DENSITY_GRID = (-0.6, 0.6, 61)


@run.register
def loss_terms(config: LossTerms, context: Context) -> Result:
    """The density of g(0, ε) as training goes on, as a histogram, with the spread of the samples."""
    data = derived_generator(config.seed, "data")
    x, y = (part.to(context.device) for part in simulators.line(config.n, config.sd, data))
    network = StochasticNet(1, 1, width=64, noise_dim=10, generator=derived_generator(config.seed, "weights"))
    factors = {"both": (1.0, 1.0), "first": (1.0, 0.0), "second": (0.0, 1.0)}[config.terms]

    def objective(y: Tensor, samples: Tensor) -> Tensor:
        first, second = energy_terms(y, samples)
        return factors[0] * first - factors[1] * second / 2

    trainer = Trainer(
        network.to(context.device),
        x,
        y,
        lr=1e-2,
        batch_size=min(500, config.n),
        objective=objective,
        seed=derived_seed(config.seed, "order"),
    )
    low, high, points = DENSITY_GRID
    edges = np.linspace(low, high, points + 1)
    at = torch.full((1, 1), _AT, device=context.device)
    # most frames early, where most happens
    shown = sorted({round(config.steps * (i / (config.frames - 1)) ** 2) for i in range(config.frames)})
    densities, spreads = [], []

    def look() -> None:
        found = draw(network, at, 4000, _noise(config, context, "draws"))[0, :, 0].cpu().numpy()
        densities.append(np.histogram(found, edges)[0] / (len(found) * (edges[1] - edges[0])))
        spreads.append(float(found.std()))

    if shown[0] == 0:
        look()

    def watch(step: int, loss: Tensor) -> None:
        if step in shown:
            look()

    _train(trainer, config.steps, None, watch)
    return Result(
        {"spread": spreads[-1], "spread_ratio": spreads[-1] / config.sd},
        {"step": [float(step) for step in shown], "spread": spreads},
        {
            "density": np.array(densities, dtype=np.float32),
            "centre": ((edges[1:] + edges[:-1]) / 2).astype(np.float32),
        },
    )


@run.register
def distances(config: Distances, context: Context) -> Result:
    """The largest error of a pair's distance by torch.cdist, and the scale that minimises the loss without m / (m − 1)."""
    generator = derived_generator(config.seed, "draws")
    points = torch.randn(100, config.m, 1, generator=generator)
    errors, exact_errors = [], []
    for offset in config.offsets:
        moved = points + offset
        truth = (moved.double()[:, :, None] - moved.double()[:, None]).abs()[..., 0]
        errors.append(float((torch.cdist(moved, moved).double() - truth).abs().max()))
        pairs = config.m * (config.m - 1)
        mean = truth.sum((1, 2)) / pairs
        sorted_way = torch.stack(
            [energy_terms(torch.zeros(1), part[None, :, 0].float())[1] for part in moved]
        )
        exact_errors.append(float((sorted_way.double() - mean).abs().max()))
    y = torch.randn(config.draws, generator=generator, dtype=torch.float64)
    z = torch.randn(config.draws, generator=generator, dtype=torch.float64)
    other = torch.randn(config.draws, generator=generator, dtype=torch.float64)
    scales = torch.linspace(0.05, 1.5, 291, dtype=torch.float64)
    first = torch.stack([(scale * z - y).abs().mean() for scale in scales])
    second = scales * (z - other).abs().mean()
    best = {
        f"best_scale_{m}": float(scales[(first - 0.5 * (m - 1) / m * second).argmin()]) for m in config.ms
    }
    best["best_scale"] = float(scales[(first - 0.5 * second).argmin()])
    return Result(
        {"cdist_error": errors[-1], "sorted_error": exact_errors[-1], **best},
        {"cdist_error": errors, "sorted_error": exact_errors},
    )


# --- beyond the training range -------------------------------------------------------------------------------------


def _extrapolate(config: Extrapolation, context: Context, trained_on: Literal["pre", "post"]) -> Result:
    """Train on data with the given placement; the median on a grid from the training range to the end of the test range."""
    f = simulators.function(config.function)
    data = derived_generator(config.seed, "data")
    x, y = (
        part.to(context.device) for part in simulators.additive(config.function, config.n, trained_on, data)
    )
    network = StochasticNet(
        1,
        1,
        width=config.width,
        blocks=config.blocks,
        noise_dim=config.noise_dim,
        generator=derived_generator(config.seed, "weights"),
    ).to(context.device)
    trainer = Trainer(
        network,
        x,
        y,
        m=config.m,
        lr=config.lr,
        batch_size=config.batch_size,
        objective=_absolute if config.method == "l1" else None,
        seed=derived_seed(config.seed, "order"),
    )
    finite = _train(trainer, config.epochs * trainer.steps_per_epoch, context.checkpoint)
    grid = torch.linspace(f.low, f.end, config.points)
    samples = draw(network, grid[:, None].to(context.device), config.draws, _noise(config, context, "draws"))
    median = samples[..., 0].median(dim=1).values.cpu()
    truth = simulators.truth(config.function, grid)
    if not finite or not bool(torch.isfinite(median).all()):
        return Result(outcome="diverged")
    error, inside = (median - truth).abs(), grid <= f.high
    metrics = {"inside_error": float(error[inside].mean()), "outside_error": float(error[~inside].mean())}
    if not isinstance(config, Figure4):
        return Result(metrics)
    arrays = {"x": grid.numpy(), "median": median.numpy(), "truth": truth.numpy()}
    if config.seed == 0:  # some of the training data, for the figure
        arrays["scatter"] = torch.cat([x[:300], y[:300]], dim=1).cpu().numpy().astype(np.float16)
    return Result(metrics, arrays=arrays)


@run.register
def figure_4(config: Figure4, context: Context) -> Result:
    """The placement of the config reaches the data that are trained on and shown, unless the arm is the original's."""
    return _extrapolate(config, context, "pre" if config.arm == "as_posted" else config.placement)


@run.register
def learning_rate(config: LearningRate, context: Context) -> Result:
    """As Figure 4."""
    return _extrapolate(config, context, config.placement)


@run.register
def noise_size(config: NoiseSize, context: Context) -> Result:
    """As Figure 4."""
    return _extrapolate(config, context, config.placement)


# --- samples an example, and the noise -----------------------------------------------------------------------------

QUANTILES = (0.1, 0.5, 0.9)


def quantile_errors(
    found: Tensor, x: Tensor, sigma: float, levels: tuple[float, ...] = QUANTILES
) -> tuple[list[float], list[float]]:
    """Errors of quantiles `found` (levels, points) of N(x, σ²): point by point, and as the original averaged them.

    The original takes the mean of the quantiles over x before it subtracts: |x + c − mean(x + c)| averages to .52 on its
    grid for a perfect model, and for any other one whose quantiles are off by nothing but noise.
    """
    shift = torch.distributions.Normal(0.0, sigma).icdf(torch.tensor(levels))
    truth = x[None] + shift[:, None]
    right = (found - truth).abs().mean(dim=1)
    posted = (found.mean(dim=1, keepdim=True) - truth).abs().mean(dim=1)
    return right.tolist(), posted.tolist()


def _toy(config: Toy, context: Context) -> Result:
    posted = config.arm == "as_posted"
    # the original seeds once, for data and network alike
    data = torch.Generator().manual_seed(config.seed) if posted else derived_generator(config.seed, "data")
    x, y = (part.to(context.device) for part in simulators.line(config.n, config.sigma, data))
    network = StochasticNet(
        1,
        1,
        width=config.width,
        blocks=config.blocks,
        noise_dim=config.noise_dim,
        noise=config.noise,
        noise_scale=config.noise_scale,
        generator=data if posted else derived_generator(config.seed, "weights"),
    ).to(context.device)
    trainer = Trainer(
        network,
        x,
        y,
        m=config.m,
        lr=config.lr,
        batch_size=config.batch_size,
        seed=derived_seed(config.seed, "order"),
        shuffle=not posted,
    )
    grid = torch.linspace(-1, 1, 25)
    on_device = grid[:, None].to(context.device)
    levels = torch.tensor(QUANTILES, device=context.device)
    noise = _noise(config, context, "draws")
    steps = config.epochs * trainer.steps_per_epoch
    every = min(config.eval_every, steps)
    series: dict[str, list[float]] = {name: [] for name in ("step", "loss", "loss_sd")}
    series |= {f"{kind}_{level}": [] for kind in ("error", "posted") for level in QUANTILES}
    losses: list[Tensor] = []

    def quantiles(training: bool) -> Tensor:
        if training:
            network.train()
            with torch.no_grad():
                found = torch.cat([network(on_device, 1, noise) for _ in range(config.draws)], dim=1)
        else:
            found = draw(network, on_device, config.draws, noise)
        return found[..., 0].quantile(levels, dim=1).cpu()

    def watch(step: int, loss: Tensor) -> None:
        losses.append(loss)
        if step % every == 0 or step == steps:
            right, as_posted = quantile_errors(quantiles(posted), grid, config.sigma)
            recent = torch.stack(losses[-every:])
            series["step"].append(float(step))
            series["loss"].append(float(recent.mean()))
            series["loss_sd"].append(float(recent.std()) if len(recent) > 1 else 0.0)
            for level, first, second in zip(QUANTILES, right, as_posted, strict=True):
                series[f"error_{level}"].append(first)
                series[f"posted_{level}"].append(second)

    if not _train(trainer, steps, None, watch):
        return Result(outcome="diverged")
    last = quantiles(
        False
    )  # in evaluation mode: after the original's draws, with the statistics that these left
    evaluated, _ = quantile_errors(last, grid, config.sigma)
    means: dict[str, Any] = {
        "error": np.mean([series[f"error_{level}"][-1] for level in QUANTILES]),
        "early_error": np.mean([series[f"error_{level}"][len(series["step"]) // 3] for level in QUANTILES]),
        "posted_error": np.mean([series[f"posted_{level}"][-1] for level in QUANTILES]),
        "evaluated_error": np.mean(evaluated),
        "loss_sd": series["loss_sd"][-1],
        "loss": series["loss"][-1],
    }
    # tails later than the median: how much larger the tails' error is, over the whole of training, in units of σ
    tails = np.mean([np.mean(series[f"error_{level}"]) for level in (0.1, 0.9)])
    means["tails_behind"] = (tails - np.mean(series["error_0.5"])) / config.sigma
    return Result(means, series, {"x": grid.numpy(), "quantiles": last.numpy()})


@run.register
def m_sweep(config: MSweep, context: Context) -> Result:
    """Errors of quantiles as training goes on."""
    return _toy(config, context)


@run.register
def m_budget(config: MBudget, context: Context) -> Result:
    """The error at the end of the budget."""
    return _toy(config, context)


@run.register
def noise_scale(config: NoiseScale, context: Context) -> Result:
    """Quantiles on the grid at the end."""
    return _toy(config, context)


# --- before or after? ----------------------------------------------------------------------------------------------


def _pairs(config: PreOrPost, context: Context) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str]]:
    """Training and test pairs, (n, pairs) each, on the scale of the training pairs, with a name for each."""
    if config.pairs:
        columns, names = [], list(config.pairs)
        for name in names:
            function, _, placement = name.partition(":")
            generator = derived_generator(config.seed, "data", name)
            total = config.n + config.n_test
            columns.append(simulators.additive(function, total, placement, generator))  # type: ignore[arg-type]
        x, y = (torch.cat([pair[i] for pair in columns], dim=1).to(context.device) for i in (0, 1))
    else:
        table = context.data(config.data)
        ordered = list(itertools.permutations(config.variables, 2))
        names = [f"{first}:{second}" for first, second in ordered]
        order = torch.randperm(len(table.values), generator=derived_generator(config.seed, "split"))
        order = order.to(table.values.device)
        x = torch.stack([table.column(first) for first, _ in ordered], dim=1)[order]
        y = torch.stack([table.column(second) for _, second in ordered], dim=1)[order]
    n, n_test = config.n, config.n_test
    if not config.pairs:
        n, n_test = min(n, len(x) // 2), min(n_test, len(x) - len(x) // 2)
    for part in (x, y):
        part -= part[:n].mean(dim=0)
        part /= part[:n].std(dim=0)
    return x[:n], y[:n], x[len(x) - n_test :], y[len(y) - n_test :], names


@run.register
def pre_or_post(config: PreOrPost, context: Context) -> Result:
    """Held-out energy scores of the three models, a number a pair, and the paired z of post minus pre."""
    x, y, x_test, y_test, names = _pairs(config, context)
    stages = Stages(context.checkpoint)
    for number, kind in enumerate(PLACEMENTS):
        if number < len(stages.done):
            continue
        weights = derived_generator(config.seed, "weights", kind)
        network = PlacementNet(kind, len(names), generator=weights).to(context.device)
        trainer = Trainer(
            network,
            x,
            y,
            m=config.m,
            lr=config.lr,
            batch_size=min(config.batch_size, len(x)),
            objective=summed_energy,
            seed=derived_seed(config.seed, "order"),
        )
        _train(trainer, config.steps, stages)
        samples = _drawn(network, x_test, config.draws, _noise(config, context, "draws"))
        found = [energy_scores(y_test[:, i], samples[..., i]) for i in range(len(names))]
        stages.finish({"scores": torch.stack(found, dim=1).cpu()})
    scores = {kind: stages.done[i]["scores"] for i, kind in enumerate(PLACEMENTS)}
    z = paired_z(scores["post"], scores["pre"])
    if not all(bool(torch.isfinite(score).all()) for score in scores.values()):
        return Result(outcome="diverged")
    means = {kind: score.mean(dim=0) for kind, score in scores.items()}
    metrics: dict[str, Any] = {
        "pre_wins": float((z > 2).float().mean()),
        "post_wins": float((z < -2).float().mean()),
        "pre_gain": float((1 - means["pre"] / means["post"]).mean()),
        "general_gain": float((1 - means["general"] / torch.minimum(means["pre"], means["post"])).mean()),
    }
    if config.pairs:
        expected = torch.tensor([1.0 if name.endswith(":pre") else -1.0 for name in names])
        metrics["right"] = int((z * expected > 2).sum())
        metrics["wrong"] = int((z * expected < -2).sum())
    return Result(
        metrics, arrays={"z": z.numpy(), **{f"score_{kind}": mean.numpy() for kind, mean in means.items()}}
    )


def _drawn(network: nn.Module, x: Tensor, m: int, generator: torch.Generator) -> Tensor:
    """As `draw`, in blocks that suit many members."""
    rows = max(1, 20_000 // m)
    return torch.cat([draw(network, x[i : i + rows], m, generator) for i in range(0, len(x), rows)])


# --- stacking ------------------------------------------------------------------------------------------------------


def _base(
    config: Stacking, x: np.ndarray, y: np.ndarray, *purpose: str | int
) -> Callable[[np.ndarray], np.ndarray]:
    """A tabular model of all quantiles, as the function from features to quantiles (n, 19), sorted."""
    seed = derived_seed(config.seed, "base", *purpose) % 2**31
    if config.base == "catboost":
        from catboost import CatBoostRegressor

        model = CatBoostRegressor(
            loss_function="MultiQuantile:alpha=" + ",".join(map(str, LEVELS)),
            iterations=config.iterations,
            depth=6,
            learning_rate=0.1,
            random_seed=seed,
            thread_count=torch.get_num_threads(),
            verbose=False,
            allow_writing_files=False,
        ).fit(x, y)
        return lambda features: np.sort(model.predict(features), axis=1)
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = [
        HistGradientBoostingRegressor(
            loss="quantile", quantile=level, max_iter=config.iterations, random_state=seed
        ).fit(x, y)
        for level in LEVELS
    ]
    return lambda features: np.sort(np.column_stack([model.predict(features) for model in models]), axis=1)


def _head(config: Stacking, context: Context, x: np.ndarray, y: np.ndarray, name: str) -> Engressor:
    """A small engression, the same for all inputs."""
    return Engressor(
        width=100,
        layers=2,
        noise_dim=50,
        lr=1e-3,
        epochs=config.epochs,
        batch_size=256,
        n_draws=config.draws,
        random_state=derived_seed(config.seed, "head", name) % 2**31,
        device=context.device,
    ).fit(x, y)


def _quantiles(model: Engressor, x: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(x, quantiles=LEVELS))


def split_rows(config: Stacking, n: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Training rows, test rows, and the training rows' folds (as places among them).

    temporal: the last rows are tested, and a fold is a block of neighbours; random: both at random, from the seed.
    """
    n_test = round(config.test * n)
    order = np.arange(n)
    if config.split == "random":
        order = torch.randperm(n, generator=derived_generator(config.seed, "split")).numpy()
    folds = np.array_split(np.arange(n - n_test), config.folds)
    return order[: n - n_test], order[n - n_test :], folds


@run.register
def stacking(config: Stacking, context: Context) -> Result:
    """CRPS (by pinball losses at 19 levels) and coverage of the central 90 % interval on the test rows, by method."""
    table = context.data(config.data)
    features, target = table.others(config.target).cpu().double().numpy(), table.column(config.target)
    truth = target.cpu().double().numpy()
    train, test, folds = split_rows(config, len(truth))
    x, y, x_test, y_test = features[train], truth[train], features[test], truth[test]
    stages = Stages(context.checkpoint)
    if not stages.done:
        whole = _base(config, x, y, "whole")
        # out of fold: each row is predicted by a model that never saw it
        out_of_fold = np.empty((len(y), len(LEVELS)))
        for number, fold in enumerate(folds):
            rest = np.setdiff1d(np.arange(len(y)), fold)
            out_of_fold[fold] = _base(config, x[rest], y[rest], number)(x[fold])
        # held out: a base on the first folds, a head or a calibration on the last
        last, rest = folds[-1], np.concatenate(folds[:-1])
        held = _base(config, x[rest], y[rest], "held")
        stages.finish(
            {
                "in_sample": whole(x),
                "out_of_fold": out_of_fold,
                "test": whole(x_test),
                "held_out": held(x[last]),
                "held_test": held(x_test),
            }
        )
    base = stages.done[0]
    last, rest = folds[-1], np.concatenate(folds[:-1])
    oof, on_test = base["out_of_fold"], base["test"]

    def head(name: str, inputs: np.ndarray, y: np.ndarray, *at: np.ndarray) -> list[np.ndarray]:
        model = _head(config, context, inputs, y, name)
        return [_quantiles(model, place) for place in at]

    methods: dict[str, Callable[[], np.ndarray]] = {
        "base": lambda: on_test,
        "cqr": lambda: conformal_quantiles(base["held_test"], base["held_out"], y[last], LEVELS),
        "head_in_sample": lambda: head("in_sample", base["in_sample"], y, on_test)[0],
        "head_held_out": lambda: head("held_out", base["held_out"], y[last], base["held_test"])[0],
        "head_out_of_fold": lambda: head("out_of_fold", oof, y, on_test)[0],
        "head_and_features": lambda: head(
            "and_features", np.hstack([oof, x]), y, np.hstack([on_test, x_test])
        )[0],
        "head_conformal": lambda: _conformal(
            head("conformal", oof[rest], y[rest], on_test, oof[last]), y[last]
        ),
        "plain": lambda: head("plain", x, y, x_test)[0],
    }
    if config.base == "catboost":
        methods["forest"] = lambda: _forest(config, x, y, x_test)
    metrics: dict[str, Any] = {}
    for number, (name, predict) in enumerate(methods.items(), 1):
        if number >= len(stages.done):
            stages.finish({"quantiles": predict()})
        context.progress(number, len(methods), name)
        quantiles = np.asarray(stages.done[number]["quantiles"])
        losses = pinball(torch.from_numpy(y_test), torch.from_numpy(quantiles), LEVELS)
        metrics[f"crps_{name}"] = 2 * float(losses.mean())
        inside = (quantiles[:, 0] <= y_test) & (y_test <= quantiles[:, -1])
        metrics[f"coverage_{name}"] = float(inside.mean())
    return Result(metrics)


def _conformal(found: list[np.ndarray], y: np.ndarray) -> np.ndarray:
    return conformal_quantiles(found[0], found[1], y, LEVELS)


def _forest(config: Stacking, x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Quantile regression forest (Meinshausen, 2006)."""
    from quantile_forest import RandomForestQuantileRegressor

    model = RandomForestQuantileRegressor(
        n_estimators=config.trees,
        min_samples_leaf=5,
        random_state=derived_seed(config.seed, "forest") % 2**31,
        n_jobs=torch.get_num_threads(),
    ).fit(x, y)
    return np.asarray(model.predict(x_test, quantiles=list(LEVELS)))


# --- tails, and several steps --------------------------------------------------------------------------------------


@run.register
def tails(config: Tails, context: Context) -> Result:
    """Energy scores of y and of what of it lies above a threshold, relative to those of the truth (excess, in per cent)."""
    data = derived_generator(config.seed, "data")
    x = torch.rand(config.n + config.n_test, 1, generator=data) * 2 - 1
    y = simulators.heavy(x, data)
    cut = float(y[: config.n].quantile(0.9))
    x_train, y_train = x[: config.n].to(context.device), y[: config.n].to(context.device)
    network = StochasticNet(1, 1, width=64, noise_dim=20, generator=derived_generator(config.seed, "weights"))

    def objective(y: Tensor, samples: Tensor) -> Tensor:
        loss = energy_loss(y, samples, config.beta)
        if config.weight:
            loss = loss + config.weight * energy_loss(threshold(y, cut), threshold(samples, cut))
        return loss

    trainer = Trainer(
        network.to(context.device),
        x_train,
        y_train,
        m=config.m,
        lr=5e-3,
        batch_size=min(500, config.n),
        objective=objective,
        seed=derived_seed(config.seed, "order"),
    )
    if not _train(trainer, config.epochs * trainer.steps_per_epoch, context.checkpoint):
        return Result(outcome="diverged")
    x_test, y_test = x[config.n :], y[config.n :, 0]
    samples = draw(network, x_test.to(context.device), config.draws, _noise(config, context, "draws"))
    samples = samples[..., 0].cpu()
    ideal = simulators.heavy(x_test.expand(-1, config.draws), derived_generator(config.seed, "ideal"))
    levels = y[: config.n, 0].quantile(torch.tensor(TAILS))
    metrics: dict[str, Any] = {"excess": _excess(y_test, samples, ideal)}
    for level, at in zip(TAILS, levels, strict=True):
        clipped = [threshold(part, at) for part in (y_test, samples, ideal)]
        metrics[f"excess_{level}"] = _excess(*clipped)
        metrics[f"beyond_{level}"] = float((samples > at).float().mean())
    return Result(metrics)


def _excess(y: Tensor, samples: Tensor, ideal: Tensor) -> float:
    """By what fraction the energy score of `samples` is above that of draws from the truth."""
    return float(energy_loss(y, samples) / energy_loss(y, ideal)) - 1


@run.register
def multi_step(config: MultiStep, context: Context) -> Result:
    """The energy score above the truth's, and the share of samples where there are none in truth (`between`)."""
    law = getattr(simulators, config.law)
    data = derived_generator(config.seed, "data")
    x = torch.rand(config.n + config.n_test, 1, generator=data) * 2 - 1
    y = law(x, data)
    x_train, y_train = x[: config.n].to(context.device), y[: config.n].to(context.device)
    d, weights = y.shape[1], derived_generator(config.seed, "weights")
    chain = Chain(
        [
            StochasticNet(1 + d, d, width=64, layers=2, noise_dim=20, generator=weights)
            for _ in range(config.steps)
        ]
    ).to(context.device)
    stages = Stages(context.checkpoint)
    for k in range(1, config.steps + 1):
        network = chain.networks[k - 1]
        if k <= len(stages.done):
            network.load_state_dict(stages.done[k - 1])
            continue
        mixing = _noise(config, context, "mixing", str(k))
        inputs, target = chain.pairs(k, x_train, y_train, mixing)
        trainer = Trainer(
            network,
            inputs,
            target,
            lr=5e-3,
            batch_size=min(500, config.n),
            seed=derived_seed(config.seed, "order", k),
        )
        _train(trainer, config.budget // config.steps, stages)
        stages.finish(dict(network.state_dict()))
    x_test, y_test = x[config.n :], y[config.n :]
    samples = draw(chain, x_test.to(context.device), config.draws, _noise(config, context, "draws")).cpu()
    if not bool(torch.isfinite(samples).all()):
        return Result(outcome="diverged")
    many = x_test.repeat_interleave(config.draws, dim=0)
    ideal = law(many, derived_generator(config.seed, "ideal")).view(len(x_test), config.draws, d)
    hole = 0.5 * (1 + x_test / 2)  # half-way to the modes, or to the ring
    return Result(
        {
            "excess": float(energy_loss(y_test, samples) / energy_loss(y_test, ideal)) - 1,
            "between": float((samples.norm(dim=-1) < hole).float().mean()),
        },
        arrays={
            "samples": samples[:: max(1, len(samples) // 60), :5].numpy().astype(np.float16).reshape(-1, d)
        },
    )
