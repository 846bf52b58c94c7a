"""Fuzzy matching professors to their reviews: what its claims and figures are made of.

    post = open_post("fuzzy-name-matching")
    gain(post, model="recipe", decision="argmax", over="levenshtein", over_decision="first")   # one number a seed
    scorers(post)                                          # the table of name scores
    original()                                             # what the original published

All comparisons are paired by seed: a seed's sites, labels and test professors are the same for every model. Where two linkers
are compared professor by professor, the test is McNemar's, exact.

Sources: the original post's table (50 test profiles); McNemar (1947), Psychometrika 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from lib.core import InputError
from lib.data.names import read, two_sites
from lib.reading import Post, Runs
from lib.stats import Interval, spearman, t_interval, wilson

METRICS = ("correct", "incorrect", "missed", "has_match")
METRIC_NAMES = {
    "correct": "correct",
    "incorrect": "incorrect match",
    "missed": "missed match",
    "has_match": "has a match",
}
"""The original's four numbers, as readers know them."""
DECISIONS = ("first", "argmax", "assignment", "mutual_best")
DECISION_NAMES = {
    "first": "first above",
    "argmax": "best above",
    "assignment": "assignment",
    "mutual_best": "mutual best",
}
MODELS = {
    "levenshtein": "Levenshtein, 1 − d/(|a|+|b|)",
    "indel": "Indel ratio",
    "sorted": "Indel ratio, words sorted",
    "recipe": "recipe: name + department",
    "rich": "five scorers + department",
    "ngrams": "n-gram vectors + department",
    "everything": "all of these",
}
SWEEP = (*np.arange(5, 100, 5) / 100, 0.97, 0.99)
"""Thresholds of a run's array `sweep`, as in the experiments."""
HIGHLIGHTED = ((0.25, 100), (0.5, 10), (0.75, 1))
"""(threshold, k) that the original marks."""
N_ORIGINAL = 50
"""Test profiles of the original."""
_ORIGINAL = {
    "correct": (0.90, 0.82),
    "incorrect": (0.04, 0.04),
    "missed": (0.06, 0.14),
    "has_match": (0.76, 0.66),
}
NOISE = 0.15
"""The noise at which the generator was fitted to the original's numbers."""


def original() -> pd.DataFrame:
    """The original's final table: metric, new, previous (fractions of 50 profiles)."""
    return pd.DataFrame([{"metric": name, "new": a, "previous": b} for name, (a, b) in _ORIGINAL.items()])


@cache
def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p of `only_first` cases that one linker alone got right, against `only_second` of the other."""
    if only_first < 0 or only_second < 0:
        raise InputError(f"{only_first} and {only_second} are no counts")
    n = only_first + only_second
    if n == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, n).pvalue)


def original_p() -> float:
    """The smallest p that 45 against 41 correct of 50 can have: no profile that the old way alone got right."""
    new, old = (round(N_ORIGINAL * share) for share in _ORIGINAL["correct"])
    return mcnemar(new - old, 0)


def original_interval(column: str) -> Interval:
    """Wilson's interval of the original's share of correct profiles: `new` or `previous`."""
    share = dict(zip(("new", "previous"), _ORIGINAL["correct"], strict=True))[column]
    return wilson(round(N_ORIGINAL * share), N_ORIGINAL)


# --- for claims: one number a seed ---------------------------------------------------------------------------------


def share(
    post: Post, *, model: str, decision: str, metric: str = "correct", noise: float = NOISE
) -> pd.Series:
    """A share of test professors. decision: one of `DECISIONS`, or `tuned`: argmax at the threshold that labels chose."""
    return post.runs("matching").where(model=model, noise=noise).per_seed(f"{decision}_{metric}")


def gain(
    post: Post,
    *,
    model: str,
    decision: str,
    over: str,
    over_decision: str,
    metric: str = "correct",
    noise: float = NOISE,
) -> pd.Series:
    """By how much one linker's share is larger than another's."""
    mine = share(post, model=model, decision=decision, metric=metric, noise=noise)
    return mine - share(post, model=over, decision=over_decision, metric=metric, noise=noise)


def wrong_kept(post: Post, *, model: str, decision: str, than: str = "argmax") -> pd.Series:
    """Wrong links of a decision, as a share of those of another one."""
    mine, other = (share(post, model=model, decision=d, metric="incorrect") for d in (decision, than))
    return mine / other


def decided(
    post: Post, *, model: str, decision: str, over: str, over_decision: str, n: int, draws: int = 1000
) -> pd.Series:
    """How often `n` test professors, drawn at random from a seed's, tell the two linkers apart: McNemar's p below .05.

    n: 0 for all of them at once, which gives 0 or 1.
    """
    runs = post.runs("matching")
    one, other = (runs.where(model=name, noise=NOISE) for name in (model, over))
    out = {}
    others = {record.config["seed"]: record for record in other.records}
    for record in one.records:
        seed = record.config["seed"]
        if seed not in others:
            out[seed] = np.nan
            continue
        mine, theirs = record.arrays[decision] == 0, others[seed].arrays[over_decision] == 0
        size = min(n, len(mine)) or len(mine)
        rng = np.random.default_rng(seed)
        picks = [rng.choice(len(mine), size, replace=False) for _ in range(draws if n else 1)]
        p = [mcnemar(int((mine & ~theirs)[pick].sum()), int((~mine & theirs)[pick].sum())) for pick in picks]
        out[seed] = float(np.mean(np.array(p) < 0.05))
    return _by_seed(out, "decided")


def guess(post: Post, *, arm: str = "corrected", metric: str = "correct") -> pd.Series:
    """The original's guess, k = 10 and threshold .5, on the test set, trained on all labels."""
    return post.runs("grid").where(arm=arm).per_seed(f"guess_{metric}")


