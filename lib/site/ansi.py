"""Terminal text, with its colour sequences, as HTML: `ansi_html("\\x1b[31mError\\x1b[0m")`.

Classes are those of Jupyter and Quarto (`ansi-red-fg`, `ansi-bold`), so that one style sheet serves both renderers.
"""

from __future__ import annotations

import html
import re

COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m")
OTHER = re.compile(r"\x1b(\[[0-9;?]*[A-Za-ln-z]|\][^\x07\x1b]*(\x07|\x1b\\))|[\x00-\x08\x0b-\x1a\x1c-\x1f]")


def has_ansi(text: str) -> bool:
    """Whether a text holds a colour sequence."""
    return SEQUENCE.search(text) is not None


def ansi_html(text: str) -> str:
    """`text` escaped, its colours and weights as spans with classes; other control sequences removed."""
    out: list[str] = []
    classes: dict[str, str] = {}
    position = 0
    for match in SEQUENCE.finditer(text):
        out.append(_span(text[position : match.start()], classes))
        position = match.end()
        codes = [int(code) if code else 0 for code in match.group(1).split(";")]
        while codes:
            _apply(codes, classes)
    out.append(_span(text[position:], classes))
    return "".join(out)


def _span(text: str, classes: dict[str, str]) -> str:
    text = html.escape(OTHER.sub("", text), quote=False)
    if not text or not classes:
        return text
    return f'<span class="{" ".join(classes[key] for key in sorted(classes))}">{text}</span>'


def _apply(codes: list[int], classes: dict[str, str]) -> None:
    code = codes.pop(0)
    if code == 0:
        classes.clear()
    elif code == 1:
        classes["bold"] = "ansi-bold"
    elif code == 3:
        classes["italic"] = "ansi-italic"
    elif code == 4:
        classes["underline"] = "ansi-underline"
    elif code == 22:
        classes.pop("bold", None)
    elif code == 39:
        classes.pop("fg", None)
    elif code == 49:
        classes.pop("bg", None)
    elif code in (38, 48):
        # 256 colours or RGB: the first sixteen are named, the rest have no class and keep the text's colour.
        kind = codes.pop(0) if codes else 0
        values = [codes.pop(0) for _ in range(min(len(codes), 1 if kind == 5 else 3))]
        if kind == 5 and values and values[0] < 16:
            side = "fg" if code == 38 else "bg"
            classes[side] = f"ansi-{COLOURS[values[0] % 8]}{'-intense' if values[0] > 7 else ''}-{side}"
    else:
        for base, side, shade in (
            (30, "fg", ""),
            (40, "bg", ""),
            (90, "fg", "-intense"),
            (100, "bg", "-intense"),
        ):
            if base <= code < base + 8:
                classes[side] = f"ansi-{COLOURS[code - base]}{shade}-{side}"
