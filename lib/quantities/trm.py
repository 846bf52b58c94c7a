"""Tiny Recursive Models: what its claims and figures are made of.

    post = open_post("trm")
    gain(post, experiment="randomised_depth", arm="T1", over="fixed", metric="solved_8")    # one number a seed
    vote(post, how="confidence", passes=8, depth=2, diversity="start")
    paper(), ablations()                                   # the numbers that others published, as frames
    breadth(post.runs("aggregation"))                      # long frames, for figures

Two arms, two depths or two aggregators of a seed are paired: they share puzzles and first weights, and the aggregators even
the passes.

Sources: Jolicoeur-Martineau (2025), arXiv 2510.04871, tables 1 to 4 (Sudoku-Extreme, per cent solved); the original post.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd

from lib.core import InputError, Record
from lib.reading import Missing, Post, Runs
from lib.stats import spearman, t_interval

AGGREGATORS = {
    "single": "one pass",
    "cell_mode": "mode of each cell",
    "puzzle_mode": "mode of whole answers",
    "confidence": "most confident",
    "confidence_all": "most confident of all steps",
    "check": "constraint check",
    "check_all": "constraint check, all steps",
    "oracle": "oracle",
}
"""The aggregators' names for readers, in the order of the records' axis."""
ARMS = {
    "fixed": "fixed depths",
    "start": "random start, as posted",
    "n1": "n ± 1",
    "T1": "T ± 1",
    "no_act": "without ACT",
    "none": "nothing random",
    "n": "n",
    "T": "T",
    "N": "limit",
    "nT": "n, T",
    "nN": "n, limit",
    "TN": "T, limit",
    "nTN": "n, T, limit",
    "static": "one fixed start",
    "batch": "one a batch, as posted",
    "puzzle": "one a puzzle",
    "cell": "one a cell",
    "mixed": "zeros or noise, zeros in tests",
    "curriculum": "curriculum",
    "k_step": "K-step form",
    "long": "twice as many steps",
    "final": "final answer",
    "waves": "waves of propagation",
    "shuffled": "shuffled waves",
}
"""The arms' names for readers; others are their own names."""
METHODS = ("fixed", "start", "n1", "T1", "N2", "N4", "N6")
"""The arms of `randomised_depth` that the alignment score is compared over."""

_PAPER = (
    ("TRM, T = 3, n = 6", 5, 87.4),
    ("HRM", 27, 55.0),
    ("attention instead of the mixer", 7, 74.7),
    ("without averaged weights", 5, 79.9),
    ("separate networks for z and y", 10, 82.4),
    ("four layers, n = 3", 10, 79.5),
    ("T = 2, n = 2", 5, 73.7),
    ("gradient of the last pass alone", 5, 56.5),
    ("one state", 5, 71.9),
    ("z at several scales", 5, 77.6),
)
_RECURSIONS = ((1, 1, 63.2), (2, 2, 81.9), (3, 3, 87.4), (4, 4, 84.2), (3, 6, 85.8))


# --- other people's numbers ----------------------------------------------------------------------------------------


def paper() -> pd.DataFrame:
    """The paper's ablations on Sudoku-Extreme: setting, parameters (millions), solved (a fraction)."""
    frame = pd.DataFrame(_PAPER, columns=["setting", "parameters", "solved"])
    return frame.assign(solved=frame["solved"] / 100)


def recursions() -> pd.DataFrame:
    """The paper's Table 3, k and T with n = 2k: k, n, T, passes, solved (a fraction)."""
    frame = pd.DataFrame(_RECURSIONS, columns=["k", "T", "solved"])
    frame = frame.assign(n=2 * frame["k"], solved=frame["solved"] / 100)
    return frame.assign(passes=frame["T"] * (frame["n"] + 1))[["k", "n", "T", "passes", "solved"]]


# --- for claims: one number a seed ---------------------------------------------------------------------------------


def value(post: Post, *, experiment: str, arm: str, metric: str) -> pd.Series:
    """A metric of an arm. Raises Missing where no run has it."""
    return _metric(post.runs(experiment).where(arm=arm), metric)


