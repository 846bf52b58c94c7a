"""The page around a fragment: Jinja2 templates, the navigation, the listing, and our own style sheet and script."""

from __future__ import annotations

import datetime
import functools
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lib.site.state import Heading

HERE = Path(__file__).parent
WORDS_A_MINUTE = 200


@dataclass(frozen=True)
class Item:
    """A post in a listing."""

    title: str
    href: str
    date_text: str
    iso_day: str
    description: str
    categories: tuple[str, ...]
    reading_time: str
    image: str = ""
    image_dark: str = ""
    image_size: tuple[int, int] | None = None


@dataclass
class Entry:
    """A heading in the table of contents, with those below it."""

    id: str
    text: str
    children: list[Entry] = field(default_factory=list)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, in which a missing value is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )


@functools.cache
def assets() -> dict[str, bytes]:
    """Our own files of the site, by path below `assets/`."""
    folder = HERE / "assets"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@functools.cache
def version() -> str:
    """Ten digits that change with the assets, so that a browser never keeps old ones."""
    digest = hashlib.sha256()
    for name, data in assets().items():
        digest.update(name.encode() + b"\0" + data)
    return digest.hexdigest()[:10]


def page(template: str, **values: Any) -> str:
    """A template filled in. `content` and `footer` are HTML already."""
    for name in ("content", "footer"):
        if name in values:
            values[name] = Markup(values[name])
    return environment().get_template(template).render(version=version(), **values)


def listing(
    items: Iterable[Item], *, name: str, fields: list[str], filter: bool, level: int, href: str
) -> str:
    """The posts as a list; with `filter`, buttons for the categories above it."""
    items = list(items)
    names = sorted({category for item in items for category in item.categories}, key=str.casefold)
    counts = [(category, sum(category in item.categories for item in items)) for category in names]
    return (
        environment()
        .get_template("listing.html")
        .render(
            items=items,
            categories=counts,
            id=name,
            fields=fields,
            filter=filter,
            level=level,
            listing_href=href,
        )
    )


def contents(headings: Iterable[Heading], depth: int) -> list[Entry]:
    """The table of contents: sections of the second level, with those of the third below them."""
    top: list[Entry] = []
    for heading in headings:
        if heading.level == 2 or (heading.level <= depth and not top):
            top.append(Entry(heading.id, heading.text))
        elif heading.level == 3 and depth >= 3:
            top[-1].children.append(Entry(heading.id, heading.text))
    return top


def day(date: datetime.date) -> str:
    """A date for a reader: `June 18, 2024`."""
    return f"{date:%B} {date.day}, {date.year}"


def reading_time(words: int) -> str:
    """`6 min`, at 200 words a minute, at least one."""
    return f"{max(1, math.ceil(words / WORDS_A_MINUTE))} min"
