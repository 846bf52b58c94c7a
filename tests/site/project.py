"""A small project to build sites from: two posts whose outputs are stored, so that no kernel is needed, and the pages.

`torture()` is one notebook with every construct at once. Its pictures are made here, byte by byte.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from lib.site.interactive import sliding
from lib.site.scenes import Area, Arrow, Dot, moving

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="120" height="60" viewBox="0 0 120 60"><path d="M0 60L120 0"/></svg>'

CONFIG = """
project:
  type: website
  output-dir: _site
  render: [index.qmd, 404.qmd, posts/index.qmd, "posts/*/index.ipynb", about/index.qmd]
website:
  title: A test
  description: A site to test with.
  site-url: https://example.org/test
  repo-url: https://github.com/example/test
  navbar:
    left:
      - {text: Posts, href: posts/index.qmd}
      - {text: About, href: about/index.qmd}
  page-footer: {center: The foot.}
format:
  html:
    theme: {light: cosmo, dark: darkly}
    html-math-method: mathml
    toc: true
    code-fold: true
    code-summary: Code
    lightbox: true
filters:
  - at: pre-ast
    path: lib/site/quarto.lua
bibliography: references.bib
"""

PAGES = {
    "index.qmd": '---\ntitle: A test\ntoc: false\nlisting:\n  id: newest\n  contents: posts/*/index.ipynb\n  sort: "date desc"\n'
    "  max-items: 1\n---\n\nWelcome.\n\n::: {#newest}\n:::\n",
    "404.qmd": "---\ntitle: Page not found\ntoc: false\n---\n\nThe [posts](/posts/index.qmd) are here.\n",
    "posts/index.qmd": '---\ntitle: Posts\ntoc: false\nlisting:\n  contents: "*/index.ipynb"\n  sort: "date desc"\n  type: default\n'
    "  fields: [image, date, title, description, categories, reading-time]\n  categories: true\n  feed: {type: full, items: 100}\n---\n",
    "about/index.qmd": "---\ntitle: About\n---\n\n## One\n\nText.\n\n## Two\n\nText.\n",
    "references.bib": "@article{doe2001,\n title={A title}, author={Doe, Jane}, year={2001}, journal={Journal of Tests}}\n",
}

TORTURE = """\
## Überblick: naïve α {#sec-intro}

