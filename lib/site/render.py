"""One page from its source to an HTML fragment: pandoc's tree, our filter over it, pandoc's HTML.

    page = source.read(path, root)
    rendered = render(page, site, folder, resolve)
    rendered.html, rendered.headings, rendered.files

The fragment has Quarto's structure (`section#id.level2 > h2.anchored`, `div#fig-x.quarto-float`, `a.quarto-xref`, …).
Whatever is wrong in a source is an InputError that names the file, the cell and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

from lib.core import InputError
from lib.site import pandoc
from lib.site.callouts import callout
from lib.site.cells import fill, table_html
from lib.site.compose import CELL, Composed, compose
from lib.site.crossref import number, resolve
from lib.site.floats import is_float, lower, markdown_image, picture, recognise
from lib.site.light import lighter
from lib.site.pandoc import Node, curly, div, inline, raw
from lib.site.settings import Site
from lib.site.source import Page
from lib.site.state import Heading, State


@dataclass(frozen=True)
class Rendered:
    """A page's fragment, its headings in order, the files that go beside it, and its words (for the reading time)."""

    html: str
    headings: tuple[Heading, ...]
    files: dict[str, bytes | Path]
    words: int


def render(
    page: Page,
    site: Site,
    folder: Path,
    link: Callable[[str], str],
    include: Callable[[str], str] | None = None,
) -> Rendered:
    """The fragment of a page.

    folder: where its images lie. link: a link's target as written to that on the site, InputError where it leads
    nowhere. include: the text of an included file.
    """
    state = State(page, site, folder, link, Path(page.path).stem)
    composed = compose(page, include)
    tree, warnings = pandoc.parse(composed.markdown)
    _refuse(warnings, page, composed)
    blocks = _transform(tree["blocks"], state)
    numbers = number(blocks, state)
    blocks = resolve(blocks, numbers, state)
    words = len(pandoc.string(pandoc.walk(blocks, _without_code)).split())
    blocks = _unbroken(blocks)
    blocks = pandoc.walk(blocks, lambda node: _lower(node, numbers.labels, numbers.parents))
    blocks = _sections(blocks, state)
    if state.needs_references:
        head = '<section id="quarto-bibliography" class="quarto-appendix-contents" role="doc-bibliography">'
        title = '<h2 class="anchored quarto-appendix-heading">References</h2>'
        blocks += [raw(head + title), div([], "refs", ["references", "csl-bib-body"]), raw("</section>")]
    bibliography = tuple(site.root / name for name in site.bibliography) if state.needs_references else ()
    for path in bibliography:
        if not path.is_file():
            raise InputError(f"_quarto.yml: bibliography: there is no {path.name}")
    html, warnings = pandoc.write({**tree, "meta": {}, "blocks": blocks}, bibliography)
    _refuse(warnings, page, composed)
    return Rendered(_finish(html), tuple(state.headings), state.files, words)


def _refuse(warnings: list[str], page: Page, composed: Composed) -> None:
    """Pandoc's warnings are errors of the source: say whose."""
    for warning in warnings:
        short = " ".join(warning.split())
        missing = re.match(r"Citeproc: citation (\S+) not found", short)
        if missing:
            cell = page.cell_with(f"@{missing.group(1)}")
            raise InputError(
                f"{page.where(cell)}: @{missing.group(1)} is not in the bibliography; add it to references.bib"
            )
        math = re.match(r"Could not convert TeX math (.*), rendering as TeX", warning, re.S)
        if math:
            formula = math.group(1).strip()
            cell = page.cell_with(formula) or page.cell_with(formula.split("\\qquad(")[0].strip())
            raise InputError(
                f"{page.where(cell)}: the formula {' '.join(formula.split())} is not one that pandoc knows"
            )
        line = re.search(r"line (\d+)", short)
        cell = composed.cell_at(int(line.group(1))) if line else None
        if short.startswith("Div at"):
            short = "a ':::' div is opened here and never closed"
        raise InputError(f"{page.where(cell)}: {short}")


# --- the filter ----------------------------------------------------------------------------------------------------


def _transform(blocks: list[Node], state: State) -> list[Node]:
    """Cells filled, images found and measured, floats and callouts recognised, links resolved: children first."""

    def change(node: Node) -> Any:
        kind = node["t"]
        if kind == "Image":
            markdown_image(state, node)
            return None
        if kind == "Link":
            node["c"][2][0] = state.resolve(node["c"][2][0])
            return None
        if kind == "RawBlock" and node["c"][0] == "html" and "<table" in node["c"][1]:
            return raw(table_html(node["c"][1]))
        if kind == "Div":
            if CELL in node["c"][0][1]:
                return fill(node, state)
            found = callout(node, state)
            if found is not None:
                return found
        if kind == "Figure":
            caption = [x for block in node["c"][1][1] for x in block["c"]]
            for image in list(pandoc.nodes(node["c"][2], "Image")):
                picture(state, image, caption)
        elif kind in ("Para", "Plain"):
            for image in [x for x in node["c"] if x["t"] == "Image" and not _done(x)]:
                if kind == "Para" or len(node["c"]) > 1:
                    picture(state, image)
        return recognise(node, state)

    return pandoc.walk(blocks, change)


