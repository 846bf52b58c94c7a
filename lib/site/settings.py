"""What `_quarto.yml` says about the site, checked and typed; both renderers read the same file.

site = settings(root())
site.title, site.url, site.navbar
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lib.core import InputError
from lib.project import MARKER, site_config

T = TypeVar("T")


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
    items = [NavItem(_text(item, "text"), _text(item, "href")) for item in _of(navbar, "left", list[Any]())]
    foot = website.get("page-footer")
    footer = _of(foot if isinstance(foot, dict) else {"center": foot}, "center", "")
    return Site(
        root=root,
        title=_text(website, "title"),
        description=_of(website, "description", "").strip(),
        url=_text(website, "site-url").rstrip("/"),
        repo_url=_of(website, "repo-url", "").rstrip("/"),
        repo_branch=_of(website, "repo-branch", "main"),
        output=_of(project, "output-dir", "_site"),
        navbar=tuple(items),
        footer=" ".join(footer.split()),
        bibliography=_texts(raw, "bibliography"),
        render=_texts(project, "render") or ("**/*.qmd", "**/*.ipynb"),
        image=_of(website, "image", ""),
        toc=_of(html, "toc", True),
        toc_title=_of(html, "toc-title", "On this page"),
        toc_depth=_of(html, "toc-depth", 3),
        code_fold="show" if html.get("code-fold") == "show" else _of(html, "code-fold", False),
        code_summary=_of(html, "code-summary", "Code"),
        lightbox=_of(html, "lightbox", False),
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


def _of(values: dict[str, Any], name: str, default: T) -> T:
    """A value of the default's type; the default where there is none."""
    value = values.get(name)
    if value is None:
        return default
    if type(value) is not type(default):
        raise InputError(f"{MARKER}: {name} is {value!r}; {type(default).__name__} is wanted")
    return value


def _texts(values: dict[str, Any], name: str) -> tuple[str, ...]:
    """A text, or a list of texts."""
    found = [values[name]] if isinstance(values.get(name), str) else _of(values, name, list[Any]())
    for text in found:
        if not isinstance(text, str):
            raise InputError(f"{MARKER}: {name} has {text!r}; texts are wanted")
    return tuple(found)
