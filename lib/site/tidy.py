"""What Quarto's pages lack and what they have too much: sizes and alt texts of images, scripts, ids, marks that nobody sees.

    tidy(Path("_site"))

Quarto takes every table of a notebook for a widget and has its page load jQuery and RequireJS from a CDN; no page here uses
them. Images in Markdown come without width and height, so text would move while they load, subfigures without alt text.
Around each line of code there are a link and an id, and every page holds the same 22 kB of script: they go, into one file.
Run by itself (`python -m lib.site.tidy`, the `post-render` of `_quarto.yml`) it mends the project's output folder.
"""

from __future__ import annotations

import functools
import hashlib
import html
import os
import re
from pathlib import Path

from lib.site.images import size
from lib.site.light import lighter

FOREIGN = re.compile(r"<script\b[^>]*\bsrc=[\"'](?:https?:)?//[^>]*>\s*</script>\n?")
DEFINES = re.compile(r"<script\b[^>]*>\s*define\('jquery',.*?</script>\n?", re.S)
SUBFIGURE = re.compile(
    r"<img(?=[^>]*\bdata-ref-parent=)(?![^>]*\balt=)"
    r"(?P<rest>[^>]*>(?:(?!<img|<figcaption).)*<figcaption[^>]*>(?P<caption>.*?)</figcaption>)",
    re.S,
)
NAMED_TWICE = re.compile(
    r"(?P<kept><div id=\"(?P<id>[^\"]+)\" class=\"[^\"]*quarto-float[^>]*>(?:(?!<table).)*<table) id=\"(?P=id)\"",
    re.S,
)
"""A table with the id of the float around it: newer pandocs give a caption's id to the table, too."""
IMAGE = re.compile(r"<img\b[^>]*>")
SHARED = re.compile(
    r'<script id="(?P<id>quarto-html-(?:before|after)-body)" type="application/javascript">(?P<code>.*?)</script>',
    re.S,
)


def tidy(folder: Path) -> list[Path]:
    """Mend every page in `folder`. Returns the pages that changed."""
    changed = []
    for path in sorted(folder.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        clean = SUBFIGURE.sub(_told, DEFINES.sub("", FOREIGN.sub("", text)))
        clean = NAMED_TWICE.sub(r"\g<kept>", clean)
        clean = IMAGE.sub(functools.partial(_sized, path.parent), clean)
        # Quarto's sheet for print needs an element for each line.
        clean = lighter(clean, r"<span>\1</span>")
        # A host shows 404.html at any depth, where no relative path holds.
        if path.name != "404.html":
            clean = SHARED.sub(functools.partial(_shared, folder, path), clean)
        if clean != text:
            path.write_text(clean, encoding="utf-8")
            changed.append(path)
    return changed


def _told(found: re.Match[str]) -> str:
    """A subfigure whose image has no alt text with its caption as one, without the letter."""
    words = html.unescape(re.sub(r"<[^>]*>", "", found.group("caption")))
    words = re.sub(r"^\([a-z]\)", "", " ".join(words.split())).strip()
    return f'<img alt="{html.escape(words)}"{found.group("rest")}'


def _shared(folder: Path, page: Path, found: re.Match[str]) -> str:
    """A script that every page has, asked from one file instead."""
    code = found.group("code").strip() + "\n"
    name = f"site_libs/quarto-html/{found.group('id')}-{hashlib.sha256(code.encode()).hexdigest()[:8]}.js"
    file = folder / name
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
    up = "../" * (len(page.relative_to(folder).parts) - 1)
    return f'<script id="{found.group("id")}" src="{up}{name}"></script>'


def _sized(beside: Path, found: re.Match[str]) -> str:
    """The tag of an image with width and height, in the shape of the file beside the page."""
    tag = found.group()
    source = re.search(r"\bsrc=[\"']([^\"':?#]+)", tag)
    width = re.search(r"\bwidth=[\"'](\d+)[\"']", tag)
    if source is None or re.search(r"\bheight\s*[=:]|\bwidth\s*:", tag) or ("width=" in tag and not width):
        return tag
    file = beside / source.group(1)
    full = size(file.read_bytes(), file.name) if file.is_file() else None
    if full is None:
        return tag
    if width:
        return f'<img height="{round(int(width.group(1)) * full[1] / full[0])}"{tag[4:]}'
    return f'<img width="{full[0]}" height="{full[1]}"{tag[4:]}'


if __name__ == "__main__":
    tidy(Path(os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "_site")))