def optimism(post: Post, *, arm: str) -> pd.Series:
    """How much better cross-validation says its best setting is than that setting is on the test set."""
    runs = post.runs("grid").where(arm=arm)
    return runs.per_seed("cv_correct") - runs.per_seed("best_correct")


def chosen(post: Post, *, arm: str) -> pd.Series:
    """Correct on the test set with the setting that cross-validation chose."""
    return post.runs("grid").where(arm=arm).per_seed("best_correct")


def leak_cost(post: Post, *, arm: str) -> pd.Series:
    """What choosing by leaky folds costs: correct on the test set, corrected minus `arm`."""
    return chosen(post, arm="corrected") - chosen(post, arm=arm)


def between(post: Post, *, threshold: float, k: int, other_threshold: float, other_k: int) -> pd.Series:
    """Correct on the test set at one setting minus that at another (folds as they should be)."""
    out = {}
    for record in post.runs("grid").where(arm="corrected").records:
        place = [_place(record.config, t, n) for t, n in ((threshold, k), (other_threshold, other_k))]
        table = np.asarray(record.arrays["test"])[..., 0]
        out[record.config["seed"]] = float(table[place[0]] - table[place[1]]) if all(place) else np.nan
    return _by_seed(out, "between")


def knob(post: Post) -> pd.Series:
    """Rank correlation of the share of professors with a match and logit t + log k, over the settings of the grid."""
    out = {}
    for record in post.runs("grid").where(arm="corrected").records:
        table = np.asarray(record.arrays["test"])[..., 3]
        ks, ts = np.array(record.config["ks"], dtype=float), np.array(record.config["thresholds"])
        place = np.log(ks)[:, None] + np.log(ts / (1 - ts))[None]
        out[record.config["seed"]] = spearman(place.ravel(), table.ravel()).mean
    return _by_seed(out, "knob")


def order_range(post: Post, *, decision: str, threshold: float) -> pd.Series:
    """By how much correct links vary with the order of the review profiles: the largest minus the smallest share."""
    return post.runs("order").per_seed(f"{decision}_range_{threshold:g}")


def first_cost(post: Post, *, threshold: float) -> pd.Series:
    """What linking to the first profile above the threshold costs against the best one, by the original's ratio."""
    runs = post.runs("order")
    return runs.per_seed(f"argmax_mean_{threshold:g}") - runs.per_seed(f"first_mean_{threshold:g}")


def labelling(
    post: Post, *, strategy: str, hard: bool, model: str = "recipe", metric: str = "mean_correct"
) -> pd.Series:
    """Correct links over the budgets after the first (`mean_correct`), or at the end; `tuned_`: at the threshold best for the
    labelled."""
    return post.runs("active").where(strategy=strategy, hard=hard, model=model).per_seed(metric)