def gain(post: Post, *, experiment: str, arm: str, over: str, metric: str) -> pd.Series:
    """By how much a metric of `arm` is higher than that of the arm `over`, on the seeds that both have."""
    one, two = (value(post, experiment=experiment, arm=name, metric=metric) for name in (arm, over))
    both = one.index.intersection(two.index)
    return one.loc[both] - two.loc[both]


def depth_gain(
    post: Post, *, low: int, high: int, arm: str = "fixed", experiment: str = "randomised_depth"
) -> pd.Series:
    """How much more of the test puzzles is solved after `high` supervision steps than after `low`."""
    runs = post.runs(experiment).where(arm=arm)
    return _metric(runs, f"solved_{high}") - _metric(runs, f"solved_{low}")


def _metric(runs: Runs, name: str) -> pd.Series:
    if len(runs) and name not in runs.frame:
        raise Missing(f"{runs.experiment} has no {name} at {runs.profile}")
    return runs.per_seed(name)


def vote(
    post: Post,
    *,
    how: str,
    passes: int,
    depth: int,
    diversity: str,
    start: str = "static",
    sigma: float = 0.0,
    snapshot: int | None = None,
    experiment: str = "aggregation",
) -> pd.Series:
    """The share solved by an aggregator of some passes at a depth. snapshot: the first there is where it is None."""
    runs = _votes(post, experiment, diversity, start, sigma, snapshot)
    return _by_seed(runs, lambda record: cell(record, how, passes, depth))


def vote_gain(
    post: Post,
    *,
    how: str,
    over: str,
    passes: int,
    depth: int,
    diversity: str,
    start: str = "static",
    **more: object,
) -> pd.Series:
    """By how much the aggregator `how` is better than `over` on the same passes."""
    options = {"passes": passes, "depth": depth, "diversity": diversity, "start": start, **more}
    return vote(post, how=how, **options) - vote(post, how=over, **options)  # type: ignore[arg-type]


def diminishing(
    post: Post,
    *,
    how: str,
    depth: int,
    passes: Sequence[int],
    diversity: str,
    start: str = "static",
    sigma: float = 0.0,
) -> pd.Series:
    """How much less the second doubling (or the like) of passes gains than the first: passes are three numbers."""
    few, some, many = (
        vote(post, how=how, passes=k, depth=depth, diversity=diversity, start=start, sigma=sigma)
        for k in passes
    )
    return (some - few) - (many - some)


def depth_over_breadth(
    post: Post,
    *,
    how: str,
    passes: int,
    depth: int,
    diversity: str,
    start: str = "static",
    sigma: float = 0.0,
) -> pd.Series:
    """What one pass to `passes` × `depth` steps solves more than `passes` passes to `depth`: equal compute."""
    options = {"diversity": diversity, "start": start, "sigma": sigma}
    deep = vote(post, how="single", passes=1, depth=passes * depth, **options)  # type: ignore[arg-type]
    return deep - vote(post, how=how, passes=passes, depth=depth, **options)  # type: ignore[arg-type]


def diversity_lead(post: Post, *, sigma: float, start: str) -> pd.Series:
    """How many more different answers noise in each step gives than random starts, with the same number of passes."""
    noisy = _votes(post, "aggregation", "noise", "static", sigma, None).per_seed("distinct")
    return noisy - _votes(post, "aggregation", "start", start, 0.0, None).per_seed("distinct")


def start_lead(post: Post, *, start: str, over: str) -> pd.Series:
    """How many more different answers the same number of passes gives with one kind of random start than with another."""
    one, two = (
        _votes(post, "aggregation", "start", kind, 0.0, None).per_seed("distinct") for kind in (start, over)
    )
    both = one.index.intersection(two.index)
    return one.loc[both] - two.loc[both]


def late_steps(post: Post, *, experiment: str = "schedules", arm: str = "long") -> pd.Series:
    """Supervision steps that puzzles took on average, in training between the last two validations."""
    runs = post.runs(experiment).where(arm=arm)
    return _by_seed(runs, lambda record: record.series["steps"][-1] if "steps" in record.series else np.nan)


