"""Drawings that are stepped through or dragged: what Python draws, what the page is told to change, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import lxml.etree
import lxml.html
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.core import InputError
from lib.site.interactive import still
from lib.site.scenes import Area, Arrow, Dot, Line, Words, moving

MARKS = [
    Area("bucket", [(0, 0), (1, 0), (0, 1)]),
    Line("plane", [(-1, -1), (1, 1)], dashed=True),
    Dot("a", (0.5, 0.5), text="a"),
    Arrow("query", (0, 0), (1, 0), look=1),
    Words("said", (0, -0.9), "x < y"),
]
FRAMES: dict[str, dict[str, dict[str, Any]]] = {
    "0°": {},
    "90°": {"query": {"end": (0, 1)}, "a": {"hollow": True, "look": "quiet", "text": "b"}},
    "180°": {"query": {"end": (-1, 0)}},
}
SAYS = {"0°": "Right.", "90°": "Up & away.", "180°": "Left."}


def draw(**options: Any) -> str:
    settled = {"slider": "direction", "alt": "A query", "x": (-1, 1), "y": (-1, 1), "says": SAYS, **options}
    return moving(settled.pop("marks", MARKS), settled.pop("frames", FRAMES), **settled).text


def data(text: str) -> dict[str, Any]:
    (body,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    return json.loads(body)


def played(text: str, frame: int) -> dict[tuple[str, str], str]:
    """What the page shows in a frame, as the script makes it: (mark, attribute) to its value."""
    shown = {}
    for mark, name, values in data(text)["moves"]:
        at = max(i for i in range(frame + 1) if values[i] != 0)
        shown[str(mark), name] = values[at]
    return shown


def drawn(text: str) -> dict[tuple[str, str], str]:
    """What the markup itself shows of those attributes."""
    tree = lxml.html.fragment_fromstring(text)
    found = {}
    for element in tree.xpath(".//svg//*[@data-mark]"):
        for name, value in element.attrib.items():
            found[element.get("data-mark"), name] = value
        found[element.get("data-mark"), "text"] = element.text or ""
    return found


@pytest.mark.parametrize("start", FRAMES)
def test_the_first_view_is_the_frame_that_the_script_would_draw(start: str) -> None:
    text = draw(start=start)
    shown = drawn(text)
    moved = played(text, list(FRAMES).index(start))
    assert moved
    assert all(shown[key] == value for key, value in moved.items())


def test_a_frame_says_only_what_differs_from_the_marks_as_written() -> None:
    text = draw()
    assert played(text, 2) != played(text, 0)
    assert {k: v for k, v in played(text, 2).items() if k[1] != "d"} == {
        k: v for k, v in played(text, 0).items() if k[1] != "d"
    }


def test_what_never_changes_is_not_in_the_data() -> None:
    moves = data(draw())["moves"]
    assert {name for _, name, _ in moves} == {"class", "text", "d"}
    many = {str(i): {"query": {"end": (0, i / 300)}} for i in range(300)}
    dots = [Dot(f"p{i}", (0, 0)) for i in range(300)]
    assert len(draw(marks=[*MARKS, *dots], frames=many, says=None)) < 60_000


def test_places_are_in_px_with_one_scale() -> None:
    tree = lxml.html.fragment_fromstring(draw(x=(-2, 2), y=(-1, 1), width=400))
    svg = tree.find(".//svg")
    assert (svg.get("width"), svg.get("height"), svg.get("viewbox") or svg.get("viewBox")) == (
        "400",
        "200",
        "0 0 400 200",
    )
    dot = svg.find("circle")
    assert (dot.get("cx"), dot.get("cy")) == ("250.0", "50.0")


def test_what_is_dragged_has_a_place_in_each_frame() -> None:
    assert data(draw(drag="query"))["drag"] == [[460, 230], [230, 0], [0, 230]]
    assert data(draw(drag="a"))["drag"] == [[345, 115]] * 3
    assert "drag" not in data(draw())


def test_words_are_escaped_in_the_markup_and_in_the_data() -> None:
    text = draw(says={**SAYS, "0°": "</script><b>"}, start="0°")
    tree = lxml.html.fragment_fromstring(text)
    assert not tree.xpath(".//b")
    assert tree.xpath("string(.//p)") == "</script><b>"
    assert "x &lt; y" in text
    assert data(text)["frames"][0]["says"] == "</script><b>"
    assert tree.xpath("string(.//input/@aria-valuetext)") == "0°: </script><b>"


def test_a_play_button_where_it_is_asked_for() -> None:
    assert "<button" not in draw()
    assert lxml.html.fragment_fromstring(draw(play=True)).xpath("string(.//button)") == "Play"


def test_the_still_is_a_file_of_its_own() -> None:
    found = still(draw(start="90°"))
    assert found is not None
    root = lxml.etree.fromstring(found[1])
    assert found[0] == "A query"
    assert root.xpath("count(//*[local-name()='polygon'])") == 1
    style = root.xpath("string(//*[local-name()='style'])")
    assert ".s1{fill:#e3660c" in style
    assert not set(re.findall(r"var\((--s\d)\)", style))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": {"a": {}}}, "1 frames"),
        (
            {"frames": {"a": {"none": {}}, "b": {}}, "says": None},
            "frame 'a' changes 'none'; there are bucket",
        ),
        ({"frames": {"a": {"a": {"end": (0, 0)}}, "b": {}}, "says": None}, "'a' has no end; it has at"),
        ({"frames": {"a": {"a": {"look": "red"}}, "b": {}}, "says": None}, "'a' has the look 'red'"),
        (
            {"frames": {"a": {"a": {"at": (float("nan"), 0)}}, "b": {}}, "says": None},
            "finite places are wanted",
        ),
        ({"marks": [*MARKS, Dot("a", (0, 0))]}, "two marks are called 'a'"),
        ({"start": "45°"}, "no frame '45°' to start with"),
        ({"says": {"0°": "x"}}, "a sentence for each"),
        ({"drag": "plane"}, "'plane', so they cannot be dragged"),
        ({"x": (1, 1)}, "the x axis would go from 1 to 1"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        draw(**options)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0, 1, "quiet"]), st.text(max_size=3)),
        min_size=2,
        max_size=12,
    )
)
def test_any_frames_are_told_whole(steps: list[tuple[bool, int | str, str]]) -> None:
    frames = {
        str(i): {"a": {"hollow": hollow, "look": look, "text": text}}
        for i, (hollow, look, text) in enumerate(steps)
    }
    text = moving([Dot("a", (0, 0))], frames, slider="s", alt="x", x=(-1, 1), y=(-1, 1)).text
    for i, (hollow, look, words) in enumerate(steps):
        shown = played(text, i)
        kind = f"{'hollow ' if hollow else ''}{look if look == 'quiet' else f's{look}'}"
        assert shown.get(("0", "class"), kind) == kind
        assert shown.get(("1", "text"), words) == words
