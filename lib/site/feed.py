"""The feed, `posts/index.xml`: RSS 2.0 with the posts' full text, in the order and form of Quarto's.

    xml = feed(title, link, address, entries)

Dates are local midnight in the time zone of the originals (America/New_York), written in GMT. Nothing depends on when
the feed is made: `lastBuildDate` is the newest post's date.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import urljoin
from zoneinfo import ZoneInfo

import lxml.etree
import lxml.html
from feedgen.feed import FeedGenerator

ZONE = ZoneInfo("America/New_York")
ORDER = ("title", "creator", "link", "description", "category", "guid", "pubDate", "content")
GENERATOR = "ten-posts"


@dataclass(frozen=True)
class Entry:
    """A post in the feed. image: address, type, width and height of its picture, or None."""

    title: str
    url: str
    html: str
    categories: tuple[str, ...]
    date: datetime.datetime
    author: str = ""
    image: tuple[str, str, int, int] | None = None


def moment(date: datetime.date | datetime.datetime) -> datetime.datetime:
    """A front matter's date as a time: midnight in New York where it names no time of its own."""
    if not isinstance(date, datetime.datetime):
        date = datetime.datetime.combine(date, datetime.time())
    return date if date.tzinfo else date.replace(tzinfo=ZONE)


def feed(title: str, description: str, link: str, address: str, entries: Iterable[Entry]) -> bytes:
    """The feed's XML. link: the page that it is the feed of; address: its own. Entries come newest first."""
    entries = list(entries)
    generator = FeedGenerator()
    generator.load_extension("media", atom=False, rss=True)
    generator.load_extension("dc", atom=False, rss=True)
    generator.title(title)
    generator.link(href=address, rel="self", type="application/rss+xml")
    generator.link(href=link, rel="alternate")  # the last one is the channel's link
    generator.description(description or title)
    generator.generator(GENERATOR)
    latest = max((entry.date for entry in entries), default=datetime.datetime(2000, 1, 1, tzinfo=ZONE))
    generator.lastBuildDate(latest.astimezone(datetime.UTC))
    for entry in entries:
        item = generator.add_entry(order="append")
        item.title(entry.title)
        item.link(href=entry.url)
        item.guid(entry.url, permalink=True)
        item.content(entry.html, type="CDATA")
        item.pubDate(entry.date.astimezone(datetime.UTC))
        if entry.categories:
            item.category([{"term": name} for name in entry.categories])
        if entry.author:
            item.dc.dc_creator(entry.author)
        if entry.image:
            url, kind, width, height = entry.image
            item.media.content(
                url=url, medium="image", type=kind, height=str(height), width=str(width), group=None
            )
    return _ordered(generator.rss_str(pretty=False))


def _ordered(xml: bytes) -> bytes:
    """The feed with the children of each item in Quarto's order, dates in GMT, and without feedgen's own address."""
    root = lxml.etree.fromstring(xml, lxml.etree.XMLParser(strip_cdata=False))
    channel = root.find("channel")
    for name in ("docs",):
        for element in channel.findall(name):
            channel.remove(element)
    for element in channel.iter("pubDate", "lastBuildDate"):
        when = datetime.datetime.strptime(element.text, "%a, %d %b %Y %H:%M:%S %z")
        element.text = format_datetime(when.astimezone(datetime.UTC), usegmt=True)
    for item in channel.findall("item"):
        for guid in item.findall("guid"):
            guid.attrib.pop("isPermaLink", None)
        item[:] = sorted(item, key=lambda child: ORDER.index(lxml.etree.QName(child).localname))
        item.tail = "\n"
        for child in item:
            child.tail = "\n"
    return lxml.etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def absolute(html: str, url: str) -> str:
    """A page's fragment for readers elsewhere: whole addresses, one image for each figure, no scripts or controls."""
    root = lxml.html.fragment_fromstring(html, create_parent="div")
    for element in root.xpath("//*[@data-still]"):
        drawing = element.find(".//svg")
        image = lxml.html.Element("img", src=element.get("data-still"))
        for name, target in (("aria-label", "alt"), ("width", "width"), ("height", "height")):
            image.set(target, drawing.get(name, ""))
        image.tail = element.tail
        element.getparent().replace(element, image)
    for element in root.xpath(
        "//*[contains(concat(' ', @class, ' '), ' dark-content ')] | //script | //style | //button"
    ):
        element.drop_tree()
    for element in root.xpath("//iframe | //object | //embed | //form"):
        element.drop_tree()
    for element in root.iter(lxml.etree.Element):
        # What a notebook displayed may act in its page, and is text elsewhere.
        for name, value in list(element.attrib.items()):
            if name.startswith("on") or value.strip().lower().startswith("javascript:"):
                del element.attrib[name]
    for element in root.xpath("//a[@class='anchor'] | //a[@aria-hidden='true']"):
        element.drop_tree()
    for element in root.xpath("//a[@class='lightbox']"):
        element.drop_tag()
    for element in root.iter("a", "img", "source"):
        for name in ("href", "src"):
            target = element.get(name)
            if target and not target.startswith("#"):
                element.set(name, urljoin(url, target).removesuffix("index.html"))
            elif target:
                element.set(name, url + target)
    return "".join(lxml.html.tostring(copy.copy(child), encoding="unicode") for child in root).replace(
        "]]>", "]]&gt;"
    )