def blip(post: Post, *, low: str, middle: str, high: str, metric: str) -> pd.Series:
    """By how much the middle arm lies above the mean of its two neighbours."""
    a, b, c = (value(post, experiment="blip", arm=arm, metric=metric) for arm in (low, middle, high))
    both = a.index.intersection(b.index).intersection(c.index)
    return b.loc[both] - (a.loc[both] + c.loc[both]) / 2


def stacking(post: Post, *, metric: str) -> pd.Series:
    """What n, T and the limit together gain beyond the sum of what each gains alone."""
    alone = sum(
        gain(post, experiment="combining", arm=arm, over="none", metric=metric) for arm in ("n", "T", "N")
    )
    return gain(post, experiment="combining", arm="nTN", over="none", metric=metric) - alone


def capacity_trend(post: Post, *, small: str, large: str, metric: str) -> pd.Series:
    """How much more a random T gains in the larger network than in the smaller one."""
    gains = [
        gain(post, experiment="capacity", arm=f"{width}T", over=width, metric=metric)
        for width in (large, small)
    ]
    return gains[0] - gains[1]


def passes_saved(post: Post) -> pd.Series:
    """How many times the curriculum's passes the fixed depths make in the same number of steps."""
    runs = post.runs("schedules")
    return runs.where(arm="fixed").per_seed("passes") / runs.where(arm="curriculum").per_seed("passes")


def saturation(post: Post, *, arm: str = "fixed") -> pd.Series:
    """By how many powers of ten 1 − alignment of z is smaller than that of y."""
    runs = post.runs("randomised_depth").where(arm=arm)
    return runs.per_seed("gap_y") - runs.per_seed("gap_z")


def between(post: Post, *, score: str, metric: str) -> pd.Series:
    """Spearman's correlation, over the arms, of a score with a metric: one number a seed, from the seeds with all arms."""
    frame = _methods(post)
    out = {}
    for seed, group in frame.groupby("seed"):
        values = group[[score, metric]].to_numpy(dtype=float)
        complete = group["arm"].nunique() == frame["arm"].nunique()
        if complete and np.ptp(values, axis=0).min() > 0:
            out[seed] = spearman(values[:, 0], values[:, 1]).mean
    return _series(out)


def within(post: Post, *, score: str, metric: str) -> pd.Series:
    """Spearman's correlation, over the seeds, of a score with a metric: one number an arm (the index counts the arms)."""
    out = {}
    for number, (_, group) in enumerate(_methods(post).groupby("arm", sort=True)):
        values = group[[score, metric]].to_numpy(dtype=float)
        if len(values) > 2 and np.ptp(values, axis=0).min() > 0:
            out[number] = spearman(values[:, 0], values[:, 1]).mean
    return _series(out)


def _methods(post: Post) -> pd.DataFrame:
    runs = post.runs("randomised_depth")
    there = [arm for arm in METHODS if arm in set(runs.frame["arm"])]
    return runs.where(arm=there).frame.dropna(subset=["aas_puzzles"])


def _votes(
    post: Post, experiment: str, diversity: str, start: str, sigma: float, snapshot: int | None
) -> Runs:
    runs = post.runs(experiment).where(diversity=diversity, sigma=sigma)
    runs = runs.where(**{"training.start": start})
    if snapshot is None and runs.records:
        snapshot = max(int(record.config["snapshot"]) for record in runs.records)
    return runs.where(snapshot=snapshot)


def cell(record: Record, how: str, passes: int, depth: int) -> float:
    """The share solved, from a record's table. Raises Missing where the table has no such place."""
    if how not in AGGREGATORS:
        raise InputError(f"no aggregator {how!r}; there are: {', '.join(AGGREGATORS)}")
    if "solved" not in record.arrays:
        return np.nan
    ks, depths = list(record.config["passes"]), list(record.config["depths"])
    if passes not in ks or depth not in depths:
        raise Missing(f"no votes of {passes} passes at depth {depth}; there are {ks} at {depths}")
    table = record.arrays["solved"]
    return float(table[list(AGGREGATORS).index(how), ks.index(passes), depths.index(depth)])


def _by_seed(runs: Runs, function: object) -> pd.Series:
    assert callable(function)
    found = {record.config["seed"]: function(record) for record in runs.records}
    if len(found) != len(runs):
        raise InputError(f"{runs.experiment}: a seed has several runs; narrow them first")
    return _series(found)


