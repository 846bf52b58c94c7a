"""What each profile computes, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib.core import Config, Profile
from lib.experiments.trm.configs import (
    Aggregation,
    AggregationNine,
    Blip,
    Capacity,
    Combining,
    Compared,
    Frequency,
    Looking,
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
)
from lib.methods.trm.network import Start


@dataclass(frozen=True)
class _Plan:
    """What a profile computes.

    puzzles, training: fields of the baseline. brief: changes for the arms beside it (smoke: hardly any steps). seeds: of
    the baseline and of the arms whose verdicts are close; others: of the other arms. widths: half-widths of the limit, the
    first that are combined with n and T being `combined`. snapshots, sigmas, passes, depths, broad: of the aggregation, `broad` being puzzles. arms: whether they are on
    the baseline's puzzles; `full` takes the laptop's.
    """

    puzzles: dict[str, Any]
    training: dict[str, Any]
    brief: dict[str, Any]
    seeds: int
    others: int
    widths: tuple[int, ...]
    combined: int
    curriculum: tuple[tuple[int, int, int], ...]
    capacities: tuple[int, ...]
    snapshots: tuple[int, ...]
    sigmas: tuple[float, ...]
    passes: tuple[int, ...]
    depths: tuple[int, ...]
    broad: int
    arms: bool = True


_COMMON: dict[str, Any] = {
    "layers": 2,
    "expansion": 4.0,
    "mixing": "mlp",
    "heads": 8,
    "registers": 0,
    "m": 1,
    "k": 0,
    "n_width": 0,
    "T_width": 0,
    "limit_width": 0,
    "curriculum": (),
    "start": "static",
    "act": True,
    "exploration": 0.1,
    "halting_weight": 0.5,
    "milestones": "final",
    "optimizer": "adamw",
}

# The ledger, in CPU-seconds on one thread of a 2.4 GHz EPYC that others use too. A step of the laptop's network costs 95 ms
# in bf16, so a run of 750 steps with its validations and tests 85 (width 32: half of that), one of twice as many 160, and 8
# passes to depth 16 on 100 puzzles 9. Rate and length come from one seed that is not among those below, looked at on
# validation puzzles alone: at a rate of .001 it solved none of them after 700 steps, .78 after 900 and .94 after 1,100; at
# .002 .71 after 600 and .88 after 700. So networks are looked at after 600 steps, while they still learn, and at the end.
# Seeds: 5 for the baseline, the posted random start and a random T, whose verdicts are close, and for what several passes of
# the first two make of their answers; 3 for the others. In all about 6,700 s (5,600 by the records, with compiled passes). What does not fit: longer training of every
# arm, larger widths, k = 16, half-widths 3, 5 and 8 of the limit with ten seeds, five updates of z for one of y, 9 × 9.
# `full` has what needs a GPU: its main run takes 50 to 60 minutes on an H200, so that the first hour decides the bar and two
# more make it an interval (runs are listed by seed); the blip is looked for on 6 × 6, 140 runs of some 20 s.
PLANS: dict[Profile, _Plan] = {
    "smoke": _Plan(
        puzzles={
            "sources": ("sudoku-4x4",),
            "shares": (1.0,),
            "train": 400,
            "val": 40,
            "test": 100,
            "several": "",
        },
        training={
            "width": 32,
            "multiple": 16,
            "n": 2,
            "T": 2,
            "limit": 4,
            "lr": 3e-3,
            "warmup": 20,
            "weight_decay": 0.1,
            "average": 0.95,
            "batch": 48,
            "steps": 260,
            "precision": "float32",
            "compiled": False,
            "eval_every": 65,
            "val_puzzles": 40,
            "val_passes": 3,
            "snapshots": (200,),
            "depths": (1, 2, 4, 8),
            "test_puzzles": 100,
            "aligned": 20,
            "settling": 6,
        },
        brief={
            "steps": 3,
            "batch": 8,
            "snapshots": (),
            "test_puzzles": 10,
            "aligned": 4,
            "val_puzzles": 8,
            "settling": 2,
        },
        seeds=1,
        others=1,
        widths=(1, 2),
        combined=2,
        curriculum=((1, 1, 1), (2, 1, 2)),
        capacities=(16,),
        snapshots=(200,),
        sigmas=(0.3,),
        passes=(1, 2, 4),
        depths=(1, 2, 4),
        broad=30,
    ),
    "laptop": _Plan(
        puzzles={
            "sources": ("sudoku-6x6",),
            "shares": (1.0,),
            "train": 1000,
            "val": 200,
            "test": 400,
            "several": "",
        },
        training={
            "width": 64,
            "multiple": 32,
            "n": 2,
            "T": 2,
            "limit": 8,
            "lr": 2e-3,
            "warmup": 50,
            "weight_decay": 0.1,
            "average": 0.99,
            "batch": 64,
            "steps": 750,
            "precision": "bfloat16",
            "compiled": False,
            "eval_every": 75,
            "val_puzzles": 100,
            "val_passes": 3,
            "snapshots": (600,),
            "depths": (1, 2, 4, 8, 16),
            "test_puzzles": 300,
            "aligned": 100,
            "settling": 16,
        },
        brief={},
        seeds=5,
        others=3,
        widths=(2, 4, 6),
        combined=4,
        curriculum=((250, 1, 1), (500, 1, 2)),
        capacities=(32,),
        snapshots=(600, 0),
        sigmas=(0.1, 0.3, 1.0),
        passes=(1, 2, 4, 8),
        depths=(1, 2, 4, 8, 16),
        broad=100,
    ),
    "full": _Plan(
        puzzles={
            "sources": ("sudoku-hardest", "sudoku-17", "sudoku-magictour"),
            "shares": (0.74, 0.22, 0.04),
            "train": 1000,
            "val": 500,
            "test": 5000,
            "several": "sudoku-several",
        },
        training={
            "width": 512,
            "multiple": 256,
            "n": 6,
            "T": 3,
            "limit": 16,
            "lr": 1e-4,
            "warmup": 2000,
            "weight_decay": 1.0,
            "average": 0.999,
            "batch": 768,
            "steps": 55_000,
            "precision": "bfloat16",
            "compiled": True,
            "eval_every": 2500,
            "val_puzzles": 500,
            "val_passes": 4,
            "snapshots": (15_000, 30_000),
            "depths": (1, 2, 4, 8, 16, 32, 64),
            "test_puzzles": 5000,
            "aligned": 500,
            "settling": 32,
        },
        brief={},
        seeds=3,
        others=3,
        widths=(2, 3, 4, 5, 6, 8),
        combined=4,
        curriculum=(),
        capacities=(),
        snapshots=(30_000, 0),
        sigmas=(0.1, 0.3, 1.0),
        passes=(1, 2, 4, 8, 16),
        depths=(1, 2, 4, 8, 16, 32, 64),
        broad=1000,
        arms=False,
    ),
}
BLIP_SEEDS, BLIP_LIMIT = 10, 16
"""Of `full`: how often the blip is looked for, and the limit that the original's half-widths lie around."""


