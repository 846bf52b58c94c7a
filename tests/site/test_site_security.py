"""What stands in a front matter is text on every page; what a notebook displayed acts in its own page at most."""

from __future__ import annotations

import gzip
from pathlib import Path

import lxml.etree
import lxml.html
import pytest

from lib.site import build as building
from lib.site import check
from lib.site.execute import Executed
from tests.site import project
from tests.site.project import code, display, markdown, notebook, picture

EVIL = """<img src=x onerror='alert(1)'></script> "quoted" & more"""
FRONT = f"""
title: |
  {EVIL}
subtitle: |
  {EVIL}
date: 2024-01-02
categories: ["<b>bold</b>", "a,b"]
description: |
  {EVIL}
image: index_files/figure-html/fig-a-output-1.png
image-alt: |
  {EVIL}
"""
ACTS = (
    "<script>document.title = 'scriptword'</script><iframe src='about:blank'></iframe>"
    "<p onclick=\"alert('handlerword')\">said</p><a href='javascript:alert(1)'>linked</a>"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = [
        markdown(
            "## One\n\nA sentence about `<img src=x onerror=alert(1)>` and gherkins.\n\n## Two\n\nText."
        ),
        code(
            f'#| label: fig-a\n#| fig-cap: A < b & c\n#| fig-alt: |\n#|   {EVIL}\n#| code-summary: "Draw </summary><b>it\'s</b>"\n1',
            picture(40, 30),
        ),
        code("acts()", display(text_html=ACTS)),
    ]
    root = project.make(tmp_path_factory.mktemp("evil"), {"evil": notebook(FRONT, *cells)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
        return building.build(root, renderer="embedded").out


def test_front_matter_is_text_everywhere(site: Path) -> None:
    for name in ("index.html", "posts/index.html", "posts/evil/index.html"):
        tree = lxml.html.document_fromstring((site / name).read_text(encoding="utf-8"))
        assert not tree.xpath("//img[@src='x'] | //*[@onerror]"), name
        assert not tree.xpath("//main//b"), name
    tree = lxml.html.document_fromstring((site / "posts/evil/index.html").read_text(encoding="utf-8"))
    assert tree.xpath("string(//h1)").strip() == EVIL
    assert EVIL in tree.xpath("string(//title)")
    curled = EVIL.replace('"quoted"', "“quoted”").replace("'alert(1)'", "’alert(1)’")
    assert " ".join(tree.xpath("string(//*[contains(@class, 'subtitle')])").split()) == curled
    assert tree.xpath("//meta[@name='description']/@content")[0].strip() == curled
    assert tree.xpath("//*[@id='fig-a']//img/@alt")[0].strip() == EVIL
    assert tree.xpath("string(//details/summary)") == "Draw </summary><b>it’s</b>"
    assert [a.text for a in tree.xpath("//a[@class='quarto-category']")] == ["<b>bold</b>", "a,b"]


def test_the_feed_says_it_as_text_and_holds_nothing_that_acts(site: Path) -> None:
    item = lxml.etree.parse(str(site / "posts/index.xml")).find("channel/item")
    assert item.findtext("title").strip() == EVIL
    assert [category.text for category in item.findall("category")] == ["<b>bold</b>", "a,b"]
    body = lxml.html.fragment_fromstring(item.findtext("description"), create_parent="div")
    assert "said" in body.text_content()
    assert not body.xpath(
        "//script | //iframe | //*[@onclick] | //*[@onerror] | //*[starts-with(@href, 'javascript')]"
    )
    assert "scriptword" not in item.findtext("description")


def test_the_search_index_holds_words_and_no_code_of_outputs(site: Path) -> None:
    kept = b"".join(
        gzip.decompress(path.read_bytes()) for path in site.glob("pagefind/fragment/*.pf_fragment")
    ).decode()
    assert "gherkins" in kept
    assert "said" in kept
    assert "scriptword" not in kept
    assert "handlerword" not in kept


def test_such_a_site_has_no_problem(site: Path) -> None:
    assert [
        str(p) for p in check.check_site(site, "https://example.org/test") if "alt text" not in str(p)
    ] == []
