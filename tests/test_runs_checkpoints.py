"""A checkpoint gives back exactly what was saved, or nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from lib.core import InputError, Suspended
from lib.runs.checkpoints import FileCheckpoint


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def a_state():
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return {
        "net": net.state_dict() | {},
        "optimizer": optimizer.state_dict(),
        "generator": torch.Generator().manual_seed(3).get_state(),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.0),
        "array": np.arange(3),
        "mixed": [1, 2.5, "x", None, True, (1, (2.0, float("nan")), float("inf"))],
        3: {"dict": {"tensor": "not a tensor"}},
    }


def test_what_is_saved_is_loaded(tmp_path):
    slot = FileCheckpoint(tmp_path / "c", "code", every=100)
    assert slot.load() is None
    state = a_state()
    slot.save(state)
    back = FileCheckpoint(tmp_path / "c", "code", every=100).load()
    assert same({**state, "net": dict(state["net"])}, back)
    slot.clear()
    assert slot.load() is None


def test_a_state_of_other_code_is_not_gone_on_from(tmp_path):
    FileCheckpoint(tmp_path / "c", "old", every=100).save({"step": 3})
    assert FileCheckpoint(tmp_path / "c", "new", every=100).load() is None


def test_a_damaged_state_counts_as_none(tmp_path):
    slot = FileCheckpoint(tmp_path / "c", "code", every=100)
    slot.save({"a": torch.arange(100.0), "step": 7})
    whole = (tmp_path / "c").read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (tmp_path / "c").write_bytes(damaged)
        loaded = slot.load()
        assert loaded is None or same(loaded, {"a": torch.arange(100.0), "step": 7})
    (tmp_path / "c").write_bytes(whole[: len(whole) // 2])
    assert slot.load() is None


def test_the_saved_state_does_not_follow_the_tensor(tmp_path):
    slot = FileCheckpoint(tmp_path / "c", "code", every=100)
    tensor = torch.zeros(2)
    slot.save({"a": tensor, "same": tensor})
    tensor += 1
    assert torch.equal(slot.load()["a"], torch.zeros(2))


def test_due_by_time_and_by_deadline(tmp_path):
    assert not FileCheckpoint(tmp_path / "c", "code", every=100).due()
    assert FileCheckpoint(tmp_path / "c", "code", every=0).due()
    late = FileCheckpoint(tmp_path / "c", "code", every=100, deadline=time.monotonic())
    assert late.due()
    with pytest.raises(Suspended):
        late.save({"step": 1})
    assert late.load() == {"step": 1}


def test_what_cannot_be_kept_is_named(tmp_path):
    with pytest.raises(InputError, match="Linear"):
        FileCheckpoint(tmp_path / "c", "code", every=100).save({"net": torch.nn.Linear(1, 1)})