def baseline(profile: Profile, seed: int, **changes: Any) -> Training:
    """The network that everything is compared with, or one that differs from it."""
    plan = PLANS[profile]
    puzzles = Puzzles(seed=seed, **plan.puzzles)
    return Training(puzzles=puzzles, seed=seed, **(_COMMON | plan.training | changes))


def configs(profile: Profile) -> list[Config]:
    """The configs of a profile: what decides the bars first, seed by seed; each network before what looks at it.

    `full` has the laptop's too, after its own.
    """
    plan = PLANS[profile]
    found: list[Looking] = []
    for seed in range(plan.others):
        found += _looks(profile, seed) if plan.arms else _nine(seed)
    for seed in range(plan.others, plan.seeds if plan.arms else 0):
        found += [look for look in _looks(profile, seed) if _decides(look, plan)]
    for seed in range(max(plan.seeds, plan.others) if plan.arms else 0):
        found += [config for config in _arms(profile, seed) if seed < plan.others or _close(config)]
    if profile == "full":
        found += _blip()
    out: dict[Config, None] = {}
    for config in found:
        out |= dict.fromkeys((config.training.puzzles, config.training, config))
    return list(dict.fromkeys([*out, *configs("laptop")])) if profile == "full" else list(out)


def _close(config: Compared) -> bool:
    """Whether an arm's verdict is close, so that it has all the seeds."""
    if isinstance(config, RandomisedDepth):
        return config.arm in ("fixed", "start", "T1")
    return isinstance(config, PathIndependence) and config.arm in ("static", "batch")


