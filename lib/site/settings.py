"""What `_quarto.yml` says about the site, checked and typed; both renderers read the same file.

site = settings(root())
site.title, site.url, site.navbar
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.core import InputError
from lib.project import MARKER, site_config


@dataclass(frozen=True)
class NavItem:
    """A link of the navigation bar: its text and the source file or address that it leads to."""

    text: str
    href: str


@dataclass(frozen=True)
class Site:
    """The site's settings.

    url and repo_url end without a slash. render: the glob patterns of pages, later ones with `!` excluding. options:
    the document options that hold for every page (`format: html:` merged with the top level), by name.
    """

    root: Path
    title: str
    description: str
    url: str
    repo_url: str
    repo_branch: str
    output: str
    navbar: tuple[NavItem, ...]
    footer: str
    bibliography: tuple[str, ...]
    render: tuple[str, ...]
    image: str
    toc: bool
    toc_title: str
    toc_depth: int
    code_fold: bool | str
    code_summary: str
    lightbox: bool


def settings(root: Path) -> Site:
    """The settings of the project in `root`. Raises InputError naming the key that is missing or of the wrong kind."""
    raw = site_config(root)
    website, project = _part(raw, "website"), _part(raw, "project")
    html = {**raw, **_part(_part(raw, "format"), "html")}
    navbar = _part(website, "navbar")
    items = [NavItem(_text(item, "text"), _text(item, "href")) for item in navbar.get("left", [])]
    footer = _part(website, "page-footer") if isinstance(website.get("page-footer"), dict) else {}
    return Site(
        root=root,
        title=_text(website, "title"),
        description=str(website.get("description", "")).strip(),
        url=_text(website, "site-url").rstrip("/"),
        repo_url=str(website.get("repo-url", "")).rstrip("/"),
        repo_branch=str(website.get("repo-branch", "main")),
        output=str(project.get("output-dir", "_site")),
        navbar=tuple(items),
        footer=" ".join(str(footer.get("center", website.get("page-footer") or "")).split()),
        bibliography=_list(raw.get("bibliography")),
        render=_list(project.get("render")) or ("**/*.qmd", "**/*.ipynb"),
        image=str(website.get("image", "")),
        toc=bool(html.get("toc", True)),
        toc_title=str(html.get("toc-title", "On this page")),
        toc_depth=int(html.get("toc-depth", 3)),
        code_fold=html.get("code-fold", False),
        code_summary=str(html.get("code-summary", "Code")),
        lightbox=bool(html.get("lightbox", False)),
    )


def _part(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name) or {}
    if not isinstance(value, dict):
        raise InputError(f"{MARKER}: {name} is {value!r}; a mapping is wanted")
    return value


def _text(values: Any, name: str) -> str:
    if not isinstance(values, dict) or not isinstance(values.get(name), str) or not values[name].strip():
        raise InputError(f"{MARKER}: {name} is missing where {values!r} stands; a text is wanted")
    return values[name].strip()


def _list(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))
