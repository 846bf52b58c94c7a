"""Figures with a slider: what Python draws, what is refused, and the still for those who see no script."""

from __future__ import annotations

import json
import re
from pathlib import Path

import lxml.etree
import lxml.html
import pytest

from lib.core import InputError
from lib.site.interactive import _ticks, sliding, still

FRAMES = {"a": {"one": [0.0, 1.0], "two": [0.5, 0.5]}, "b": {"one": [1.0, 0.25], "two": [0.0, 1.0]}}


def draw(**options: object) -> str:
    given = {"x": ["left", "right"], "slider": "step", "ylabel": "value", "alt": 'Two "series"', **options}
    return sliding(FRAMES, **given).text  # type: ignore[arg-type]


def test_bars_are_as_high_as_their_values() -> None:
    tree = lxml.html.fragment_fromstring(draw(start="b"))
    bars = {
        (r.get("data-series"), r.get("data-at")): float(r.get("height"))
        for r in tree.xpath(".//svg/rect[@data-series]")
    }
    full = bars["one", "0"]
    assert bars == {
        ("one", "0"): full,
        ("one", "1"): pytest.approx(full / 4),
        ("two", "0"): 0,
        ("two", "1"): full,
    }


def test_bars_below_zero_hang_from_it() -> None:
    tree = lxml.html.fragment_fromstring(
        sliding(
            {"a": {"s": [-1.0, 1.0]}, "b": {"s": [0, 0]}},
            x=["l", "r"],
            slider="s",
            ylabel="",
            alt="x",
            start="a",
        ).text
    )
    low, high = tree.xpath(".//svg/rect[@data-series]")
    assert float(low.get("y")) == pytest.approx(float(high.get("y")) + float(high.get("height")))


def test_lines_have_a_point_a_value() -> None:
    tree = lxml.html.fragment_fromstring(draw(kind="lines", x=[0.0, 10.0]))
    (first, second) = tree.xpath(".//svg/polyline")
    assert len(first.get("points").split()) == len(second.get("points").split()) == 2


def test_the_data_are_in_the_page_and_cannot_end_the_script() -> None:
    frames = {"</script>": {"s": [1.0]}, "b": {"s": [2.0]}}
    text = sliding(frames, x=["l"], slider="s", ylabel="", alt="x").text
    (body,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert json.loads(body)["frames"][0]["name"] == "</script>"
    assert draw() == draw()


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ({"a": {"s": [1]}}, {}, "two frames"),
        ({"a": {"s": [1]}, "b": {"s": [1, 2]}}, {}, "frame 'b' does not have 1 values"),
        ({"a": {"s": [1]}, "b": {"t": [1]}}, {}, "for each of s"),
        ({"a": {"s": [1]}, "b": {"s": [2]}}, {"start": "c"}, "there is no frame 'c'"),
        ({"a": {"s": [0]}, "b": {"s": [0]}}, {}, "the y axis would go from 0"),
    ],
)
def test_frames_that_do_not_fit(frames: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sliding(frames, x=["l"], slider="s", ylabel="", alt="x", **options)


def test_the_still_is_a_drawing_of_its_own() -> None:
    found = still(draw())
    assert found is not None
    alt, data = found
    assert alt == 'Two "series"'
    root = lxml.etree.fromstring(data)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(" not in data
    assert b"#4969ec" in data
    assert still("<p>x</p>") is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.35), (-5, 12), (0, 40_000), (0, 3)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_a_feed_is_given_the_still(embedded: Path) -> None:
    channel = lxml.etree.parse(str(embedded / "posts/index.xml")).getroot().find("channel")
    text = channel.findall("item")[0].findtext("description")
    address = "https://example.org/test/posts/torture/index_files/figure-html/fig-move-still.svg"
    assert f'<img src="{address}" alt="Two bars"' in text
    assert "<script" not in text
    assert (embedded / address.removeprefix("https://example.org/test/")).read_bytes().startswith(b"<svg")


def test_a_drawing_is_named_by_what_it_shows() -> None:
    """The text that stands for it in a notebook is the same in every execution, and another where the numbers differ."""

    def drawn(value: float) -> str:
        frames = {"0": {"a": [0.0, value]}, "1": {"a": [value, 1.0]}}
        return repr(sliding(frames, x=["p", "q"], slider="s", ylabel="y", alt="Two bars."))

    assert drawn(0.5) == drawn(0.5) != drawn(0.6)
    assert " at 0x" not in drawn(0.5)