def _decides(look: Looking, plan: _Plan) -> bool:
    """Whether what looks at a network is about the posted random start or the middle noise: these have all the seeds."""
    if not isinstance(look, Aggregation):
        return False
    return look.training.start == "batch" or look.sigma == plan.sigmas[len(plan.sigmas) // 2]


def _looks(profile: Profile, seed: int) -> list[Looking]:
    """What looks at the networks of one seed at test time."""
    plan = PLANS[profile]
    main = baseline(profile, seed)

    def arm(start: Start) -> Training:
        return baseline(profile, seed, **plan.brief, start=start)

    out: list[Looking] = [
        Walk(training=main, snapshot=0, puzzle=0, steps=main.limit, seed=seed),
        Paths(training=main, snapshot=0, puzzle=0, starts=8, steps=2 * main.limit, seed=seed),
    ]
    middle = plan.sigmas[len(plan.sigmas) // 2]
    starts: tuple[Start, ...] = ("batch", "puzzle", "cell")
    for number, snapshot in enumerate(plan.snapshots):
        # at the other snapshots one kind of noise, and the random start as it was posted
        everything = number == 0
        options: dict[str, Any] = {
            "passes": plan.passes,
            "depths": plan.depths,
            "puzzles": plan.broad,
            "seed": seed,
        }
        of_main = options | {"training": main, "snapshot": snapshot}
        for sigma in plan.sigmas if everything else (middle,):
            out.append(Aggregation(diversity="noise", sigma=sigma, **of_main))
        if everything:
            out.append(Aggregation(diversity="symmetry", sigma=0.0, **of_main))
            out.append(SeveralSolutions(diversity="noise", sigma=middle, **of_main))
        options |= {"diversity": "start", "sigma": 0.0, "snapshot": 0 if plan.brief else snapshot}
        for start in starts if everything else starts[:1]:
            out.append(Aggregation(training=arm(start), **options))
        if everything:
            out.append(SeveralSolutions(training=arm("batch"), **options))
    return out


def _nine(seed: int) -> list[Looking]:
    """The network of 9 × 9: how deep it goes, and what noise, symmetries and the check add."""
    plan = PLANS["full"]
    main = baseline("full", seed)
    middle = plan.sigmas[len(plan.sigmas) // 2]
    out: list[Looking] = [
        Nine(arm="fixed", training=main, seed=seed),
        WalkNine(training=main, snapshot=0, puzzle=0, steps=main.limit, seed=seed),
    ]
    for snapshot in plan.snapshots:
        options: dict[str, Any] = {
            "training": main,
            "snapshot": snapshot,
            "passes": plan.passes,
            "depths": plan.depths,
            "puzzles": plan.broad,
            "seed": seed,
        }
        out += [AggregationNine(diversity="noise", sigma=sigma, **options) for sigma in plan.sigmas]
        out.append(AggregationNine(diversity="symmetry", sigma=0.0, **options))
        out.append(SeveralSolutionsNine(diversity="noise", sigma=middle, **options))
    return out


def _arms(profile: Profile, seed: int) -> list[Compared]:
    """The arms of one seed. Its baseline is part of every comparison."""
    plan = PLANS[profile]
    main = baseline(profile, seed)

    def arm(**changes: Any) -> Training:
        return baseline(profile, seed, **(plan.brief | changes))

    wide = {"n": {"n_width": 1}, "T": {"T_width": 1}, "N": {"limit_width": plan.combined}}
    randomised = {
        "fixed": main,
        "start": arm(start="batch"),
        "n1": arm(**wide["n"]),
        "T1": arm(**wide["T"]),
        **{f"N{width}": arm(limit_width=width) for width in plan.widths},
        "no_act": arm(act=False),
    }
    combined = {"none": main} | {
        "".join(names): arm(**{key: value for name in names for key, value in wide[name].items()})
        for names in ("n", "T", "N", "nT", "nN", "TN", "nTN")
    }
    starts_of = {"static": main} | {start: arm(start=start) for start in ("batch", "puzzle", "cell", "mixed")}
    capacities = {str(width): arm(width=width) for width in plan.capacities} | {str(main.width): main}
    capacities |= {f"{width}T": arm(width=int(width), **wide["T"]) for width in capacities}
    schedules = {
        "fixed": main,
        "curriculum": arm(curriculum=plan.curriculum),
        "k_step": arm(k=main.T * (main.n + main.m)),
        "long": arm(steps=2 * arm().steps),
    }
    milestones = {"final": main, "waves": arm(milestones="waves"), "shuffled": arm(milestones="shuffled")}
    frequency = {"2:1": main, "1:2": arm(n=1, m=2)}
    found: list[Compared] = []
    groups: list[tuple[type[Compared], dict[str, Training]]] = [
        (RandomisedDepth, randomised),
        (Combining, combined),
        (PathIndependence, starts_of),
        (Capacity, capacities),
        (Schedules, schedules),
        (Milestones, milestones),
        (Frequency, frequency),
    ]
    for kind, arms in groups:
        found += [kind(arm=name, training=network, seed=seed) for name, network in arms.items()]
    return found


def _blip() -> list[Looking]:
    """The limit's half-widths around the original's 16, on 6 × 6, with and without adaptive computation time."""
    plan = PLANS["full"]
    return [
        Blip(
            arm=f"N{width}" if act else f"N{width}_no_act",
            training=baseline(
                "laptop", seed, limit=BLIP_LIMIT, limit_width=width, act=act, depths=(1, 4, 8, 16, 32)
            ),
            seed=seed,
        )
        for seed in range(BLIP_SEEDS)
        for act in (True, False)
        for width in (0, *plan.widths)
    ]