def _series(found: dict) -> pd.Series:
    return pd.Series(found, dtype=float).rename_axis("seed").sort_index()


# --- for figures and tables: frames --------------------------------------------------------------------------------


def arm_name(arm: str) -> str:
    """An arm's name for readers: `N4` is limit ± 4, `64T` width 64 with a random T."""
    if arm in ARMS:
        return ARMS[arm]
    if arm[:1] == "N" and arm[1:].isdigit():
        return f"limit ± {arm[1:]}"
    if arm.rstrip("T").isdigit():
        return f"width {arm.rstrip('T')}" + ", T ± 1" * arm.endswith("T")
    return arm


def in_order(arms: Iterable[str]) -> list[str]:
    """Arms in the order of ARMS, the limit's half-widths after T, others at the end by size."""

    def rank(arm: str) -> tuple[int, int, str]:
        if arm in ARMS:
            return 2 * list(ARMS).index(arm), 0, arm
        if arm[:1] == "N":
            return 2 * list(ARMS).index("T1") + 1, int("".join(filter(str.isdigit, arm)) or 0), arm
        return 2 * len(ARMS), int("".join(filter(str.isdigit, arm)) or 0), arm

    return sorted(dict.fromkeys(arms), key=rank)


def breadth(runs: Runs) -> pd.DataFrame:
    """One row a run, aggregator, number of passes and depth: training.start, diversity, sigma, snapshot, seed, how, passes,
    depth, compute (passes × depth), solved."""
    rows = []
    for record in runs.records:
        config = record.config
        fields = {name: config[name] for name in ("diversity", "sigma", "snapshot", "seed")}
        fields["start"] = config["training"]["config"]["start"]
        if "solved" not in record.arrays:
            continue
        for a, how in enumerate(AGGREGATORS):
            for b, k in enumerate(config["passes"]):
                for c, depth in enumerate(config["depths"]):
                    solved = float(record.arrays["solved"][a, b, c])
                    rows.append(
                        {
                            **fields,
                            "how": how,
                            "passes": k,
                            "depth": depth,
                            "compute": k * depth,
                            "solved": solved,
                        }
                    )
    return pd.DataFrame(rows)


def validation(runs: Runs) -> pd.DataFrame:
    """One row an arm, seed, aggregator and validation: arm, seed, how, step, solved."""
    rows = []
    for record in runs.records:
        every = record.config["training"]["config"]["eval_every"]
        for how in ("single", "cell_mode", "confidence"):
            values = record.series.get(f"val_{how}", [])
            rows += [
                {
                    "arm": record.config["arm"],
                    "seed": record.config["seed"],
                    "how": how,
                    "step": every * (i + 1),
                    "solved": solved,
                }
                for i, solved in enumerate(values)
            ]
    return pd.DataFrame(rows)


def by_depth(runs: Runs) -> pd.DataFrame:
    """One row an arm, seed and supervision step at test time: arm, seed, depth, solved."""
    rows = [
        {"arm": record.config["arm"], "seed": record.config["seed"], "depth": i + 1, "solved": float(solved)}
        for record in runs.records
        for i, solved in enumerate(record.arrays.get("solved_by_step", ()))
    ]
    return pd.DataFrame(rows)


def comparison(runs: Runs, metrics: Sequence[str]) -> pd.DataFrame:
    """One row an arm and metric: arm, metric, mean, se (standard error over seeds), low, high (95 % t interval), n."""
    rows = []
    for arm in in_order(runs.frame["arm"]):
        for metric in metrics:
            values = runs.where(arm=arm).per_seed(metric).dropna().to_numpy(dtype=float)
            if not len(values):
                continue
            found = t_interval(values)
            low, high = (found.low, found.high) if found.known else (found.mean, found.mean)
            se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            rows.append((arm, metric, found.mean, se, low, high, len(values)))
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "se", "low", "high", "n"])


