"""Claims: every field is checked, and the verdict follows from the interval and from what the records can
decide."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lib.reading
from lib.claims import VERDICTS, Claim, Expect, Judged, data_sets, judge, judge_all, load, table, tally
from lib.core import InputError, Provenance, Record, canonical, sha256
from lib.reading import Missing, Post, open_post
from lib.runs import published
from lib.stats import Interval, t_interval

GAIN = {
    "id": "gain",
    "text": "The corrected arm is better.",
    "source": "ours",
    "profile": "laptop",
    "data": ["mnist"],
    "quantity": {"name": "gain", "with": {"alpha": 50}},
    "expect": {"above": 0.2},
}


def record(config: dict[str, Any], metrics: dict[str, float], outcome: str = "done") -> Record:
    provenance = Provenance(
        {"mnist": "f00d"}, {}, "0123456789", True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-11-20"
    )
    key = sha256(canonical(config))
    kind: Any = outcome
    return Record("demo", "mistakes", key, config, kind, metrics, {}, {}, provenance)


def mistakes(
    gains: list[float], data: str = "mnist", outcome: Callable[[str, int], str] = lambda arm, seed: "done"
) -> list[Record]:
    """Pairs of runs whose corrected arm is better by `gains`, one a seed."""
    return [
        record(
            {"arm": arm, "alpha": 50, "data": data, "seed": seed},
            {"acc": 0.3 + seed / 10 + (gain if arm == "corrected" else 0)}
            if outcome(arm, seed) == "done"
            else {},
            outcome(arm, seed),
        )
        for seed, gain in enumerate(gains)
        for arm in ("corrected", "as_posted")
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one post, `demo`, whose quantities are defined here."""
    module = types.ModuleType("lib.quantities.demo")
    exec(  # as a module of its own, so that its functions belong to it
        "def gain(post, *, alpha):\n"
        "    runs = post.runs('mistakes').where(alpha=alpha)\n"
        "    better = runs.where(arm='corrected').per_seed('acc')\n"
        "    return better - runs.where(arm='as_posted').per_seed('acc')\n"
        "def broken(post):\n    return {}['x']\n"
        "def a_number(post):\n    return 3.0\n"
        "def twice(post):\n    import pandas as pd\n    return pd.Series([1.0, 2.0], index=[0, 0])\n"
        "def words(post):\n    import pandas as pd\n    return pd.Series(['a'])\n",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, "lib.quantities.demo", module)
    (tmp_path / "_quarto.yml").write_text("project: {type: website}\n")
    folder = tmp_path / "posts" / "demo"
    folder.mkdir(parents=True)
    (folder / "index.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return tmp_path


def write(project: Path, *claims: Any) -> None:
    text = yaml.safe_dump(list(claims), sort_keys=False, allow_unicode=True)
    (project / "posts" / "demo" / "claims.yml").write_text(text, encoding="utf-8")


def verdict(project: Path, records: list[Record], at: str = "laptop", /, **changes: Any) -> Judged:
    """The verdict on GAIN, with some fields changed, from published records."""
    if records:
        published.write(project, "demo", at, "mistakes", records, of=len(records))
    write(project, GAIN | changes)
    (claim,) = load(project, "demo")
    return judge(claim, open_post("demo", root=project))


# --- the rule -----------------------------------------------------------------------------------------------

ends = st.tuples(*[st.floats(-10, 10)] * 3).map(sorted)


@given(ends, st.floats(-10, 10))
def test_above_and_below_are_mirror_images(ends: list[float], x: float) -> None:
    found, mirrored = Interval(ends[1], ends[0], ends[2], 5), Interval(-ends[1], -ends[2], -ends[0], 5)
    above = Expect("above", x).verdict(found)
    assert above == Expect("below", -x).verdict(mirrored)
    opposite = {
        "reproduced": "not reproduced",
        "not reproduced": "reproduced",
        "inconclusive": "inconclusive",
    }
    assert Expect("below", x).verdict(found) == opposite[above]
    assert (above == "inconclusive") == (ends[0] <= x <= ends[2])


@given(ends, st.floats(-10, 10), st.floats(0.1, 5))
def test_within_is_an_equivalence_test(ends: list[float], value: float, margin: float) -> None:
    found = Interval(ends[1], ends[0], ends[2], 5)
    low, high = value - margin, value + margin
    wanted = (
        "reproduced"
        if low <= ends[0] and ends[2] <= high
        else "not reproduced"
        if ends[2] < low or ends[0] > high
        else "inconclusive"
    )
    assert Expect("within", value, margin).verdict(found) == wanted


def test_an_interval_without_ends_decides_nothing() -> None:
    one = t_interval([0.5])
    for expect in (Expect("above", -1e9), Expect("below", 1e9), Expect("within", 0.5, 1e9)):
        assert expect.verdict(one) == "inconclusive"


# --- from records to a verdict ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gains", "expect", "wanted"),
    [
        ([0.3, 0.31, 0.32], {"above": 0.2}, "reproduced"),
        ([0.1, 0.11, 0.12], {"above": 0.2}, "not reproduced"),
        ([0.1, 0.3, 0.5], {"above": 0.2}, "inconclusive"),
        ([0.1, 0.11, 0.12], {"below": 0.2}, "reproduced"),
        ([0.3, 0.31, 0.32], {"within": [0.3, 0.05]}, "reproduced"),
        ([0.3, 0.31, 0.32], {"within": [0.3, 0.03]}, "inconclusive"),
        ([0.3, 0.31, 0.32], {"within": [0.5, 0.05]}, "not reproduced"),
    ],
)
def test_the_verdict_follows_from_the_paired_interval(
    project: Path, gains: list[float], expect: dict[str, Any], wanted: str
) -> None:
    found = verdict(project, mistakes(gains), expect=expect)
    assert found.verdict == wanted
    assert found.interval is not None and found.interval.n == 3
    # Paired: the seeds' own differences of 0.1 are not in the interval.
    closed = t_interval(gains)
    assert (found.interval.low, found.interval.high) == (
        pytest.approx(closed.low),
        pytest.approx(closed.high),
    )
    assert (found.profile, found.data, found.experiments) == ("laptop", ("mnist",), ("mistakes",))
    assert set(found.keys) == {item.key for item in mistakes(gains)}