def labelling_gain(
    post: Post, *, strategy: str, hard: bool = False, model: str = "recipe", metric: str = "mean_correct"
) -> pd.Series:
    """A strategy's lead over random labels."""
    ours, random = (
        labelling(post, strategy=name, hard=hard, model=model, metric=metric) for name in (strategy, "random")
    )
    return ours - random


def hard_gain(
    post: Post, *, strategy: str = "random", model: str = "recipe", metric: str = "mean_correct"
) -> pd.Series:
    """What hard negatives add."""
    with_them, without = (
        labelling(post, strategy=strategy, hard=hard, model=model, metric=metric) for hard in (True, False)
    )
    return with_them - without


def beside(post: Post, *, arm: str, fields: str, n: int, metric: str = "correct") -> pd.Series:
    """A share of test records of one linker, side by side with the others."""
    return post.runs("side_by_side").where(arm=arm, fields=fields, n=n).per_seed(metric)


def beside_gain(post: Post, *, arm: str, over: str, fields: str, n: int) -> pd.Series:
    """By how much a linker's share of correct records is larger than another's, over the seeds that both have."""
    ours, theirs = (beside(post, arm=name, fields=fields, n=n) for name in (arm, over))
    both = ours.index.intersection(theirs.index)
    return ours[both] - theirs[both]


def speed(post: Post, *, n: int) -> pd.Series:
    """Pairs of the two lists, in millions, for each second of processor time of learning and linking."""
    runs = post.runs("cost").where(n=n)
    link = runs.where(arm="link")
    return link.per_seed("left") * link.per_seed("right") / seconds(post, n=n) / 1e6


def seconds(post: Post, *, n: int) -> pd.Series:
    """Processor seconds of learning and linking: those of `link` less those of `generate`."""
    table = _provenance(post.runs("cost").where(n=n), "cpu_s")
    return table["link"] - table["generate"]


def peak_gib(post: Post, *, n: int) -> pd.Series:
    """Highest memory of the process that linked, in GiB, Python and its packages included."""
    return _provenance(post.runs("cost").where(n=n), "peak_mb")["link"] / 1024


def blocked(post: Post, *, n: int, metric: str) -> pd.Series:
    """Of the pairs that share a key: `kept`, the share of true pairs among them, or `share`, how many of all pairs they are."""
    runs = post.runs("cost").where(n=n, arm="blocks")
    if metric == "kept":
        return runs.per_seed("kept")
    return runs.per_seed("pairs") / (runs.per_seed("left") * runs.per_seed("right"))


def _provenance(runs: Runs, field: str) -> pd.DataFrame:
    rows = [(r.config["seed"], r.config["arm"], getattr(r.provenance, field)) for r in runs.records]
    frame = pd.DataFrame(rows, columns=["seed", "arm", "value"])
    table = frame.pivot(index="seed", columns="arm", values="value")
    return table.reindex(columns=["generate", "blocks", "link"]).astype(float)


def _place(config: dict | object, threshold: float, k: int) -> tuple[int, int] | None:
    ks, ts = list(config["ks"]), list(config["thresholds"])  # type: ignore[index]
    return (ks.index(k), ts.index(threshold)) if k in ks and threshold in ts else None


def _by_seed(values: dict[int, float], name: str) -> pd.Series:
    index = pd.Index(list(values), name="seed", dtype="int64")
    return pd.Series(list(values.values()), index=index, name=name, dtype=float).sort_index()


# --- for figures and tables: frames --------------------------------------------------------------------------------

SCORERS = {
    "summed": "1 − d/(|a|+|b|)",
    "indel": "Indel ratio",
    "sorted": "token_sort_ratio",
    "sorted_default": "… default processor",
    "sorted_folded": "… folded",
    "set_folded": "token_set_ratio",
    "partial_folded": "partial_ratio",
    "winkler_folded": "Jaro-Winkler",
}
"""Scorers for readers, in the order of the table; from `… folded` on, of folded names."""


def scorers(post: Post) -> pd.DataFrame:
    """Scores of example pairs, as text: one row a pair, one column a scorer."""
    rows = [
        (
            f"{record.config['left']} · {record.config['right']}",
            *(f"{record.metrics[name]:.1f}" for name in SCORERS),
        )
        for record in post.runs("scores").records
    ]
    return pd.DataFrame(rows, columns=["Names", *SCORERS.values()])


