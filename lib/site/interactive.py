"""Figures that a reader can move: plain SVG, the data in the page, a slider for mouse and keyboard, a still without script.

    from lib.site.interactive import sliding

    sliding(
        {"0": {"labels": [1, 0, 0]}, "10": {"labels": [0.6, 0.2, 0.2]}},   # a frame for each position of the slider
        x=["five", "one", "three"], slider="α", ylabel="share of labels", alt="…", start="10",
    )
    sliding(frames, x=grid, kind="lines", slider="step", ylabel="density", alt="…", play=True)    # with a play button

It stands last in a cell with `label: fig-…` and `fig-cap`, with numbers read from records. Python draws the frame `start`;
that is what print, feeds and readers without script see, and what the script then moves. It works the same in Jupyter, with
Quarto and with the embedded renderer, in light and in dark, and asks for nothing. Bars and lines are made here; points,
arrows, regions and words that move or are dragged in `lib.site.scenes`.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lib.core import InputError, sha256
from lib.plots import COLOURS, GRID, INK, PAGE

Frames = Mapping[str, Mapping[str, Sequence[float]]]
MARGIN = {"left": 58, "right": 12, "top": 34, "bottom": 46}
LEGEND = 20
# Lines are told apart by their dashes too, and the legend shows them: so do `.d1` and so on in `_look`.
DASHES = ("━━", "╍╍", "┉┉", "┅╍")


def still(markup: str) -> tuple[str, bytes] | None:
    """The drawing in a figure's HTML as a file of its own, in light colours, and its alt text; None where there is none.

    A feed's reader shows neither scripts nor, mostly, drawings within the text: it is given this file as an image.
    """
    found = re.search(r'<svg\b[^>]*aria-label="([^"]*)".*?</svg>', markup, re.S)
    if found is None or 'class="interactive"' not in markup:
        return None
    drawing = re.sub(r"<style>.*?</style>\n?", "", found.group(), flags=re.S)
    used = sorted({int(n) for n in re.findall(r'class="(?:[a-z ]*)s(\d+)\b', drawing)})
    rules = [f"svg{{font:13px sans-serif;color:{INK['light']}}}"]
    rules += _look(
        "", {i: COLOURS["light"][i % len(COLOURS["light"])] for i in used}, GRID["light"], PAGE["light"]
    )
    head, rest = drawing.split(">", 1)
    return html.unescape(found.group(1)), f"{head}>\n<style>{''.join(rules)}</style>{rest}\n".encode()


class Drawing:
    """HTML that Jupyter displays."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        """The same for the same drawing, wherever it lies in memory: what is compared between two executions."""
        return f"Drawing: data {sha256(self.text)[:12]}"

    def _repr_html_(self) -> str:
        return self.text


def sliding(
    frames: Frames,
    *,
    x: Sequence[str] | Sequence[float],
    slider: str,
    ylabel: str,
    alt: str,
    xlabel: str = "",
    kind: Literal["bars", "lines"] = "bars",
    start: str | None = None,
    limits: tuple[float, float] | None = None,
    play: bool = False,
    width: int = 600,
    height: int = 340,
) -> Drawing:
    """A bar or line chart with a slider through its frames.

    frames: for each position of the slider, by name and in order, the values of each series, as many as `x`; all frames
    have the same series. x: names of the bars, or places of the points on a line. limits: of the y axis (default: of all
    values, zero included for bars). play: a button that runs through the frames. Raises InputError for frames that do not
    fit each other.
    """
    names, series = list(frames), list(next(iter(frames.values()), {}))
    if len(names) < 2 or not series:
        raise InputError(
            f"{len(names)} frames of {len(series)} series: two frames and a series are the least to slide through"
        )
    for name, values in frames.items():
        if list(values) != series or any(len(row) != len(x) for row in values.values()):
            raise InputError(f"frame {name!r} does not have {len(x)} values for each of {', '.join(series)}")
    start = names[-1] if start is None else start
    if start not in names:
        raise InputError(f"there is no frame {start!r} to start with; there are {', '.join(names)}")
    everything = [float(v) for values in frames.values() for row in values.values() for v in row]
    low, high = limits or (min(everything), max(everything))
    if limits is None and (kind == "bars" or 0 <= low < 0.05 * high):
        low = min(low, 0.0)
    if not high > low:
        raise InputError(f"the y axis would go from {low} to {high}")
    plot = _Plot(x, kind, width, height, low, high, len(series))
    data = {
        "kind": kind,
        "frames": [
            {"name": name, "values": {key: [plot.short(v) for v in row] for key, row in values.items()}}
            for name, values in frames.items()
        ],
        "x": [round(place, 1) for place in plot.places],
        "y": {"from": plot.bottom, "to": plot.top, "low": low, "high": high},
    }
    drawing = plot.svg(frames[start], alt, xlabel, ylabel, style(len(series)))
    return assemble(data, drawing, slider=slider, at=names.index(start), play=play)


def assemble(data: dict[str, Any], drawing: str, *, slider: str, at: int, play: bool) -> Drawing:
    """The whole figure: controls, the drawing of frame `at`, its data, and the script that moves it."""
    frame = data["frames"][at]
    name, says = frame["name"], frame.get("says", "")
    script = (Path(__file__).parent / "interactive.js").read_text(encoding="utf-8")
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    spoken = f"{name}: {says}" if says else name
    lines = [
        '<div class="interactive">',
        '<div class="interactive-controls" hidden>',
        f'<label>{html.escape(slider)} <input type="range" min="0" max="{len(data["frames"]) - 1}" step="1" value="{at}"'
        f' aria-valuetext="{html.escape(spoken)}"></label> <output>{html.escape(name)}</output>',
        *(['<button type="button">Play</button>'] if play else []),
        "</div>",
        drawing,
        *([f'<p class="interactive-says">{html.escape(says)}</p>'] if says else []),
        f'<script type="application/json">{body}</script>',
        f"<script>{script.strip()}</script>",
        "</div>",
    ]
    return Drawing("\n".join(lines))


class _Plot:
    """Where things are: the frame of the drawing, and how values become places."""

    def __init__(
        self, x: Sequence[Any], kind: str, width: int, height: int, low: float, high: float, n_series: int
    ) -> None:
        self.x, self.kind, self.width, self.height, self.low, self.high = x, kind, width, height, low, high
        self.left, self.right = MARGIN["left"], width - MARGIN["right"]
        self.top, self.bottom = MARGIN["top"] + LEGEND * (n_series > 1), height - MARGIN["bottom"]
        span = self.right - self.left
        if kind == "bars":
            self.places = [self.left + span * (i + 0.5) / len(x) for i in range(len(x))]
        else:
            numbers = [float(value) for value in x]
            first, last = min(numbers), max(numbers)
            if not last > first:
                raise InputError(f"the points of a line lie at {first} only")
            self.places = [self.left + span * (value - first) / (last - first) for value in numbers]

    def y(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        return self.bottom + (value - self.low) / (self.high - self.low) * (self.top - self.bottom)

    def short(self, value: float) -> float:
        """A value with the digits that can be seen: a 4,000th of the axis."""
        digits = math.ceil(-math.log10((self.high - self.low) / 4000))
        found = round(float(value), digits)
        return int(found) if found == int(found) else found

    def svg(
        self, values: Mapping[str, Sequence[float]], alt: str, xlabel: str, ylabel: str, style: str
    ) -> str:
        """The whole drawing of one frame, with the style of the box around it (HTML has a place for it in a drawing only)."""
        out = [
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img"'
            f' aria-label="{html.escape(alt)}" xmlns="http://www.w3.org/2000/svg">',
            f"<style>{style}</style>",
        ]
        for tick in _ticks(self.low, self.high):
            at = self.y(tick)
            out.append(f'<line class="grid" x1="{self.left}" x2="{self.right}" y1="{at:.1f}" y2="{at:.1f}"/>')
            out.append(f'<text x="{self.left - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for i, (place, name) in enumerate(self._names()):
            # On a telephone letters are larger in proportion, and every other name has to do.
            thin = ' class="thin"' if i % 2 and len(self.places) > 6 else ""
            out.append(
                f'<text{thin} x="{place:.1f}" y="{self.bottom + 18}" text-anchor="middle">{html.escape(name)}</text>'
            )
        middle = (self.left + self.right) / 2
        out.append(
            f'<text x="{middle:.0f}" y="{self.height - 8}" text-anchor="middle">{html.escape(xlabel)}</text>'
        )
        out.append(f'<text x="{self.left - 46}" y="14">{html.escape(ylabel)}</text>')
        out += self._marks(values)
        if len(values) > 1:
            # One text, so that the names stand apart however large the letters are.
            signs = ("■",) if self.kind == "bars" else DASHES
            keys = "   ".join(
                f'<tspan class="key s{nth}">{signs[nth % len(signs)]}</tspan> {html.escape(name)}'
                for nth, name in enumerate(values)
            )
            out.append(
                f'<text class="legend" x="{self.right}" y="{14 + LEGEND}" text-anchor="end">{keys}</text>'
            )
        return "\n".join([*out, "</svg>"])

    def _names(self) -> list[tuple[float, str]]:
        """What is written along the x axis, and where."""
        if self.kind == "bars":
            every = -(-len(self.x) // 12)
            return [
                (place, name if isinstance(name, str) else f"{name:g}")
                for place, name in list(zip(self.places, self.x, strict=True))[::every]
            ]
        first, last = min(map(float, self.x)), max(map(float, self.x))
        span = (self.right - self.left) / (last - first)
        return [(self.left + span * (tick - first), f"{tick:g}") for tick in _ticks(first, last)]

    def _marks(self, values: Mapping[str, Sequence[float]]) -> list[str]:
        out = []
        slot = (self.right - self.left) / len(self.x) * 0.74 / len(values)
        for nth, (name, row) in enumerate(values.items()):
            key = html.escape(name)
            if self.kind == "lines":
                points = " ".join(f"{p:.1f},{self.y(v):.1f}" for p, v in zip(self.places, row, strict=True))
                out.append(
                    f'<polyline class="line d{nth % len(DASHES)} s{nth}" data-series="{key}" points="{points}"/>'
                )
                continue
            floor = self.y(max(0.0, self.low))
            for i, value in enumerate(row):
                at = self.places[i] + slot * (nth - len(values) / 2)
                top = self.y(value)
                out.append(
                    f'<rect class="s{nth}" data-series="{key}" data-at="{i}" x="{at:.1f}" width="{slot:.1f}"'
                    f' y="{min(top, floor):.1f}" height="{abs(floor - top):.1f}"/>'
                )
        return out


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two."""
    raw = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = -(-low // step) * step
    return [round(first + i * step, 10) for i in range(int((high - first) / step + 1e-9) + 1)]


def style(n: int) -> str:
    """The look of a figure with `n` colours of lib.plots, for both modes, however the page says which one it is in."""

    def colours(mode: Literal["light", "dark"]) -> str:
        cycle = COLOURS[mode]
        series = "".join(f"--s{i}:{cycle[i % len(cycle)]};" for i in range(n))
        return f"{series}--grid:{GRID[mode]};--ground:{PAGE[mode]}"

    dark = colours("dark")
    rules = [
        f".interactive{{{colours('light')}}}",
        f":root[data-theme=dark] .interactive,body.quarto-dark .interactive{{{dark}}}",
        "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]):not(:has(body.quarto-light))"
        f" .interactive{{{dark}}}}}",
        ".interactive svg{display:block;max-width:100%;height:auto;margin:0 auto;font:13px system-ui,sans-serif}",
        "@media(max-width:30rem){.interactive svg{font-size:19px}.interactive .thin{display:none}}",
        ".interactive-controls{display:flex;flex-wrap:wrap;gap:.3em .8em;align-items:center;justify-content:center;"
        "margin-bottom:.6em;font:.9rem/1.4 var(--ui,system-ui,sans-serif)}.interactive-controls[hidden]{display:none}",
        ".interactive-controls label{display:flex;gap:.6em;align-items:center}",
        ".interactive-controls input{width:min(18em,46vw);accent-color:var(--s0)}.interactive-controls output{min-width:3em;"
        "font-variant-numeric:tabular-nums}",
        ".interactive-controls button{min-width:4.6em;font:inherit;color:inherit;background:none;cursor:pointer;"
        "border:1px solid;border-color:color-mix(in srgb,currentColor 45%,transparent);border-radius:6px;padding:.25em .7em}",
        ".interactive-says{text-align:center;margin:.5em auto 0;max-width:34em;min-height:3em;font:.9rem/1.45 var(--ui,system-ui,sans-serif)}",
        ".interactive .handle{fill:transparent;stroke:currentColor;stroke-width:1.4;stroke-dasharray:3 4;opacity:.65;"
        "cursor:grab;touch-action:none}.interactive .handle:active{cursor:grabbing}",
        "@media print{.interactive-controls,.interactive .handle{display:none}}",
        *_look(".interactive ", {i: f"var(--s{i})" for i in range(n)}, "var(--grid)", "var(--ground)"),
    ]
    return "".join(rules)


def _look(within: str, colours: Mapping[int, str], grid: str, page: str) -> list[str]:
    """What the classes of marks look like, in a page and in a file of its own."""
    return [
        f"{within}text{{fill:currentColor;stroke:none;white-space:pre}}{within}.grid{{stroke:{grid}}}",
        *(f"{within}.s{i}{{fill:{colour};stroke:{colour}}}" for i, colour in colours.items()),
        f"{within}.ink{{fill:currentColor;stroke:currentColor}}",
        f"{within}.quiet{{fill:currentColor;stroke:currentColor;opacity:.7}}",
        f"{within}.line{{fill:none!important;stroke-width:2.2;stroke-linejoin:round}}{within}.dashed{{stroke-dasharray:5 5}}",
        f"{within}.d1{{stroke-dasharray:9 4}}{within}.d2{{stroke-dasharray:2.5 3}}{within}.d3{{stroke-dasharray:9 3 2.5 3}}",
        f"{within}.area{{fill-opacity:.16;stroke-width:0}}{within}circle.hollow{{fill:{page};stroke-width:1.8}}",
        f"{within}.words,{within}.key{{stroke:none}}",
        f"{within}.big{{font-size:1.5em}}{within}.strong{{font-weight:650}}",
    ]
