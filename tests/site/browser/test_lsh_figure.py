"""The figure of the post lsh that a reader drags: what it says at each place is what its records say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.quantities import lsh as q
from lib.reading import open_post

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def walk() -> Any:
    return open_post("lsh", root=ROOT).runs("walk").one()


def said(box: Any) -> str:
    return box.locator(".interactive-says").inner_text()


def test_it_begins_with_the_originals_query_and_follows_the_keys(
    look_real: Callable[..., Any], walk: Any
) -> None:
    page = look_real("posts/lsh/")
    box = page.locator("#fig-query .interactive")
    slider = box.get_by_role("slider")
    at = 3 * round(q.start_degrees(walk) / 3)
    assert slider.get_attribute("aria-valuetext").startswith(f"{at}°") and said(box) == q.said(
        q.asked(walk, at)
    )
    slider.focus()
    for key, degrees in (("Home", 0), ("ArrowRight", 3), ("ArrowRight", 6), ("End", 357), ("ArrowLeft", 354)):
        page.keyboard.press(key)
        assert said(box) == q.said(q.asked(walk, degrees))


def test_the_query_is_dragged_and_dots_fill_in_its_bucket(look_real: Callable[..., Any], walk: Any) -> None:
    page = look_real("posts/lsh/")
    box = page.locator("#fig-query .interactive")
    box.scroll_into_view_if_needed()
    area = box.locator("svg").bounding_box()
    middle = (area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    handle = box.locator(".handle").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    for degrees in (300, 30, 210):
        angle = math.radians(degrees)
        radius = 0.35 * area["width"]
        page.mouse.move(middle[0] + radius * math.cos(angle), middle[1] - radius * math.sin(angle), steps=6)
        found = q.asked(walk, degrees)
        assert said(box) == q.said(found)
        hollow = box.locator("circle.hollow, circle[class*=hollow]").count()
        # the ring around the nearest is hollow always
        assert hollow == 1 + len(walk.arrays["points"]) - len(found["bucket"])
    page.mouse.up()


def test_without_script_it_is_a_still(real: Path) -> None:
    text = (real / "posts/lsh/index.html").read_text(encoding="utf-8")
    figure = text[text.index('id="fig-query"') :]
    assert "<svg" in figure[: figure.index("</figure>")] and "Two planes, five points" in figure
