"""The embedded renderer: every page of the site as a file, from sources and executed notebooks, without Quarto.

    files = render_site(site, executed, generated, cache)     # path in the site -> bytes, or a file to copy

Pages are rendered side by side, each by two pandoc processes, and kept in `cache` under a hash of all that they depend on.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from lib.core import InputError
from lib.site import feed, theme
from lib.site.execute import tree_hash
from lib.site.images import TYPES, size
from lib.site.pandoc import executable
from lib.site.render import Rendered, render
from lib.site.settings import Site
from lib.site.source import Page, read
from lib.site.state import Heading

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
    def is_post(self) -> bool:
        return bool(re.fullmatch(r"posts/[^/]+/index\.ipynb", self.path))

    @property
    def slug(self) -> str:
        return self.path.split("/")[1] if self.is_post else ""

    @property
    def title(self) -> str:
        return " ".join(str(self.page.meta.get("title", "")).split())


def sources(site: Site) -> list[str]:
    """The pages' paths in the project, as the patterns under `render:` give them, drafts left out."""
    found: dict[str, None] = {}
    for pattern in site.render:
        if pattern.startswith("!"):
            for path in site.root.glob(pattern[1:].lstrip("/")):
                found.pop(path.relative_to(site.root).as_posix(), None)
            continue
        for path in sorted(site.root.glob(pattern)):
            if path.suffix in (".qmd", ".ipynb") and path.is_file():
                found[path.relative_to(site.root).as_posix()] = None
    return list(found)


def render_site(
    site: Site,
    executed: dict[str, Path],
    generated: dict[str, str],
    cache: Path,
    jobs: int | None = None,
) -> tuple[Files, list[Built]]:
    """All files of the site but the search index, and the pages in the order of `render:`.

    executed: the executed notebook of each source that has one. generated: Markdown for includes, by file name.
    """
    built = []
    for path in sources(site):
        page = read(executed.get(path, site.root / path), site.root, path)
        if page.meta.get("draft") is True:
            continue
        built.append(Built(page, path, str(Path(path).with_suffix(".html")), site.root))
    outputs = {item.path: item.output for item in built}
    common = _common(site, outputs, generated)
    cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        keys = list(
            pool.map(lambda item: _render(item, site, outputs, generated, executed, cache, common), built)
        )
    for kept in cache.iterdir():
        if kept.stem not in keys:
            kept.unlink()
    files: Files = {f"assets/{name}": data for name, data in theme.assets().items()}
    posts = sorted(
        (item for item in built if item.is_post), key=lambda item: (_when(item), item.slug), reverse=True
    )
    for item in built:
        folder = posixpath.dirname(item.output)
        assert item.rendered is not None
        for name, data in {**item.rendered.files, **item.linked}.items():
            if name.startswith(("/", "..")):
                continue
            files[posixpath.join(folder, name)] = data
        if item.is_post:
            files[f"{folder}/{item.slug}.ipynb"] = executed[item.path]
    for item in built:
        files[item.output] = _page(item, site, posts, files).encode()
        for spec in _listings(item):
            if spec.get("feed"):
                name = str(Path(item.output).with_suffix(".xml"))
                files[name] = _feed(item, spec, site, posts, files)
    files["sitemap.xml"] = _sitemap(site, built)
    files["robots.txt"] = f"User-agent: *\nAllow: /\nSitemap: {site.url}/sitemap.xml\n".encode()
    files[".nojekyll"] = b""
    return files, built


# --- fragments, cached ---------------------------------------------------------------------------------------------


def _common(site: Site, outputs: dict[str, str], generated: dict[str, str]) -> str:
    here = Path(__file__).parent
    parts = [
        tree_hash(here.glob("*.py"), here),
        json.dumps(outputs),
        json.dumps(generated, sort_keys=True),
        hashlib.sha256((site.root / "_quarto.yml").read_bytes()).hexdigest(),
        executable(),
        str(os.stat(executable()).st_size),
        *(
            hashlib.sha256((site.root / name).read_bytes()).hexdigest()
            for name in site.bibliography
            if (site.root / name).is_file()
        ),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _render(
    item: Built,
    site: Site,
    outputs: dict[str, str],
    generated: dict[str, str],
    executed: dict[str, Path],
    cache: Path,
    common: str,
) -> str:
    """Fill in `item.rendered`, from the cache where nothing changed; returns the key."""
    source = executed.get(item.path, site.root / item.path)
    folder = (site.root / item.path).parent
    beside = [path for path in (folder / "images").rglob("*") if path.is_file()]
    digest = hashlib.sha256(
        f"{common}\0{item.path}\0{tree_hash(beside, folder)}\0".encode() + source.read_bytes()
    )
    key = digest.hexdigest()
    kept = cache / f"{key}.json"
    if kept.is_file():
        try:
            item.rendered, item.linked = _load(kept, folder)
            return key
        except (ValueError, KeyError, OSError):
            kept.unlink(missing_ok=True)
    links = Links(item, site, outputs)

    def include(name: str) -> str:
        base = posixpath.basename(name)
        if name.startswith("/.build/generated/") and base in generated:
            return generated[base]
        path = site.root / name.lstrip("/") if name.startswith("/") else folder / name
        if not path.is_file():
            raise InputError(f"{item.path}: there is no file {name} to include")
        return path.read_text(encoding="utf-8")

    item.rendered = render(item.page, site, folder, links.resolve, include)
    item.linked = links.files
    _keep(kept, item, folder)
    return key


def _keep(path: Path, item: Built, folder: Path) -> None:
    rendered = item.rendered
    assert rendered is not None
    body = {
        "html": rendered.html,
        "words": rendered.words,
        "headings": [[heading.level, heading.id, heading.text] for heading in rendered.headings],
        "files": {
            name: None if isinstance(data, Path) else base64.b64encode(data).decode()
            for name, data in rendered.files.items()
        },
        "linked": sorted(item.linked),
    }
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(body), encoding="utf-8")
    beside.replace(path)


