"""Figures and tables: recognised in the tree, laid out in columns, and written as Quarto writes them.

Between reading and writing a float is a Div of class `posts-float` whose first child is its caption, so that numbering
(`crossref`) and everything else may walk the tree as it is. `lower` turns it into
`div#fig-x.quarto-float > figure > … figcaption`. A float without an id has a caption but no number.
"""

from __future__ import annotations

import re
from typing import Any

from lib.site import pandoc
from lib.site.images import size
from lib.site.pandoc import Node, attr, div, key_values, plain, raw
from lib.site.state import State

FLOAT, CAPTION, LAYOUT = "posts-float", "posts-caption", "quarto-layout-panel"
# Quarto appends a fixed UUID to the ids of captions; a reader of both outputs can then rely on one of them.
CAPTION_SUFFIX = "-caption-0ceaefa1-69ba-4598-a22c-09a6ac19f8ca"
KINDS = {"fig": "Figure", "tbl": "Table"}


def float_div(identifier: str, kind: str, blocks: list[Node], caption: list[Node] | None) -> Node:
    """A float of kind `fig` or `tbl` with its caption's inlines."""
    head = div([plain(caption)] if caption else [], "", [CAPTION])
    return div([head, *blocks], identifier, [FLOAT, kind])


def is_float(node: Node) -> bool:
    """Whether a node is a float as `float_div` makes it."""
    return node["t"] == "Div" and FLOAT in node["c"][0][1]


def kind_of(identifier: str) -> str | None:
    """The kind that an id's prefix names: `fig-x` -> `fig`."""
    prefix = identifier.partition("-")[0]
    return prefix if prefix in KINDS and "-" in identifier else None


def recognise(node: Node, state: State) -> list[Node] | None:
    """A Figure, Table, labelled or laid-out Div of Markdown as floats; None for any other node. Children come first."""
    if node["t"] == "Figure":
        attribute, caption, blocks = node["c"]
        inlines = [x for block in caption[1] for x in block["c"]]
        if kind_of(attribute[0]):
            return [float_div(attribute[0], "fig", blocks, inlines)]
        return [_with_classes(float_div("", "fig", blocks, inlines), attribute)]
    if node["t"] == "Table":
        return _recognise_table(node)
    if node["t"] == "Para" and len(node["c"]) == 1 and node["c"][0]["t"] in ("Image", "Link"):
        # A labelled image without a caption: pandoc makes no Figure of it, but it has a number.
        inner = node["c"][0]
        image = inner if inner["t"] == "Image" else inner["c"][1][0] if len(inner["c"][1]) == 1 else None
        if image is not None and image["t"] == "Image" and kind_of(image["c"][0][0]):
            identifier, image["c"][0][0] = image["c"][0][0], ""
            return [float_div(identifier, "fig", [plain(node["c"])], None)]
        return None
    if node["t"] == "Div" and not is_float(node):
        attribute, blocks = node["c"]
        columns = _columns(attribute, state)
        if kind_of(attribute[0]):
            return [_float_from_div(attribute, blocks, columns, state)]
        if columns:
            panel = layout(_items(blocks), columns)
            panel["c"][0][0] = attribute[0]
            panel["c"][0][1] += [name for name in attribute[1] if name not in panel["c"][0][1]]
            return [panel]
    return None


def _recognise_table(node: Node) -> list[Node]:
    attribute, caption = node["c"][0], node["c"][1]
    inlines = [x for block in caption[1] for x in block["c"]]
    identifier = attribute[0]
    node["c"][0] = ["", ["caption-top", "table", *attribute[1]], attribute[2]]
    if not inlines and not kind_of(identifier):
        node["c"][0][0] = identifier
        return [div([node], "", ["table-scroll"])]
    node["c"][1] = [None, []]
    if kind_of(identifier):
        return [float_div(identifier, "tbl", [div([node], "", ["table-scroll"])], inlines)]
    return [float_div("", "tbl", [div([node], "", ["table-scroll"])], inlines)]


