"""A training step of engression: ours against the authors' package, in the configuration of its README.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

The README's example: the square function with noise before it, 10,000 examples, batches of 1,000, Adam at .01, one hidden
layer of 100 units with batch norm and a hundred entries of noise, two samples an example, fp32. Both sides train through
their public entries (`Engressor.fit` there is `engression()` here, without the set-up), epochs in turn in one process, and
swap who goes first. The step of the package includes its DataLoader, as whoever calls it pays for it; the row "step alone"
leaves it out on both sides. bf16 stands apart: it is compared with fp32 of the package. Held-out energy scores after the
README's whole training are compared in the last row (unit: the score; its ratio is theirs over ours).

Source: github.com/xwshen51/engression, version 1.1.0, README.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import engression as package
import numpy as np
import torch
from engression.engression import Engressor as Theirs
from torch import Tensor

from lib.data import simulators
from lib.methods.engression import StochasticNet, Trainer, draw, energy_loss
from lib.methods.plain_step import PlainTrainer, fits
from lib.training import derived_generator

NAME = "engression"
TITLE = "Engression, one training step"

N, BATCH, LR, EPOCHS = 10_000, 1000, 0.01, 500
BLOCK = 5
"""Epochs a block of timing."""

Block = Callable[[int], None]
"""Trains for a number of epochs, on from where it was."""


def run(*, repeats: int = 5, threads: int = 1, epochs: int = EPOCHS, seeds: int = 3) -> dict[str, Any]:
    """Times a step (ms) with `repeats` blocks a side; energy scores after `epochs` for `seeds` seeds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, y = simulators.additive("square", N, "pre", derived_generator(0, "data"))
        steps = BLOCK * (N // BATCH)
        rows = []
        for case, mine, theirs in (
            ("fit, fp32", ours(x, y), peer(x, y)),
            ("step alone, fp32", ours_alone(x, y), peer_alone(x, y)),
            ("fit, ours in bf16", ours(x, y, precision="bf16"), peer(x, y)),
        ):
            found = alternate(mine, theirs, max(repeats, 5), steps)
            (wall, processor), (their_wall, their_processor) = found
            rows.append(
                {
                    "case": case,
                    "unit": "ms",
                    "n": max(repeats, 5),
                    **summary(1e3 * wall, 1e3 * their_wall),
                    "processor": summary(1e3 * processor, 1e3 * their_processor),
                }
            )
        rows.append(scores(x, y, epochs, seeds))
    finally:
        torch.set_num_threads(before)
    notes = [
        f"Configuration of the package's README: n = {N:,}, batch {BATCH:,}, Adam at {LR}, one hidden layer of 100 with batch "
        f"norm, noise of 100 entries, m = 2; {threads} thread(s), blocks of {BLOCK} epochs in turn.",
        "The package loads batches example by example through a DataLoader, which the row 'step alone' leaves out on both "
        "sides. In bf16 ours has a lower precision than the peer: that row is for information.",
        f"Energy score: held out, 5,000 examples, 200 samples each, after {epochs} epochs, {seeds} seeds a side; the ratio is "
        "theirs over ours, above 1 where ours is lower (better).",
    ]
    return {"rows": rows, "notes": notes, "versions": {"engression": version("engression")}}


# --- the two sides -------------------------------------------------------------------------------------------------


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean(dim=0)) / values.std(dim=0)


def ours(x: Tensor, y: Tensor, precision: str = "fp32", seed: int = 0) -> Block:
    """What `Engressor.fit` runs, on columns that are standardised already."""
    trainer = _trainer(x, y, precision, seed)

    def block(epochs: int) -> None:
        for _ in range(epochs * trainer.steps_per_epoch):
            trainer.step()

    return block


def _trainer(x: Tensor, y: Tensor, precision: str = "fp32", seed: int = 0) -> Trainer:
    network = StochasticNet(1, 1, generator=derived_generator(seed, "weights"))
    kind = PlainTrainer if fits(network, precision) else Trainer
    return kind(network, _standard(x), _standard(y), lr=LR, batch_size=BATCH, seed=seed, precision=precision)


def ours_alone(x: Tensor, y: Tensor) -> Block:
    """Steps on one batch that is at hand."""
    trainer = _trainer(x[:BATCH], y[:BATCH])

    def block(epochs: int) -> None:
        for _ in range(epochs * (N // BATCH)):
            trainer.step()

    return block


def _theirs() -> Theirs:
    return Theirs(1, 1, lr=LR, batch_size=BATCH, check_device=False, verbose=False)


def peer(x: Tensor, y: Tensor) -> Block:
    """The package's training loop; what it evaluates at the end of a call is taken out of the time by `quiet`."""
    model = _theirs()
    model.eval_loss = lambda *_, **__: (0.0, 0.0, 0.0)  # the score of the training set, once a call

    def block(epochs: int) -> None:
        model.train_mode()
        model.train(x, y, num_epochs=epochs, batch_size=BATCH, verbose=False)

    return block


def peer_alone(x: Tensor, y: Tensor) -> Block:
    """Steps of the package on one batch that is at hand."""
    model = _theirs()
    model.zero_loss()
    batch = _standard(x[:BATCH]), _standard(y[:BATCH])

    def block(epochs: int) -> None:
        for _ in range(epochs * (N // BATCH)):
            model.train_one_iter(*batch)

    return block


# --- side by side --------------------------------------------------------------------------------------------------


def alternate(first: Block, second: Block, repeats: int, steps: int) -> np.ndarray:
    """Seconds a step, (2 sides, 2 clocks, repeats): blocks in turn, after one of each that is not counted."""
    for block in (first, second):
        block(1)
    found = np.empty((2, 2, repeats))
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            wall, processor = time.perf_counter(), time.process_time()
            (first, second)[side](BLOCK)
            found[side, 0, repeat] = (time.perf_counter() - wall) / steps
            found[side, 1, repeat] = (time.process_time() - processor) / steps
    return found


def summary(mine: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Medians, and the median of the paired ratios theirs / ours with its 95 % bootstrap interval."""
    ratios = np.asarray(theirs) / np.asarray(mine)
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        "ours": float(np.median(mine)),
        "peer": float(np.median(theirs)),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
    }


def scores(x: Tensor, y: Tensor, epochs: int, seeds: int) -> dict[str, Any]:
    """Energy scores on held-out examples, by the same function for both sides, paired by seed."""
    x_test, y_test = simulators.additive("square", 5000, "pre", derived_generator(0, "test"))
    mine, theirs = [], []
    for seed in range(seeds):
        trainer = _trainer(x, y, seed=seed)
        for _ in range(epochs * trainer.steps_per_epoch):
            trainer.step()
        at = (x_test - x.mean(dim=0)) / x.std(dim=0)
        samples = draw(trainer.network, at, 200, derived_generator(seed, "draws")) * y.std(dim=0) + y.mean(
            dim=0
        )
        mine.append(float(energy_loss(y_test, samples)))
        torch.manual_seed(seed)
        model = package.engression(x, y, lr=LR, num_epochs=epochs, batch_size=BATCH, verbose=False)
        theirs.append(float(energy_loss(y_test, model.sample(x_test, sample_size=200).transpose(1, 2))))
    return {"case": "held-out energy score", "unit": "", "n": seeds, **summary(mine, theirs)}