def _load(path: Path, folder: Path) -> tuple[Rendered, dict[str, Path]]:
    body = json.loads(path.read_text(encoding="utf-8"))
    files = {
        name: folder / name if data is None else base64.b64decode(data)
        for name, data in body["files"].items()
    }
    headings = tuple(Heading(*entry) for entry in body["headings"])
    return Rendered(body["html"], headings, files, body["words"]), {
        name: folder / name for name in body["linked"]
    }


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


# --- pages ---------------------------------------------------------------------------------------------------------


def _when(item: Built) -> datetime.datetime:
    date = item.page.meta.get("date")
    if date is None:
        raise InputError(f"{item.path}: front matter: date is missing; a post has the date of its original")
    return feed.moment(date)


def _page(item: Built, site: Site, posts: list[Built], files: Files) -> str:
    rendered, meta = item.rendered, item.page.meta
    assert rendered is not None
    root = base(item, site)
    content = rendered.html
    for spec in _listings(item):
        content = _with_listing(content, _listing(item, spec, site, posts, files), spec)
    described = " ".join(str(meta.get("description", "")).split()) or (
        site.description if item.path == "index.qmd" else ""
    )
    picture = _picture(item, files)
    at = posts.index(item) if item in posts else -1
    values: dict[str, Any] = {
        "title": item.title,
        "head_title": item.title if item.title == site.title else f"{item.title} – {site.title}",
        "subtitle": str(meta.get("subtitle", "")),
        "description": described or str(meta.get("subtitle", "")),
        "lang": str(meta.get("lang", "en")),
        "categories": list(meta.get("categories") or []),
        "is_post": item.is_post,
        "body_class": _body_class(item),
        "url": "" if item.output == "404.html" else _url(site, item.output),
        "image_url": f"{site.url}/{picture}" if picture else "",
        "image_alt": str(meta.get("image-alt", "")),
        "image_size": _size(files, picture),
        "iso_date": _when(item).isoformat() if item.is_post else "",
        "iso_day": str(_when(item).date()) if item.is_post else "",
        "date_text": theme.day(_when(item)) if item.is_post else "",
        "run_text": "",
        "run_day": "",
        "reading_time": theme.reading_time(rendered.words) if item.is_post else "",
        "links": _links(item, site) if item.is_post else [],
        "newer": _neighbour(posts, at - 1, root) if at > 0 else None,
        "older": _neighbour(posts, at + 1, root) if 0 <= at < len(posts) - 1 else None,
        "searchable": meta.get("search") is not False,
    }
    if item.is_post:
        values |= _last_run(site.root, item.slug)
    toc = theme.contents(rendered.headings, int(meta.get("toc-depth", site.toc_depth)))
    if meta.get("toc", site.toc) is False or len(toc) < 2:
        toc = []
    navbar = [
        {"text": entry.text, "href": root + _target(entry.href), "active": _target(entry.href) == item.output}
        for entry in site.navbar
    ]
    return theme.page(
        "page.html",
        page=values,
        site=site,
        base=root,
        navbar=navbar,
        footer=html.escape(site.footer),
        toc=toc,
        toc_title=str(meta.get("toc-title", site.toc_title)),
        content=content,
    )


def _body_class(item: Built) -> str:
    kind = "post" if item.is_post else "home" if item.path == "index.qmd" else "plain"
    return f"{kind} wide" if item.page.meta.get("page-layout") == "full" else kind


def _target(href: str) -> str:
    return re.sub(r"\.(qmd|ipynb)$", ".html", href)


def _neighbour(posts: list[Built], at: int, root: str) -> dict[str, str]:
    return {"href": root + posts[at].output, "title": posts[at].title}


def _url(site: Site, output: str) -> str:
    return f"{site.url}/{output.removesuffix('index.html')}"


