"""The Lua filter that Quarto runs first, tried on the Markdown that Quarto makes of a cell, with plain pandoc."""

from __future__ import annotations

import subprocess
from pathlib import Path

import lxml.html

from lib.site.pandoc import executable

FILTER = Path(__file__).resolve().parents[2] / "lib/site/quarto.lua"

CELL = """\
::: {#fig-curve .cell renderings='["light","dark"]' execution_count=3}
``` {.python .cell-code code-summary="Draw"}
draw()
```

::: {.cell-output .cell-output-display}
![Accuracy against $x$](index_files/figure-html/fig-curve-output-1.png){#fig-curve-1 width=300 height=200 fig-alt='A curve'}
:::

::: {.cell-output .cell-output-display}
![](index_files/figure-html/fig-curve-output-2.png){#fig-curve-2 width=300 height=200 fig-alt='A curve'}
:::

::: {.cell-output .cell-output-display .cell-output-markdown}
::: {.provenance}
laptop
:::
:::
:::
"""


def html(markdown: str) -> lxml.html.HtmlElement:
    done = subprocess.run(
        [executable(), "-f", "markdown", "-t", "html", "--lua-filter", str(FILTER)],
        input=markdown,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert not done.stderr
    return lxml.html.fragment_fromstring(done.stdout, create_parent="main")


def test_one_float_for_two_modes() -> None:
    tree = html(CELL)
    (figure,) = tree.xpath("//*[@id='fig-curve']")
    assert (
        len(
            figure.xpath(
                "./div[@class='cell'][@data-renderings]/div[contains(@class, 'cell-output-display')]//img"
            )
        )
        == 2
    )
    assert figure.xpath("string(./p)").startswith("Accuracy against")
    assert not tree.xpath("//*[@id='fig-curve-1' or @id='fig-curve-2']")
    assert not tree.xpath("//figcaption")


def test_the_code_stands_above_and_the_provenance_below() -> None:
    above, figure, below = html(CELL)
    assert above.get("id") == "cell-fig-curve"
    assert above.xpath(".//code")
    assert figure.get("id") == "fig-curve"
    assert below.xpath(".//div[@class='provenance']")


def test_other_cells_are_left_alone() -> None:
    plain = CELL.replace('#fig-curve .cell renderings=\'["light","dark"]\'', "#fig-curve .cell")
    unlabelled = CELL.replace("#fig-curve .cell", ".cell")
    assert len(html(plain)) == 1
    assert html(unlabelled).xpath("//div[@class='cell'][@data-renderings]//img")


def test_a_cell_that_is_only_named_like_a_figure_is_none() -> None:
    line = "::: {#fig-curve-line .cell}\n::: {.cell-output .cell-output-display}\nlaptop\n:::\n:::\n"
    assert not html(line).xpath("//*[@id='fig-curve-line']")
    table = "```{=html}\n<table><tr><td>1</td></tr></table>\n```"
    assert html(line.replace("laptop", table)).xpath("//*[@id='fig-curve-line']")


def test_an_output_that_is_no_picture_has_no_label() -> None:
    tree = html(CELL.replace(".cell-output-markdown}", ".cell-output-markdown #fig-curve-3}"))
    assert not tree.xpath("//*[@id='fig-curve-3']")
