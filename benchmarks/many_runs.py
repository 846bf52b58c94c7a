"""What ten thousand runs cost beside their computing: the store, a sweep that finds everything there, Dask's scheduler.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

Records are as large as a training run's: 12 metrics, two series of 200 values, one array of 4 kB. The store is a folder in
the machine's temporary directory. The scheduler is Dask's own with two workers on this machine, one thread each; its runs
do nothing, so that what remains is handing out and answering. There is no peer and no bar.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lib import bench
from lib.core import Config, Provenance, Record, Result
from lib.runs.context import make_record
from lib.runs.store import Store

NAME = "many_runs"
TITLE = "Ten thousand runs, but for their computing"
RUNS = 10_000
TASKS = 300


class Nothing(Config, post="many-runs", experiment="nothing"):
    """A run that computes nothing."""

    seed: int


def record(seed: int) -> Record:
    rng = np.random.default_rng(seed)
    metrics = {f"metric_{i}": float(rng.random()) for i in range(12)}
    series = {name: [float(x) for x in rng.random(200)] for name in ("loss", "accuracy")}
    provenance = Provenance(
        {}, {"lib.x:y": "0" * 16}, "0" * 40, True, {"torch": "2"}, "CPU", 1, 1.0, 1.0, 1.0, ""
    )
    return make_record(
        Nothing(seed=seed), "done", Result(metrics, series, {"a": rng.random(512)}), provenance
    )


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="many-runs-"))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def timed(records: list[Record], store: Store) -> float:
    """Seconds a record of putting them."""
    began = time.perf_counter()
    for one in records:
        store.put(one)
    return (time.perf_counter() - began) / len(records)


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """The rows; `threads` must be 1."""
    rows, notes = [], []
    with folder() as place:
        store = Store(place)
        block = RUNS // repeats
        last, looked, read = [], [], []
        for repeat in range(repeats):
            made = [record(seed) for seed in range(repeat * block, (repeat + 1) * block)]
            timed(made[: -block // 10], store)
            last.append(1e3 * timed(made[-block // 10 :], store))
        for _ in range(repeats):
            began = time.perf_counter()
            assert all(store.get(Nothing(seed=seed)) for seed in range(RUNS))
            looked.append(time.perf_counter() - began)
            began = time.perf_counter()
            assert sum(1 for _ in store.records("many-runs")) == RUNS
            read.append(time.perf_counter() - began)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / RUNS / 1024
        files = sum(1 for path in place.rglob("*") if path.is_file()) / RUNS
    rows.append({"case": f"writing a record, among up to {RUNS:,} others", "unit": "ms", **bench.mean(last)})
    rows.append({"case": "finding all of them, one by one", "unit": "s", **bench.mean(looked)})
    rows.append({"case": "reading the whole store", "unit": "s", **bench.mean(read)})
    notes.append(
        f"A record with its arrays takes {size:.1f} KiB in {files:.0f} files. Each value of the first row is the mean of "
        f"{RUNS // repeats // 10} records at the end of another fifth of the store."
    )
    handed, version = scheduled(repeats)
    rows.append(
        {"case": "a run that does nothing, through Dask with two workers", "unit": "ms", **bench.mean(handed)}
    )
    wait = float(np.mean(handed)) / 1e3
    notes.append(
        f"For {RUNS:,} runs on 1,000 workers that is {size * RUNS / 2**20:.2f} GiB in {files * RUNS:,.0f} files; the scheduler hands out "
        f"all of them in {wait * RUNS:.0f} s, and keeps 1,000 workers busy as long as a run takes more than {1000 * wait:.1f} s. "
        f"One process alone would take {np.mean(last) * RUNS / 1e3:.0f} s to write what comes back; with a shared store the workers do."
    )
    return {"rows": rows, "notes": notes, "versions": {"distributed": version}}


def scheduled(repeats: int) -> tuple[list[float], str]:
    """Milliseconds a task from submission to its answer, `repeats` times; Dask's version."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.gather([client.submit(abs, -i, pure=False) for i in range(20)])
        found = []
        for _ in range(repeats):
            began = time.perf_counter()
            client.gather([client.submit(abs, -i, pure=False) for i in range(TASKS)])
            found.append(1e3 * (time.perf_counter() - began) / TASKS)
    return found, str(distributed.__version__)
