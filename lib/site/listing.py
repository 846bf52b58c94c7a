"""The lists of posts: on a page, as a feed, as a sitemap."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from lib.core import InputError
from lib.site import feed, pandoc, theme
from lib.site.images import TYPES
from lib.site.place import Built, Files, base, first_picture, picture, size_of, url_of, when
from lib.site.settings import Site


def listings(item: Built) -> list[dict[str, Any]]:
    """The listings that a page's front matter asks for. Raises InputError for a key that is not known."""
    found = item.page.meta.get("listing") or []
    specs = found if isinstance(found, list) else [found]
    known = {
        "id",
        "contents",
        "sort",
        "type",
        "max-items",
        "fields",
        "categories",
        "feed",
        "sort-ui",
        "filter-ui",
        "page-size",
    }
    for spec in specs:
        unknown = set(spec) - known if isinstance(spec, dict) else {repr(spec)}
        if unknown:
            raise InputError(f"{item.path}: front matter: listing: no key {', '.join(sorted(unknown))}")
    return specs


def listing(item: Built, spec: dict[str, Any], site: Site, posts: list[Built], files: Files) -> str:
    root = base(item, site)
    chosen = posts[: spec["max-items"]] if spec.get("max-items") else posts
    entries = []
    for post in chosen:
        card = first_picture(post, files)
        dark = re.sub(r"-output-1\.png$", "-output-2.png", card)
        twin = dark if dark != card and dark in files and "dark-content" in post.fragment.html else ""
        found = size_of(files, card)
        entries.append(
            theme.Item(
                title=post.title,
                href=root + post.output,
                date_text=theme.day(when(post)),
                iso_day=str(when(post).date()),
                description=pandoc.curly(
                    " ".join(
                        str(post.page.meta.get("description") or post.page.meta.get("subtitle") or "").split()
                    )
                ),
                categories=tuple(post.page.meta.get("categories") or ()),
                reading_time=theme.reading_time(post.fragment.words),
                image=root + card if card else "",
                image_dark=root + twin if twin else "",
                image_size=found,
            )
        )
    fields = spec.get("fields") or ["image", "date", "title", "description", "categories", "reading-time"]
    return theme.listing(
        entries,
        name=str(spec.get("id", "listing")),
        fields=list(fields),
        filter=bool(spec.get("categories")),
        level=3 if "<h2" in item.fragment.html.partition(f'<div id="{spec.get("id")}">')[0] else 2,
        href=root + "posts/index.html",
    )


def with_listing(content: str, listing: str, spec: dict[str, Any]) -> str:
    place = f'<div id="{spec.get("id")}">\n</div>'
    empty = f'<div id="{spec.get("id")}">\n\n</div>'
    for candidate in (place, empty):
        if candidate in content:
            return content.replace(candidate, f'<div id="{spec.get("id")}">\n{listing}</div>')
    return content + listing


def rss(item: Built, spec: dict[str, Any], site: Site, posts: list[Built], files: Files) -> bytes:
    given = spec["feed"] if isinstance(spec["feed"], dict) else {}
    entries = []
    for post in posts[: int(given.get("items", 20))]:
        url = url_of(site, post.output)
        card, image = picture(post, files), None
        if card:
            width, height = size_of(files, card) or (0, 0)
            image = (f"{site.url}/{card}", TYPES.get(Path(card).suffix, "image/png"), width, height)
        entries.append(
            feed.Entry(
                title=post.title,
                url=url,
                html=feed.absolute(post.fragment.html, url),
                categories=tuple(post.page.meta.get("categories") or ()),
                date=when(post),
                author=str(post.page.meta.get("author", "")),
                image=image,
            )
        )
    address = f"{site.url}/{Path(item.output).with_suffix('.xml')}"
    return feed.feed(
        str(given.get("title", site.title)),
        str(given.get("description") or site.description),
        url_of(site, item.output),
        address,
        entries,
    )


def sitemap(site: Site, built: list[Built]) -> bytes:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
    ]
    for item in built:
        if item.output != "404.html":
            lines.append(f"<url><loc>{html.escape(url_of(site, item.output))}</loc></url>")
    return "\n".join([*lines, "</urlset>", ""]).encode()
