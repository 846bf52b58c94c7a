"""Killed at any moment, with SIGKILL: nothing torn, nothing finished lost or computed twice, the same digests."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lib.runs.records import Damaged
from lib.runs.store import Store

HERE = Path(__file__).parent


@pytest.fixture
def toy_copy(project_copy):
    shutil.copy(HERE / "toy_post.py", project_copy.root / "lib" / "experiments" / "toy_post.py")
    (project_copy.root / "posts" / "toy-post").mkdir()
    return project_copy


def begin(copy, *args, **env):
    command = [sys.executable, "-m", "lib", *args]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen(command, cwd=copy.root, env=copy.env | env, **quiet)


def digests(path, slug="toy-post"):
    return {record.key: record.digest for record in Store(path).records(slug)}


def sweep_with_kills(copy, tmp_path, *arguments, kills, **env):
    """Compute a sweep uninterrupted, and once more killed up to `kills` times at random moments; how often it was.

    A moment lies in the start of the process or in up to .3 of the work after it, both as the uninterrupted sweep took
    them: at least three kills fall before the end on a machine of any speed.
    """
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    env = {"POSTS_CHECKPOINT_SECONDS": "0.2", **env}
    whole = env | {"POSTS_STORE": str(tmp_path / "whole"), "TOY_LOG": str(tmp_path / "log-whole")}
    killed = env | {"POSTS_STORE": str(tmp_path / "killed"), "TOY_LOG": str(tmp_path / "log-killed")}
    began = time.monotonic()
    process = begin(copy, "run", *arguments, **whole)
    while process.poll() is None and not list((tmp_path / "whole").glob("*/*/*")):
        time.sleep(0.05)
    start = time.monotonic() - began
    assert process.wait(300) == 0
    work = time.monotonic() - began - start
    done = 0
    while done < kills:
        process = begin(copy, "run", *arguments, **killed)
        time.sleep(start * rng.uniform(0.5, 1) + work * rng.uniform(0, 0.3))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        digests(tmp_path / "killed", arguments[0])
    assert begin(copy, "run", *arguments, **killed).wait(300) == 0
    return done


@pytest.mark.long
def test_a_sweep_killed_ten_times_ends_as_an_uninterrupted_one(toy_copy, tmp_path):
    arguments = ("toy-post", "--profile", "full", "--jobs", "2")
    done = sweep_with_kills(toy_copy, tmp_path, *arguments, kills=10, TOY_PAUSE="0.02")
    assert done >= 3
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert len(digests(tmp_path / "killed")) == 10
    # A run is noted just before its record is written, so a kill in between may have it noted once more.
    counts = Counter((tmp_path / "log-killed").read_text().split())
    assert sum(counts.values()) <= len(counts) + done


@pytest.mark.long
def test_real_training_killed_ten_times_ends_as_uninterrupted(project_copy, tmp_path):
    slug = "dl-massive-label-noise"
    shutil.rmtree(project_copy.root / "posts" / slug / "results", ignore_errors=True)
    arguments = (slug, "--profile", "smoke", "--jobs", "2")
    done = sweep_with_kills(project_copy, tmp_path, *arguments, kills=10)
    assert done >= 3
    assert digests(tmp_path / "killed", slug) == digests(tmp_path / "whole", slug)
    assert len(digests(tmp_path / "whole", slug)) > 20


def test_two_sweeps_share_one_store(toy_copy, tmp_path):
    env = {"POSTS_STORE": str(tmp_path / "store"), "TOY_PAUSE": "0.01", "TOY_LOG": str(tmp_path / "log")}
    both = [
        begin(toy_copy, "run", "toy-post", "--profile", "smoke", "--jobs", jobs, **env) for jobs in ("1", "2")
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    counts = Counter((tmp_path / "log").read_text().split())
    assert len(counts) == 10 and set(counts.values()) == {1}
    assert len(digests(tmp_path / "store")) == 10


def pages(folder):
    """What a site holds: the bytes of each of its files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_a_site_and_its_notebooks_killed_while_they_are_made(project_copy, tmp_path):
    """Kernels run, pages are rendered, the folder is swapped: whenever it dies, the last good site or the new one is there."""
    pytest.importorskip("papermill")
    from tests.site.project import code, make, markdown, notebook

    def write(root, text):
        cells = (markdown(text), code("import time\ntime.sleep(0.3)\nprint(6 * 7)"))
        return make(root, {"a": notebook('title: "A post"\ndate: 2024-01-02', *cells)})

    def build(root):
        return begin(project_copy, "site", "--renderer", "embedded", POSTS_ROOT=str(root))

    whole, root = write(tmp_path / "whole", "New."), write(tmp_path / "killed", "Old.")
    (root / "posts/other").mkdir()
    assert build(root).wait(300) == 0
    old = pages(root / "_site")
    assert build(whole).wait(300) == 0
    new = pages(whole / "_site")
    assert old["posts/a/index.html"] != new["posts/a/index.html"] and b"42" in new["posts/a/index.html"]
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    write(root, "New.")
    began = time.monotonic()
    assert build(write(tmp_path / "timed", "New.")).wait(300) == 0
    took = time.monotonic() - began
    for _ in range(12):
        process = build(root)
        time.sleep(took * rng.uniform(0.2, 1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        out = root / "_site" if (root / "_site").exists() else root / "_site.old"
        assert pages(out) in (old, new)
    assert build(root).wait(300) == 0
    assert pages(root / "_site") == new
    assert not (root / "_site.old").exists()


@pytest.mark.long
def test_without_room_for_a_file_a_sweep_ends_in_words_and_goes_on_later(toy_copy, tmp_path):
    """No file may grow beyond 600 bytes (RLIMIT_FSIZE), as on a disk that is full."""
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);" + (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); from lib.cli import main; sys.exit(main())"
    )
    arguments = ("run", "toy-post", "--profile", "smoke", "--jobs", "1")
    env = toy_copy.env | {"POSTS_STORE": str(tmp_path / "killed"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limit, *arguments], cwd=toy_copy.root, env=env, capture_output=True, text=True, timeout=120
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2) and "Traceback" not in said and "too large" in said, said
    digests(tmp_path / "killed")
    assert begin(toy_copy, *arguments, POSTS_STORE=str(tmp_path / "killed")).wait(120) == 0
    assert begin(toy_copy, *arguments, POSTS_STORE=str(tmp_path / "whole")).wait(120) == 0
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole") != {}