See @fig-curve, [@fig-pair; @fig-scatter], @fig-pair-2, @tbl-markdown, @tbl-frame, @eq-mass, @sec-deep, [-@fig-curve] and
[Fig. @fig-curve]; @doe2001 said so [@doe2001]. Another post has [its own figure](../other/index.ipynb#fig-other).[^a]

$$
E = mc^2
$$ {#eq-mass}

[^a]: A note with $x^2$ and `code`.

### Deeper {#sec-deep}

| Left | Right |
|:-----|------:|
| naïve | 1 |
| α | 2 |

: A table with *emphasis* and $\\beta$ {#tbl-markdown}

::: {.outer}
::: {.inner}
Nested **divs**.

::: {.callout-tip}
## A tip in a div
Inside.
:::
:::
:::

::: {.callout-note collapse="true" title="Why $T^2$?"}
Folded away, with an image:

![A figure in a callout](images/dot.png){width=40}
:::

::: {.callout-warning collapse="false"}
Open, but it folds.
:::

![A figure with no label](images/dot.png)

![A drawing whose caption has $\\sigma$ and a note[^b]](images/line.svg){#fig-scatter fig-alt="A rising line"}

[^b]: A footnote in a caption.

::: {#fig-pair layout-ncol=2}
![First](images/dot.png){#fig-pair-1}

![Second](images/line.svg){#fig-pair-2}

Two side by side
:::

## Code
"""


def png(width: int, height: int, shade: int = 120) -> bytes:
    """A PNG of one grey."""
    rows = b"".join(b"\0" + bytes([shade]) * width for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def display(**data: Any) -> dict[str, Any]:
    """A display_data output; `_` in a name stands for `/`, `meta` is its metadata."""
    meta = data.pop("meta", {})
    return {
        "output_type": "display_data",
        "data": {k.replace("_", "/", 1): v for k, v in data.items()},
        "metadata": meta,
    }


def picture(width: int, height: int, shade: int = 120) -> dict[str, Any]:
    """A displayed PNG at 2x, its size in CSS px in the metadata."""
    data = base64.b64encode(png(width * 2, height * 2, shade)).decode()
    meta = {"image/png": {"width": width, "height": height}}
    return {
        "output_type": "display_data",
        "data": {"image/png": data, "text/plain": "<Figure>"},
        "metadata": meta,
    }


def result(**data: Any) -> dict[str, Any]:
    """An execute_result output."""
    return {**display(**data), "output_type": "execute_result", "execution_count": 1}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    """A stream output."""
    return {"output_type": "stream", "name": name, "text": text}


def code(source: str, *outputs: dict[str, Any], id: str = "", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    """A code cell that has run."""
    meta = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "id": id,
        "metadata": meta,
        "source": source,
        "outputs": list(outputs),
        "execution_count": 1,
    }


def markdown(source: str, id: str = "") -> dict[str, Any]:
    """A Markdown cell."""
    return {"cell_type": "markdown", "id": id, "metadata": {}, "source": source}


def notebook(front: str, *cells: dict[str, Any]) -> str:
    """A notebook of nbformat 4.5 as JSON."""
    raw = {"cell_type": "raw", "id": "front", "metadata": {}, "source": f"---\n{front.strip()}\n---"}
    every = [raw, *cells]
    for number, cell in enumerate(every):
        cell["id"] = cell["id"] or f"cell-id-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    body = {"cells": every, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def slid() -> str:
    """A figure with a slider."""
    frames = {"0": {"share": [1.0, 0.0]}, "10": {"share": [0.6, 0.4]}, "50": {"share": [0.2, 0.8]}}
    return sliding(frames, x=["five", "one"], slider="α", ylabel="share", alt="Two bars", start="10").text


def dragged() -> str:
    """A figure with a part to drag, and a play button."""
    marks = [
        Area("half", [(-1, -1), (1, -1), (1, 0), (-1, 0)]),
        Dot("point", (0.5, 0.5), text="p"),
        Arrow("query", (0, 0), (1, 0)),
    ]
    ends = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    frames = {f"{90 * i}°": {"query": {"end": end}, "point": {"hollow": i > 1}} for i, end in enumerate(ends)}
    says = {name: f"The query points to {name}." for name in frames}
    drawing = moving(
        marks,
        frames,
        says=says,
        slider="direction",
        drag="query",
        play=True,
        alt="A query",
        x=(-1.2, 1.2),
        y=(-1.2, 1.2),
    )
    return drawing.text


FRONT = """
title: "Torture: every construct at once"
subtitle: A page that no reader should see
date: 2024-06-18
categories: [deep learning, paper]
description: Everything.
image: images/dot.png
other-links:
  - {text: Paper, href: "https://arxiv.org/abs/1705.10694"}
"""

FRAME = (
    '<div>\n<style scoped>\n.dataframe { color: red }\n</style>\n<table border="1" class="dataframe">\n<thead><tr style="text-align: right;">'
    "<th></th><th>a</th></tr></thead><tbody><tr><th>0</th><td>1</td></tr></tbody></table>\n</div>"
)
WIDE = (
    "| "
    + " | ".join(f"column {i}" for i in range(20))
    + " |\n|"
    + "---|" * 20
    + "\n| "
    + " | ".join("1234567" for _ in range(20))
    + " |\n"
)


def torture() -> str:
    """The notebook with every construct at once."""
    return notebook(
        FRONT,
        code('profile: str = "published"  # which', id="params", tags=("parameters",))
        | {"source": '#| include: false\nprofile: str = "published"'},
        code('profile = "smoke"', tags=("injected-parameters",)),
        markdown(TORTURE),
        code(
            '#| label: fig-curve\n#| fig-cap: "Accuracy against $\\\\alpha$, with *bands*."\n#| fig-alt: "A falling curve"\n'
            "#| renderings: [light, dark]\n#| code-summary: Draw the curve\ndraw()",
            picture(300, 200, 200),
            picture(300, 200, 30),
            display(text_markdown="::: {.provenance}\nlaptop · MNIST · see @fig-curve\n:::"),
        ),
        code("#| echo: false\n#| fig-alt: a dot\nplt.plot()", picture(50, 50)),
        code("#| label: tbl-frame\n#| tbl-cap: A frame\nframe", result(text_html=FRAME, text_plain="a")),
        code("#| output: false\nsilent()", stream("SILENT OUTPUT\n")),
        code("#| code-fold: false\nprint('naïve')", stream("naïve <tag> & α\n")),
        code("#| code-fold: show\n#| code-summary: Shown at once\nx = 1"),
        code("#| warning: false\nwarn()", stream("A WARNING\n", "stderr")),
        code(
            "#| error: true\n1 / 0",
            {
                "output_type": "error",
                "ename": "ZeroDivisionError",
                "evalue": "division by zero",
                "traceback": [
                    "\x1b[31m----\x1b[39m",
                    "\x1b[1;31mZeroDivisionError\x1b[0m: division by <zero>",
                ],
            },
        ),
        code("html()", display(text_html='<p class="raw-html">Some <b>HTML</b></p>', text_plain="x")),
        code("#| fig-alt: A line\nsvg()", display(**{"image_svg+xml": SVG})),
        code("#| echo: false\nwide()", display(text_markdown=WIDE)),
        code("ax.set_title('t')", result(text_plain="Text(0.5, 1.0, 't')"), picture(20, 20))
        | {"source": "#| fig-alt: tiny\nax.set_title('t')"},
        code("long = '" + "x" * 300 + "'  # ünïcödé"),
        code(
            '#| label: fig-sub\n#| fig-cap: Both\n#| fig-subcap: ["Left $a$", "Right"]\n#| fig-alt: ["one", "two"]\n#| layout-ncol: 2\nboth()',
            picture(100, 80),
            picture(100, 80),
        ),
        code(
            "post.source('x')",
            display(
                text_markdown='<details class="code-fold">\n<summary>The source</summary>\n\n```python\ndef f(x):\n    return x\n```\n\n</details>'
            ),
        )
        | {"source": "#| echo: false\npost.source('x')"},
        code(
            "#| label: fig-move\n#| fig-cap: A figure that moves\n#| echo: false\nsliding(...)",
            display(text_html=slid(), text_plain="<Drawing>"),
        ),
        code(
            "#| label: fig-drag\n#| fig-cap: A figure to drag\n#| echo: false\nmoving(...)",
            display(text_html=dragged(), text_plain="<Drawing>"),
        ),
        markdown("## Last {.unnumbered}\n\nThe end, by @sec-intro and @fig-sub-2."),
    )


def other() -> str:
    """A second, older post."""
    front = 'title: Other\ndate: 2023-12-01\ncategories: [paper]\ndescription: "Fish & chips"\nimage: index_files/figure-html/fig-other-output-1.png'
    return notebook(
        front,
        markdown("## In a nutshell\n\nText. See @fig-other.\n\n## And more\n\nText."),
        code(
            '#| label: fig-other\n#| fig-cap: Other\n#| fig-alt: other\n#| code-summary: "Draw <it>"\ny',
            picture(64, 40),
        ),
    )


def make(root: Path, posts: dict[str, str] | None = None) -> Path:
    """A project in `root`: the pages, and posts by slug (default: torture and other)."""
    for name, text in {"_quarto.yml": CONFIG, **PAGES}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for slug, text in (posts or {"torture": torture(), "other": other()}).items():
        folder = root / "posts" / slug
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "images/dot.png").write_bytes(png(80, 40))
        (folder / "images/line.svg").write_text(SVG, encoding="utf-8")
        (folder / "index.ipynb").write_text(text, encoding="utf-8")
    lua = Path(__file__).resolve().parents[2] / "lib/site/quarto.lua"
    if lua.is_file():
        (root / "lib/site").mkdir(parents=True, exist_ok=True)
        (root / "lib/site/quarto.lua").write_bytes(lua.read_bytes())
    return root


def stored(root: Path) -> dict[str, Path]:
    """The notebooks as they are in the place of executed ones: their outputs are stored."""
    return {path.relative_to(root).as_posix(): path for path in sorted(root.glob("posts/*/index.ipynb"))}
