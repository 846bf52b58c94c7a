"""Code cells and their outputs as blocks of the tree: folded code, streams, tables, images, figures with captions.

`fill(node, state)` turns the marked Div of a code cell (see `compose`) into a `div.cell` as Quarto writes it. Images
become files, collected in `state.files`, at `index_files/figure-html/<label>-output-<n>.png`.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from contextlib import suppress
from typing import Any

from lib.core import InputError
from lib.site import pandoc
from lib.site.ansi import ansi_html, has_ansi
from lib.site.compose import PART, joined, mime, shown_outputs
from lib.site.floats import float_div, layout, picture
from lib.site.images import size
from lib.site.pandoc import Node, attr, div, key_values, raw
from lib.site.source import Cell
from lib.site.state import State

EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def fill(node: Node, state: State) -> list[Node]:
    """The blocks of the code cell that `node` marks."""
    number = int(key_values(node["c"][0])["n"])
    cell = next(cell for cell in state.page.cells if cell.number == number)
    parts = {
        key_values(child["c"][0])["name"]: child["c"][1]
        for child in node["c"][1]
        if child["t"] == "Div" and PART in child["c"][0][1]
    }
    options = cell.options
    label = options.get("label", "")
    blocks = _code(cell, state) if _shown(cell, state, "echo") else []
    if _shown(cell, state, "output"):
        blocks += _outputs(cell, parts, state)
    elif label and re.match(r"(fig|tbl)-", label):
        raise InputError(
            f"{state.page.where(cell)}: {label} has output: false, so there is nothing to refer to"
        )
    if not blocks:
        return []
    classes = options.get("classes", [])
    classes = classes.split() if isinstance(classes, str) else classes
    classes = ["cell", *(str(name).lstrip(".") for name in classes)]
    if options.get("column"):
        classes.append(f"column-{options['column']}")
    identifier = f"cell-{label}" if label else cell.id
    values = {"execution_count": str(cell.execution_count)} if cell.execution_count else {}
    result = div(blocks, identifier, classes)
    result["c"][0][2] = [[key, value] for key, value in values.items()]
    return [result]


def _shown(cell: Cell, state: State, what: str) -> bool:
    if what in cell.options:
        return cell.options[what] is not False
    execute = state.page.meta.get("execute") or {}
    return not (isinstance(execute, dict) and execute.get(what) is False)


# --- code ----------------------------------------------------------------------------------------------------------


def _code(cell: Cell, state: State) -> list[Node]:
    source = cell.text.rstrip()
    if not source:
        return []
    block = {"t": "CodeBlock", "c": [attr("", ["python", "cell-code"]), source]}
    fold = cell.options.get("code-fold", state.page.meta.get("code-fold", state.site.code_fold))
    if fold in (False, "none"):
        return [block]
    summary = cell.options.get("code-summary", state.page.meta.get("code-summary", state.site.code_summary))
    opened = ' open=""' if fold == "show" else ""
    head = f'<details{opened} class="code-fold">\n<summary>{html.escape(str(summary), quote=False)}</summary>'
    return [raw(head), block, raw("</details>")]


# --- outputs -------------------------------------------------------------------------------------------------------


def _outputs(cell: Cell, parts: dict[str, list[Node]], state: State) -> list[Node]:
    shown = shown_outputs(cell)
    images = [i for i, output in enumerate(shown) if mime(output).startswith("image/")]
    label, where = cell.options.get("label", ""), state.page.where(cell)
    if "renderings" in cell.options:
        return _renderings(cell, shown, images, parts, state)
    if cell.options.get("fig-subcap") is not None and len(cell.options["fig-subcap"]) != len(images):
        raise InputError(f"{where}: {len(cell.options['fig-subcap'])} fig-subcap for {len(images)} images")
    if label.startswith("tbl-"):
        return _table(cell, shown, parts, state)
    blocks: list[Node] = []
    drawn: list[Node] = []
    captions = cell.options.get("fig-cap")
    several = label.startswith("fig-") and len(images) > 1
    if label.startswith("fig-") and not images and not any(mime(o) == "text/html" for o in shown):
        raise InputError(f"{where}: {label} displays no image; a figure's cell displays one")
    for i, output in enumerate(shown):
        classes = ["cell-output", _kind(output)]
        kind = mime(output)
        if i in images:
            nth = images.index(i)
            image = _image(cell, i, nth, state)
            if several or cell.options.get("fig-subcap"):
                # `label-1`, `label-2`: subfigures, lettered under the figure's one caption.
                caption = _inlines(parts.get(f"sub-{nth}"), where)
                picture(state, image, caption or _alt_only(image))
                drawn.append(
                    float_div(f"{label}-{nth + 1}" if label else "", "fig", [pandoc.plain([image])], caption)
                )
                continue
            caption = _inlines(parts.get("cap") or parts.get(f"cap-{nth}"), where)
            picture(state, image, caption)
            body = pandoc.plain([image])
            if label.startswith("fig-"):
                body = float_div(label, "fig", [body], caption)
            elif caption:
                body = float_div("", "fig", [body], caption)
            else:
                body = {"t": "Para", "c": [image]}
            blocks.append(div([body], "", classes))
        elif label.startswith("fig-") and kind == "text/html" and not images:
            # A figure drawn by a script of ours: the HTML is the figure.
            body = float_div(
                label, "fig", _rich(output, i, parts, cell, state), _inlines(parts.get("cap"), where)
            )
            blocks.append(div([body], "", classes))
        else:
            content = _rich(output, i, parts, cell, state)
            if cell.options.get("output") == "asis" and output["output_type"] == "stream":
                blocks += content
            elif kind == "text/markdown":
                blocks.append(div(content, "", [*classes, "cell-output-markdown"]))
            elif content:
                blocks.append(div(content, "", classes))
    if drawn:
        columns = cell.options.get("layout-ncol", 1)
        body = float_div(label, "fig", [layout(drawn, columns)], _inlines(parts.get("cap"), where))
        return [*blocks, body] if label else [*blocks, layout(drawn, columns)]
    columns = cell.options.get("layout-ncol")
    if columns and len(blocks) > 1 and not isinstance(captions, str):
        return [layout(blocks, columns)]
    return blocks


def _renderings(
    cell: Cell, shown: list[dict[str, Any]], images: list[int], parts: dict[str, list[Node]], state: State
) -> list[Node]:
    """The same figure for light and for dark: two images under one caption; other outputs stand below it."""
    where, label = state.page.where(cell), cell.options.get("label", "")
    modes = cell.options["renderings"]
    if len(images) != len(modes):
        raise InputError(f"{where}: renderings {modes} but {len(images)} images; display one for each mode")
    caption = _inlines(parts.get("cap"), where)
    pair = []
    for i, mode in zip(images, modes, strict=True):
        image = _image(cell, i, 0, state)
        picture(state, image, caption, gallery=f"{label or f'cell-{cell.number}'}-{mode}")
        body = {"t": "Para", "c": [image]} if not (label or caption) else pandoc.plain([image])
        pair.append(div([body], "", ["cell-output", _kind(shown[i]), f"{mode}-content"]))
    blocks = [float_div(label, "fig", pair, caption)] if label.startswith("fig-") or caption else pair
    for i, output in enumerate(shown):
        if i not in images:
            extra = ["cell-output-markdown"] if mime(output) == "text/markdown" else []
            content = _rich(output, i, parts, cell, state)
            if content:
                blocks.append(div(content, "", ["cell-output", _kind(output), *extra]))
    return blocks


def _table(cell: Cell, shown: list[dict[str, Any]], parts: dict[str, list[Node]], state: State) -> list[Node]:
    """A table with a label: the first displayed output is the table, whatever its kind."""
    where, label = state.page.where(cell), cell.options["label"]
    blocks, done = [], False
    for i, output in enumerate(shown):
        content = _rich(output, i, parts, cell, state)
        if not done and output["output_type"] != "stream":
            for table in pandoc.nodes(content, "Table"):
                table["c"][0][0] = ""
            content = [float_div(label, "tbl", content, _inlines(parts.get("cap"), where))]
            done = True
        blocks.append(div(content, "", ["cell-output", _kind(output)]))
    if not done:
        raise InputError(f"{where}: {label} displays nothing; a table's cell displays one")
    return blocks


def _kind(output: dict[str, Any]) -> str:
    kind = output["output_type"]
    return {
        "stream": f"cell-output-{output.get('name', 'stdout')}",
        "error": "cell-output-error",
    }.get(kind, "cell-output-display")


def _rich(
    output: dict[str, Any], i: int, parts: dict[str, list[Node]], cell: Cell, state: State
) -> list[Node]:
    """An output that is no image, as blocks."""
    if f"out-{i}" in parts:
        return parts[f"out-{i}"]
    if output["output_type"] == "stream":
        return [_terminal(joined(output["text"]))]
    if output["output_type"] == "error":
        lines = output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]
        return [_terminal("\n".join(lines))]
    kind = mime(output)
    if kind == "text/html":
        markup = table_html(joined(output["data"][kind]))
        if 'class="interactive"' in markup:
            markup = _interactive(markup, cell, state)
        return [raw(markup)]
    if kind == "text/plain":
        return [_terminal(joined(output["data"][kind]))]
    if not kind:
        kinds = ", ".join(output.get("data") or {}) or "nothing"
        raise InputError(
            f"{state.page.where(cell)}: cannot show an output of {kinds}; display HTML or an image"
        )
    raise InputError(f"{state.page.where(cell)}: an output of {kind} does not fit here")


def _interactive(markup: str, cell: Cell, state: State) -> str:
    """A figure that moves, with the file that stands for it where it cannot."""
    from lib.site.interactive import (
        still,
    )  # draws with lib.plots' colours: imported by pages that have such figures

    found = still(markup)
    if found is None:
        return markup
    name = f"{state.stem}_files/figure-html/{cell.options.get('label') or f'cell-{cell.number}'}-still.svg"
    state.files[name] = found[1]
    return markup.replace('<div class="interactive">', f'<div class="interactive" data-still="{name}">', 1)


def _terminal(content: str) -> Node:
    content = content.rstrip("\n")
    if has_ansi(content):
        return raw(f'<div class="ansi-escaped-output">\n<pre>{ansi_html(content)}</pre>\n</div>')
    return raw(f"<pre><code>{ansi_html(content)}</code></pre>")


def table_html(content: str) -> str:
    """HTML of a table without the presentation that pandas puts in: its scoped style and borders."""
    content = re.sub(r"<style scoped>.*?</style>\s*", "", content, flags=re.S)
    content = re.sub(r'(<table\b[^>]*?) border="1"', r"\1", content)
    content = re.sub(r'<tr style="text-align: right;">', "<tr>", content)
    return content.strip()


# --- images --------------------------------------------------------------------------------------------------------


def _image(cell: Cell, i: int, nth: int, state: State) -> Node:
    """An Image node for output `i` (the cell's image number `nth`), its file kept in `state.files`."""
    output = shown_outputs(cell)[i]
    kind = mime(output)
    content = joined(output["data"][kind])
    try:
        data = content.encode() if kind == "image/svg+xml" else base64.b64decode(content, validate=False)
    except binascii.Error as error:
        raise InputError(
            f"{state.page.where(cell)}: output {i + 1} is no {kind}; execute the notebook again"
        ) from error
    label = cell.options.get("label") or f"cell-{cell.number}"
    name = f"{state.stem}_files/figure-html/{label}-output-{i + 1}.{EXTENSIONS[kind]}"
    state.files[name] = data
    given = _pixels((output.get("metadata") or {}).get(kind))
    found = size(data, name)
    if not given.get("width") and found:
        # An image that says nothing of its size is shown as large as it is.
        given = {"width": found[0], "height": found[1]}
    elif given.get("width") and not given.get("height") and found:
        given = {"width": given["width"], "height": round(given["width"] * found[1] / found[0])}
    alt = cell.options.get("fig-alt", "")
    alt = alt[nth] if isinstance(alt, list) and nth < len(alt) else "" if isinstance(alt, list) else alt
    values = [[key, str(round(given[key]))] for key in ("width", "height") if given.get(key)]
    classes = ["img-fluid", *(["nolightbox"] if cell.options.get("lightbox") is False else [])]
    values += [["alt", " ".join(alt.split())]] if alt else []
    return {"t": "Image", "c": [["", classes, values], [], [name, ""]]}


def _pixels(given: Any) -> dict[str, float]:
    """The width and the height that an output's metadata give, where they are numbers of pixels that can be."""
    found: dict[str, float] = {}
    for key in ("width", "height"):
        with suppress(TypeError, ValueError, OverflowError, AttributeError):
            value = float(given.get(key))
            if 0 < value < 1e5:
                found[key] = value
    return found


def _alt_only(image: Node) -> list[Node]:
    return [pandoc.text(key_values(image["c"][0]).get("alt", ""))]


def _inlines(blocks: list[Node] | None, where: str) -> list[Node]:
    """The inlines of a caption. Raises InputError where it is more than a paragraph."""
    if not blocks:
        return []
    if len(blocks) != 1 or blocks[0]["t"] not in ("Para", "Plain"):
        raise InputError(f"{where}: a caption is one paragraph, not a list, table or heading")
    return blocks[0]["c"]