WRITER = """
import sys, numpy as np
from tests.test_kills import a_record, Thing
from lib.runs.store import Store
from lib.runs import published
from pathlib import Path
kind, place = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
for n in range(10**9):
    if kind == "store":
        Store(place).put(a_record(n), {"weights": np.full(300_000, n, dtype=np.float32)})
    else:
        published.write(place, "some-post", "smoke", "thing", [a_record(n)], of=1)
"""


def a_record(n):
    from lib.core import Provenance, Result
    from lib.runs.context import make_record

    provenance = Provenance({}, {}, "c", True, {}, "CPU", 1, 1.0, 1.0, 1.0, f"{n:09d}")
    result = Result({"n": n}, {"s": [float(n)] * 500}, {"a": np.full(100_000, n, dtype=np.float32)})
    return make_record(Thing(seed=0), "done", result, provenance)


def consistent(record):
    n = record.metrics["n"]
    return set(record.series["s"]) == {float(n)} and np.array_equal(record.arrays["a"], np.full(100_000, n))


@pytest.mark.parametrize("kind", ["store", "published"])
@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.long)])
def test_killed_while_writing_the_old_or_the_new_is_there(tmp_path, kind, kills):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(kills):
        command = [sys.executable, "-c", WRITER, kind, str(tmp_path)]
        process = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.08))
        process.kill()
        process.communicate()
        try:
            record = read(kind, tmp_path)
        except Damaged as error:
            pytest.fail(str(error))
        if record is not None:
            assert consistent(record)
            if kind == "store":
                weights = Store(tmp_path).artifact(Thing(seed=0))["weights"]
                assert np.array_equal(weights, np.full(300_000, record.metrics["n"]))


def read(kind, place):
    from lib.runs import published

    if kind == "store":
        return Store(place).get(Thing(seed=0))
    if not published.available(place, "some-post"):
        return None
    return published.read(place, "some-post", "smoke", "thing")[0]


def _thing():
    from lib.core import Config

    class Thing(Config, post="some-post", experiment="thing"):
        seed: int

    return Thing


Thing = _thing()