def score(post: Post, left: str, right: str, scorer: str) -> float:
    """One score of one pair."""
    return float(post.runs("scores").one(left=left, right=right).metrics[scorer])


def examples(rows: int = 8, seed: int = 0) -> pd.DataFrame:
    """Some generated professors with what students make of them: Name (school), Name (review), and both sites' departments."""
    sites = two_sites(read(), 200, NOISE, np.random.default_rng(seed))
    found = []
    for i, person in enumerate(sites.school.person):
        for j in np.flatnonzero(sites.review.person == person)[:1]:
            theirs = ", ".join(sites.review.departments[j]) or "–"
            names = sites.school.names[i], sites.review.names[j]
            found.append((*names, ", ".join(sites.school.departments[i]), theirs))
    table = pd.DataFrame(
        found, columns=["Name (school)", "Name (review)", "Department (school)", "Department (review)"]
    )
    return table[table["Name (school)"] != table["Name (review)"]].head(rows)


def cells(post: Post, arm: str = "corrected") -> pd.DataFrame:
    """Cross-validation, one row a seed, k, threshold and fold: seed, k, threshold, fold, and the four metrics."""
    rows = []
    for record in post.runs("grid").where(arm=arm).records:
        table = np.asarray(record.arrays["cv"])
        for a, k in enumerate(record.config["ks"]):
            for t, threshold in enumerate(record.config["thresholds"]):
                for fold in range(table.shape[2]):
                    values = dict(zip(METRICS, table[a, t, fold], strict=True))
                    place = {"seed": record.config["seed"], "k": k, "threshold": threshold, "fold": fold}
                    rows.append(place | values)
    return pd.DataFrame(rows)


def settings(post: Post) -> pd.DataFrame:
    """The grid on the test set: seed, k, threshold, place (logit t + log k), and the four metrics."""
    rows = []
    for record in post.runs("grid").where(arm="corrected").records:
        table = np.asarray(record.arrays["test"])
        for a, k in enumerate(record.config["ks"]):
            for t, threshold in enumerate(record.config["thresholds"]):
                place = np.log(k) + np.log(threshold / (1 - threshold))
                values = dict(zip(METRICS, table[a, t], strict=True))
                rows.append(
                    {"seed": record.config["seed"], "k": k, "threshold": threshold, "place": place} | values
                )
    return pd.DataFrame(rows)


def sweeps(post: Post, models: Sequence[str], noise: float = NOISE) -> pd.DataFrame:
    """Test shares over thresholds: model, decision, seed, threshold, and the four metrics; NaN where none was computed."""
    rows = []
    for model in models:
        for record in post.runs("matching").where(model=model, noise=noise).records:
            table = np.asarray(record.arrays["sweep"])
            for d, decision in enumerate(DECISIONS):
                for t, threshold in enumerate(SWEEP):
                    place = {"model": model, "decision": decision, "seed": record.config["seed"]}
                    values = dict(zip(METRICS, table[d, t], strict=True))
                    rows.append(place | {"threshold": threshold} | values)
    return pd.DataFrame(rows)


def orders(post: Post) -> pd.DataFrame:
    """Correct links over orders of the list: decision, seed, threshold, order, correct."""
    rows = []
    for record in post.runs("order").records:
        for decision in ("first", "argmax"):
            table = np.asarray(record.arrays[decision])[..., 0]
            for t, threshold in enumerate(record.config["thresholds"]):
                place = {"decision": decision, "seed": record.config["seed"], "threshold": threshold}
                rows += [place | {"order": o, "correct": value} for o, value in enumerate(table[t])]
    return pd.DataFrame(rows)


def curves(post: Post, value: str = "correct") -> pd.DataFrame:
    """Labelling: model, strategy, hard, seed, labels, value."""
    runs = post.runs("active")
    place = ["model", "strategy", "hard", "seed", "step"]
    labels = runs.series("labels")[[*place, "value"]].rename(columns={"value": "labels"})
    return runs.series(value)[[*place, "value"]].merge(labels, on=place)


