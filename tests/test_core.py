"""Configs are typed values with a lasting key; results and digests say what they should."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from lib.core import Config, InputError, Provenance, Record, Result, canonical, decode, encode, later


class Plain(Config, post="a-post", experiment="plain"):
    name: Literal["one", "two"]
    alpha: int = 3
    lr: float = 0.5
    widths: tuple[int, ...] = ()


class Extended(Config, post="a-post", experiment="plain"):
    name: Literal["one", "two"]
    alpha: int = 3
    lr: float = 0.5
    widths: tuple[int, ...] = ()
    ema: float | None = later(None)


class Nested(Config, post="a-post", experiment="nested"):
    source: Plain
    seed: int


PROVENANCE = Provenance(
    {"set": "f00"}, {"lib.x:y": "abc"}, "c0ffee", True, {"python": "3"}, "CPU", 1, 1.0, 1.0, 9.0, "d"
)


def record(**changes):
    made = Record("a-post", "plain", "k", {"alpha": 3}, "done", {"acc": 0.5}, {"s": [1.0]}, {}, PROVENANCE)
    return replace(made, **changes)


def test_a_key_lasts():
    """The key of a config is part of every published record: a change here makes all of them unreachable."""
    text = '{"config":{"alpha":3,"lr":0.5,"name":"one","widths":[]},"experiment":"plain","post":"a-post"}'
    assert Plain(name="one").key == hashlib.sha256(text.encode()).hexdigest()


def test_equal_configs_have_equal_keys_and_others_differ():
    one = Plain(name="one", lr=1)
    assert one == Plain(name="one", lr=1.0)
    assert one.key == Plain(name="one", lr=1.0).key
    others = [one.replace(name="two"), one.replace(alpha=4), one.replace(lr=0.1), one.replace(widths=(1,))]
    assert len({one.key, *(other.key for other in others)}) == 5


def test_a_later_field_leaves_old_keys_alone():
    assert Extended(name="one").key == Plain(name="one").key
    assert Extended(name="one", ema=0.9).key != Plain(name="one").key
    assert Extended(name="one").to_dict()["ema"] is None


def test_the_experiment_is_part_of_the_key():
    class Other(Plain, experiment="other"):
        pass

    assert Other(name="one").key != Plain(name="one").key
    assert Other.post == "a-post"


def test_nested_configs_keep_where_they_belong():
    nested = Nested(source=Plain(name="one"), seed=0)
    assert nested.to_dict()["source"]["experiment"] == "plain"
    assert nested.key != Nested(source=Plain(name="two"), seed=0).key


@pytest.mark.parametrize(
    "values",
    [
        {"name": "three"},
        {"name": "one", "alpha": "3"},
        {"name": "one", "alpha": True},
        {"name": "one", "alpha": 3.0},
        {"name": "one", "lr": float("nan")},
        {"name": "one", "lr": np.float64("inf")},
        {"name": "one", "widths": (1, "2")},
        {"name": "one", "widths": 3},
    ],
)
def test_a_value_of_the_wrong_type_is_named(values):
    wrong = [name for name in values if name != "name"] or ["name"]
    with pytest.raises(InputError, match=f"Plain.{wrong[0]}"):
        Plain(**values)


def test_replace_refuses_unknown_fields():
    with pytest.raises(InputError, match="beta"):
        Plain(name="one").replace(beta=1)


def test_a_config_is_frozen():
    with pytest.raises(AttributeError):
        Plain(name="one").alpha = 4


def test_the_digest_covers_results_and_not_provenance():
    base = record()
    assert base.digest == record(provenance=replace(PROVENANCE, wall_s=99.0, date="other")).digest
    changed = [
        record(metrics={"acc": 0.5000000000000001}),
        record(series={"s": [2.0]}),
        record(outcome="diverged"),
        record(config={"alpha": 4}),
        record(arrays={"a": np.zeros(2)}),
        record(arrays={"a": np.zeros(2, dtype=np.float32)}),
        record(arrays={"a": np.zeros((2, 1))}),
    ]
    assert len({base.digest, *(other.digest for other in changed)}) == 8


def test_results_take_numpy_scalars_and_refuse_the_rest():
    result = Result({"a": np.float64(0.5), "b": np.int64(3), "c": np.bool_(True)}, {"s": [np.float32(0.5)]})
    assert [type(value) for value in result.metrics.values()] == [float, int, bool]
    assert canonical(encode(dict(result.series))) == '{"s":[0.5]}'
    with pytest.raises(InputError, match="'x'"):
        Result({"x": [1, 2]})
    with pytest.raises(InputError, match="'x'"):
        Result({"x": "NaN"})


def test_non_finite_numbers_survive():
    values = {"a": [float("inf"), float("-inf"), 1.5], "b": "text"}
    assert decode(encode(values)) == values
    assert np.isnan(decode(encode(float("nan"))))
