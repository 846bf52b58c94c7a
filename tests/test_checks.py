"""`posts check` finds damaged, stale and foreign things among what is published."""

from __future__ import annotations

import pytest

from lib import checks, claims
from lib.core import InputError
from lib.runs import fingerprints, published, sweep
from lib.runs.records import Damaged


@pytest.fixture
def place(toy, tmp_path):
    sweep.compute("toy-post", "smoke")
    sweep.publish("toy-post", "smoke")
    return tmp_path


def told(place):
    return [str(problem) for problem in checks.records(place, "toy-post")]


def test_what_is_published_as_it_should_be_is_no_problem(place):
    assert told(place) == []


def test_a_damaged_pack(place):
    path = published.folder(place, "toy-post", "smoke") / "walk.json"
    path.write_bytes(path.read_bytes().replace(b'"steps":20', b'"steps":21', 1))
    (problem,) = told(place)
    assert "walk.json" in problem and "damaged" in problem


def test_a_stale_pack(place, monkeypatch):
    monkeypatch.setattr(fingerprints, "changes", lambda recorded: ["lib.nets:mlp changed"])
    assert all("stale: lib.nets:mlp changed (posts why toy-post)" in problem for problem in told(place))
    assert len(told(place)) == 2


def test_a_foreign_file(place):
    (published.folder(place, "toy-post", "smoke") / "notes.txt").write_text("x")
    (problem,) = told(place)
    assert "notes.txt" in problem


def test_too_much(place, monkeypatch):
    monkeypatch.setattr(published, "LIMIT", 10)
    assert any("at most" in problem for problem in told(place))


@pytest.mark.parametrize(
    ("error", "n"), [(Damaged("walk.json is damaged"), 0), (InputError("no quantity"), 1)]
)
def test_a_claim_is_not_blamed_for_a_damaged_pack(place, monkeypatch, error, n):
    def judge(*_):
        raise error

    monkeypatch.setattr(claims, "load", lambda *_: ["a claim"])
    monkeypatch.setattr(claims, "judge", judge)
    assert len(list(checks.of_claims(place, "toy-post"))) == n
