"""The config classes of the post, and the function that runs one of them."""

from __future__ import annotations

from functools import singledispatch
from typing import Literal

from lib.core import Config, Context, InputError, Result

POST = "trm"


class Puzzles(Config, post=POST, experiment="puzzles"):
    """Puzzles for one seed.

    sources, shares: data sets by name, and which share of every part comes from each. train, val, test: puzzles a part.
    several: a data set of puzzles with several solutions; empty: the test puzzles, each without one of its clues.
    """

    sources: tuple[str, ...]
    shares: tuple[float, ...]
    train: int
    val: int
    test: int
    several: str
    seed: int


class Training(Config, post=POST, experiment="training"):
    """One network.

    width, layers, expansion, multiple, mixing, heads, registers: of `TinyRecursiveModel`. n, T, m: of the recursion; k: passes of
    the simplified form instead, where not 0. n_width, T_width, limit_width: half-widths of the uniforms around n, T and
    limit, the supervision steps a puzzle may have. curriculum: (until this step, n, T), the rest with n and T. start:
    where states begin in training; in tests `mixed` begins with zeros, the others as in training. act, exploration,
    halting_weight: of `DeepSupervision`. milestones: what a step is supervised on: the `final` answer, or what singles
    fix in as many waves of propagation (`waves`, or the waves `shuffled` among the cells). average: decay of the averaged
    weights. eval_every: steps between two validations, on `val_puzzles` puzzles with `val_passes` passes. snapshots: steps
    after which the averaged weights are kept. depths: supervision steps at which `test_puzzles` test puzzles are looked
    at. aligned: test puzzles of the alignment score, for `settling` steps a time.
    """

    puzzles: Puzzles
    width: int
    layers: int
    expansion: float
    multiple: int
    mixing: Literal["mlp", "attention"]
    heads: int
    registers: int
    n: int
    T: int
    m: int
    k: int
    n_width: int
    T_width: int
    limit: int
    limit_width: int
    curriculum: tuple[tuple[int, int, int], ...]
    start: Literal["static", "batch", "puzzle", "cell", "zeros", "mixed"]
    act: bool
    exploration: float
    halting_weight: float
    milestones: Literal["final", "waves", "shuffled"]
    optimizer: Literal["adamw", "atan2"]
    lr: float
    warmup: int
    weight_decay: float
    average: float
    batch: int
    steps: int
    precision: Literal["float32", "bfloat16"]
    compiled: bool
    eval_every: int
    val_puzzles: int
    val_passes: int
    snapshots: tuple[int, ...]
    depths: tuple[int, ...]
    test_puzzles: int
    aligned: int
    settling: int
    seed: int


class Aggregation(Config, post=POST, experiment="aggregation"):
    """Several passes of one network, and what is made of them.

    snapshot: the weights after this step; 0: the best by validation. diversity: passes differ by their `start`, by `noise`
    of standard deviation sigma in every step, or by a `symmetry` of the puzzle. passes: numbers of passes k. depths: numbers
    of supervision steps. puzzles: how many of the part.
    """

    training: Training
    snapshot: int
    diversity: Literal["start", "noise", "symmetry"]
    sigma: float
    passes: tuple[int, ...]
    depths: tuple[int, ...]
    puzzles: int
    seed: int


class SeveralSolutions(Aggregation, experiment="several_solutions"):
    """The same on puzzles with several solutions, any of which is right."""


class Compared(Config, post=POST):
    """A trained network as an arm of a comparison: what its training found."""

    arm: str
    training: Training
    seed: int


class RandomisedDepth(Compared, experiment="randomised_depth"):
    """n, T or the limit drawn anew in training, at equal compute; random starts; adaptive computation time off."""


class Combining(Compared, experiment="combining"):
    """All combinations of random n, T and limit."""


class PathIndependence(Compared, experiment="path_independence"):
    """Where states begin, in training and in tests."""


class Capacity(Compared, experiment="capacity"):
    """Width."""


class Schedules(Compared, experiment="schedules"):
    """A curriculum of depths, the simplified K-step form, and twice as many steps."""


class Milestones(Compared, experiment="milestones"):
    """What early supervision steps are supervised on."""


class Frequency(Compared, experiment="frequency"):
    """How often z is renewed for each renewal of y, at equal passes."""


class Paths(Config, post=POST, experiment="paths"):
    """States of one test puzzle from several starts, in the plane of their two largest principal components.

    snapshot: as in `Aggregation`. puzzle: its number. starts, steps: how many.
    """

    training: Training
    snapshot: int
    puzzle: int
    starts: int
    steps: int
    seed: int


class Walk(Config, post=POST, experiment="walk"):
    """One test puzzle step by step: answers, their probabilities, the halting head's. Fields as in `Paths`."""

    training: Training
    snapshot: int
    puzzle: int
    steps: int
    seed: int


class Blip(Compared, experiment="blip"):
    """Half-widths of the limit one by one, with many seeds."""


class Nine(Compared, experiment="nine"):
    """The paper's network on real puzzles of 9 × 9."""


class AggregationNine(Aggregation, experiment="aggregation_nine"):
    """Its passes."""


class SeveralSolutionsNine(SeveralSolutions, experiment="several_solutions_nine"):
    """Its passes over real puzzles with several solutions."""


class WalkNine(Walk, experiment="walk_nine"):
    """One of its puzzles step by step."""


Looking = Aggregation | Compared | Paths | Walk
"""Configs that look at a trained network."""


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute one config of this post."""
    raise InputError(f"{type(config).__name__} is not a config of {POST}")