CLEAR = [0.3, 0.31, 0.32]


@pytest.mark.parametrize(
    ("records", "profile", "changes", "reason"),
    [
        (mistakes(CLEAR[:2]), "laptop", {}, "2 seeds, 3 are wanted"),
        (mistakes(CLEAR[:1]), "laptop", {"min_seeds": 2}, "1 seed, 2 are wanted"),
        (mistakes(CLEAR), "laptop", {"min_seeds": 5}, "3 seeds, 5 are wanted"),
        (mistakes(CLEAR), "smoke", {}, "smoke runs cannot decide, laptop ones can"),
        (mistakes(CLEAR), "laptop", {"profile": "full"}, "laptop runs cannot decide, full ones can"),
        (mistakes(CLEAR, "digits"), "laptop", {}, "runs on digits cannot decide, runs on mnist can"),
        ([], "laptop", {}, "no published records of mistakes"),
        (mistakes(CLEAR), "laptop", {"quantity": {"name": "gain", "with": {"alpha": 75}}}, "no run fits"),
        (mistakes(CLEAR)[:-1], "laptop", {}, "no number for seed 2: a run is missing or diverged"),
        (
            mistakes(
                CLEAR, outcome=lambda arm, seed: "diverged" if arm == "as_posted" and seed < 2 else "done"
            ),
            "laptop",
            {},
            "no number for seeds 0, 1: a run is missing or diverged",
        ),
    ],
)
def test_what_cannot_decide_is_inconclusive_and_says_why(
    project: Path, records: list[Record], profile: str, changes: dict[str, Any], reason: str
) -> None:
    found = verdict(project, records, profile, **changes)
    assert found.verdict == "inconclusive"
    assert found.reason.startswith(reason)


def test_a_larger_profile_than_asked_for_decides(project: Path) -> None:
    found = verdict(project, mistakes(CLEAR), "full")
    assert (found.verdict, found.profile) == ("reproduced", "full")


def test_only_the_data_sets_that_can_decide_are_used(project: Path) -> None:
    # On digits the effect is the other way round: it must not be averaged in.
    both = mistakes(CLEAR) + mistakes([-0.5, -0.5, -0.6], "digits")
    found = verdict(project, both)
    assert found.verdict == "reproduced"
    assert found.data == ("mnist",) and len(found.keys) == 6


def test_data_sets_come_from_the_config_else_from_the_provenance() -> None:
    item = record({"seed": 0}, {})
    assert data_sets(item) == ("mnist",)
    assert data_sets(dataclasses.replace(item, config={"data": "svhn"})) == ("svhn",)


def test_a_stale_record_cannot_decide_where_staleness_is_asked_for(project: Path) -> None:
    assert verdict(project, mistakes(CLEAR)).verdict == "reproduced"
    (claim,) = load(project, "demo")
    post = open_post("demo", root=project)
    found = judge(claim, post, stale=lambda item: item.config["seed"] == 0)
    assert (found.verdict, found.reason) == (
        "inconclusive",
        "2 of 6 records were made by code that has changed since",
    )
    assert judge(claim, post, stale=lambda item: False).verdict == "reproduced"


