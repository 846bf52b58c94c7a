"""What a built site holds, whichever renderer made it: pages, sections, figures, folds, references, listing, feed.

Everything is looked up through selectors that Quarto 1.10's output has too, so this file is the definition of parity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import lxml.etree
import lxml.html
import pytest

Page = Callable[[str], lxml.html.HtmlElement]
TORTURE = "posts/torture/index.html"
NBSP = "\N{NO-BREAK SPACE}"


def one(tree: lxml.html.HtmlElement, path: str) -> lxml.html.HtmlElement:
    found = tree.xpath(path)
    assert len(found) == 1, f"{len(found)} of {path}"
    return found[0]


def has(name: str) -> str:
    return f"contains(concat(' ', normalize-space(@class), ' '), ' {name} ')"


def words(element: lxml.html.HtmlElement) -> str:
    """The text as a reader sees it: without TeX annotations, blanks folded (but not the no-break space)."""
    parts = element.xpath(".//text()[not(ancestor::*[local-name()='annotation'])]")
    return re.sub(r"[ \t\n]+", " ", "".join(parts)).strip()


def caption(page: lxml.html.HtmlElement, label: str) -> str:
    return words(one(page, f"//*[@id='{label}']/figure/figcaption"))


def test_pages_are_there(built: Path) -> None:
    for name in (
        "index.html",
        "404.html",
        "posts/index.html",
        TORTURE,
        "posts/other/index.html",
        "about/index.html",
    ):
        assert (built / name).is_file(), name
    assert (built / "posts/index.xml").is_file()
    assert (built / "sitemap.xml").is_file()


def test_title_block(page: Page) -> None:
    tree = page(TORTURE)
    assert words(one(tree, "//header[@id='title-block-header']//h1")) == "Torture: every construct at once"
    assert words(one(tree, f"//p[{has('subtitle')}]")) == "A page that no reader should see"
    assert [words(x) for x in tree.xpath(f"//*[{has('quarto-category')}]")] == ["deep learning", "paper"]
    assert len(tree.xpath("//h1")) == 1


def test_sections_nest_and_carry_the_ids(page: Page) -> None:
    main = one(page(TORTURE), "//main[@id='quarto-document-content']")
    found = [
        (section.get("id"), words(section.xpath("./h2 | ./h3")[0]))
        for section in main.xpath(f".//section[{has('level2')} or {has('level3')}]")
        if section.xpath(f"./*[{has('anchored')}]")
    ]
    assert found[:4] == [
        ("sec-intro", "Überblick: naïve α"),
        ("sec-deep", "Deeper"),
        ("code", "Code"),
        ("last", "Last"),
    ]
    assert main.xpath("//section[@id='sec-intro']/section[@id='sec-deep']")


def test_table_of_contents(page: Page) -> None:
    toc = one(page(TORTURE), "//nav[@id='TOC']")
    # Quarto has the other links of a post in it too.
    assert [a.get("href") for a in toc.xpath(".//a[starts-with(@href, '#')]")] == [
        "#sec-intro",
        "#sec-deep",
        "#code",
        "#last",
    ]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("fig-scatter", f"Figure{NBSP}1: A drawing whose caption has σ and a note"),
        ("fig-pair", f"Figure{NBSP}2: Two side by side"),
        ("fig-curve", f"Figure{NBSP}3: Accuracy against α, with bands."),
        ("fig-sub", f"Figure{NBSP}4: Both"),
        ("tbl-markdown", f"Table{NBSP}1: A table with emphasis and β"),
        ("tbl-frame", f"Table{NBSP}2: A frame"),
    ],
)
def test_floats_are_numbered_in_order(page: Page, label: str, text: str) -> None:
    assert caption(page(TORTURE), label).startswith(text)


def test_subfigures_are_lettered(page: Page) -> None:
    tree = page(TORTURE)
    assert caption(tree, "fig-pair-1") == "(a) First"
    assert caption(tree, "fig-pair-2") == "(b) Second"
    assert caption(tree, "fig-sub-1") == "(a) Left a"
    assert caption(tree, "fig-sub-2") == "(b) Right"
    for label in ("fig-pair", "fig-sub"):
        assert (
            len(
                tree.xpath(
                    f"//*[@id='{label}']//*[{has('quarto-layout-row')}]/*[{has('quarto-layout-cell')}]"
                )
            )
            == 2
        )


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("fig-curve", f"Figure{NBSP}3"),
        ("fig-pair", f"Figure{NBSP}2"),
        ("fig-scatter", f"Figure{NBSP}1"),
        ("fig-pair-2", f"Figure{NBSP}2 (b)"),
        ("tbl-markdown", f"Table{NBSP}1"),
        ("tbl-frame", f"Table{NBSP}2"),
        ("eq-mass", f"Equation{NBSP}1"),
        ("sec-deep", f"Section{NBSP}1.1"),
        ("fig-sub-2", f"Figure{NBSP}4 (b)"),
        ("sec-intro", f"Section{NBSP}1"),
    ],
)
def test_cross_references(page: Page, target: str, text: str) -> None:
    links = page(TORTURE).xpath(f"//a[{has('quarto-xref')}][@href='#{target}']")
    assert words(links[0]) == text


def test_other_forms_of_reference(page: Page) -> None:
    links = [words(a) for a in page(TORTURE).xpath(f"//a[{has('quarto-xref')}][@href='#fig-curve']")]
    assert links == [
        f"Figure{NBSP}3",
        "3",
        f"Fig.{NBSP}3",
        f"Figure{NBSP}3",
    ]  # the last stands in displayed Markdown
    (link,) = page(TORTURE).xpath("//main//a[contains(@href, 'other/')][contains(@href, '#fig-other')]")
    assert re.fullmatch(r"\.\./(\.\./posts/)?other/(index\.html)?#fig-other", link.get("href"))


def test_equation(page: Page) -> None:
    equation = one(page(TORTURE), "//*[@id='eq-mass']")
    assert equation.xpath(".//*[local-name()='math'][@display='block']")
    assert words(equation).replace("\u2062", "").endswith("(1)")


def test_math_is_mathml_and_asks_for_no_script(page: Page) -> None:
    tree = page(TORTURE)
    assert len(tree.xpath("//main//*[local-name()='math']")) >= 6
    assert not [s for s in tree.xpath("//script/@src") if "mathjax" in s.lower() or "katex" in s.lower()]


def test_folds_and_summaries(page: Page) -> None:
    tree = page(TORTURE)
    folds = tree.xpath(f"//details[{has('code-fold')}]")
    summaries = [words(fold.xpath("./summary")[0]) for fold in folds]
    assert "Draw the curve" in summaries
    assert "The source" in summaries
    shown = next(fold for fold in folds if words(fold.xpath("./summary")[0]) == "Shown at once")
    assert shown.get("open") is not None
    assert sum(fold.get("open") is not None for fold in folds) == 1
    plain = tree.xpath("//code[contains(., \"print('naïve')\")]")[0]
    assert not plain.xpath(f"ancestor::details[{has('code-fold')}]")
    # A summary is text: what looks like a tag in it is shown.
    assert "Draw <it>" in words(page("posts/other/index.html").xpath("//details/summary")[0])


def test_code_is_highlighted(page: Page) -> None:
    tree = page(TORTURE)
    assert tree.xpath(
        f"//div[{has('sourceCode')} and {has('cell-code')}]//code[{has('sourceCode')} and {has('python')}]"
    )
    assert tree.xpath(
        f"//details[normalize-space(summary)='The source']//code[{has('python')}]//span[{has('kw')}][text()='def']"
    )


def test_options_keep_things_off_the_page(page: Page) -> None:
    text = words(one(page(TORTURE), "//main"))
    for absent in (
        "SILENT OUTPUT",
        "A WARNING",
        "Text(0.5",
        'profile: str = "published"',
        "plt.plot()",
        'profile = "smoke"',
    ):
        assert absent not in text
    assert "silent()" in text  # output: false leaves the code


def test_light_and_dark(page: Page) -> None:
    figure = one(page(TORTURE), "//*[@id='fig-curve']")
    for mode, number in (("light", 1), ("dark", 2)):
        image = one(figure, f".//*[{has(f'{mode}-content')}]//img")
        assert image.get("src") == f"index_files/figure-html/fig-curve-output-{number}.png"
        assert image.get("alt") == "A falling curve"
        assert (image.get("width"), image.get("height")) == ("300", "200")


def test_images(page: Page, built: Path) -> None:
    tree = page(TORTURE)
    assert one(tree, "//*[@id='fig-scatter']//img").get("alt") == "A rising line"
    assert one(tree, "//*[@id='fig-scatter']//img").get("src") == "images/line.svg"
    for source in tree.xpath("//main//img/@src"):
        assert (built / "posts/torture" / source).is_file(), source
    unlabelled = tree.xpath("//figure[normalize-space(figcaption)='A figure with no label']")
    assert len(unlabelled) == 1
    boxes = tree.xpath(f"//a[{has('lightbox')}]")
    assert {a.get("href") for a in boxes} >= {
        "images/line.svg",
        "index_files/figure-html/fig-curve-output-1.png",
    }


def test_a_figure_that_moves(page: Page) -> None:
    tree = page(TORTURE)
    assert caption(tree, "fig-move") == f"Figure{NBSP}5: A figure that moves"
    box = one(tree, f"//*[@id='fig-move']//div[{has('interactive')}]")
    assert one(box, ".//svg").get("aria-label") == "Two bars"
    assert len(box.xpath(".//svg//rect[@data-series='share']")) == 2
    assert one(box, ".//input").get("value") == "1"
    assert not box.xpath(".//script/@src")


def test_callouts(page: Page) -> None:
    tree = page(TORTURE)
    tip = one(tree, f"//div[{has('callout')} and {has('callout-tip')}]")
    assert "A tip in a div" in words(one(tip, f".//*[{has('callout-title-container')}]"))
    assert tip.xpath(f"ancestor::div[{has('inner')}]/ancestor::div[{has('outer')}]")
    note = one(tree, f"//div[{has('callout')} and {has('callout-note')}]")
    body = one(note, f".//*[{has('callout-collapse')} and {has('collapse')}]")
    assert "Folded away" in words(body)
    assert "Why" in words(one(note, f".//*[{has('callout-title-container')}]"))


def test_tables(page: Page) -> None:
    tree = page(TORTURE)
    table = one(tree, "//*[@id='tbl-markdown']//table")
    assert [words(x) for x in table.xpath(".//th")] == ["Left", "Right"]
    assert [words(x) for x in table.xpath(".//td")] == ["naïve", "1", "α", "2"]
    frame = one(tree, "//*[@id='tbl-frame']//table")
    assert [words(x) for x in frame.xpath(".//tbody//td")] == ["1"]
    assert len(tree.xpath("//table[.//th[normalize-space()='column 19']]")) == 1


def test_outputs(page: Page) -> None:
    tree = page(TORTURE)
    assert words(tree.xpath(f"//div[{has('cell-output-stdout')}]")[0]) == "naïve <tag> & α"
    error = one(tree, f"//div[{has('cell-output-error')}]")
    assert "ZeroDivisionError: division by <zero>" in words(error)
    assert error.xpath(f".//span[{has('ansi-red-fg')}]")
    assert "\x1b" not in words(error)
    assert one(tree, f"//p[{has('raw-html')}]/b").text == "HTML"
    assert words(one(tree, f"//div[{has('provenance')}]")).startswith("laptop · MNIST")


def test_footnotes_and_citations(page: Page) -> None:
    tree = page(TORTURE)
    notes = tree.xpath("//section[@id='footnotes']//li")
    assert [words(note).rstrip("↩︎").strip() for note in notes] == [
        "A note with x2 and code.",
        "A footnote in a caption.",
    ]
    for reference in tree.xpath(f"//a[{has('footnote-ref')}]"):
        assert tree.xpath(f"//*[@id='{reference.get('href')[1:]}']")
    assert "Doe" in words(one(tree, "//*[@id='ref-doe2001']"))
    assert [words(x) for x in tree.xpath(f"//span[{has('citation')}]")] == ["Doe (2001)", "(Doe 2001)"]
    assert tree.xpath(f"//span[{has('citation')}]/a/@href") == ["#ref-doe2001"] * 2


def test_listing(page: Page) -> None:
    tree = page("posts/index.html")
    posts = tree.xpath(f"//div[{has('quarto-listing-default')}]//div[{has('quarto-post')}]")
    titles = [words(one(post, f".//*[{has('listing-title')}]")) for post in posts]
    assert titles == ["Torture: every construct at once", "Other"]
    assert "torture" in one(posts[0], f".//*[{has('listing-title')}]//a").get("href")
    assert [words(x) for x in posts[0].xpath(f".//*[{has('listing-category')}]")] == [
        "deep learning",
        "paper",
    ]
    assert words(one(posts[1], f".//*[{has('listing-description')}]")) == "Fish & chips"
    assert re.search(r"\d+ min", words(one(posts[0], f".//*[{has('listing-reading-time')}]")))
    assert (
        len(page("index.html").xpath(f"//*[@id='newest' or @id='listing-newest']//div[{has('quarto-post')}]"))
        == 1
    )


def test_feed(built: Path) -> None:
    channel = lxml.etree.parse(str(built / "posts/index.xml")).getroot().find("channel")
    items = channel.findall("item")
    assert [item.findtext("title") for item in items] == ["Torture: every construct at once", "Other"]
    assert [item.findtext("link") for item in items] == [
        "https://example.org/test/posts/torture/",
        "https://example.org/test/posts/other/",
    ]
    assert [item.findtext("guid") for item in items] == [item.findtext("link") for item in items]
    assert [item.findtext("pubDate") for item in items] == [
        "Tue, 18 Jun 2024 04:00:00 GMT",
        "Fri, 01 Dec 2023 05:00:00 GMT",
    ]
    assert [c.text for c in items[0].findall("category")] == ["deep learning", "paper"]
    assert channel.findtext("link") == "https://example.org/test/posts/"
    self_link = channel.find("{http://www.w3.org/2005/Atom}link")
    assert (self_link.get("href"), self_link.get("rel")) == (
        "https://example.org/test/posts/index.xml",
        "self",
    )
    assert parsedate_to_datetime(channel.findtext("lastBuildDate"))
    names = [lxml.etree.QName(child).localname for child in items[0]]
    assert [n for n in names if n != "creator"] == [
        "title",
        "link",
        "description",
        "category",
        "category",
        "guid",
        "pubDate",
        "content",
    ]
    media = items[0].find("{http://search.yahoo.com/mrss/}content")
    assert media.get("url") == "https://example.org/test/posts/torture/images/dot.png"
    assert (media.get("medium"), media.get("type")) == ("image", "image/png")
    text = items[0].findtext("description")
    assert "Draw the curve" in text
    assert "application/json" not in text or "<svg" in text
    assert (
        'src="https://example.org/test/posts/torture/index_files/figure-html/fig-curve-output-1.png"' in text
    )


def test_nothing_is_asked_from_elsewhere(built: Path) -> None:
    for path in built.rglob("*.html"):
        tree = lxml.html.document_fromstring(path.read_text(encoding="utf-8"))
        asked = tree.xpath("//script/@src | //img/@src | //link[@rel='stylesheet']/@href | //iframe/@src")
        assert not [url for url in asked if url.startswith(("http:", "https:", "//"))], path