def _float_from_div(attribute: list[Any], blocks: list[Node], columns: int, state: State) -> Node:
    identifier = attribute[0]
    kind = kind_of(identifier) or "fig"
    caption: list[Node] = []
    if len(blocks) > 1 and blocks[-1]["t"] == "Para" and not any(pandoc.nodes(blocks[-1], "Image")):
        caption, blocks = blocks[-1]["c"], blocks[:-1]
    if not blocks:
        raise state.error(identifier, f"{identifier} is empty; a figure or table is wanted in its div")
    inner = [block for block in blocks if block["t"] != "Null"]
    if len(inner) == 1 and is_float(inner[0]) and not inner[0]["c"][0][0]:
        # One unlabelled float inside: it is the content, and its caption serves where the div has none.
        head, *content = inner[0]["c"][1]
        if not caption and head["c"][1]:
            caption = head["c"][1][0]["c"]
        blocks = content
    else:
        subs = [block for block in inner if is_float(block)]
        for nth, sub in enumerate(subs, 1):
            if not sub["c"][0][0]:
                sub["c"][0][0] = f"{identifier}-{nth}"
    if columns:
        blocks = [layout(_items(blocks), columns)]
    return _with_classes(float_div(identifier, kind, blocks, caption), ["", attribute[1], []])


def _with_classes(node: Node, attribute: list[Any]) -> Node:
    node["c"][0][1] += [
        name for name in attribute[1] if name.startswith(("column-", "provenance", "nolightbox"))
    ]
    return node


def _columns(attribute: list[Any], state: State) -> int:
    values = key_values(attribute)
    given = values.get("layout-ncol")
    unknown = [key for key in values if key.startswith("layout") and key != "layout-ncol"]
    if unknown:
        raise state.error(unknown[0], f"a div has {unknown[0]}; only layout-ncol is known")
    if given is None:
        return 0
    if not re.fullmatch(r"[1-6]", given):
        raise state.error("layout-ncol", f"layout-ncol is {given!r}; a number from 1 to 6 is wanted")
    attribute[2] = [pair for pair in attribute[2] if pair[0] != "layout-ncol"]
    return int(given)


def _items(blocks: list[Node]) -> list[Node]:
    """What goes into the cells of a layout: each block, and each image of a paragraph that holds images only."""
    items = []
    for block in blocks:
        if block["t"] == "Para" and all(
            x["t"] in ("Image", "Link", "SoftBreak", "Space") for x in block["c"]
        ):
            items += [plain([x]) for x in block["c"] if x["t"] in ("Image", "Link")]
        else:
            items.append(block)
    return items


def layout(items: list[Node], columns: int) -> Node:
    """Blocks in rows of `columns` cells."""
    width = f"{100 / columns:.1f}%"
    rows = []
    for start in range(0, len(items), columns):
        cells = []
        for item in items[start : start + columns]:
            cell = div([item], "", ["quarto-layout-cell"])
            cell["c"][0][2] = [["style", f"flex-basis: {width};justify-content: center;"]]
            cells.append(cell)
        rows.append(div(cells, "", ["quarto-layout-row"]))
    panel = div(rows, "", [LAYOUT])
    panel["c"][0][2] = [["layout-ncol", str(columns)]]
    return panel


# --- images --------------------------------------------------------------------------------------------------------


def picture(state: State, image: Node, caption: list[Node] | None = None, gallery: str = "") -> None:
    """Finish an Image in place: alt text, size, and the link that enlarges it. Raises InputError where it has no alt."""
    attribute, inlines, (target, _) = image["c"]
    values = key_values(attribute)
    alt = (
        values.pop("fig-alt", "")
        or values.pop("alt", "")
        or pandoc.string(inlines)
        or pandoc.string(caption or [])
    )
    if not alt:
        raise state.error(
            target.rpartition("/")[2], f"the image {target} has no alt text; add fig-alt (or a caption)"
        )
    state.images += 1
    values["alt"] = alt
    attribute[2] = [[key, value] for key, value in values.items() if not key.startswith("fig-")]
    classes = attribute[1]
    if "img-fluid" not in classes:
        classes.append("img-fluid")
    enlarge = (state.site.lightbox and "nolightbox" not in classes) or "lightbox" in classes
    attribute[1] = [name for name in classes if name not in ("lightbox", "nolightbox")]
    image["c"][1] = []
    if enlarge and state.page.meta.get("lightbox") is not False:
        copy = {"t": "Image", "c": image["c"]}
        name = gallery or f"quarto-lightbox-gallery-{state.images}"
        link = attr("", ["lightbox"])
        link[2] = [["data-gallery", name]]
        image.update({"t": "Link", "c": [link, [copy], [target, ""]]})


