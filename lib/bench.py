"""Benchmarks: paired comparisons with other people's implementations, each a module in `benchmarks/`.

    chosen(root(), ["training_throughput"])                # names, checked
    run(root(), "training_throughput", repeats=5)          # measured, and kept in benchmarks/results/
    results(root())                                        # what is kept, for the site; needs no torch

A benchmark has `NAME`, `TITLE` and `run(*, repeats, threads)`, which measures both sides in turn in one process and
returns `rows`, one a case: `case`, `ours`, `peer`, `unit`, and the paired `ratio` (above 1: ours is faster) with its
interval `low` to `high` over `n` repeats; and `notes`, what a reader has to know. The machine, the versions, the date and
the commit are added here.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from lib.core import InputError, PostsError
from lib.runs import context
from lib.runs.files import write_whole

ROW = ("case", "ours", "peer", "unit", "ratio", "low", "high", "n")
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
        if missing := [key for key in ROW if key not in row]:
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
            if not all(key in entry for key in KEPT) or not all(
                key in row for row in entry["rows"] for key in ROW
            ):
                raise KeyError
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path.relative_to(root)} is damaged; posts bench {path.stem} makes it again"
            ) from error
        found.append(entry)
    return found


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
