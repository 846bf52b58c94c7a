"""Callouts: `::: {.callout-note collapse="true" title="…"}` as Quarto's `div.callout`, foldable without a script."""

from __future__ import annotations

import html

from lib.site import pandoc
from lib.site.pandoc import Node, plain, raw
from lib.site.state import State

TYPES = ("note", "tip", "warning", "important", "caution")
ATTRIBUTES = ("title", "collapse", "icon", "appearance")
APPEARANCES = ("default", "simple", "minimal")


def callout(node: Node, state: State) -> list[Node] | None:
    """The blocks of a callout, or None where the Div is none. Raises InputError for an unknown type or attribute."""
    (identifier, classes, values), blocks = node["c"]
    name = next((item for item in classes if item.startswith("callout-")), None)
    if name is None:
        return None
    kind = name.removeprefix("callout-")
    if kind not in TYPES:
        raise state.error(name, f"unknown callout {name}; there are callout-{', callout-'.join(TYPES)}")
    options = dict(values)
    for key in options:
        if key not in ATTRIBUTES:
            raise state.error(name, f"{name} has no attribute {key!r}; there are {', '.join(ATTRIBUTES)}")
    appearance = options.get("appearance", "default")
    if appearance not in APPEARANCES:
        raise state.error(
            name, f"{name}: appearance is {appearance!r}; one of {', '.join(APPEARANCES)} is wanted"
        )
    title: list[Node] | None = None
    if "title" in options:
        title = _inline_markdown(options["title"])
    elif blocks and blocks[0]["t"] == "Header":
        title, blocks = blocks[0]["c"][2], blocks[1:]
    state.callouts += 1
    collapse = options.get("collapse")
    if collapse not in (None, "true", "false"):
        raise state.error(name, f"{name}: collapse is {collapse!r}; true or false is wanted")
    names = ["callout", f"callout-style-{appearance}", f"callout-{kind}", "callout-titled"]
    names += ["no-icon"] if options.get("icon") == "false" else []
    names += [item for item in classes if item != name]
    where = f' id="{html.escape(identifier)}"' if identifier else ""
    heading = (
        [plain([pandoc.inline(f'<span class="screen-reader-only">{kind.title()}</span>'), *title])]
        if title
        else [plain([pandoc.text(kind.title())])]
    )
    # Inside a <summary> there may be phrases only, so a fold's title is made of spans.
    box = "div" if collapse is None else "span"
    icon = f'<{box} class="callout-icon-container"><i class="callout-icon"></i></{box}>'
    body = [raw('<div class="callout-body-container callout-body">'), *blocks, raw("</div>")]
    opening = raw(f'<div{where} class="{" ".join(names)}">')
    label = [raw(f'{icon}<{box} class="callout-title-container flex-fill">'), *heading, raw(f"</{box}>")]
    if collapse is None:
        head = [raw('<div class="callout-header d-flex align-content-center">'), *label, raw("</div>")]
        return [opening, *head, *body, raw("</div>")]
    number = state.callouts
    opened = "" if collapse == "true" else ' open=""'
    return [
        opening,
        raw(f'<details{opened}><summary class="callout-header d-flex align-content-center">'),
        *label,
        raw('<span class="callout-btn-toggle"><i class="callout-toggle"></i></span></summary>'),
        raw(f'<div id="callout-{number}" class="callout-{number}-contents callout-collapse collapse">'),
        *body,
        raw("</div></details></div>"),
    ]


def _inline_markdown(text: str) -> list[Node]:
    # A title is an attribute, so pandoc has not parsed it; most titles are plain words and need no second process.
    if not any(mark in text for mark in "*_`$[\\<^~@"):
        tree = []
        for i, word in enumerate(text.split()):
            tree += [{"t": "Space"}] if i else []
            tree.append(pandoc.text(word))
        return tree
    blocks = pandoc.parse(text)[0]["blocks"]
    return blocks[0]["c"] if blocks else []
