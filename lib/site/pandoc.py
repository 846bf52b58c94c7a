"""Pandoc as a function, and its syntax tree as plain values with a few helpers.

    tree, warnings = parse("# Title")
    html, warnings = write(tree, bibliography=(Path("references.bib"),))

The tree is pandoc's own JSON: dicts with a type `t` and contents `c`. Pandoc comes inside `pypandoc_binary`.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lib.core import InputError, PostsError

Node = dict[str, Any]
Attr = list[Any]
"""[id, [classes], [[key, value], …]]"""


@functools.cache
def executable() -> str:
    """The path of pandoc. Raises InputError that says how to install it."""
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as error:
        raise InputError("pandoc is not installed here: pip install -e '.[site]' brings it") from error


def parse(markdown: str) -> tuple[Node, list[str]]:
    """The tree of a Markdown text, and pandoc's warnings."""
    out, warnings = _run(["-f", "markdown-auto_identifiers+auto_identifiers", "-t", "json"], markdown)
    return json.loads(out), warnings


def write(tree: Node, bibliography: tuple[Path, ...] = ()) -> tuple[str, list[str]]:
    """A tree as an HTML fragment: MathML, highlighted code, citations resolved where there is a bibliography."""
    options = ["-f", "json", "-t", "html5", "--mathml", "--wrap=none", "--syntax-highlighting=pygments"]
    if bibliography:
        options += [
            "--citeproc",
            "--metadata=link-citations",
            *(f"--bibliography={path}" for path in bibliography),
        ]
    out, warnings = _run(options, json.dumps(tree))
    return out, warnings


def _run(options: list[str], text: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [executable(), *options], input=text, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    if done.returncode:
        raise PostsError(f"pandoc failed: {' '.join(done.stderr.split())}")
    return done.stdout, [
        part.strip() for part in re.split(r"^\[WARNING\] ", done.stderr, flags=re.M) if part.strip()
    ]


# --- the tree ------------------------------------------------------------------------------------------------------


def walk(value: Any, change: Callable[[Node], Any]) -> Any:
    """A copy of a tree in which each node is replaced by what `change` makes of it, children first.

    `change` returns a node, a list of nodes (spliced in), or None to keep the node.
    """
    if isinstance(value, list):
        result = []
        for item in value:
            new = walk(item, change)
            if isinstance(item, dict) and isinstance(new, list):
                result.extend(new)
            else:
                result.append(new)
        return result
    if isinstance(value, dict):
        node = {key: walk(item, change) for key, item in value.items()}
        if "t" in node:
            changed = change(node)
            return node if changed is None else changed
        return node
    return value


def nodes(value: Any, *types: str) -> Iterator[Node]:
    """The nodes of some types (of all where none is given), in document order, parents first."""
    if isinstance(value, dict):
        if "t" in value and (not types or value["t"] in types):
            yield value
        for item in value.values():
            yield from nodes(item, *types)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item, *types)


def attr(identifier: str = "", classes: tuple[str, ...] | list[str] = (), **values: str) -> Attr:
    """An attribute triple; `_` in a key becomes `-`."""
    return [identifier, list(classes), [[key.replace("_", "-"), value] for key, value in values.items()]]


def div(
    blocks: list[Node], identifier: str = "", classes: tuple[str, ...] | list[str] = (), **values: str
) -> Node:
    """A Div."""
    return {"t": "Div", "c": [attr(identifier, classes, **values), blocks]}


def raw(html: str) -> Node:
    """A block of HTML as it is."""
    return {"t": "RawBlock", "c": ["html", html]}


def inline(html: str) -> Node:
    """Inline HTML as it is."""
    return {"t": "RawInline", "c": ["html", html]}


def plain(inlines: list[Node]) -> Node:
    """Inlines as a block without a paragraph around it."""
    return {"t": "Plain", "c": inlines}


def text(string: str) -> Node:
    """A Str."""
    return {"t": "Str", "c": string}


def curly(text: str) -> str:
    """A plain text with the quotation marks and apostrophes that pandoc would give it in prose."""
    text = re.sub(r"(?:(?<=[\s(\[–—])|^)\"", "“", text).replace('"', "”")
    return re.sub(r"(?:(?<=[\s(\[–—“])|^)'(?=\S)", "‘", text).replace("'", "’")


def string(value: Any) -> str:
    """The text of a tree, as a reader would read it aloud; notes are left out."""
    out: list[str] = []

    def visit(item: Any) -> None:
        if isinstance(item, list):
            for part in item:
                visit(part)
        elif isinstance(item, dict):
            kind: str = item.get("t", "")
            content: Any = item.get("c")
            if kind == "Str":
                out.append(content)
            elif kind in ("Space", "SoftBreak", "LineBreak"):
                out.append(" ")
            elif kind in ("Math", "Code", "CodeBlock"):
                out.append(content[1])
            elif kind == "Cite":
                visit(content[1])
            elif kind == "Quoted":
                marks = "‘’" if content[0]["t"] == "SingleQuote" else "“”"
                out.append(marks[0])
                visit(content[1])
                out.append(marks[1])
            elif kind in ("Link", "Image", "Span"):
                visit(content[1])
            elif kind == "Header":
                visit(content[2])
            elif kind not in ("Note", "RawInline", "RawBlock"):
                visit(content)
                if kind in ("Para", "Plain"):
                    out.append(" ")

    visit(value)
    return " ".join("".join(out).split())


def key_values(attribute: Attr) -> dict[str, str]:
    """The key-value pairs of an attribute triple."""
    return dict(attribute[2])