def final_table(post: Post) -> pd.DataFrame:
    """The original's table beside ours, as text: Metric, the original's New and Previous, ours with t intervals over seeds."""
    rows = []
    for name, (new, previous) in _ORIGINAL.items():
        mine = [
            f"{t_interval(share(post, model=model, decision=decision, metric=name).dropna()):.3f}"
            for model, decision in (("recipe", "argmax"), ("levenshtein", "first"), ("recipe", "assignment"))
        ]
        rows.append((METRIC_NAMES[name], f"{new:.2f}", f"{previous:.2f}", *mine))
    columns = [
        "Metric",
        "Original, new",
        "Original, previous",
        "Ours, new",
        "Ours, previous",
        "Ours, assignment",
    ]
    return pd.DataFrame(rows, columns=columns)


def linkers(post: Post) -> pd.DataFrame:
    """One row a model at the usual noise, as text: how it does with each decision, and with a threshold that labels chose."""
    rows = []
    there = set(post.runs("matching").where(noise=NOISE).frame["model"])
    for model, name in MODELS.items():
        if model in there:
            texts = [
                f"{t_interval(share(post, model=model, decision=decision).dropna()):.3f}"
                for decision in ("argmax", "assignment", "mutual_best", "tuned")
            ]
            rows.append((name, *texts))
    return pd.DataFrame(
        rows, columns=["Pairs are judged by", "Best above", "Assignment", "Mutual best", "Best above, tuned"]
    )


ARMS = {
    "recipe": "ours: the recipe, best above",
    "assignment": "ours: the recipe, assignment",
    "tuned": "ours: the same, threshold by cross-validation",
    "mutual_best": "ours: the recipe, mutual best",
    "rich": "ours: five scorers, assignment",
    "ngrams": "ours: n-gram vectors, assignment",
    "recordlinkage logistic": "recordlinkage, logistic regression",
    "recordlinkage ECM": "recordlinkage, ECM (no labels)",
    "splink": "splink (no labels)",
    "dedupe": "dedupe",
}


def side_table(post: Post) -> pd.DataFrame:
    """Linkers side by side, as text: linker, fields, records, the shares with intervals over seeds, seconds of processor time."""
    runs = post.runs("side_by_side")
    rows = []
    for fields in ("two", "five"):
        for n in sorted(set(runs.frame["n"]), reverse=True):
            for arm, name in ARMS.items():
                part = runs.where(arm=arm, fields=fields, n=n)
                if len(part):
                    texts = [f"{t_interval(part.per_seed(metric)):.3f}" for metric in METRICS[:3]]
                    cpu = np.mean([record.provenance.cpu_s for record in part.records])
                    rows.append((name, fields, f"{n:,}", *texts, f"{cpu:.0f}"))
    names = [METRIC_NAMES[metric].capitalize() for metric in METRICS[:3]]
    return pd.DataFrame(rows, columns=["Linker", "Fields", "Records", *names, "CPU seconds"])


def cost_table(post: Post) -> pd.DataFrame:
    """What linking costs, as text: profiles a side, pairs compared, pairs that share a key, seconds, memory, correct.

    Seconds are the median over seeds: the first run of a process also loads what all of them need.
    """
    runs = post.runs("cost")
    rows = []
    for n in sorted(set(runs.frame["n"])):
        part = runs.where(n=n, arm="link")
        if not len(part):
            continue
        right = int(np.mean([record.metrics["right"] for record in part.records]))
        time, memory = seconds(post, n=n).median(), peak_gib(post, n=n).mean()
        listed = blocked(post, n=n, metric="share").mean()
        how = "all" if n <= 10_000 else f"{100 * listed:.2f} %"
        rows.append(
            (
                f"{n:,} × {right:,}",
                how,
                f"{blocked(post, n=n, metric='kept').mean():.4f}",
                "< 0.1" if time < 0.1 else f"{time:.1f}",
                f"{memory:.2f}",
                f"{part.per_seed('correct').mean():.3f}",
            )
        )
    return pd.DataFrame(
        rows,
        columns=[
            "Profiles",
            "Pairs compared",
            "True pairs that share a key",
            "CPU seconds",
            "Peak memory, GiB",
            "Correct",
        ],
    )


def over_seeds(values: pd.Series) -> Interval:
    """Mean and interval over the seeds that have a number."""
    return t_interval(values.dropna())
