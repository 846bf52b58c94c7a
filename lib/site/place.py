"""Where a page is in the site, and where its links lead.

item = Built(page, "posts/tent/index.ipynb", "posts/tent/index.html", root)
Links(item, site, outputs).resolve("../trm/index.ipynb#results")
"""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lib.core import InputError
from lib.site import feed
from lib.site.images import size
from lib.site.render import Rendered
from lib.site.settings import Site
from lib.site.source import Page

Files = dict[str, bytes | Path]


@dataclass
class Built:
    """A page between rendering and writing. path: of the source in the project; output: of the file in the site; root: the project."""

    page: Page
    path: str
    output: str
    root: Path
    rendered: Rendered | None = None
    linked: dict[str, Path] = field(default_factory=dict)

    @property
    def fragment(self) -> Rendered:
        """The page as rendered; it is rendered before anything asks."""
        if self.rendered is None:
            raise RuntimeError(f"{self.path} is not rendered yet")
        return self.rendered

    @property
    def is_post(self) -> bool:
        return bool(re.fullmatch(r"posts/[^/]+/index\.ipynb", self.path))

    @property
    def slug(self) -> str:
        return self.path.split("/")[1] if self.is_post else ""

    @property
    def title(self) -> str:
        return " ".join(str(self.page.meta.get("title", "")).split())


def when(item: Built) -> datetime.datetime:
    """The moment of a post. Raises InputError where its front matter has no date."""
    date = item.page.meta.get("date")
    if date is None:
        raise InputError(f"{item.path}: front matter: date is missing; a post has the date of its original")
    return feed.moment(date)


def url_of(site: Site, output: str) -> str:
    """The public address of a file of the site; a folder's index goes by the folder."""
    return f"{site.url}/{output.removesuffix('index.html')}"


class Links:
    """Where the links of one page lead: sources become pages, files beside the page are kept with it."""

    def __init__(self, item: Built, site: Site, outputs: dict[str, str]) -> None:
        self.item, self.site, self.outputs = item, site, outputs
        self.files: dict[str, Path] = {}

    def resolve(self, target: str) -> str:
        """The target on the site. Raises InputError for one that leads nowhere."""
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or not parts.path:
            return target
        here = posixpath.dirname(self.item.path)
        path = (
            parts.path.lstrip("/")
            if parts.path.startswith("/")
            else posixpath.normpath(posixpath.join(here, parts.path))
        )
        tail = (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
        for candidate in (path, f"{path.rstrip('/')}/index.ipynb", f"{path.rstrip('/')}/index.qmd"):
            if candidate in self.outputs:
                return base(self.item, self.site) + self.outputs[candidate] + tail
        if path in self.outputs.values() or path in ("posts/index.xml", "sitemap.xml"):
            return base(self.item, self.site) + path + tail
        if (
            (self.site.root / path).is_file()
            and not parts.path.startswith("/")
            and not path.endswith((".ipynb", ".qmd"))
        ):
            self.files[parts.path] = self.site.root / path
            return target
        cell = self.item.page.cell_with(f"({target}") or self.item.page.cell_with(target)
        raise InputError(
            f"{self.item.page.where(cell)}: the link to {target} leads nowhere; there is no such page or file"
        )


def base(item: Built, site: Site) -> str:
    """The way from a page to the site's root: `../../`. The 404 page is shown anywhere, so its is absolute."""
    if item.output == "404.html":
        return urlsplit(site.url).path.rstrip("/") + "/"
    return "../" * item.output.count("/")


def post_links(path: str, meta: Mapping[str, Any], site: Site) -> list[dict[str, str]]:
    """The links of a post: the paper and the original from the front matter; the notebook, executed and not; places to run it."""
    slug = path.split("/")[1]
    links = [
        {"text": str(entry["text"]), "href": str(entry["href"])} for entry in meta.get("other-links") or []
    ]
    links.append({"text": "Executed notebook", "href": f"{slug}.ipynb"})
    if site.repo_url:
        links.insert(-1, {"text": "Notebook", "href": f"{site.repo_url}/blob/{site.repo_branch}/{path}"})
        parts = urlsplit(site.repo_url)
        if parts.netloc == "github.com":
            repository = parts.path.strip("/")
            binder = f"https://mybinder.org/v2/gh/{repository}/{site.repo_branch}?urlpath={quote('lab/tree/' + path, safe='')}"
            colab = f"https://colab.research.google.com/github/{repository}/blob/{site.repo_branch}/{path}"
            links += [{"text": "Binder", "href": binder}, {"text": "Colab", "href": colab}]
    return links


def picture(item: Built, files: Files) -> str:
    """The path in the site of the picture that the front matter names, or nothing."""
    name = item.page.meta.get("image")
    if not name:
        return ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(item.output), str(name)))
    if path not in files:
        source = item.root / posixpath.dirname(item.path) / str(name)
        if not source.is_file():
            known = ", ".join(sorted(item.fragment.files)[:4]) or "none"
            raise InputError(
                f"{item.path}: front matter: image: there is no {name}; the page's images: {known}"
            )
        files[path] = source
    return path


def first_picture(item: Built, files: Files) -> str:
    """The same, or else the page's first image, as Quarto's listing takes it."""
    chosen = picture(item, files)
    if chosen:
        return chosen
    for name in item.fragment.files:
        if name.endswith((".png", ".svg", ".jpg")):
            return posixpath.join(posixpath.dirname(item.output), name)
    return ""


def size_of(files: Files, path: str) -> tuple[int, int] | None:
    """Width and height of an image among the site's files."""
    data = files.get(path)
    if data is None:
        return None
    return size(data if isinstance(data, bytes) else data.read_bytes(), path)
