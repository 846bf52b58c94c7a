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
from pathlib import Path
from typing import Any

from lib.core import InputError
from lib.site import theme
from lib.site.execute import tree_hash
from lib.site.listing import listing, listings, rss, sitemap, with_listing
from lib.site.pandoc import curly, executable
from lib.site.place import Built, Files, Links, base, picture, post_links, size_of, url_of, when
from lib.site.render import Rendered, render
from lib.site.settings import Site
from lib.site.source import read
from lib.site.state import Heading


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
        (item for item in built if item.is_post), key=lambda item: (when(item), item.slug), reverse=True
    )
    for item in built:
        folder = posixpath.dirname(item.output)
        for name, data in {**item.fragment.files, **item.linked}.items():
            if name.startswith(("/", "..")):
                continue
            files[posixpath.join(folder, name)] = data
        if item.is_post:
            files[f"{folder}/{item.slug}.ipynb"] = executed[item.path]
    for item in built:
        files[item.output] = _page(item, site, posts, files).encode()
        for spec in listings(item):
            if spec.get("feed"):
                name = str(Path(item.output).with_suffix(".xml"))
                files[name] = rss(item, spec, site, posts, files)
    files["sitemap.xml"] = sitemap(site, built)
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
    rendered = item.fragment
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


# --- pages ---------------------------------------------------------------------------------------------------------


def _page(item: Built, site: Site, posts: list[Built], files: Files) -> str:
    rendered, meta = item.fragment, item.page.meta
    root = base(item, site)
    content = rendered.html
    for spec in listings(item):
        content = with_listing(content, listing(item, spec, site, posts, files), spec)
    described = " ".join(str(meta.get("description", "")).split()) or (
        site.description if item.path == "index.qmd" else ""
    )
    card = picture(item, files)
    at = posts.index(item) if item in posts else -1
    values: dict[str, Any] = {
        "title": item.title,
        "head_title": item.title if item.title == site.title else f"{item.title} – {site.title}",
        "subtitle": curly(str(meta.get("subtitle", ""))),
        "description": curly(described or str(meta.get("subtitle", ""))),
        "lang": str(meta.get("lang", "en")),
        "categories": list(meta.get("categories") or []),
        "is_post": item.is_post,
        "body_class": _body_class(item),
        "url": "" if item.output == "404.html" else url_of(site, item.output),
        "image_url": f"{site.url}/{card}" if card else "",
        "image_alt": str(meta.get("image-alt", "")),
        "image_size": size_of(files, card),
        "iso_date": when(item).isoformat() if item.is_post else "",
        "iso_day": str(when(item).date()) if item.is_post else "",
        "date_text": theme.day(when(item)) if item.is_post else "",
        "run_text": "",
        "run_day": "",
        "reading_time": theme.reading_time(rendered.words) if item.is_post else "",
        "links": post_links(item.path, meta, site) if item.is_post else [],
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


def _last_run(root: Path, slug: str) -> dict[str, str]:
    """The date of the newest published record, or nothing."""
    dates = []
    for path in sorted((root / "posts" / slug / "results").glob("*/*.json")):
        dates += re.findall(r'"date"\s*:\s*"(\d{4}-\d{2}-\d{2})', path.read_text(encoding="utf-8"))
    if not dates:
        return {}
    newest = datetime.date.fromisoformat(max(dates))
    return {"run_text": theme.day(newest), "run_day": str(newest)}
