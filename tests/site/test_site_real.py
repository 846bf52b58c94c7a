"""The project's own site held to the promises that it makes: what each post has, what drafts are, what the originals had."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

import lxml.etree
import lxml.html
import pytest

from lib.project import module_name
from lib.site import check, mirror, settings

ROOT = Path(__file__).resolve().parents[2]
SITE = settings.settings(ROOT)
SLUGS = sorted(path.parent.name for path in ROOT.glob("posts/*/index.ipynb"))
HERE = "contains(concat(' ', normalize-space(@class), ' '), ' {} ')"


@functools.cache
def tree(path: Path) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(path.read_text(encoding="utf-8"))


def words(element: lxml.html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_nothing_is_wrong_with_it(real: Path) -> None:
    assert [str(problem) for problem in check.check_site(real, SITE.url)] == []


def test_what_differs_from_the_originals_is_declared(real: Path) -> None:
    assert [str(problem) for problem in mirror.mirror(ROOT, real)] == []


def test_ten_posts_are_there_or_named_as_drafts(real: Path) -> None:
    listing = tree(real / "posts/index.html")
    items = lxml.etree.parse(str(real / "posts/index.xml")).findall("channel/item")
    listed = {href.split("/")[-2] for href in listing.xpath(f"//*[{HERE.format('quarto-post')}]//h2//@href")}
    fed = {item.findtext("link").split("/")[-2] for item in items}
    sitemap = (real / "sitemap.xml").read_text(encoding="utf-8")
    drafts = {a.get("href") for a in listing.xpath("//section[@id='not-rebuilt-yet']//a") if a.get("href")}
    known = mirror.originals(ROOT)
    assert len(known) == 10
    for slug, post in known.items():
        is_there = slug in SLUGS
        assert (slug in listed) is is_there
        assert (slug in fed) is is_there
        assert (f"/posts/{slug}/" in sitemap) is is_there
        assert (real / "posts" / slug / "index.html").is_file() is is_there
        assert (post["link"] in drafts) is not is_there
    assert [item.findtext("title") for item in items] == [
        words(title) for title in listing.xpath(f"//*[{HERE.format('listing-title')}]")
    ], "listing and feed have one order"


@pytest.mark.parametrize("slug", SLUGS)
def test_a_post_has_what_every_post_has(real: Path, slug: str) -> None:
    page = tree(real / "posts" / slug / "index.html")
    original = mirror.originals(ROOT).get(slug)
    links = {words(a): a.get("href") for a in page.xpath(f"//*[{HERE.format('quarto-other-links')}]//a")}
    assert {"Notebook", "Executed notebook", "Binder", "Colab"} <= set(links)
    assert links["Notebook"].endswith(f"/posts/{slug}/index.ipynb")
    assert (real / "posts" / slug / links["Executed notebook"]).is_file()
    if original is not None:
        assert original["link"].rstrip("/") in {str(href).rstrip("/") for href in links.values()}
        (day,) = page.xpath("//p[@class='date']/time/@datetime")
        assert day == original["date"]
    assert page.xpath("//p[@class='date-run']/time/@datetime")
    assert page.xpath("//meta[@property='og:image']/@content"), "image: in the front matter"
    assert page.xpath("//meta[@name='description']/@content")[0].strip()
    assert len(page.xpath("//nav[@id='TOC']//a")) >= 4


@pytest.mark.parametrize("slug", SLUGS)
def test_figures_are_numbered_captioned_described_and_say_where_they_come_from(real: Path, slug: str) -> None:
    page = tree(real / "posts" / slug / "index.html")
    figures = page.xpath("//main//*[starts-with(@id, 'fig-')][.//figcaption]")
    tops = [figure for figure in figures if not figure.xpath("ancestor::*[starts-with(@id, 'fig-')]")]
    assert tops
    numbers = [words(figure.xpath("./figure/figcaption")[0]) for figure in tops]
    for i, caption in enumerate(numbers, 1):
        assert caption.startswith(f"Figure {i}: "), caption
    for image in page.xpath("//main//*[starts-with(@id, 'fig-')]//img"):
        assert len(image.get("alt").split()) >= 3, image.get("src")
        assert image.xpath("ancestor::a[@class='lightbox']"), image.get("src")
    for drawing in page.xpath("//main//*[@role='img']"):
        assert len(drawing.get("aria-label").split()) >= 3
    runs = page.xpath(f"//*[{HERE.format('provenance')}]")
    assert runs
    assert all(" · " in words(run) and "commit" in words(run) for run in runs)
    for summary in page.xpath("//details[@class='code-fold']/summary"):
        assert words(summary) != "Code", "a code-summary says what the code does"


@pytest.mark.parametrize("slug", SLUGS)
def test_the_claims_end_the_page_and_are_the_scorecards(real: Path, slug: str) -> None:
    page = tree(real / "posts" / slug / "index.html")
    last = page.xpath("//main/section")[-1]
    rows = last.xpath(f".//*[{HERE.format('claims')}]//tbody/tr")
    assert rows
    section = tree(real / "scorecard/index.html").xpath(f"//section[@id='{slug}']")[0]

    def verdicts(table: list[lxml.html.HtmlElement]) -> list[str]:
        return [words(row.xpath(f".//*[{HERE.format('verdict')}]")[0]) for row in table]

    assert verdicts(rows) == verdicts(section.xpath(".//tbody/tr"))


def test_no_number_is_without_its_record_on_the_scorecard(real: Path) -> None:
    page = tree(real / "scorecard/index.html")
    for row in page.xpath(f"//*[{HERE.format('scorecard')}]//tbody/tr"):
        claim, _, _, _, ours, verdict, record = (words(cell) for cell in row.xpath("./td"))
        assert ours == "–" or record != "–", claim
        assert verdict.startswith(("reproduced", "not reproduced", "inconclusive")), claim


def test_each_erratum_has_its_claim_and_each_post_its_errata(real: Path) -> None:
    page, card = tree(real / "about/index.html"), tree(real / "scorecard/index.html")
    posts = set()
    for row in page.xpath(f"//*[{HERE.format('errata')}]//tbody/tr"):
        mistake, measured, ours, verdict = row.xpath("./td")
        target = verdict.xpath(".//a/@href")[0].partition("#")[2]
        (claim,) = card.xpath(f"//*[@id='{target}']/ancestor::tr[1]")
        assert words(claim).startswith(words(measured)) and words(ours) in words(claim), words(mistake)
        posts.add(mistake.xpath(".//a/@href")[0].split("/")[-2])
    assert posts == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_scorecard_counts_planted_mistakes(real: Path, slug: str) -> None:
    table = importlib.import_module(f"tests.mutations.{module_name(slug)}")
    section = tree(real / "scorecard/index.html").xpath(f"//section[@id='{slug}']")[0]
    assert f"have to notice {len(table.MISTAKES)} planted mistakes" in words(section)
