"""Drawings of points, arrows, lines, regions and words that a reader steps through, or drags a part of.

    from lib.site.scenes import Area, Arrow, Dot, Line, Words, moving

    marks = [
        Area("bucket", [(0, 0), (1, 0), (1, 1)], look=0),              # what is named first lies below
        Line("plane 0", [(-1, -1), (1, 1)], dashed=True),
        Dot("3", (0.2, 0.7), text="3"),
        Arrow("query", (0, 0), (1, 0), look=1),
    ]
    moving(
        marks,
        frames={                                                       # for each position: the fields that differ
            "0°": {"query": {"end": (1, 0)}, "3": {"look": "quiet", "hollow": True}},
            "90°": {"query": {"end": (0, 1)}, "3": {"look": 1}},
        },
        says={"0°": "Bucket 10: no point.", "90°": "Bucket 11: point 3."},
        slider="direction of the query", drag="query", x=(-1.2, 1.2), y=(-1.2, 1.2), alt="…", start="90°",
    )

Like `lib.site.interactive.sliding` it stands last in a cell with `label: fig-…` and `fig-cap`. All that is shown is
computed in Python, for every position: which bucket, which neighbour, which cell of a grid is wrong. The page only goes from
one frame to another, by slider (arrow keys, Home, End), by dragging the mark `drag` to the nearest of its places, or by a
play button; 100 to 300 frames make a drag feel free. What does not change is written once, so a hundred marks over two
hundred frames weigh a few kB. `says` is a sentence for each frame, shown below the drawing and spoken for the slider.

Looks: a number is a colour of lib.plots' cycle; `"ink"` and `"quiet"` are those of the text. Let colour never be the only
difference: `hollow`, `r`, `dashed` and words tell marks apart too. Axes are equal: a right angle is one.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib.core import InputError
from lib.site.interactive import Drawing, assemble, style

Place = tuple[float, float]
Look = int | str
HEAD = 9.0
"""The length of an arrow's head, in px."""


@dataclass(frozen=True)
class Dot:
    """A point, with its name beside it. r: in px; offset: of the name, in px to the right and down."""

    name: str
    at: Place
    text: str = ""
    look: Look = "ink"
    hollow: bool = False
    r: float = 5
    offset: Place = (8, -8)


@dataclass(frozen=True)
class Arrow:
    """From `start` to `end`."""

    name: str
    start: Place
    end: Place
    look: Look = "ink"


@dataclass(frozen=True)
class Line:
    """Through two places or more."""

    name: str
    points: Sequence[Place]
    look: Look = "quiet"
    dashed: bool = False


@dataclass(frozen=True)
class Area:
    """A region with these corners, lightly filled."""

    name: str
    points: Sequence[Place]
    look: Look = 0


@dataclass(frozen=True)
class Words:
    """A text around its middle. big: half again as large; strong: bold."""

    name: str
    at: Place
    text: str
    look: Look = "ink"
    big: bool = False
    strong: bool = False


Mark = Dot | Arrow | Line | Area | Words


def moving(
    marks: Sequence[Mark],
    frames: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    slider: str,
    alt: str,
    x: Place,
    y: Place,
    says: Mapping[str, str] | None = None,
    drag: str | None = None,
    play: bool = False,
    start: str | None = None,
    width: int = 460,
) -> Drawing:
    """A drawing with a slider through its frames.

    frames: by name and in order; each gives, for the marks that differ from how they are written in `marks`, the fields
    that do. x, y: the ends of the axes; the height follows from `width` (px), both axes having one scale. says: a sentence
    for each frame. drag: the dot, arrow (its end) or words that a pointer takes along. start: the frame that is drawn for
    those who cannot move it (default: the first). Raises InputError for what does not fit.
    """
    known = {mark.name: mark for mark in marks}
    if len(known) != len(marks):
        twice = next(mark.name for mark in marks if [m.name for m in marks].count(mark.name) > 1)
        raise InputError(f"two marks are called {twice!r}; each has a name of its own")
    names = list(frames)
    if len(names) < 2:
        raise InputError(f"{len(names)} frames: two are the least to go through")
    start = names[0] if start is None else start
    if start not in names:
        raise InputError(f"there is no frame {start!r} to start with; there are {', '.join(names[:8])}")
    if says is not None and list(says) != names:
        raise InputError(
            "says has other frames than frames; a sentence for each, in the same order, is wanted"
        )
    if drag is not None and not isinstance(known.get(drag), Dot | Arrow | Words):
        raise InputError(f"no dot, arrow or words are called {drag!r}, so they cannot be dragged")
    space = _Space(x, y, width)
    states = [[_changed(mark, frames[name], name) for mark in marks] for name in names]
    for name in names:
        for other in frames[name]:
            if other not in known:
                raise InputError(f"frame {name!r} changes {other!r}; there are {', '.join(known)}")
    drawn = [[element for mark in state for element in _elements(mark, space)] for state in states]
    looks = [mark.look for state in states for mark in state]
    n_colours = 1 + max((look for look in looks if isinstance(look, int)), default=0)
    data: dict[str, Any] = {
        "kind": "scene",
        "frames": [{"name": name, **({"says": says[name]} if says is not None else {})} for name in names],
        "moves": list(_moves(drawn)),
    }
    if drag is not None:
        at = [mark.name for mark in marks].index(drag)
        data["drag"] = [[round(v, 1) for v in space.place(_held(state[at]))] for state in states]
    at = names.index(start)
    moved = {number for number, _, _ in data["moves"]}
    lines = [
        f'<svg viewBox="0 0 {space.width:g} {space.height:g}" width="{space.width:g}" height="{space.height:g}" role="img"'
        f' aria-label="{html.escape(alt)}" xmlns="http://www.w3.org/2000/svg">',
        f"<style>{style(n_colours)}</style>",
        *(element.svg(number if number in moved else None) for number, element in enumerate(drawn[at])),
        "</svg>",
    ]
    return assemble(data, "\n".join(lines), slider=slider, at=at, play=play)