def _links(item: Built, site: Site) -> list[dict[str, str]]:
    """The paper and the original from the front matter; the notebook, executed and not; places to run it."""
    links = [
        {"text": str(entry["text"]), "href": str(entry["href"])}
        for entry in item.page.meta.get("other-links") or []
    ]
    links.append({"text": "Executed notebook", "href": f"{item.slug}.ipynb"})
    if site.repo_url:
        links.insert(-1, {"text": "Notebook", "href": f"{site.repo_url}/blob/{site.repo_branch}/{item.path}"})
        parts = urlsplit(site.repo_url)
        if parts.netloc == "github.com":
            repository = parts.path.strip("/")
            binder = f"https://mybinder.org/v2/gh/{repository}/{site.repo_branch}?urlpath={quote('lab/tree/' + item.path, safe='')}"
            colab = (
                f"https://colab.research.google.com/github/{repository}/blob/{site.repo_branch}/{item.path}"
            )
            links += [{"text": "Binder", "href": binder}, {"text": "Colab", "href": colab}]
    return links


def _last_run(root: Path, slug: str) -> dict[str, str]:
    """The date of the newest published record, or nothing."""
    dates = []
    for path in sorted((root / "posts" / slug / "results").glob("*/*.json")):
        dates += re.findall(r'"date"\s*:\s*"(\d{4}-\d{2}-\d{2})', path.read_text(encoding="utf-8"))
    if not dates:
        return {}
    newest = datetime.date.fromisoformat(max(dates))
    return {"run_text": theme.day(newest), "run_day": str(newest)}


def _picture(item: Built, files: Files) -> str:
    """The path in the site of the picture that the front matter names, or nothing."""
    name = item.page.meta.get("image")
    if not name:
        return ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(item.output), str(name)))
    if path not in files:
        source = item.root / posixpath.dirname(item.path) / str(name)
        if not source.is_file():
            known = ", ".join(sorted(item.rendered.files if item.rendered else ())[:4]) or "none"
            raise InputError(
                f"{item.path}: front matter: image: there is no {name}; the page's images: {known}"
            )
        files[path] = source
    return path


def _first_picture(item: Built, files: Files) -> str:
    chosen = _picture(item, files)
    if chosen:
        return chosen
    assert item.rendered is not None
    for name in item.rendered.files:
        if name.endswith((".png", ".svg", ".jpg")):
            return posixpath.join(posixpath.dirname(item.output), name)
    return ""


def _size(files: Files, path: str) -> tuple[int, int] | None:
    data = files.get(path)
    if data is None:
        return None
    return size(data if isinstance(data, bytes) else data.read_bytes(), path)


# --- listing, feed, sitemap ----------------------------------------------------------------------------------------


def _listings(item: Built) -> list[dict[str, Any]]:
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


def _listing(item: Built, spec: dict[str, Any], site: Site, posts: list[Built], files: Files) -> str:
    root = base(item, site)
    chosen = posts[: spec["max-items"]] if spec.get("max-items") else posts
    entries = []
    for post in chosen:
        assert post.rendered is not None
        picture = _first_picture(post, files)
        dark = re.sub(r"-output-1\.png$", "-output-2.png", picture)
        twin = dark if dark != picture and dark in files and "dark-content" in post.rendered.html else ""
        found = _size(files, picture)
        entries.append(
            theme.Item(
                title=post.title,
                href=root + post.output,
                date_text=theme.day(_when(post)),
                iso_day=str(_when(post).date()),
                description=" ".join(
                    str(post.page.meta.get("description") or post.page.meta.get("subtitle") or "").split()
                ),
                categories=tuple(post.page.meta.get("categories") or ()),
                reading_time=theme.reading_time(post.rendered.words),
                image=root + picture if picture else "",
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
        level=3 if item.path == "index.qmd" else 2,
        href=root + "posts/index.html",
    )


def _with_listing(content: str, listing: str, spec: dict[str, Any]) -> str:
    place = f'<div id="{spec.get("id")}">\n</div>'
    empty = f'<div id="{spec.get("id")}">\n\n</div>'
    for candidate in (place, empty):
        if candidate in content:
            return content.replace(candidate, f'<div id="{spec.get("id")}">\n{listing}</div>')
    return content + listing


def _feed(item: Built, spec: dict[str, Any], site: Site, posts: list[Built], files: Files) -> bytes:
    given = spec["feed"] if isinstance(spec["feed"], dict) else {}
    entries = []
    for post in posts[: int(given.get("items", 20))]:
        assert post.rendered is not None
        url = _url(site, post.output)
        picture, image = _picture(post, files), None
        if picture:
            width, height = _size(files, picture) or (0, 0)
            image = (f"{site.url}/{picture}", TYPES.get(Path(picture).suffix, "image/png"), width, height)
        entries.append(
            feed.Entry(
                title=post.title,
                url=url,
                html=feed.absolute(post.rendered.html, url),
                categories=tuple(post.page.meta.get("categories") or ()),
                date=_when(post),
                author=str(post.page.meta.get("author", "")),
                image=image,
            )
        )
    address = f"{site.url}/{Path(item.output).with_suffix('.xml')}"
    return feed.feed(
        str(given.get("title", site.title)),
        str(given.get("description") or site.description),
        _url(site, item.output),
        address,
        entries,
    )


def _sitemap(site: Site, built: list[Built]) -> bytes:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">',
    ]
    for item in built:
        if item.output != "404.html":
            lines.append(f"<url><loc>{html.escape(_url(site, item.output))}</loc></url>")
    return "\n".join([*lines, "</urlset>", ""]).encode()
