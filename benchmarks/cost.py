"""What the project costs: its own commands in a fresh clone, and what the published records say that they took.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

The commit at hand is cloned into a temporary folder. There `make site` runs as a newcomer runs it, once, in an environment
that begins empty. With the environment in place the site is built `repeats` times from nothing, with one notebook changed
(another each time) and with nothing changed; then all posts at `smoke`, and `make test`, once each. Package registries have
to be reached. It takes two cores twenty minutes; other work on the machine makes every time longer. What `laptop` and
`full` take is added up from the records that are published.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib import bench
from lib.core import InputError, PostsError, Profile, Record
from lib.project import root, slugs
from lib.runs.published import available, read

NAME = "cost"
TITLE = "What the project's own commands take"

CORES = 2
"""Of the machine that the bars are meant for."""


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """The rows; `threads` must be 1. Raises PostsError with the end of what a command said that failed."""
    if threads != 1:
        raise InputError(f"threads = {threads}; the commands choose their own, so only 1 is accepted")
    rows, notes = recorded(root())
    with fresh_clone(root()) as clone:
        posts = (str(clone / ".venv/bin/python"), "-m", "lib")
        timed = [_row("make site, the environment and all", 240, [took(clone, "make", "site")])]
        whole, changed, unchanged = [], [], []
        notebooks = sorted(clone.glob("posts/*/index.ipynb"))
        for repeat in range(repeats):
            took(clone, "make", "clean")
            whole.append(took(clone, *posts, "site"))
            change(notebooks[repeat % len(notebooks)])
            changed.append(took(clone, *posts, "site"))
            unchanged.append(took(clone, *posts, "site"))
        timed += [
            _row("posts site, nothing built before", 60, whole),
            _row("posts site, one notebook changed", 10, changed),
            _row("posts site, nothing changed", 2, unchanged),
            _row("posts --help", None, [took(clone, *posts, "--help") for _ in range(repeats)]),
        ]
        took(clone, "git", "checkout", "--quiet", "posts")
        took(clone, "make", ".venv/.has-test")
        smoke = took(clone, *posts, "run", "--profile", "smoke", "--jobs", str(CORES))
        timed.append(_row(f"posts run --profile smoke --jobs {CORES}", 180, [smoke]))
        timed.append(_row("make test, the environment in place", 15 * 60, [took(clone, "make", "test")]))
    return {"rows": timed + rows, "notes": notes}


@contextmanager
def fresh_clone(project: Path) -> Iterator[Path]:
    """A clone of the commit at hand in a temporary folder; uncommitted changes stay behind."""
    place = Path(tempfile.mkdtemp(prefix="cost-"))
    try:
        took(place, "git", "clone", "--quiet", str(project), "clone")
        yield place / "clone"
    finally:
        shutil.rmtree(place)


def took(folder: Path, *command: str) -> float:
    """Seconds by the clock that a command takes in a folder, with a store of the folder's own."""
    own = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VENV")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment["POSTS_STORE"] = str(folder / ".store")
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise PostsError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return seconds


def change(notebook: Path) -> None:
    """A remark more at the end of the last code cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    last = [cell for cell in content["cells"] if cell["cell_type"] == "code"][-1]
    last["source"] = "".join(last["source"]) + "\n# changed"
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def recorded(project: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows and notes of what the published records took: laptop on two cores, full on a GPU, the largest memory."""
    laptop = {slug: _published(project, slug, "laptop") for slug in slugs(project)}
    laptop = {slug: records for slug, records in laptop.items() if records}
    full = [
        record
        for slug in slugs(project)
        for record in _published(project, slug, "full")
        if "CPU" not in record.provenance.device
    ]
    rows, notes = [], []
    if laptop:
        cpu = {slug: sum(r.provenance.cpu_s for r in records) for slug, records in laptop.items()}
        peak = {slug: max(r.provenance.peak_mb for r in records) / 1024 for slug, records in laptop.items()}
        rows += [
            _row(
                f"laptop, {len(laptop)} posts on {CORES} cores", 10, [sum(cpu.values()) / CORES / 3600], "h"
            ),
            _row("laptop, the largest memory of a run", 8, [max(peak.values())], "GiB"),
        ]
        each = (f"{slug} {cpu[slug]:,.0f} s and {peak[slug]:.1f} GiB" for slug in laptop)
        notes.append(f"Published laptop records, processor time and largest memory: {'; '.join(each)}.")
    if full:
        rows.append(_row("full, on one GPU", 4, [sum(r.provenance.wall_s for r in full) / 3600], "h"))
    return rows, notes


def _published(project: Path, slug: str, profile: Profile) -> list[Record]:
    there = available(project, slug)
    return [r for name in there if profile in there[name] for r in read(project, slug, profile, name)]


def _row(case: str, at_most: float | None, values: Sequence[float], unit: str = "s") -> dict[str, Any]:
    bar = {} if at_most is None else {"at_most": at_most}
    return {"case": case, "unit": unit, **bar, **bench.mean(values)}
