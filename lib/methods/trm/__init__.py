"""Tiny recursive models: a small network that improves its answer by applying itself again and again.

    model = TinyRecursiveModel(cells=36, digits=6, width=64, multiple=32)
    training = DeepSupervision(
        model,
        torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)),
        draw,                                              # step -> Batch of puzzles and solutions
        think=lambda step: Nested(n=2, T=2),
        limit=Limit(8),
        lr=1e-3,
        seed=0,
    )
    training.step()
    explore(model, puzzles, Nested(n=2, T=2), steps=8).grids

`network`: the layers and heads. `recursion`: what a supervision step does. `supervision`: training. `optimisation`: the
optimiser, warm-up, averaged weights. `breadth`: several passes at test time, and one answer of them. `alignment`: path
independence. Nothing in here knows sudoku: any puzzle of a fixed number of cells with digits will do.

Source: Jolicoeur-Martineau (2025), Less is More: Recursive Reasoning with Tiny Networks, arXiv 2510.04871.
"""

from lib.methods.trm.alignment import Alignment, asymptotic_alignment
from lib.methods.trm.breadth import (
    Answers,
    cell_mode,
    explore,
    first_valid,
    most_confident,
    puzzle_mode,
    single,
    trajectory,
)
from lib.methods.trm.network import STARTS, Start, TinyRecursiveModel
from lib.methods.trm.optimisation import AdamATan2, Average, warm_up
from lib.methods.trm.recursion import KStep, Nested, Recursion, deep_recursion, k_steps, latent_recursion
from lib.methods.trm.supervision import Batch, DeepSupervision, Limit, centred, centred_range, stream

__all__ = [
    "STARTS",
    "AdamATan2",
    "Alignment",
    "Answers",
    "Average",
    "Batch",
    "DeepSupervision",
    "KStep",
    "Limit",
    "Nested",
    "Recursion",
    "Start",
    "TinyRecursiveModel",
    "asymptotic_alignment",
    "cell_mode",
    "centred",
    "centred_range",
    "deep_recursion",
    "explore",
    "first_valid",
    "k_steps",
    "latent_recursion",
    "most_confident",
    "puzzle_mode",
    "single",
    "stream",
    "trajectory",
    "warm_up",
]
