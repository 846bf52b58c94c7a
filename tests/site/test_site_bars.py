"""The site's promises that no other file holds it to: the same bytes from kernels, one line for a bad source, the feed as read."""

from __future__ import annotations

import calendar
import shutil
import sys
from email.utils import parsedate_to_datetime
from pathlib import Path

import lxml.html
import pytest
import yaml

from lib import cli
from lib.site import build as building
from lib.site import mirror
from lib.site.execute import Executed
from lib.site.images import size
from tests.site import project
from tests.site.project import code, markdown, notebook
from tests.site.test_site_build import contents

ROOT = Path(__file__).resolve().parents[2]
FRONT = 'title: "A post"\ndate: 2024-01-02'
DRAWN = """\
#| label: fig-a
#| fig-cap: A line
#| fig-alt: A rising line
#| renderings: [light, dark]
from lib.plots import show


def draw(fig):
    fig.subplots().plot([0, 1], label="a")


show(draw, width=300, height=200)"""


def test_notebooks_executed_twice_give_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("papermill")
    text = notebook(FRONT, markdown("## One\n\nSee @fig-a.\n\n## Two\n\nText."), code(DRAWN))
    sites = []
    for name in ("one", "another/place"):
        root = project.make(tmp_path / name, {"a": text})
        report = building.build(root, renderer="embedded")
        assert report.ran == ("posts/a/index.ipynb",)
        sites.append(contents(report.out))
    assert sites[0] == sites[1]
    assert "posts/a/index_files/figure-html/fig-a-output-2.png" in sites[0]
    assert "posts/a/a.ipynb" in sites[0], "the executed notebook"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{", ["index.ipynb", "JSON"]),
        (notebook("title: [x\ndate: 2024-01-02"), ["index.ipynb", "front matter"]),
        (notebook("title: x"), ["index.ipynb", "date is missing"]),
        (
            notebook(FRONT, markdown("Fine.", id="fine"), markdown("![dot](images/none.png)", id="bad")),
            ["cell 3", "bad", "images/none.png"],
        ),
        (
            notebook(FRONT, code("#| fig-captoin: x\n1", id="bad")),
            ["cell 2", "fig-captoin", "did you mean fig-cap?"],
        ),
        (
            notebook(FRONT, code("#| label: a\n1", id="first"), code("#| label: a\n1", id="second")),
            ["cell 3", "the label a is already that of cell 2"],
        ),
        (notebook(FRONT, markdown("See @fig-none.", id="bad")), ["cell 2", "bad", "fig-none"]),
    ],
)
def test_a_bad_source_is_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    says: list[str],
) -> None:
    root = project.make(tmp_path)
    monkeypatch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
    building.build(root, renderer="embedded")
    before = contents(root / "_site")
    (root / "posts/other/index.ipynb").write_text(source, encoding="utf-8")
    monkeypatch.setenv("POSTS_ROOT", str(root))
    monkeypatch.setattr(sys, "argv", ["posts", "site", "--renderer", "embedded"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr().err
    assert stop.value.code == 2, told
    assert told.startswith("posts: posts/other/") and told.count("\n") == 1
    assert all(word in told for word in says), told
    assert contents(root / "_site") == before, "the last good site is touched"


@pytest.mark.parametrize("which", ["embedded", "real"])
def test_the_feed_as_a_reader_program_takes_it(request: pytest.FixtureRequest, which: str) -> None:
    feedparser = pytest.importorskip("feedparser")
    folder = request.getfixturevalue(which)
    found = feedparser.parse((folder / "posts/index.xml").read_bytes())
    assert not found.bozo
    assert found.version == "rss20"
    assert any(link.rel == "self" and link.href.endswith("/posts/index.xml") for link in found.feed.links)
    assert found.entries
    times = [calendar.timegm(entry.published_parsed) for entry in found.entries]
    assert times == sorted(times, reverse=True)
    for entry in found.entries:
        assert entry.id == entry.link
        assert entry.link.endswith("/")
        body = lxml.html.fragment_fromstring(entry.summary, create_parent="div")
        assert body.xpath(".//h2")
        assert not [
            src for src in body.xpath(".//img/@src | .//a/@href") if not src.startswith(("http", "mailto:"))
        ]


def test_the_tenth_post_has_its_time_of_day_and_no_switch_for_a_category(tmp_path: Path) -> None:
    front = (
        'title: "Label Refinery: A Softer Approach"\ndate: 2018-09-04T07:26:02-04:00\n'
        "categories: [deep learning, paper]"
    )
    root = project.make(tmp_path, {"label-refinery": notebook(front, markdown("## One\n\nText."))})
    for name in ("inventory.yml", "mirror.yml"):
        shutil.copyfile(ROOT / "posts" / name, root / "posts" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
        patch.setattr(building, "_generated", lambda root: {})
        out = building.build(root, renderer="embedded").out
    text = (out / "posts/index.xml").read_text(encoding="utf-8")
    assert "Tue, 04 Sep 2018 11:26:02 GMT" in text
    assert "mathjax" not in text
    problems = [str(problem) for problem in mirror.mirror(root)]
    assert not [line for line in problems if "date" in line or "categories" in line or "title" in line]


def test_nine_originals_are_of_local_midnight() -> None:
    known = yaml.safe_load((ROOT / "posts/inventory.yml").read_text(encoding="utf-8"))["posts"]
    assert len(known) == 9
    for post in known:
        moment = parsedate_to_datetime(post["pubDate"])
        assert (moment.hour, moment.minute) in ((4, 0), (5, 0)), "midnight in New York, by summer or winter"


def test_pictures_of_posts_are_drawn_at_twice_their_size(real: Path) -> None:
    seen = 0
    for page in real.glob("posts/*/index.html"):
        for image in lxml.html.document_fromstring(page.read_text(encoding="utf-8")).xpath("//main//img"):
            path = page.parent / image.get("src")
            if path.suffix != ".png" or "figure-html" not in image.get("src"):
                continue
            width, height = size(path.read_bytes(), path.name) or (0, 0)
            given = int(image.get("width")), int(image.get("height"))
            assert (width, height) == (2 * given[0], 2 * given[1]), f"{page.parent.name}: {path.name}"
            seen += 1
    assert seen


@pytest.mark.parametrize(
    "slip",
    [
        "share an id",
        "fig-",
        "Figures 1, 7, and 8",
        "Figures 1, 2 and 9",
        "leads to a notebook that was not published",
        "code-summary",
        "have no caption",
        "have no categories",
        "Mystical",
    ],
)
def test_the_errata_name_each_slip_of_the_originals(real: Path, slip: str) -> None:
    page = lxml.html.document_fromstring((real / "about/index.html").read_text(encoding="utf-8"))
    section = page.xpath("//section[@id='errata-of-the-originals']")[0]
    assert slip in " ".join(section.text_content().split())
