"""A page's cells as one Markdown text for pandoc, in which each code cell is a marked Div that `cells` fills in later.

    composed = compose(page, include=read_include)
    tree, warnings = pandoc.parse(composed.markdown)
    composed.cell_at(line)                 # whose fault a warning is

Only what is Markdown goes through the text: captions, displayed Markdown, the Markdown cells themselves. They may open
a fenced div in one cell and close it in another, and define footnotes for each other, as with Quarto.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.core import InputError
from lib.site.source import Cell, Page

CELL = "posts-cell"
PART = "posts-part"
GENERATED = re.compile(r'^\[\]\{\.generated part="([a-z]+)"\}\s*$')
SHORTCODE = re.compile(r"^\{\{<\s*(\S+)\s*(.*?)\s*>\}\}\s*$")
DISCARDED = re.compile(r"^([<(\[].*[>)\]]|Text\([-\d].*|\{.*<matplotlib\..*)$", re.S)


@dataclass
class Composed:
    """The Markdown text, and which cell each of its lines comes from."""

    markdown: str = ""
    starts: list[int] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)

    def cell_at(self, line: int) -> Cell | None:
        """The cell that wrote a line (from 1) of the text."""
        index = bisect_right(self.starts, line) - 1
        return self.cells[index] if 0 <= index < len(self.cells) else None


def compose(page: Page, include: Callable[[str], str] | None = None) -> Composed:
    """The Markdown of a page. `include` gives the text for `{{< include path >}}`, and raises InputError without."""
    out, lines = Composed(), list[str]()
    for cell in page.cells:
        out.starts.append(len(lines) + 1)
        out.cells.append(cell)
        lines += _code(page, cell) if cell.kind == "code" else _prose(page, cell, include)
        lines.append("")
    out.markdown = "\n".join(lines) + "\n"
    return out


def shown_outputs(cell: Cell) -> list[dict[str, Any]]:
    """The outputs of a cell that count, as Quarto counts them: without silenced warnings and plots' return values."""
    picture = any(str(mime).startswith("image/") for o in cell.outputs for mime in (o.get("data") or {}))
    shown = []
    for output in cell.outputs:
        if output.get("name") == "stderr" and cell.options.get("warning") is False:
            continue
        data = output.get("data") or {}
        if output["output_type"] == "execute_result" and set(data) == {"text/plain"}:
            text = joined(data["text/plain"]).strip()
            if (picture and DISCARDED.match(text)) or text.startswith(
                ("[<matplotlib", "<matplotlib", "<seaborn.")
            ):
                continue
        shown.append(output)
    return shown


def mime(output: Mapping[str, Any]) -> str:
    """The kind of an output's data that is shown, in Quarto's order of preference for HTML. Empty for streams."""
    data = output.get("data") or {}
    for kind in (
        "text/html",
        "text/markdown",
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "text/latex",
        "text/plain",
    ):
        if kind in data:
            return kind
    return ""


def joined(text: str | list[str]) -> str:
    """A multi-line string of nbformat."""
    return text if isinstance(text, str) else "".join(text)


def _prose(page: Page, cell: Cell, include: Callable[[str], str] | None) -> list[str]:
    lines, fence = [], ""
    for line in cell.lines:
        opening = re.match(r"^\s*(```+|~~~+)", line)
        if opening and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else opening.group(1)
        code = SHORTCODE.match(line) if not fence else None
        part = GENERATED.match(line) if not fence else None
        if part and include is not None:
            lines += include(f"/.build/generated/{part.group(1)}.md").splitlines()
        elif code is None:
            lines.append(line)
        elif code.group(1) != "include" or include is None:
            raise InputError(f"{page.where(cell)}: unknown shortcode {line.strip()!r}; only include is known")
        else:
            lines += include(code.group(2)).splitlines()
    return lines


def _code(page: Page, cell: Cell) -> list[str]:
    options = cell.options
    if options.get("include") is False:
        return []
    lines = [f"::::::: {{.{CELL} n={cell.number}}}", ""]

    def part(name: str, text: str) -> None:
        lines.extend([f"::::: {{.{PART} name={name}}}", "", *text.splitlines(), "", ":::::", ""])

    captions = options.get("fig-cap", options.get("tbl-cap"))
    if isinstance(captions, list):
        for i, caption in enumerate(captions):
            part(f"cap-{i}", _one_line(caption))
    elif captions is not None:
        part("cap", _one_line(captions))
    for i, caption in enumerate(options.get("fig-subcap", ())):
        part(f"sub-{i}", _one_line(caption))
    for i, output in enumerate(shown_outputs(cell)):
        kind = mime(output)
        if kind == "text/markdown":
            part(f"out-{i}", joined(output["data"][kind]))
        elif kind == "text/latex":
            part(f"out-{i}", joined(output["data"][kind]).strip())
        elif (
            options.get("output") == "asis"
            and output["output_type"] == "stream"
            and output["name"] == "stdout"
        ):
            part(f"out-{i}", joined(output["text"]))
    return [*lines, ":::::::"]


def _one_line(caption: Any) -> str:
    return " ".join(str(caption).split())
