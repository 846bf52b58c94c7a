"""The store keeps records whole, finds them by config, and never shows a damaged one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lib.core import Config, InputError, Provenance, Result
from lib.runs import files
from lib.runs.context import make_record
from lib.runs.records import Damaged
from lib.runs.store import Store


class Thing(Config, post="some-post", experiment="thing"):
    seed: int


def made(seed=0, date="2026-01-01", **values):
    provenance = Provenance(
        {"digits": "f"}, {"lib.a:b": "1"}, "c0ffee", True, {"python": "3"}, "CPU", 1, 2.0, 2.0, 9.0, date
    )
    result = Result({"acc": 0.25, **values}, {"loss": [1.0, float("nan")]}, {"grid": np.arange(4.0)})
    return make_record(Thing(seed=seed), "done", result, provenance)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_what_is_put_is_got(store):
    record = made()
    store.put(record, {"weights": np.ones((2, 2), dtype=np.float32)})
    back = store.get(Thing(seed=0))
    assert back.digest == record.digest and back.provenance == record.provenance
    assert np.array_equal(store.artifact(Thing(seed=0))["weights"], np.ones((2, 2)))
    assert store.get(Thing(seed=1)) is None and store.artifact(Thing(seed=1)) is None
    assert [r.key for r in store.records("some-post")] == [record.key]


def test_replacing_leaves_nothing_of_the_old(store):
    store.put(made(), {"weights": np.ones(2)})
    store.put(made(date="later", acc=0.5), {"weights": np.zeros(3)})
    assert store.get(Thing(seed=0)).metrics["acc"] == 0.5
    assert store.artifact(Thing(seed=0))["weights"].shape == (3,)
    kept = sorted(
        path.name.split(".", 1)[1].split(".")[0]
        for path in store.place("some-post", "thing", "x").parent.iterdir()
    )
    assert len(kept) == 3


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_flipped_bit_in_any_range_is_found_and_named(store, suffix):
    store.put(made())
    (path,) = (p for p in store.place("some-post", "thing", "x").parent.iterdir() if p.name.endswith(suffix))
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 64)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=Thing(seed=0).key[:12]):
            store.get(Thing(seed=0))
    path.write_bytes(whole)
    assert store.get(Thing(seed=0)) is not None


def test_missing_arrays_are_damage(store):
    store.put(made())
    for path in store.path.rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(Damaged, match="missing"):
        store.get(Thing(seed=0))


def test_a_record_under_another_name_is_refused(store):
    store.put(made(seed=0))
    store.place("some-post", "thing", Thing(seed=0).key).rename(
        store.place("some-post", "thing", Thing(seed=1).key)
    )
    with pytest.raises(Damaged, match="another config"):
        store.get(Thing(seed=1))


def test_set_aside_frees_the_place(store):
    store.put(made())
    aside = store.set_aside(Thing(seed=0))
    assert store.get(Thing(seed=0)) is None and aside.exists()


def test_a_lock_excludes_another_process_and_dies_with_it(store):
    code = (
        "import sys, time; from lib.runs.files import lock; from pathlib import Path\n"
        f"with lock(Path({str(store.path)!r}) / 'locks' / {Thing(seed=0).key!r}, wait=True):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with store.lock(Thing(seed=0), wait=False) as ours:
            assert not ours
    finally:
        other.kill()
        other.communicate()
    with store.lock(Thing(seed=0), wait=False) as ours:
        assert ours


def test_an_unwritable_place_is_an_input_error(tmp_path):
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot write"):
        Store(tmp_path / "store").put(made())


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "x"
    files.write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_parts_of_killed_writers_are_removed_when_old(tmp_path):
    part = tmp_path / ".x.json.0123.part"
    part.write_bytes(b"half")
    assert files.remove_parts(tmp_path) == 0
    assert files.remove_parts(tmp_path, older_than=-1) == 1 and not part.exists()