def test_a_bootstrap_interval_is_the_same_every_time(project: Path) -> None:
    gains = [0.3, 0.31, 0.35, 0.29, 0.4, 0.33, 0.31, 0.28]
    first, second = (verdict(project, mistakes(gains), interval="bootstrap").interval for _ in range(2))
    assert first == second and first is not None and first.method == "bootstrap (bca)"


@pytest.mark.parametrize(
    ("quantity", "words"),
    [
        ("gained", r"no quantity 'gained'; there are: gain, broken"),
        ("gain", r"gain: missing a required .*argument: 'alpha'"),
        (
            {"name": "gain", "with": {"alfa": 1, "alpha": 1}},
            "gain: got an unexpected keyword argument 'alfa'",
        ),
        ("broken", "broken failed: KeyError: 'x'"),
        ("a_number", "a_number returned a float; a Series of numbers is wanted"),
        ("words", "words returned a Series; a Series of numbers is wanted"),
        ("twice", "twice returned more than one number for a seed"),
    ],
)
def test_a_quantity_that_does_not_work_names_the_claim(project: Path, quantity: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"posts/demo/claims\.yml, claim gain: {words}") as caught:
        verdict(project, mistakes(CLEAR), quantity=quantity)
    assert not isinstance(caught.value, Missing)


def test_a_post_without_quantities_is_told_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lib.quantities.demo")
    with pytest.raises(InputError, match=r"there is no lib/quantities/demo\.py to take gain from"):
        verdict(project, mistakes(CLEAR))


def test_all_posts_are_judged_for_the_scorecard(project: Path) -> None:
    published.write(project, "demo", "laptop", "mistakes", mistakes(CLEAR), of=6)
    write(
        project,
        GAIN,
        GAIN | {"id": "other", "expect": {"below": 0.2}},
        GAIN | {"id": "third", "min_seeds": 9},
    )
    (project / "posts" / "silent").mkdir()
    (project / "posts" / "silent" / "index.ipynb").write_text('{"cells": []}')
    judged = judge_all(project)
    assert [(item.claim.id, item.verdict) for item in judged] == list(
        zip(["gain", "other", "third"], VERDICTS, strict=True)
    )
    assert tally(judged) == dict.fromkeys(VERDICTS, 1)
    assert tally([]) == dict.fromkeys(VERDICTS, 0)


# --- claims.yml ---------------------------------------------------------------------------------------------


