"""Tiny Recursive Models: a small network that improves its answer step by step, at test time deeper and broader than trained.

`puzzles`: solved puzzles, divided; an artifact, so that a machine that trains needs no solver and no lists. `training`: one
network, its course, and how it does at any depth. The others look at trained networks, arm by arm: `aggregation` (several
passes and what is made of them), `several_solutions` (the same on puzzles with several), `randomised_depth`, `combining`,
`path_independence`, `capacity`, `schedules` (curriculum, K-step form), `milestones`, `frequency`, `blip`, `paths` and `walk`
(states and answers of single puzzles, for figures). What ends in `nine` is about 9 × 9.

The protocol: training, validation and test puzzles are never equivalent, and every training puzzle comes in under a fresh
random symmetry. The averaged weights predict. Validation chooses weights where a figure says 'best'; the test set decides
nothing. Everything is drawn from the run's seed, the puzzles too.

The original's mistakes that arms repeat: `batch`, one random start for all cells of a whole batch; the mode of each cell;
and, in no arm, since it would only spoil the numbers, validation on test puzzles. An arm that randomises a depth draws it
from a uniform around the fixed one, so that all arms make as many passes.

Source: Jolicoeur-Martineau (2025), arXiv 2510.04871; the original post; Anil et al. (2022), arXiv 2211.09961 (path
independence); arXiv 2511.08653 (curriculum); arXiv 2511.16886 (milestones).
"""

from lib.experiments.trm.configs import (
    Aggregation,
    AggregationNine,
    Blip,
    Capacity,
    Combining,
    Compared,
    Frequency,
    Milestones,
    Nine,
    PathIndependence,
    Paths,
    Puzzles,
    RandomisedDepth,
    Schedules,
    SeveralSolutions,
    SeveralSolutionsNine,
    Training,
    Walk,
    WalkNine,
    run,
)
from lib.experiments.trm.passes import AGGREGATORS, aggregation
from lib.experiments.trm.profiles import PLANS, baseline, configs
from lib.experiments.trm.puzzles import puzzles
from lib.experiments.trm.training import compared, training
from lib.experiments.trm.views import paths, walk

__all__ = [
    "AGGREGATORS",
    "PLANS",
    "Aggregation",
    "AggregationNine",
    "Blip",
    "Capacity",
    "Combining",
    "Compared",
    "Frequency",
    "Milestones",
    "Nine",
    "PathIndependence",
    "Paths",
    "Puzzles",
    "RandomisedDepth",
    "Schedules",
    "SeveralSolutions",
    "SeveralSolutionsNine",
    "Training",
    "Walk",
    "WalkNine",
    "aggregation",
    "baseline",
    "compared",
    "configs",
    "paths",
    "puzzles",
    "run",
    "training",
    "walk",
]
