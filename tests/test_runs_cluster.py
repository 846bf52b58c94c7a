"""Runs on a real Dask scheduler with real workers over TCP: the same digests, artifacts once, deaths that cost little."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("distributed")

from lib.runs.store import Store

HERE = Path(__file__).parent
POST = "toy-post"


@pytest.fixture
def toy_copy(project_copy):
    shutil.copy(HERE / "toy_post.py", project_copy.root / "lib" / "experiments" / "toy_post.py")
    (project_copy.root / "posts" / POST).mkdir()
    return project_copy


class Nodes:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, copy, folder):
        self.copy, self.folder, self.processes = copy, folder, []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start(
            "scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", self.file
        )
        deadline = time.monotonic() + 60
        while not self.address:
            assert time.monotonic() < deadline and self.scheduler.poll() is None
            time.sleep(0.1)

    @property
    def address(self):
        try:
            return json.loads(self.file.read_text())["address"].removeprefix("tcp://")
        except (OSError, ValueError):
            return ""

    def start(self, *words, **env):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, words)],
            cwd=self.copy.root, env=self.copy.env | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def worker(self, *words, **env):
        """A worker; --no-nanny: killed, it stays dead."""
        return self.start("worker", f"tcp://{self.address}", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", self.folder, *words, **env)  # fmt: skip

    def wait_for(self, count):
        from distributed import Client

        with Client(f"tcp://{self.address}", set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def nodes(toy_copy, tmp_path):
    folder = tmp_path / "nodes"
    folder.mkdir()
    made = Nodes(toy_copy, folder)
    yield made
    made.stop()


@contextmanager
def begun(copy, *args, **env):
    process = subprocess.Popen(
        [sys.executable, "-m", "lib", *map(str, args)],
        cwd=copy.root, env=copy.env | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def digests(path):
    return {record.key: record.digest for record in Store(path).records(POST)}


def run(copy, *args, **env):
    with begun(copy, "run", POST, *args, **env) as process:
        out, _ = process.communicate(timeout=120)
    return process.returncode, out


def expected(copy, tmp_path, profile="smoke"):
    code, out = run(copy, "--profile", profile, "--jobs", "1", POSTS_STORE=str(tmp_path / "alone"))
    assert code == 0, out
    return digests(tmp_path / "alone")


def test_two_workers_with_the_callers_store(nodes, toy_copy, tmp_path):
    """The same digests as in one process; each run, artifacts among them, computed once; nothing twice."""
    log = tmp_path / "log"
    for _ in range(2):
        nodes.worker(TOY_LOG=str(log))
    nodes.wait_for(2)
    arguments = ("--profile", "smoke", "--executor", f"dask://{nodes.address}")
    code, out = run(toy_copy, *arguments, POSTS_STORE=str(tmp_path / "store"))
    assert code == 0 and "10 computed, 0 were there" in out, out
    assert digests(tmp_path / "store") == expected(toy_copy, tmp_path)
    counts = Counter(log.read_text().split())
    assert len(counts) == 10 and set(counts.values()) == {1}
    code, out = run(toy_copy, *arguments, POSTS_STORE=str(tmp_path / "store"))
    assert code == 0 and "0 computed, 10 were there" in out, out


def elsewhere(copy, address, store):
    """A sweep by workers that do not see the caller's store; what went wrong, as text."""
    script = (
        "import lib.runs.cluster as c, lib.runs.sweep as s; c._exists = c.elsewhere\n"
        f"r = s.compute({POST!r}, 'smoke', executor=c.Cluster('dask://{address}'))\n"
        "print([(e.status, e.error) for e in r.endings.values() if e.status != 'done'])"
    )
    module = copy.root / "lib" / "runs" / "cluster.py"
    module.write_text(module.read_text() + "\n\ndef elsewhere(path):\n    return False\n")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=copy.root, capture_output=True, text=True, timeout=120,
        env=copy.env | {"POSTS_STORE": str(store)},
    )  # fmt: skip
    good = done.returncode == 0 and done.stdout.strip().endswith("[]")
    return "" if good else done.stdout + done.stderr


@pytest.mark.long
def test_workers_that_do_not_see_the_store_return_records(nodes, toy_copy, tmp_path):
    """The caller keeps what they computed, artifacts travel to the runs that ask, and are made once."""
    log = tmp_path / "log"
    for _ in range(2):
        nodes.worker(TOY_LOG=str(log))
    nodes.wait_for(2)
    assert not elsewhere(toy_copy, nodes.address, tmp_path / "store")
    assert digests(tmp_path / "store") == expected(toy_copy, tmp_path)
    counts = Counter(log.read_text().split())
    assert len(counts) == 10 and set(counts.values()) == {1}