def _unbroken(blocks: list[Node]) -> list[Node]:
    """Keep a formula and the punctuation after it on one line: browsers break between the two."""

    def change(node: Node) -> None:
        if node["t"] not in ("Para", "Plain") or not isinstance(node["c"], list):
            return
        out: list[Node] = []
        for item in node["c"]:
            last = out[-1] if out else None
            if last and last["t"] == "Math" and last["c"][0]["t"] == "InlineMath" and item["t"] == "Str":
                mark = re.match(r"[.,;:!?)\]’”]+", item["c"])
                if mark:
                    out[-1] = {"t": "Span", "c": [["", ["nobreak"], []], [last, pandoc.text(mark.group())]]}
                    item = pandoc.text(item["c"][mark.end() :]) if mark.end() < len(item["c"]) else None
            if item:
                out.append(item)
        node["c"] = out

    return pandoc.walk(blocks, change)


def _without_code(node: Node) -> list[Node] | None:
    return [] if node["t"] == "CodeBlock" else None


def _done(image: Node) -> bool:
    return any(key == "alt" for key, _ in image["c"][0][2]) and not image["c"][1]


def _lower(node: Node, labels: dict[str, str], parents: dict[str, str]) -> Any:
    if node["t"] == "Div" and is_float(node):
        return lower(node, labels, parents)
    return None


def _sections(blocks: list[Node], state: State) -> list[Node]:
    """Top-level headings open sections, as with pandoc's --section-divs; each gets an anchor."""
    out: list[Node] = []
    opened: list[int] = []
    for block in blocks:
        if block["t"] != "Header":
            out.append(block)
            continue
        level, (identifier, classes, _), inlines = block["c"]
        if level == 1:
            raise state.error(
                pandoc.string(inlines),
                f"'# {pandoc.string(inlines)}': sections begin with '##', the title is the one h1",
            )
        while opened and opened[-1] >= level:
            opened.pop()
            out.append(raw("</section>"))
        opened.append(level)
        names = " ".join([f"level{level}", *classes])
        out.append(raw(f'<section id="{identifier}" class="{names}">'))
        anchor = inline(f'<a class="anchor" href="#{identifier}" aria-label="Link to this section"></a>')
        head = attr_anchor(identifier)
        out.append({"t": "Header", "c": [level, head, [*inlines, anchor]]})
        state.headings.append(Heading(level, identifier, pandoc.string(inlines)))
    return out + [raw("</section>")] * len(opened)


def attr_anchor(identifier: str) -> list[Any]:
    """The attributes of an anchored heading, whose id is on its section."""
    return ["", ["anchored"], [["data-anchor-id", identifier]]]


# --- the last touches, in HTML -------------------------------------------------------------------------------------

SUMMARY = re.compile(r"<summary>([^<]*)</summary>")
VOID = re.compile(r"(<(?:img|br|hr|col|input)\b[^<>]*?)\s*/>")
FOOTNOTES = re.compile(r'<section id="footnotes".*?</section>\s*', re.S)


def _finish(html: str) -> str:
    """Notes and references into an appendix; small repairs of pandoc's output."""
    # Pandoc puts all classes of a code block on its <pre>; Quarto's page has `cell-code` on the box around it.
    html = re.sub(
        r'<div class="sourceCode" (id="cb\d+")><pre\s+class="sourceCode (\w+)( cell-code)?">',
        r'<div class="sourceCode\3" \1><pre class="sourceCode \2 code-with-copy">',
        html,
    )
    html = lighter(html, r"\1")
    html = SUMMARY.sub(
        lambda found: f"<summary>{escape(curly(unescape(found.group(1))), quote=False)}</summary>", html
    )
    notes = FOOTNOTES.search(html)
    appendix = ""
    if notes:
        html = html.replace(notes.group(), "")
        body = notes.group().replace(
            "<hr />", '<h2 class="anchored quarto-appendix-heading">Footnotes</h2>', 1
        )
        appendix += body.strip()
    references = re.search(r'<section id="quarto-bibliography".*?</section>\s*', html, re.S)
    if references:
        html = html.replace(references.group(), "")
        appendix = references.group().strip() + "\n" + appendix
    if appendix:
        html = f'{html.rstrip()}\n<div id="quarto-appendix" class="default">\n{appendix.strip()}\n</div>\n'
    return VOID.sub(r"\1>", html)