def calibration(runs: Runs) -> pd.DataFrame:
    """One row a bin of the halting head's probability, over all runs: probability, right, answers."""
    total = sum(record.arrays["calibration"] for record in runs.records if "calibration" in record.arrays)
    if isinstance(total, int):
        return pd.DataFrame(columns=["probability", "right", "answers"])
    counts, sums, right = total[:, total[0] > 0]
    return pd.DataFrame({"probability": sums / counts, "right": right / counts, "answers": counts})


def first_snapshots(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each kind of passes at its earliest kept weights (0, the best by validation, counts as the last)."""
    order = frame["snapshot"].where(frame["snapshot"] > 0, np.inf)
    earliest = order.groupby([frame["diversity"], frame["sigma"], frame["start"]]).transform("min")
    return frame[order == earliest]


KINDS = {
    "start batch": "start,\na batch",
    "start puzzle": "start,\na puzzle",
    "start cell": "start,\na cell",
    "noise 0.1": "noise\n.1",
    "noise 0.3": "noise\n.3",
    "noise 1": "noise\n1",
    "symmetry": "symmetry",
}
"""What makes passes differ, for readers."""


def kinds(frame: pd.DataFrame) -> pd.Series:
    """The key of KINDS of each row of `breadth`."""

    def kind(row: pd.Series) -> str:
        extra = {"start": f" {row['start']}", "noise": f" {row['sigma']:g}"}
        return row["diversity"] + extra.get(row["diversity"], "")

    return frame.apply(kind, axis=1)


def ways(most: int) -> dict[str, str]:
    """Aggregators with their numbers of passes as lines of a figure: `how passes` and a name for readers."""
    out = {"single 1": "one pass", f"cell_mode {most}": f"mode of each cell, k = {most}"}
    out[f"puzzle_mode {most}"] = f"mode of whole answers, k = {most}"
    out |= {f"confidence {k}": f"most confident, k = {k}" for k in (2, 4, 8, 16) if k <= most}
    return out | {f"check {most}": f"constraint check, k = {most}"}


def both_correlations(frame: pd.DataFrame, score: str, metric: str) -> str:
    """Spearman's ρ over the arms' means, and its mean within arms over seeds, as a title; a dash where there is none."""

    def rho(part: pd.DataFrame) -> float:
        values = part[[score, metric]].to_numpy(dtype=float)
        if len(values) < 3 or np.ptp(values, axis=0).min() == 0:
            return np.nan
        return spearman(values[:, 0], values[:, 1]).mean

    outer = rho(frame.groupby("arm")[[score, metric]].mean())
    inner = np.array([rho(part) for _, part in frame.groupby("arm")])
    known = inner[np.isfinite(inner)]
    texts = [
        f"{x:.2f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(x) else "–"
        for x in (outer, known.mean() if len(known) else np.nan)
    ]
    return f"ρ = {texts[0]}, within {texts[1]}"


class Board:
    """Where the cells of a sudoku of so many cells are drawn: row r, column c between (c, −r) and (c + 1, −r − 1)."""

    BOXES: ClassVar = {16: (2, 2), 36: (2, 3), 81: (3, 3)}

    def __init__(self, cells: int) -> None:
        if cells not in self.BOXES:
            raise InputError(f"a board of {cells} cells; there are {', '.join(map(str, self.BOXES))}")
        self.n = round(cells**0.5)
        self.box = self.BOXES[cells]
        self.corners = [(column, -row) for row in range(self.n) for column in range(self.n)]

    @property
    def middles(self) -> list[tuple[float, float]]:
        """The middle of each cell."""
        return [(x + 0.5, y - 0.5) for x, y in self.corners]

    def square(self, cell: int) -> list[tuple[float, float]]:
        """The corners of a cell, a little inside."""
        x, y = self.corners[cell]
        return [(x + a, y - b) for a, b in ((0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94))]

    @property
    def lines(self) -> list[tuple[bool, list[tuple[float, float]]]]:
        """All lines, each with whether it bounds a box."""
        n, (rows, columns) = self.n, self.box
        across = [(i % rows == 0, [(0.0, -float(i)), (float(n), -float(i))]) for i in range(n + 1)]
        return across + [(i % columns == 0, [(float(i), 0.0), (float(i), -float(n))]) for i in range(n + 1)]