class _Space:
    """From the values of both axes to px, with one scale."""

    def __init__(self, x: Place, y: Place, width: int) -> None:
        for axis, (low, high) in (("x", x), ("y", y)):
            if not (math.isfinite(low) and math.isfinite(high) and high > low):
                raise InputError(f"the {axis} axis would go from {low} to {high}")
        self.scale = width / (x[1] - x[0])
        self.width, self.height = width, round(self.scale * (y[1] - y[0]))
        self.left, self.top = x[0], y[1]

    def place(self, at: Place) -> Place:
        return (float(at[0]) - self.left) * self.scale, (self.top - float(at[1])) * self.scale


@dataclass(frozen=True)
class _Element:
    """An SVG element: tag, attributes as text, and the words in it."""

    tag: str
    attributes: dict[str, str]
    text: str | None = None

    def svg(self, number: int | None) -> str:
        mark = "" if number is None else f' data-mark="{number}"'
        given = "".join(f' {key}="{html.escape(value)}"' for key, value in self.attributes.items())
        if self.text is None:
            return f"<{self.tag}{mark}{given}/>"
        return f"<{self.tag}{mark}{given}>{html.escape(self.text)}</{self.tag}>"


def _changed(mark: Mark, changes: Mapping[str, Mapping[str, Any]], frame: str) -> Mark:
    given = changes.get(mark.name)
    if not given:
        return mark
    fields = [field.name for field in dataclasses.fields(mark) if field.name != "name"]
    for key in given:
        if key not in fields:
            raise InputError(f"frame {frame!r}: {mark.name!r} has no {key}; it has {', '.join(fields)}")
    return dataclasses.replace(mark, **given)


def _held(mark: Mark) -> Place:
    return mark.end if isinstance(mark, Arrow) else mark.at  # type: ignore[union-attr]


def _class(mark: Mark, *more: str) -> str:
    look = mark.look
    if not (look in ("ink", "quiet") or (isinstance(look, int) and look >= 0)):
        raise InputError(f"{mark.name!r} has the look {look!r}; there are ink, quiet, and numbers of colours")
    return " ".join([*(word for word in more if word), f"s{look}" if isinstance(look, int) else str(look)])


def _elements(mark: Mark, space: _Space) -> Iterator[_Element]:
    """The SVG of a mark, always of the same elements with the same attributes."""
    if isinstance(mark, Dot):
        cx, cy = space.place(mark.at)
        kind = _class(mark, "hollow" if mark.hollow else "")
        yield _Element("circle", {"class": kind, "cx": _px(cx), "cy": _px(cy), "r": f"{mark.r:g}"})
        left, top = cx + mark.offset[0], cy + mark.offset[1]
        yield _Element("text", {"x": _px(left), "y": _px(top)}, str(mark.text))
    elif isinstance(mark, Words):
        left, top = space.place(mark.at)
        kind = _class(mark, "words", "big" if mark.big else "", "strong" if mark.strong else "")
        given = {
            "class": kind,
            "x": _px(left),
            "y": _px(top),
            "text-anchor": "middle",
            "dominant-baseline": "central",
        }
        yield _Element("text", given, str(mark.text))
    elif isinstance(mark, Arrow):
        yield _Element("path", {"class": _class(mark, "line"), "d": _arrow(mark, space)})
    else:
        points = " ".join(f"{_px(a)},{_px(b)}" for a, b in map(space.place, mark.points))
        if isinstance(mark, Line):
            yield _Element(
                "polyline", {"class": _class(mark, "line", "dashed" if mark.dashed else ""), "points": points}
            )
        else:
            yield _Element("polygon", {"class": _class(mark, "area"), "points": points})


def _arrow(mark: Arrow, space: _Space) -> str:
    (a, b), (c, d) = space.place(mark.start), space.place(mark.end)
    angle = math.atan2(d - b, c - a)
    sides = [(c - HEAD * math.cos(angle + turn), d - HEAD * math.sin(angle + turn)) for turn in (0.45, -0.45)]
    (e, f), (g, h) = sides
    return f"M{_px(a)} {_px(b)}L{_px(c)} {_px(d)}M{_px(e)} {_px(f)}L{_px(c)} {_px(d)}L{_px(g)} {_px(h)}"


def _px(value: float) -> str:
    if not math.isfinite(value):
        raise InputError(f"a mark would lie at {value}; finite places are wanted")
    return f"{value:.1f}"


def _moves(drawn: list[list[_Element]]) -> Iterator[tuple[int, str, list[str | int]]]:
    """(element, attribute, its value in each frame; 0 where it is as in the frame before), of those that change."""
    for number, first in enumerate(drawn[0]):
        rows = {name: [frame[number].attributes[name] for frame in drawn] for name in first.attributes}
        if first.text is not None:
            rows["text"] = [frame[number].text or "" for frame in drawn]
        for name, row in rows.items():
            if len(set(row)) > 1:
                yield number, name, [v if i == 0 or v != row[i - 1] else 0 for i, v in enumerate(row)]
