"""What is wrong with a built site, by either renderer: links, ids, images, leaks, the feed, requests, weight.

for problem in check(root()): ...      # the site in the project's output folder
check_site(Path("_site"), "https://example.org/blog")
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import lxml.etree
import lxml.html

from lib.site.settings import settings

LEAKS = (
    "code-summary",
    "code-fold:",
    "?@",
    "Text(0",
    "{{<",
    ":::",
    "<Figure size",
    "#| ",
    "other-links:",
    "@fig-",
    "@tbl-",
    "@eq-",
    "@sec-",
)
WEIGHT = 300_000


@dataclass(frozen=True)
class Problem:
    """Something wrong. page: the file in the site. token: what to look for in its source."""

    page: str
    message: str
    token: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {self.message}"


def check(root: Path) -> list[Problem]:
    """The problems of the site that was built in the project."""
    site = settings(root)
    folder = root / site.output
    if not (folder / "index.html").is_file():
        return [Problem(site.output, "there is no site yet; posts site builds it")]
    return check_site(folder, site.url)


def check_site(folder: Path, url: str) -> list[Problem]:
    """The problems of the site in `folder`, which is to be served at `url`."""
    pages = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.html"))}
    trees = {
        name: lxml.html.document_fromstring(path.read_text(encoding="utf-8")) for name, path in pages.items()
    }
    # Quarto gives the sheets of both themes one id, in the head, where no link leads.
    ids = {
        name: [e.get("id") for e in tree.xpath("//body/descendant-or-self::*[@id]")]
        for name, tree in trees.items()
    }
    problems: list[Problem] = []
    for name, tree in trees.items():
        problems += _ids(name, ids[name])
        problems += _links(name, tree, folder, ids, urlsplit(url).path.rstrip("/"), url)
        problems += _images(name, tree)
        problems += _requests(name, tree, url)
        problems += _leaks(name, tree)
        problems += _weight(name, tree, folder, pages[name])
    return problems + list(_feed(folder / "posts/index.xml", folder, url))


def _ids(name: str, ids: list[str]) -> Iterator[Problem]:
    for identifier in sorted({item for item in ids if ids.count(item) > 1}):
        yield Problem(
            name,
            f"the id {identifier!r} is there {ids.count(identifier)} times; rename a heading, label or cell id",
            identifier,
        )


def _links(
    name: str, tree: lxml.html.HtmlElement, folder: Path, ids: dict[str, list[str]], prefix: str, url: str
) -> Iterator[Problem]:
    for element in tree.xpath("//a[@href] | //link[@href] | //img[@src] | //script[@src] | //source[@src]"):
        target = element.get("href") or element.get("src") or ""
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or target.startswith("data:"):
            continue
        path = unquote(parts.path)
        if path.startswith("/"):
            path = path.removeprefix(prefix).lstrip("/")
        elif path:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        else:
            path = name
        if path in ("", ".") or (folder / path).is_dir():
            path = posixpath.normpath(posixpath.join(path, "index.html"))
        if path.startswith("..") or not (folder / path).is_file():
            yield Problem(name, f"the link to {target} leads nowhere", target)
        elif (
            path in ids
            and parts.fragment
            and "=" not in parts.fragment
            and unquote(parts.fragment) not in ids[path]
        ):
            yield Problem(name, f"the link to {target} leads to no place in {path}", f"#{parts.fragment}")


def _images(name: str, tree: lxml.html.HtmlElement) -> Iterator[Problem]:
    for image in tree.xpath("//main//img"):
        source = image.get("src", "")
        # A thumbnail in one of Quarto's listings stands beside the title that says what it shows.
        hidden = (
            image.xpath("ancestor::*[@aria-hidden='true']")
            or "thumbnail-image" in image.get("class", "").split()
        )
        if not (image.get("alt") or "").strip() and not hidden:
            yield Problem(
                name, f"the image {source} has no alt text; add fig-alt", posixpath.basename(source)
            )
        if not (image.get("width") and image.get("height")) and "width" not in (image.get("style") or ""):
            yield Problem(
                name, f"the image {source} has no width and height, so the page moves while it loads", source
            )


def _requests(name: str, tree: lxml.html.HtmlElement, url: str) -> Iterator[Problem]:
    own = urlsplit(url).netloc
    asking = "//script[@src] | //img[@src] | //iframe[@src] | //video[@src] | //source[@src] | //link[@href]"
    for element in tree.xpath(asking):
        if element.tag == "link" and element.get("rel") in ("canonical", "alternate"):
            continue
        target = element.get("src") or element.get("href") or ""
        netloc = urlsplit(target).netloc
        if netloc and netloc != own:
            yield Problem(
                name, f"<{element.tag}> asks {netloc} for {target}; keep a copy in the site", target
            )


def _leaks(name: str, tree: lxml.html.HtmlElement) -> Iterator[Problem]:
    for main in tree.xpath("//main"):
        words = " ".join(
            main.xpath(
                ".//text()[not(ancestor::pre or ancestor::code or ancestor::script or ancestor::style or ancestor::annotation)]"
            )
        )
        for leak in LEAKS:
            if leak in words:
                at = words.index(leak)
                around = " ".join(words[max(0, at - 30) : at + 40].split())
                yield Problem(name, f"{leak!r} shows on the page: …{around}…", leak)
        for code in main.xpath(".//code[contains(concat(' ', @class, ' '), ' sourceCode ')]"):
            for line in code.text_content().splitlines():
                if re.match(r"\s*#\s?\|?\s*(code-summary|code-fold|label|fig-cap)\s*:", line):
                    yield Problem(
                        name,
                        f"the option line {line.strip()!r} shows as code; '#| ' begins an option",
                        line.strip(),
                    )


def _weight(name: str, tree: lxml.html.HtmlElement, folder: Path, path: Path) -> Iterator[Problem]:
    """What a page weighs with its own sheets, scripts and all fonts; Quarto's library, shared by all, is Quarto's affair."""
    asked: set[Path] = set()
    for target in tree.xpath("//link[@rel='stylesheet' or @rel='preload']/@href | //script/@src"):
        beside = folder / posixpath.normpath(posixpath.join(posixpath.dirname(name), urlsplit(target).path))
        if target.startswith("/") or "site_libs/" in target or not beside.is_file():
            continue
        asked.add(beside)
        if beside.suffix == ".css":
            urls = re.findall(r"url\([\"']?([^\"')]+)", beside.read_text(encoding="utf-8"))
            fonts = [beside.parent / url for url in urls if url.endswith(".woff2")]
            asked |= {Path(posixpath.normpath(font)) for font in fonts if font.is_file()}
    total = path.stat().st_size + sum(file.stat().st_size for file in asked)
    if total > WEIGHT:
        yield Problem(
            name, f"{total / 1000:.0f} kB without its figures; a page has at most {WEIGHT / 1000:.0f} kB"
        )


def _feed(path: Path, folder: Path, url: str) -> Iterator[Problem]:
    name = path.relative_to(folder).as_posix()
    if not path.is_file():
        yield Problem(name, "there is no feed")
        return
    try:
        channel = lxml.etree.fromstring(path.read_bytes()).find("channel")
    except lxml.etree.XMLSyntaxError as error:
        yield Problem(name, f"is not XML: {error.msg}")
        return
    if channel is None:
        yield Problem(name, "is not RSS 2.0: no channel")
        return
    from email.utils import parsedate_to_datetime

    last = None
    for item in channel.findall("item"):
        link, guid, date = (item.findtext(tag) or "" for tag in ("link", "guid", "pubDate"))
        if link != guid:
            yield Problem(name, f"the guid of {link} is {guid}; they are to be equal")
        inside = link.removeprefix(url).lstrip("/")
        if not link.startswith(url) or not (folder / inside / "index.html").is_file():
            yield Problem(name, f"the item {link} is no page of the site")
        try:
            when = parsedate_to_datetime(date)
        except ValueError:
            yield Problem(name, f"the date of {link} is {date!r}")
            continue
        if last is not None and when > last:
            yield Problem(name, f"{link} comes after an older post; newest first is wanted")
        last = when
        if not (item.findtext("description") or "").strip():
            yield Problem(name, f"{link} has no text")
