"""The site held against what the originals contain: feed, sections, figures, tables; differences are declared, or problems.

    for problem in mirror(root()): ...     # of the built site; posts without a notebook are drafts and left out

`posts/inventory.yml` lists the originals' facts, `posts/mirror.yml` the feed's declared differences, and
`posts/<slug>/mirror.yml` those of a post:

    figures:                               # the original's image -> the label of its counterpart here
      images/fig1.png: fig-paper
    tables:                                # the original's table, by number -> our label
      1: tbl-results
    sections:                              # the original's heading -> ours, where it was renamed
      What I learned / practiced: What we found
    exceptions:                            # what has no counterpart here -> why, in a sentence
      images/photo.png: The photograph shows the author's desk.
    notes: {fig-paper: …}                  # anything worth saying about what has one
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import lxml.etree
import lxml.html

from lib.core import InputError
from lib.project import read_yaml
from lib.site.check import Problem
from lib.site.settings import settings

FIELDS = ("figures", "tables", "sections", "exceptions", "notes")


def originals(root: Path) -> dict[str, dict[str, Any]]:
    """The originals by slug, newest first: title, link, date (ISO), categories, and what the page holds."""
    inventory = _yaml(root / "posts/inventory.yml")
    found = {
        post["slug"]: {
            **post,
            "date": post["date_local"][:10],
            "categories": post.get("categories", []),
            "moment": parsedate_to_datetime(post["pubDate"]),
        }
        for post in inventory.get("posts", [])
    }
    nikola = inventory.get("nikola_post")
    if nikola:
        # The tenth post comes from another blog and another engine; its pubDate is a time of day, not midnight.
        meta = nikola["meta"]
        found[meta["slug"]] = {
            "slug": meta["slug"],
            "title": meta["title"],
            "link": f"https://bjlkeng.io/posts/{meta['slug']}/",
            "date": meta["date"][:10],
            "moment": parsedate_to_datetime("Tue, 04 Sep 2018 11:26:02 GMT"),
            "categories": [],
            "sections": [{"level": h["level"], "text": h["text"]} for h in nikola["headings"]],
            "figures": nikola["figures"],
            "tables": [nikola["table1"]],
        }
    return dict(sorted(found.items(), key=lambda pair: pair[1]["moment"], reverse=True))


def mirror(root: Path, folder: Path | None = None) -> list[Problem]:
    """Where the built site (in `folder`, default: the project's output) differs from the originals without saying so."""
    site = settings(root)
    folder = folder or root / site.output
    known = originals(root)
    declared = _yaml(root / "posts/mirror.yml", ("titles", "categories"))
    problems = list(_feed(folder / "posts/index.xml", known, declared, site.url))
    for slug, original in known.items():
        page = folder / "posts" / slug / "index.html"
        if page.is_file():
            problems += _post(root, slug, original, page)
    return problems


def _yaml(path: Path, fields: tuple[str, ...] | None = None) -> dict[str, Any]:
    name = "/".join(path.parts[-3:] if path.parent.parent.name == "posts" else path.parts[-2:])
    if not path.is_file():
        return {}
    found = read_yaml(path, name) or {}
    if not isinstance(found, dict):
        raise InputError(f"{name}: a mapping is wanted")
    for key in found if fields else ():
        if key not in (fields or ()):
            raise InputError(f"{name}: no field {key!r}; there are {', '.join(fields or ())}")
    return {key: value or {} for key, value in found.items()}


# --- the feed ------------------------------------------------------------------------------------------------------


def _feed(path: Path, known: dict[str, Any], declared: dict[str, Any], url: str) -> Iterator[Problem]:
    name = "posts/index.xml"
    if not path.is_file():
        yield Problem(name, "there is no feed")
        return
    channel = lxml.etree.fromstring(path.read_bytes()).find("channel")
    items = {}
    for item in channel.findall("item"):
        items[(item.findtext("link") or "").rstrip("/").rpartition("/")[2]] = item
    order = [slug for slug in items if slug in known]
    wanted = [slug for slug in known if slug in items]
    if order != wanted:
        yield Problem(name, f"the order is {', '.join(order)}; the originals' is {', '.join(wanted)}")
    for slug, item in items.items():
        original = known.get(slug)
        if original is None:
            continue
        title = declared.get("titles", {}).get(slug, original["title"])
        if item.findtext("title") != title:
            yield Problem(
                name, f"{slug}: the title is {item.findtext('title')!r}; the original's is {title!r}"
            )
        if parsedate_to_datetime(item.findtext("pubDate") or "") != original["moment"]:
            when = original["moment"].strftime("%a, %d %b %Y %H:%M:%S GMT")
            yield Problem(name, f"{slug}: the date is {item.findtext('pubDate')}; the original's is {when}")
        categories = sorted(element.text or "" for element in item.findall("category"))
        expected = sorted(declared.get("categories", {}).get(slug, original["categories"]))
        if categories != expected:
            yield Problem(
                name, f"{slug}: the categories are {', '.join(categories)}; wanted are {', '.join(expected)}"
            )


# --- a post --------------------------------------------------------------------------------------------------------


def _post(root: Path, slug: str, original: dict[str, Any], path: Path) -> Iterator[Problem]:
    page = f"posts/{slug}/index.html"
    declared = _yaml(root / "posts" / slug / "mirror.yml", FIELDS)
    tree = lxml.html.document_fromstring(path.read_text(encoding="utf-8"))
    ids = set(tree.xpath("//main//@id"))
    exceptions = {str(key): str(value) for key, value in declared.get("exceptions", {}).items()}
    for key, reason in exceptions.items():
        if len(reason.split()) < 4:
            yield Problem(
                page, f"mirror.yml: the exception for {key} is {reason!r}; a sentence that says why is wanted"
            )
    figures = {str(key): value for key, value in declared.get("figures", {}).items()}
    sources = [figure["src"] for figure in original.get("figures", [])]
    for source in dict.fromkeys(sources):
        yield from _counterpart(page, "figure", source, figures, exceptions, ids)
    for source in set(figures) - set(sources):
        yield Problem(page, f"mirror.yml: the original has no figure {source}")
    tables = {str(key): value for key, value in declared.get("tables", {}).items()}
    for number in range(1, len(original.get("tables", [])) + 1):
        yield from _counterpart(page, "table", str(number), tables, exceptions, ids)
    yield from _sections(page, tree, original, declared.get("sections", {}), exceptions)


def _counterpart(
    page: str, kind: str, key: str, given: dict[str, Any], exceptions: dict[str, str], ids: set[str]
) -> Iterator[Problem]:
    if key in given:
        if str(given[key]) not in ids:
            yield Problem(
                page, f"the original's {kind} {key} is to be {given[key]} here, but there is no such label"
            )
    elif key not in exceptions:
        yield Problem(
            page, f"the original's {kind} {key} has no counterpart; name its label, or why not, in mirror.yml"
        )


def _sections(
    page: str,
    tree: lxml.html.HtmlElement,
    original: dict[str, Any],
    renamed: dict[str, Any],
    exceptions: dict[str, str],
) -> Iterator[Problem]:
    ours = [
        _plain(heading.text_content())
        for heading in tree.xpath("//main//section/*[self::h2 or self::h3 or self::h4]")
    ]
    at = 0
    for section in original.get("sections", []):
        text = str(section["text"])
        if text == "Footnotes" or text in exceptions:
            continue
        wanted = _plain(str(renamed.get(text, text)))
        if wanted in ours[at:]:
            at += ours[at:].index(wanted) + 1
        elif wanted in ours:
            yield Problem(page, f"the section {wanted!r} stands before one that it follows in the original")
        else:
            yield Problem(page, f"there is no section {wanted!r}; renamed ones are declared in mirror.yml")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()
