"""Benchmarks: paired comparisons with other people's implementations, each a module in `benchmarks/`.

    chosen(root(), ["training_throughput"])                # names, checked
    run(root(), "training_throughput", repeats=5)          # measured, and kept in benchmarks/results/
    results(root())                                        # what is kept, for the site; needs no torch

A benchmark has `NAME`, `TITLE` and `run(*, repeats, threads)`, which measures both sides in turn in one process and
returns `rows`, one a case: `case`, `ours`, `peer`, `unit`, and the paired `ratio` (above 1: ours is faster) with its
interval `low` to `high` over `n` repeats; and `notes`, what a reader has to know. The machine, the versions, the date and
the commit are added here.

Where there is no peer but a bar, a row has `value` in place of `ours`, `peer` and `ratio`, and may have `at_least` or
`at_most`, the bar. `in_turn`, `paired` and `mean` make the numbers of rows from measurements;
`updates` is a side that trains.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.core import InputError, PostsError
from lib.runs import context
from lib.runs.files import write_whole
from lib.stats import t_interval

if TYPE_CHECKING:
    from lib.training import Learner

ROW = ("case", "ours", "peer", "unit", "ratio", "low", "high", "n")
MEASURED = ("case", "value", "unit", "low", "high", "n")
KEPT = ("title", "rows", "notes", "threads", "machine", "versions", "commit", "clean", "date")


def names(root: Path) -> tuple[str, ...]:
    """The benchmarks that there are, in alphabetical order."""
    return tuple(
        sorted(p.stem for p in (root / "benchmarks").glob("*.py") if not p.name.startswith(("_", "test_")))
    )


def chosen(root: Path, wanted: Iterable[str]) -> tuple[str, ...]:
    """`wanted`, or every benchmark where nothing is wanted. Raises InputError for one that does not exist."""
    there, wanted = names(root), tuple(dict.fromkeys(wanted))
    for name in wanted:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(there) or 'none'}"
            raise InputError(f"no benchmark {name!r}; {hint}")
    return wanted or there


def run(root: Path, name: str, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """Measure one benchmark and keep the result in `benchmarks/results/<name>.json`; what was kept.

    Raises InputError where something that it needs is not installed, PostsError for a result of another form.
    """
    module = _load(root, name)
    found = module.run(repeats=repeats, threads=threads)
    if not found.get("rows"):
        raise PostsError(f"benchmarks/{name}.py: run() returned no rows")
    for row in found["rows"]:
        if missing := _missing(row):
            raise PostsError(f"benchmarks/{name}.py: a row has no {', '.join(missing)}: {row}")
    commit, clean = context.commit()
    result = {
        "name": name,
        "title": module.TITLE,
        "rows": found["rows"],
        "notes": found.get("notes", []),
        "repeats": repeats,
        "threads": threads,
        "machine": context.device_name("cpu"),
        "versions": {**context.versions(), **found.get("versions", {})},
        "commit": commit,
        "clean": clean,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    write_whole(_place(root, name), (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    return result


def results(root: Path) -> list[Mapping[str, Any]]:
    """What is kept of every benchmark, by name. Raises InputError naming the file that is damaged."""
    found = []
    for path in sorted(_place(root, "*").parent.glob("*.json")):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if not all(key in entry for key in KEPT) or any(map(_missing, entry["rows"])):
                raise KeyError
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path.relative_to(root)} is damaged; posts bench {path.stem} makes it again"
            ) from error
        found.append(entry)
    return found


def in_turn(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds by the clock and seconds of the processor, each (2, repeats) with ours first.

    The sides take turns and swap who goes first, after one call of each that is not counted: another load on the machine
    meets both.
    """
    sides = (ours, peer)
    for warm_up in sides:
        warm_up()
    clock, processor = np.empty((2, repeats)), np.empty((2, repeats))
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            started = time.perf_counter(), time.process_time()
            sides[side]()
            clock[side, repeat] = time.perf_counter() - started[0]
            processor[side, repeat] = time.process_time() - started[1]
    return clock, processor


def paired(seconds: np.ndarray, scale: float = 1.0) -> dict[str, float]:
    """`ours` and `peer`: medians times `scale`; `ratio`, `low`, `high`: the median of the paired ratios, 95 % bootstrap.

    seconds: (2, repeats), ours first.
    """
    ours, peer = np.asarray(seconds)
    ratios = peer / ours
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        "ours": scale * float(np.median(ours)),
        "peer": scale * float(np.median(peer)),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
    }


def updates(learner: Learner, batches: Callable[[int], Any], steps: int) -> Callable[[], None]:
    """A side for `in_turn`: each call trains `steps` updates more in the loop of `lib.training`, without a validation."""
    from lib.training import fit

    done = 0

    def unwatched(learner: Learner) -> dict[str, list[float]]:
        return {"accuracy": [0.0] * learner.members}

    def turn() -> None:
        nonlocal done
        start = done
        fit(learner, lambda step: batches(start + step), unwatched, max_steps=steps, eval_every=steps)
        done += steps

    return turn


def mean(values: Sequence[float]) -> dict[str, Any]:
    """`value`, `low`, `high`, `n` and `values`: the mean of independent numbers with Student's 95 % interval.

    One number alone has none: `low` and `high` are None.
    """
    found = t_interval(values)
    alone = found.n == 1
    return {
        "value": found.mean,
        "low": None if alone else found.low,
        "high": None if alone else found.high,
        "n": found.n,
        "values": [float(value) for value in values],
    }


def measured(row: Mapping[str, Any]) -> str:
    """The number of a row without a peer and its interval, in words."""
    interval = "" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{row['value']:.4g}{interval}"


def bar(row: Mapping[str, Any]) -> str:
    """The bar of a row without a peer, in words; empty where it has none."""
    for key, words in (("at_least", "at least"), ("at_most", "at most")):
        if key in row:
            return f"{words} {row[key]:.4g}"
    return ""


def _missing(row: Mapping[str, Any]) -> list[str]:
    """What a row lacks."""
    return [key for key in (MEASURED if "value" in row else ROW) if key not in row]


def _place(root: Path, name: str) -> Path:
    return root / "benchmarks" / "results" / f"{name}.json"


def _load(root: Path, name: str) -> ModuleType:
    """The benchmark's module, under a name of its own: `benchmarks/` is no package."""
    qualified = f"benchmarks_{name}"
    spec = importlib.util.spec_from_file_location(qualified, root / "benchmarks" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise InputError(f"benchmarks/{name}.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[qualified] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"benchmark {name} needs {error.name}, which is not installed: pip install -e '.[compute,peers]'"
        ) from error
    return module
