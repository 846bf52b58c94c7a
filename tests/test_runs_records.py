"""What is written can be read; whatever was changed in between is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.core import sha256
from lib.runs import records
from lib.runs.records import SCHEMA, Damaged, pack_arrays, seal, unpack_arrays, unseal

BODY = {"name": "x", "values": [0.1, 1e-300, -5, True, None], "inner": {"ü": "é\n"}}
SEALED = seal(BODY)


def test_a_sealed_body_comes_back():
    assert unseal(SEALED, "file") == BODY
    assert json.loads(SEALED)["schema"] == SCHEMA


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(place, flip):
    changed = bytearray(SEALED)
    changed[place] ^= flip
    with pytest.raises(Damaged, match="some/file"):
        unseal(bytes(changed), "some/file")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SEALED) - 1))
def test_a_truncated_document_is_noticed(length):
    with pytest.raises(Damaged):
        unseal(SEALED[:length], "file")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(content):
    with pytest.raises(Damaged):
        unseal(content, "file")


def test_foreign_json_is_refused():
    for text in ("[]", "3", '{"body":1}', '{"body":{},"schema":1,"sha256":"0"}', "[" * 100_000):
        with pytest.raises(Damaged):
            unseal(text.encode(), "file")


def test_a_newer_schema_says_so(monkeypatch):
    monkeypatch.setattr("lib.runs.records.SCHEMA", SCHEMA + 1)
    newer = seal(BODY)
    monkeypatch.undo()
    with pytest.raises(Damaged, match="update"):
        unseal(newer, "file")


def test_an_older_schema_is_read(monkeypatch):
    old = seal({"name": "x"})
    monkeypatch.setattr("lib.runs.records.SCHEMA", SCHEMA + 1)
    monkeypatch.setitem(records.UPGRADES, SCHEMA, lambda body: body | {"more": 1})
    assert unseal(old, "file") == {"name": "x", "more": 1}


def test_arrays_come_back_and_damage_is_noticed():
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([True, False]),
        "c": np.array(7),
    }
    content = pack_arrays(arrays)
    back = unpack_arrays(content, sha256(content), "file")
    for name, array in arrays.items():
        assert np.array_equal(back[name].reshape(array.shape), array) and back[name].dtype == array.dtype
    with pytest.raises(Damaged, match="file"):
        unpack_arrays(content[:-1] + b"x", sha256(content), "file")


def test_arrays_are_packed_alike_whatever_their_order():
    one, two = np.zeros(2), np.ones(3)
    assert pack_arrays({"a": one, "b": two}) == pack_arrays({"b": two, "a": one})
