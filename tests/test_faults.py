"""A machine that does what it should not: a store that cannot be written, a clock that is moved back."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.runs import context, files, published, sweep
from lib.runs.store import Store

DAY = 86_400.0
RUN = ("run", "toy-post", "--profile", "smoke", "--jobs", "1")


# --- a store that cannot be written ----------------------------------------------------------------------------------


@pytest.fixture
def toy_copy(project_copy):
    shutil.copy(Path(__file__).parent / "toy_post.py", project_copy.root / "lib" / "experiments")
    (project_copy.root / "posts" / "toy-post").mkdir()
    return project_copy


def as_anybody():
    """In a process to be: without root's power to write where it has no right to (the capability DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def posts(copy, store, *arguments):
    command = [sys.executable, "-m", "lib", *arguments]
    env = copy.env | {"POSTS_STORE": str(store)}
    done = subprocess.run(
        command, cwd=copy.root, env=env, preexec_fn=as_anybody, capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def locked(folder, mode=0o555):
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(mode)


@pytest.fixture
def read_only(toy_copy, tmp_path):
    """Makes a store, with all records or only the walks, read-only."""
    store = tmp_path / "store"

    def make(*arguments):
        code, said = posts(toy_copy, store, *RUN, *arguments)
        assert code == 0, said
        locked(store)
        return store

    yield make
    locked(store, 0o755)


@pytest.mark.long
def test_what_a_read_only_store_has_can_be_used(toy_copy, read_only):
    store = read_only()
    before = content(store)
    for arguments, expected in (
        (RUN, "0 computed, 10 were there"),
        (("publish", "toy-post", "--profile", "smoke"), "10"),
        (("why", "toy-post"), ""),
        (("budget", "toy-post"), "smoke"),
    ):
        code, said = posts(toy_copy, store, *arguments)
        assert code == 0 and expected in said, said
    assert content(store) == before
    assert len(published.read(toy_copy.root, "toy-post", "smoke", "walk")) == 8


@pytest.mark.long
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_a_read_only_store_lacks_is_refused_in_words(toy_copy, read_only, jobs):
    store = read_only("--only", "walk")
    before = content(store)
    code, said = posts(toy_copy, store, *RUN, "--jobs", jobs)
    assert code == 2 and f"cannot write {store}" in said and "Permission denied" in said, said
    assert content(store) == before


@pytest.mark.long
def test_a_damaged_record_of_a_read_only_store_is_refused_in_words(toy_copy, read_only):
    store = read_only()
    damaged = min(store.glob("toy-post/walk/*.json"))
    damaged.write_bytes(damaged.read_bytes().replace(b"distance", b"distamce", 1))
    before = content(store)
    code, said = posts(toy_copy, store, *RUN)
    assert code == 2 and damaged.name in said, said
    assert content(store) == before


def test_a_site_that_cannot_be_written_is_refused_in_words(toy_copy, tmp_path):
    from tests.site.project import make, markdown, notebook

    root = make(tmp_path / "site", {"a": notebook('title: "A post"\ndate: 2024-01-02', markdown("Text."))})
    toy_copy.env["POSTS_ROOT"] = str(root)
    root.chmod(0o555)
    code, said = posts(toy_copy, tmp_path / "store", "site", "--renderer", "embedded")
    root.chmod(0o755)
    assert code == 2 and str(root) in said and "Permission denied" in said, said
    assert not (root / "_site").exists()


# --- a clock that is moved back --------------------------------------------------------------------------------------


def written_tomorrow(folder):
    """As if the clock had been moved back by a day since the files were written."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + DAY, time.time() + DAY))


@pytest.fixture
def clock(monkeypatch):
    """The clock, moved back by a day when it is called."""
    now = time.time

    def move():
        monkeypatch.setattr(time, "time", lambda: now() - DAY)

    return move


def test_a_sweep_goes_on_after_the_clock_is_moved_back(toy, tmp_path, clock):
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    sweep.compute("toy-post", "smoke", only="walk", store=store)
    written_tomorrow(store.path)
    clock()
    report = sweep.compute("toy-post", "smoke", store=store)
    assert report.present == 8 and len(log.read_text().split()) == 10
    sweep.compute("toy-post", "smoke", store=Store(tmp_path / "whole"))
    for config in report.configs.values():
        assert store.get(config).digest == Store(tmp_path / "whole").get(config).digest


def test_time_is_up_though_the_clock_is_moved_back(toy, tmp_path, clock, monkeypatch):
    """The run under way stops at its checkpoint, and the next one is not begun."""
    first, second = (toy.Walk(steps=500, pause=0.02, seed=seed) for seed in range(2))
    monkeypatch.setattr(toy, "configs", lambda profile: [first, second])
    monkeypatch.setattr(context.RunContext, "progress", lambda *_: clock())
    store = Store(tmp_path / "store")
    report = sweep.compute("toy-post", "smoke", minutes=0.3 / 60, store=store)
    assert report.suspended == 2
    assert store.checkpoint(first).exists() and not store.checkpoint(second).exists()


def test_what_a_killed_writer_left_goes_when_the_clock_is_right_again(tmp_path, clock):
    part = tmp_path / ".record.json.0123.part"
    part.write_bytes(b"half")
    written_tomorrow(tmp_path)
    assert files.remove_parts(tmp_path) == 0 and part.exists()
    os.utime(part, (time.time() - DAY, time.time() - DAY))
    assert files.remove_parts(tmp_path) == 1 and not part.exists()


def test_a_page_changed_before_its_site_was_built_is_built_again(tmp_path):
    from lib.site.build import build
    from tests.site.project import make, markdown, notebook

    root = make(tmp_path, {"a": notebook('title: "A post"\ndate: 2024-01-02', markdown("Old text."))})
    build(root, renderer="embedded")
    written_tomorrow(root)
    path = root / "posts/a/index.ipynb"
    path.write_text(path.read_text().replace("Old text", "New text"))
    assert path.stat().st_mtime < (root / "_site/posts/a/index.html").stat().st_mtime
    build(root, renderer="embedded")
    assert "New text" in (root / "_site/posts/a/index.html").read_text()
