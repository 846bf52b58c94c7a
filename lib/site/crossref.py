"""Numbers for figures, tables, equations and sections, and `@fig-x` as links with Quarto's texts ('Figure 1').

numbers = number(blocks, state)        # after floats are recognised, before they are written
blocks = resolve(blocks, numbers, state)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lib.site import pandoc
from lib.site.floats import KINDS, is_float
from lib.site.pandoc import Node, text
from lib.site.state import State

PREFIXES = {**KINDS, "eq": "Equation", "sec": "Section"}
EQUATION = re.compile(r"^\{#(eq-[\w.:-]+)\}$")
REFERENCE = re.compile(r"^([Ff]ig|[Tt]bl|[Ee]q|[Ss]ec)-[\w.:-]+$")
NBSP = "\N{NO-BREAK SPACE}"


@dataclass
class Numbers:
    """What can be referred to. labels: the number of each, a letter for a subfigure. parents: of each subfigure."""

    labels: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)


def number(blocks: list[Node], state: State) -> Numbers:
    """Number everything in document order; equations get their number and id here. Raises InputError for a label twice."""
    numbers = Numbers()
    counts = dict.fromkeys(PREFIXES, 0)
    sections = [0] * 6

    def add(label: str, value: str) -> None:
        if label in numbers.labels:
            raise state.error(f"#{label}", f"the label {label} is given twice; rename one")
        numbers.labels[label] = value

    def visit(value: Any, parent: str) -> None:
        if isinstance(value, list):
            for item in value:
                visit(item, parent)
            return
        if not isinstance(value, dict):
            return
        kind: str = value.get("t", "")
        content: Any = value.get("c")
        if kind == "Div" and is_float(value):
            identifier, classes, _ = content[0]
            if identifier and parent:
                letter = chr(ord("a") + sum(p == parent for p in numbers.parents.values()))
                add(identifier, letter)
                numbers.parents[identifier] = parent
            elif identifier:
                counts[classes[1]] += 1
                add(identifier, str(counts[classes[1]]))
            visit(content[1], identifier or parent)
            return
        if kind == "Header":
            level, (identifier, classes, _), _ = content
            if "unnumbered" not in classes:
                sections[level - 1] += 1
                sections[level:] = [0] * (6 - level)
                if identifier.startswith("sec-"):
                    add(identifier, ".".join(str(n) for n in sections[:level] if n))
        if kind in ("Para", "Plain"):
            value["c"] = _equations(content, counts, add)
        visit(value["c"] if "c" in value else list(value.values()), parent)

    visit(blocks, "")
    return numbers


def _equations(inlines: list[Node], counts: dict[str, int], add: Any) -> list[Node]:
    """`$$…$$ {#eq-x}` as a numbered equation."""
    out: list[Node] = []
    for item in inlines:
        match = EQUATION.match(item["c"]) if item["t"] == "Str" else None
        at = len(out) - 1
        while at >= 0 and out[at]["t"] in ("Space", "SoftBreak"):
            at -= 1
        if match is None or at < 0 or out[at]["t"] != "Math" or out[at]["c"][0]["t"] != "DisplayMath":
            out.append(item)
            continue
        counts["eq"] += 1
        add(match.group(1), str(counts["eq"]))
        math = out[at]
        math["c"][1] = f"{math['c'][1].rstrip()}\\qquad({counts['eq']})"
        out[at:] = [{"t": "Span", "c": [[match.group(1), ["quarto-equation"], []], [math]]}]
    return out


def resolve(blocks: list[Node], numbers: Numbers, state: State) -> list[Node]:
    """References as links; citations of works are left to citeproc. Raises InputError for one that leads nowhere."""

    def change(node: Node) -> list[Node] | None:
        if node["t"] != "Cite":
            return None
        citations = node["c"][0]
        ours = [bool(REFERENCE.match(citation["citationId"])) for citation in citations]
        if not any(ours):
            for citation in citations:
                if not state.site.bibliography:
                    raise state.error(
                        f"@{citation['citationId']}",
                        f"@{citation['citationId']} is cited, but there is no bibliography in _quarto.yml",
                    )
            state.needs_references = True
            return None
        if not all(ours):
            names = ", ".join(citation["citationId"] for citation in citations)
            raise state.error(
                f"@{citations[0]['citationId']}", f"[{names}] mixes references and citations; split it"
            )
        out: list[Node] = []
        for i, citation in enumerate(citations):
            if i:
                out += [text(","), {"t": "Space"}]
            out.append(_link(citation, numbers, state))
            if citation["citationSuffix"]:
                out += citation["citationSuffix"]
        return out

    return pandoc.walk(blocks, change)


def _link(citation: dict[str, Any], numbers: Numbers, state: State) -> Node:
    name = citation["citationId"]
    label = name[0].lower() + name[1:]
    if label not in numbers.labels:
        kind = label.partition("-")[0]
        known = ", ".join(sorted(other for other in numbers.labels if other.startswith(f"{kind}-"))) or "none"
        raise state.error(f"@{name}", f"@{name} leads nowhere; labels of that kind here: {known}")
    parent = numbers.parents.get(label)
    value = f"{numbers.labels[parent]}{' '}({numbers.labels[label]})" if parent else numbers.labels[label]
    if citation["citationPrefix"]:
        inlines = [*citation["citationPrefix"], text(NBSP)]
    elif citation["citationMode"]["t"] == "SuppressAuthor":
        inlines = []
    else:
        inlines = [text(PREFIXES[label.partition("-")[0]] + NBSP)]
    return {"t": "Link", "c": [["", ["quarto-xref"], []], [*inlines, text(value)], [f"#{label}", ""]]}