def markdown_image(state: State, image: Node) -> None:
    """An image that the author placed: its file is found, measured and kept for the page."""
    target = image["c"][2][0]
    if re.match(r"^(https?:)?//", target):
        raise state.error(
            target, f"the image {target} lies elsewhere; keep a copy in images/, no page asks the network"
        )
    if target.startswith("data:"):
        return
    source = state.folder / target if not target.startswith("/") else state.site.root / target.lstrip("/")
    if target not in state.files:
        if not source.is_file():
            raise state.error(target, f"there is no image {target} in {state.page.folder}/")
        state.files[target] = source
    values = key_values(image["c"][0])
    found = size(source.read_bytes(), source.name) if source.is_file() else None
    width = values.get("width", "").removesuffix("px")
    if width.endswith("%"):
        values.pop("width")
        values["style"] = f"width:{width}"
        if found:
            values |= {"width": str(found[0]), "height": str(found[1])}
    elif width and not re.fullmatch(r"[\d.]+", width):
        raise state.error(
            target, f"the image {target} has width {width!r}; pixels or a percentage are wanted"
        )
    elif found and width:
        values |= {"width": width, "height": str(round(float(width) * found[1] / found[0]))}
    elif found:
        values |= {"width": str(found[0]), "height": str(found[1])}
    image["c"][0][2] = [[key, value] for key, value in values.items()]


# --- writing -------------------------------------------------------------------------------------------------------


def lower(node: Node, numbers: dict[str, str], parents: dict[str, str]) -> list[Node]:
    """A float as Quarto writes it. numbers: the number of each labelled float, a letter for a subfigure."""
    (identifier, classes, _), (head, *blocks) = node["c"]
    kind = classes[1]
    caption = list(head["c"][1][0]["c"]) if head["c"][1] else []
    extra = " ".join(classes[2:])
    if not identifier:
        content = [{"t": "Para", "c": b["c"]} if b["t"] == "Plain" else b for b in blocks]
        opening = f'<div class="quarto-figure quarto-figure-center {extra}">'.replace(' ">', '">')
        foot = [raw("<figcaption>"), plain(caption), raw("</figcaption>")] if caption else []
        figure = [*foot, *content] if kind == "tbl" else [*content, *foot]
        return [raw(opening), raw('<figure class="figure">'), *figure, raw("</figure>"), raw("</div>")]
    sub = identifier in parents
    role = "subfloat" if sub else "float"
    number = numbers[identifier]
    side = "top" if kind == "tbl" else "bottom"
    prefix = f"({number})" if sub else f"{KINDS[kind]}\N{NO-BREAK SPACE}{number}"
    title = [pandoc.text(prefix if sub or not caption else prefix + ":")]
    if caption:
        title += [{"t": "Space"}, *caption]
    caption_id = identifier + CAPTION_SUFFIX
    caption_classes = [f"quarto-float-caption-{side}", f"quarto-{role}-caption", f"quarto-{role}-{kind}"]
    if not caption:
        caption_classes.append("quarto-uncaptioned")
    foot = [
        raw(f'<figcaption id="{caption_id}" class="{" ".join(caption_classes)}">'),
        plain(title),
        raw("</figcaption>"),
    ]
    body = div(blocks, "", [])
    body["c"][0][2] = [["aria-describedby", caption_id]]
    names = f"quarto-float quarto-figure quarto-figure-center anchored {extra}".strip()
    if any(LAYOUT in block["c"][0][1] for block in blocks if block["t"] == "Div"):
        names = f"quarto-layout-panel quarto-float anchored {extra}".strip()
    return [
        raw(f'<div id="{identifier}" class="{names}">'),
        raw(f'<figure class="quarto-float quarto-{role}-{kind} figure">'),
        *([*foot, body] if side == "top" else [body, *foot]),
        raw("</figure>"),
        raw("</div>"),
    ]