@pytest.mark.long
def test_workers_that_do_not_see_the_store_are_given_what_the_caller_has(nodes, toy_copy, tmp_path):
    """No artifact of the caller's is computed again."""
    code, out = run(toy_copy, "--profile", "smoke", "--only", "walk", POSTS_STORE=str(tmp_path / "store"))
    assert code == 0, out
    log = tmp_path / "log"
    nodes.worker(TOY_LOG=str(log))
    nodes.wait_for(1)
    assert not elsewhere(toy_copy, nodes.address, tmp_path / "store")
    onward = {path.stem for path in (tmp_path / "store" / POST / "onward").glob("*.json")}
    assert sorted(log.read_text().split()) == sorted(onward) and len(onward) == 2


@pytest.mark.long
def test_a_killed_worker_costs_its_run_only(nodes, toy_copy, tmp_path):
    """Another worker takes the run over, from its checkpoint; everything else is computed once."""
    log = tmp_path / "log"
    env = {"TOY_LOG": str(log), "TOY_PAUSE": "0.03", "POSTS_CHECKPOINT_SECONDS": "0.1"}
    first = nodes.worker(**env)
    nodes.worker(**env)
    nodes.wait_for(2)
    store = tmp_path / "store"
    with begun(toy_copy, "run", POST, "--profile", "laptop", "--executor", f"dask://{nodes.address}", POSTS_STORE=str(store)) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while len(list(store.glob(f"{POST}/*/*.json"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "10 computed" in out, out
    assert digests(store) == expected(toy_copy, tmp_path, "laptop")
    counts = Counter(log.read_text().split())
    assert len(counts) == 10 and sum(counts.values()) <= 11
    assert not list(store.glob(f"{POST}/*/*.checkpoint"))


@pytest.mark.long
def test_without_its_scheduler_a_sweep_ends_in_words(nodes, toy_copy, tmp_path):
    """Finished records are kept, and the same work goes on without the cluster."""
    nodes.worker(TOY_PAUSE="0.05")
    nodes.wait_for(1)
    store = tmp_path / "store"
    with begun(toy_copy, "run", POST, "--profile", "smoke", "--executor", f"dask://{nodes.address}", POSTS_STORE=str(store), DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="3s") as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(store.glob(f"{POST}/*/*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(nodes.scheduler.pid, signal.SIGKILL)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 1, out
    assert "is gone; finished records are kept" in out and "Traceback" not in out
    kept = digests(store)
    assert kept
    code, out = run(toy_copy, "--profile", "smoke", "--jobs", "1", POSTS_STORE=str(store))
    assert code == 0, out
    assert digests(store) == expected(toy_copy, tmp_path)


@pytest.mark.long
def test_other_code_on_a_worker_is_refused(nodes, toy_copy, tmp_path):
    nodes.worker()
    nodes.wait_for(1)
    module = toy_copy.root / "lib" / "experiments" / "toy_post.py"
    code, out = run(
        toy_copy,
        "--profile",
        "smoke",
        "--executor",
        f"dask://{nodes.address}",
        POSTS_STORE=str(tmp_path / "first"),
    )
    assert code == 0, out
    module.write_text(module.read_text().replace("at + torch.randn", "at - torch.randn"))
    code, out = run(
        toy_copy,
        "--profile",
        "smoke",
        "--executor",
        f"dask://{nodes.address}",
        POSTS_STORE=str(tmp_path / "second"),
    )
    assert code == 2 and "has other code than this project" in out, out
    assert digests(tmp_path / "second") == {}


def test_what_a_cluster_lacks_is_said(nodes, toy_copy):
    where = f"dask://{nodes.address}"
    code, out = run(toy_copy, "--profile", "smoke", "--executor", where)
    assert code == 2 and "has no workers" in out, out
    nodes.worker()
    nodes.wait_for(1)
    code, out = run(toy_copy, "--profile", "smoke", "--executor", where, "--device", "cuda")
    assert code == 2 and "offers a GPU" in out, out


@pytest.mark.parametrize("address", ["cloud", "dask://", "dask://host", "dask://host:port", "tcp://host:1"])
def test_addresses_that_are_none(address):
    from lib.core import InputError
    from lib.runs.cluster import Cluster

    with pytest.raises(InputError, match="dask://host:port is wanted"):
        Cluster(address)


@pytest.mark.long
def test_a_scheduler_that_is_not_there(toy_copy):
    code, out = run(toy_copy, "--profile", "smoke", "--executor", "dask://127.0.0.1:9")
    assert code == 2 and "no Dask scheduler answers" in out and "Traceback" not in out, out
