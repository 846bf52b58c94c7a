"""Figures that a reader can move: plain SVG, the data in the page, a slider for mouse and keyboard, a still without script.

    from lib.site.interactive import sliding

    sliding(
        {"0": {"labels": [1, 0, 0]}, "10": {"labels": [0.6, 0.2, 0.2]}},   # a frame for each position of the slider
        x=["five", "one", "three"], slider="α", ylabel="share of labels", alt="…", start="10",
    )

It stands last in a cell with `label: fig-…` and `fig-cap`, with numbers read from records. Python draws the frame `start`;
that is what print, feeds and readers without script see, and what the script then moves. It works the same in Jupyter, with
Quarto and with the embedded renderer, in light and in dark, and asks for nothing.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lib.core import InputError
from lib.plots import COLOURS, GRID, INK

Frames = Mapping[str, Mapping[str, Sequence[float]]]
MARGIN = {"left": 58, "right": 12, "top": 34, "bottom": 46}


def still(markup: str) -> tuple[str, bytes] | None:
    """The drawing in a figure's HTML as a file of its own, in light colours, and its alt text; None where there is none.

    A feed's reader shows neither scripts nor, mostly, drawings within the text: it is given this file as an image.
    """
    found = re.search(r'<svg\b[^>]*aria-label="([^"]*)".*?</svg>', markup, re.S)
    if found is None or 'class="interactive"' not in markup:
        return None
    drawing = re.sub(r"<style>.*?</style>\n?", "", found.group(), flags=re.S)
    used = sorted({int(n) for n in re.findall(r'class="(?:line )?s(\d+)"', drawing)})
    light = COLOURS["light"]
    rules = ["svg{font:13px sans-serif}", f"text{{fill:{INK['light']}}}", f".grid{{stroke:{GRID['light']}}}"]
    rules += [f".s{i}{{fill:{light[i % len(light)]};stroke:{light[i % len(light)]}}}" for i in used]
    rules.append(".line{fill:none!important;stroke-width:2.2}")
    head, rest = drawing.split(">", 1)
    return html.unescape(found.group(1)), f"{head}>\n<style>{''.join(rules)}</style>{rest}\n".encode()


class Drawing:
    """HTML that Jupyter displays."""

    def __init__(self, text: str) -> None:
        self.text = text

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
    width: int = 680,
    height: int = 360,
) -> Drawing:
    """A bar or line chart with a slider through its frames.

    frames: for each position of the slider, by name and in order, the values of each series, as many as `x`; all frames
    have the same series. x: names of the bars, or places of the points on a line. limits: of the y axis (default: of all
    values, zero included for bars). Raises InputError for frames that do not fit each other.
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
    low, high = limits or (min(everything + [0.0] * (kind == "bars")), max(everything))
    if not high > low:
        raise InputError(f"the y axis would go from {low} to {high}")
    plot = _Plot(x, kind, width, height, low, high)
    data = {
        "kind": kind,
        "frames": [
            {"name": name, "values": {key: [_short(v) for v in row] for key, row in values.items()}}
            for name, values in frames.items()
        ],
        "x": [round(place, 1) for place in plot.places],
        "y": {"from": plot.bottom, "to": plot.top, "low": low, "high": high},
    }
    script = (Path(__file__).parent / "interactive.js").read_text(encoding="utf-8")
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    at = names.index(start)
    return Drawing(
        "\n".join(
            [
                '<div class="interactive">',
                '<div class="interactive-controls" hidden>',
                f'<label>{html.escape(slider)} <input type="range" min="0" max="{len(names) - 1}" step="1" value="{at}"'
                f' aria-valuetext="{html.escape(start)}"></label> <output>{html.escape(start)}</output>',
                "</div>",
                plot.svg(frames[start], alt, xlabel, ylabel, _style(len(series))),
                f'<script type="application/json">{body}</script>',
                f"<script>{script.strip()}</script>",
                "</div>",
            ]
        )
    )


class _Plot:
    """Where things are: the frame of the drawing, and how values become places."""

    def __init__(self, x: Sequence[Any], kind: str, width: int, height: int, low: float, high: float) -> None:
        self.x, self.kind, self.width, self.height, self.low, self.high = x, kind, width, height, low, high
        self.left, self.right = MARGIN["left"], width - MARGIN["right"]
        self.top, self.bottom = MARGIN["top"], height - MARGIN["bottom"]
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
        every = max(1, len(self.x) // 12)
        for i, place in enumerate(self.places):
            if i % every == 0:
                name = self.x[i] if isinstance(self.x[i], str) else f"{self.x[i]:g}"
                out.append(
                    f'<text x="{place:.1f}" y="{self.bottom + 18}" text-anchor="middle">{html.escape(str(name))}</text>'
                )
        middle = (self.left + self.right) / 2
        out.append(
            f'<text x="{middle:.0f}" y="{self.height - 8}" text-anchor="middle">{html.escape(xlabel)}</text>'
        )
        out.append(f'<text x="{self.left - 46}" y="14">{html.escape(ylabel)}</text>')
        out += self._marks(values)
        if len(values) > 1:
            place = float(self.right)
            for nth, name in reversed(list(enumerate(values))):
                place -= 7.2 * len(name) + 26
                out.append(f'<rect class="s{nth}" x="{place:.0f}" y="6" width="10" height="10"/>')
                out.append(f'<text x="{place + 15:.0f}" y="15">{html.escape(name)}</text>')
        return "\n".join([*out, "</svg>"])

    def _marks(self, values: Mapping[str, Sequence[float]]) -> list[str]:
        out = []
        slot = (self.right - self.left) / len(self.x) * 0.74 / len(values)
        for nth, (name, row) in enumerate(values.items()):
            key = html.escape(name)
            if self.kind == "lines":
                points = " ".join(f"{p:.1f},{self.y(v):.1f}" for p, v in zip(self.places, row, strict=True))
                out.append(f'<polyline class="line s{nth}" data-series="{key}" points="{points}"/>')
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


def _short(value: float) -> float:
    return float(f"{float(value):.5g}")


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = -(-low // step) * step
    return [round(first + i * step, 10) for i in range(int((high - first) / step + 1e-9) + 1)]


def _style(n: int) -> str:
    """The colours of lib.plots for both modes, however the page says which one it is in."""

    def colours(mode: Literal["light", "dark"]) -> str:
        return ";".join(f"--s{i}:{COLOURS[mode][i % len(COLOURS[mode])]}" for i in range(n))

    dark = colours("dark")
    rules = [
        f".interactive{{{colours('light')}}}",
        f":root[data-theme=dark] .interactive,body.quarto-dark .interactive{{{dark}}}",
        "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]):not(:has(body.quarto-light))"
        f" .interactive{{{dark}}}}}",
        ".interactive svg{display:block;max-width:100%;height:auto;margin:0 auto;font:13px system-ui,sans-serif}",
        ".interactive text{fill:currentColor}.interactive .grid{stroke:currentColor;opacity:.16}",
        ".interactive .line{fill:none!important;stroke-width:2.2}",
        ".interactive-controls{display:flex;gap:.6em;align-items:center;justify-content:center;margin-bottom:.5em}",
        ".interactive-controls[hidden]{display:none}.interactive-controls label{display:flex;gap:.6em;align-items:center}",
        ".interactive-controls input{width:min(20em,50vw)}.interactive-controls output{min-width:4em}",
        *(f".interactive .s{i}{{fill:var(--s{i});stroke:var(--s{i})}}" for i in range(n)),
    ]
    return "".join(rules)
