"""What is wrong in a source: one line that names the file, the cell, and what to do. Nothing is guessed or passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.core import InputError
from lib.site import embedded, settings
from tests.site import project
from tests.site.project import code, display, markdown, notebook, picture

FRONT = 'title: "A post"\ndate: 2024-01-02'
PAIR = (picture(30, 20), picture(30, 20))


def render(tmp_path: Path, *cells: dict, front: str = FRONT) -> embedded.Files:
    root = project.make(tmp_path, {"a": notebook(front, *cells)})
    files, _ = embedded.render_site(
        settings.settings(root), project.stored(root), {}, root / ".build/pages", jobs=2
    )
    return files


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (code("#| fig-capt: x\n1"), "cell 2.*no cell option 'fig-capt'; did you mean fig-cap?"),
        (code("#| labl: x\n1"), "no cell option 'labl'; did you mean label?"),
        (code("#| echo: maybe\n1"), "option echo is 'maybe'; bool is wanted"),
        (code("#| code-fold: sometimes\n1"), "option code-fold is 'sometimes'; one of true, false, show"),
        (code("#| fig-cap: a: b\n1"), "is not YAML; quote its text"),
        (code("x = 1\n#| echo: false"), "stands below code"),
        (code("#| label: fig a\n1"), "the label 'fig a' cannot be an id"),
        (code("#| label: fig-x\n#| tbl-cap: y\n1"), "use fig-cap"),
        (code("#| label: fig-x\n#| fig-cap: [a, b]\n1", *PAIR), "fig-cap with fig-subcap"),
        (code("#| renderings: [light, night]\n1", *PAIR), r"\[light, dark\] is wanted"),
        (code("#| label: fig-x\n#| fig-alt: a\n#| renderings: [light, dark]\n1", PAIR[0]), "but 1 images"),
        (code("#| label: fig-x\n1"), "fig-x displays no image"),
        (code("#| label: tbl-x\n1"), "tbl-x displays nothing"),
        (code("#| label: fig-x\n#| output: false\n1", PAIR[0]), "nothing to refer to"),
        (
            code("#| label: fig-x\n#| fig-cap: c\n#| fig-subcap: [a]\n#| fig-alt: z\n1", *PAIR),
            "1 fig-subcap for 2 images",
        ),
        (code("1", PAIR[0]), "has no alt text"),
        (code("1", display(application_pdf="x")), "cannot show an output of application/pdf"),
        (markdown("See @fig-none."), "cell 2.*@fig-none leads nowhere; labels of that kind here: none"),
        (markdown("See @doe1999."), "@doe1999 is not in the bibliography"),
        (markdown("See [@fig-a; @doe2001]."), "mixes references and citations"),
        (markdown("::: {.callout-hint}\nx\n:::"), "unknown callout callout-hint; there are callout-note"),
        (markdown('::: {.callout-note colapse="true"}\nx\n:::'), "no attribute 'colapse'"),
        (markdown('::: {.callout-note collapse="yes"}\nx\n:::'), "true or false is wanted"),
        (markdown("::: {.x}\nnever closed"), "opened here and never closed"),
        (markdown("![A](images/none.png)"), "there is no image images/none.png in posts/a/"),
        (markdown("![A](https://example.com/a.png)"), "keep a copy in images/"),
        (markdown("![](images/dot.png)"), "has no alt text"),
        (markdown("[x](../nowhere/index.ipynb)"), "the link to ../nowhere/index.ipynb leads nowhere"),
        (markdown("$\\notacommand{x}$"), "the formula .* is not one that pandoc knows"),
        (markdown("# A title"), "sections begin with '##'"),
        (markdown("{{< video x >}}"), "unknown shortcode"),
        (markdown("::: {layout-ncol=9}\nx\n:::"), "a number from 1 to 6"),
        (
            markdown("![A](images/dot.png){#fig-a}\n\n![B](images/dot.png){#fig-a}"),
            "the label fig-a is given twice",
        ),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, cell: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        render(tmp_path, cell)
    assert str(error.value).startswith("posts/a/index.ipynb")
    assert "\n" not in str(error.value)


def test_the_cell_that_is_named_is_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"posts/a/index.ipynb, cell 3 \(here\): @fig-none"):
        render(tmp_path, markdown("Fine."), markdown("See @fig-none.", id="here"), markdown("Fine."))


def test_the_cell_that_shows_something_is_named_before_one_that_has_it_in_its_code(tmp_path: Path) -> None:
    first = code('say("$\\\\alpha = 50$")', display(text_markdown="Fine: $\\alpha = 50$."), id="fine")
    second = code("claims()", display(text_markdown="Not fine: $\\\\alpha = 50$."), id="bad")
    with pytest.raises(InputError, match=r"cell 3 \(bad\): the formula"):
        render(tmp_path, first, second)


def test_two_cells_with_one_label(tmp_path: Path) -> None:
    one = code("#| label: fig-x\n#| fig-alt: a\n1", picture(3, 2))
    with pytest.raises(InputError, match="cell 3: the label fig-x is already that of cell 2"):
        render(tmp_path, one, dict(one, id="again"))


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("title: a: b", "the front matter is not YAML at line 2"),
        ("title: x\ncatgories: [a]", "no key 'catgories'; did you mean categories?"),
        ("title: x\ndate: yesterday", "date is 'yesterday'"),
        ("title: x\ndate: 2024-01-01\ndate-modified: today", "date-modified would change with each build"),
        ("title: x\ndate: 2024-01-01\ncategories: paper", "categories is 'paper'; a list"),
        ("title: x\ndate: 2024-01-01\nother-links: [Paper]", "other-links"),
        ("title: x", "date is missing"),
        ("title: x\ndate: 2024-01-01\nimage: none.png", "image: there is no none.png"),
        ("title: 3\ndate: 2024-01-01", "title is 3; a text is wanted"),
    ],
)
def test_bad_front_matter(tmp_path: Path, front: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(tmp_path, markdown("Text."), front=front)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON at line 1"),
        ("[]", "nbformat 4"),
        ('{"cells": [], "nbformat": 3}', "nbformat 4"),
        ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "no front matter"),
    ],
)
def test_not_a_notebook(tmp_path: Path, text: str, message: str) -> None:
    root = project.make(tmp_path, {"a": text})
    with pytest.raises(InputError, match=f"posts/a/index.ipynb.*{message}"):
        embedded.render_site(settings.settings(root), project.stored(root), {}, root / ".build/pages")


def test_a_page_that_is_not_utf8(tmp_path: Path) -> None:
    root = project.make(tmp_path)
    (root / "about/index.qmd").write_bytes(b"---\ntitle: \xff\n---\n")
    with pytest.raises(InputError, match="about/index.qmd: cannot be read as UTF-8"):
        embedded.render_site(settings.settings(root), project.stored(root), {}, root / ".build/pages")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title: A test\n", "name: x\n"), "_quarto.yml: title is missing"),
        (("  site-url: https://example.org/test\n", ""), "_quarto.yml: site-url is missing"),
        (("website:", "website: 3 #"), "_quarto.yml"),
    ],
)
def test_bad_settings(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    root = project.make(tmp_path)
    path = root / "_quarto.yml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        settings.settings(root)