def test_every_field_is_read(project: Path) -> None:
    more = {"paper": 0.893, "original": "about .5", "format": ".1%", "unit": "of all", "min_seeds": 5}
    more |= {"interval": "bootstrap", "mistake": "No arm was  corrected."}
    write(project, GAIN | more | {"expect": {"within": [0.3, 0.1]}})
    (claim,) = load(project, "demo")
    assert claim == Claim(
        post="demo",
        id="gain",
        text="The corrected arm is better.",
        source="ours",
        profile="laptop",
        data=("mnist",),
        quantity="gain",
        arguments={"alpha": 50},
        expect=Expect("within", 0.3, 0.1),
        paper=0.893,
        original="about .5",
        format=".1%",
        unit="\u00a0of all",
        min_seeds=5,
        interval="bootstrap",
        mistake="No arm was corrected.",
    )
    assert load(project, "absent") == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "Not so"}, r"id is 'Not so'; lower-case words"),
        ({"text": ""}, "text is ''; a text is wanted"),
        ({"mistake": ""}, "mistake is ''; a text is wanted"),
        ({"source": "theirs"}, "source is 'theirs'; one of paper, original, ours is wanted"),
        ({"profile": "published"}, "profile is 'published'; one of smoke, laptop, full is wanted"),
        ({"data": "mnist"}, "data is 'mnist'; a list of names"),
        ({"data": []}, "a list of names"),
        ({"quantity": {"name": "gain", "args": {}}}, "quantity is .* is wanted"),
        ({"quantity": "_gain"}, "quantity's name is '_gain'"),
        ({"quantity": {"name": "gain", "with": [1]}}, r"quantity's with is \[1\]"),
        ({"expect": 0.2}, "expect is 0.2; exactly one of"),
        ({"expect": {"above": 0.1, "below": 0.2}}, "exactly one of"),
        ({"expect": {"above": "high"}}, "exactly one of"),
        ({"expect": {"above": True}}, "exactly one of"),
        ({"expect": {"above": float("nan")}}, "exactly one of"),
        ({"expect": {"within": 0.2}}, "exactly one of"),
        ({"expect": {"within": [0.2, 0]}}, "margin must be above 0"),
        ({"paper": [1]}, r"paper is \[1\]; a number or a short text"),
        ({"format": "%.2f"}, r"format is '%.2f'; a format such as"),
        ({"format": 3}, "format is 3"),
        ({"unit": 3}, "unit is 3; a text"),
        ({"min_seeds": 1}, "min_seeds is 1; a whole number of at least 2"),
        ({"min_seeds": 3.0}, "min_seeds is 3.0"),
        ({"min_seeds": True}, "min_seeds is True"),
        ({"interval": "normal"}, "interval is 'normal'; one of t, bootstrap"),
        ({"min_seed": 3}, "no field 'min_seed'; did you mean min_seeds"),
        ({"colour": 3}, "no field 'colour'; there are: id, text"),
    ],
)
def test_a_wrong_field_names_file_claim_field_and_what_is_accepted(
    project: Path, changes: dict[str, Any], words: str
) -> None:
    write(project, GAIN | changes)
    with pytest.raises(InputError, match=rf"posts/demo/claims\.yml, claim .*{words}") as caught:
        load(project, "demo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(GAIN))
def test_a_missing_field_is_named(project: Path, name: str) -> None:
    write(project, {field: value for field, value in GAIN.items() if field != name})
    with pytest.raises(InputError, match="id is None" if name == "id" else f"claim gain: {name} is missing"):
        load(project, "demo")


@pytest.mark.parametrize("text", ["a: [", "a: 1", "- 3", "!!python/object:os.system []"])
def test_a_file_that_is_no_list_of_claims_is_named(project: Path, text: str) -> None:
    (project / "posts" / "demo" / "claims.yml").write_text(text)
    with pytest.raises(InputError, match=r"posts/demo/claims\.yml"):
        load(project, "demo")


def test_ids_are_unique(project: Path) -> None:
    write(project, GAIN, GAIN)
    with pytest.raises(InputError, match="two claims have the id gain"):
        load(project, "demo")


# --- the table ----------------------------------------------------------------------------------------------


def judged(text: str = "It falls.", **changes: Any) -> Judged:
    claim = Claim(
        "demo", "falls", text, "paper", "laptop", ("mnist",), "gain", {}, Expect("above", 0.2), **changes
    )
    return Judged(claim, "reproduced", "the interval lies above 20 %", Interval(0.5, 0.25, 0.75, 3))


def test_numbers_of_a_claim_are_written_alike() -> None:
    item = judged(format=".1%", paper=0.893, original="about half")
    assert item.ours == "50.0\u00a0% [25.0, 75.0] (n\u00a0=\u00a03)"
    assert (item.paper, item.original) == ("89.3\u00a0%", "about half")
    assert dataclasses.replace(item, interval=None).ours == "–"
    assert judged().paper == "–"


def test_the_table_survives_pandoc_with_bars_math_and_anchors() -> None:
    pypandoc = pytest.importorskip("pypandoc")
    rows = [
        judged(r"The probability $P(x|y)$ is a | b, see [the paper](https://example.org)."),
        judged("Short."),
    ]
    html = pypandoc.convert_text(
        table(rows), "html5", format="markdown", extra_args=["--mathml", "--wrap=none"]
    )
    assert '<div class="claims">' in html
    assert re.findall(r"<th[^>]*>(.*?)</th>", html) == ["Claim", "Paper", "Original", "Ours", "Verdict"]
    assert len(re.findall(r"<tr", html)) == 3 and len(re.findall(r"<td", html)) == 10
    assert 'id="claim-falls"' in html and 'href="https://example.org"' in html
    assert '<span class="verdict reproduced">reproduced</span>: the interval lies above 20 %' in html
    assert "<math" in html and "a | b" in html and r"\|" not in html


def test_a_post_displays_its_table(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(lib.reading, "show_markdown", shown.append)
    verdict(project, mistakes(CLEAR))
    post: Post = open_post("demo", root=project)
    post.claims()
    assert (
        "[reproduced]{.verdict .reproduced}" in shown[0]
        and "0.310 [0.285,\u00a00.335] (n\u00a0=\u00a0" in shown[0]
    )
    assert post.claim("gain").verdict == "reproduced"
    with pytest.raises(InputError, match="no claim 'gains'; there are: gain"):
        post.claim("gains")


def test_quantities_return_plain_series(project: Path) -> None:
    values = pd.Series(np.array(CLEAR), index=[0, 1, 2])
    assert t_interval(values.to_numpy()).n == 3
