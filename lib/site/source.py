"""A page as its author wrote it: a notebook or a `.qmd` file, read into front matter and cells, with every name checked.

    page = read(Path("posts/tent/index.ipynb"), root)
    page.meta["title"], page.cells[3].options["fig-cap"]

Quarto ignores what it does not know; here a misspelt cell option or front-matter key is an InputError that names the
file, the cell and the name that was probably meant.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lib.core import InputError
from lib.notebooks import parsed

NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What the YAML reader raises; ValueError for a date that is none."""

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "label": str,
    "fig-cap": (str, list),
    "fig-alt": (str, list),
    "fig-subcap": list,
    "tbl-cap": str,
    "code-fold": (bool, str),
    "code-summary": str,
    "echo": bool,
    "output": (bool, str),
    "include": bool,
    "eval": bool,
    "warning": bool,
    "error": bool,
    "layout-ncol": int,
    "renderings": list,
    "classes": (str, list),
    "column": str,
    "lightbox": bool,
}
"""The cell options that both renderers honour, with the kinds of value that they take."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "code-fold": (True, False, "show"),
    "output": (True, False, "asis"),
    "column": ("body", "body-outset", "page", "page-inset", "screen-inset", "margin"),
}

META = (
    *(
        "title",
        "subtitle",
        "date",
        "categories",
        "description",
        "image",
        "image-alt",
        "other-links",
        "author",
        "draft",
    ),
    *(
        "toc",
        "toc-depth",
        "toc-title",
        "code-fold",
        "code-summary",
        "execute",
        "format",
        "lightbox",
        "listing",
        "search",
    ),
    *("jupyter", "kernelspec", "lang", "page-layout", "pagetitle"),
)
"""The front-matter keys that a page may have."""


@dataclass(frozen=True)
class Cell:
    """A cell. number: as a reader counts, from 1. lines: the source without its options. outputs: as nbformat has them."""

    number: int
    kind: str
    id: str
    lines: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[dict[str, Any], ...] = ()
    execution_count: int | None = None

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Page:
    """A page's source: its path in the project, front matter, and cells."""

    path: str
    meta: Mapping[str, Any]
    cells: tuple[Cell, ...]

    @property
    def folder(self) -> str:
        return str(Path(self.path).parent)

    @property
    def is_notebook(self) -> bool:
        return self.path.endswith(".ipynb")

    def where(self, cell: Cell | None) -> str:
        """How an error names a place: `posts/tent/index.ipynb, cell 4 (fig-demo)`."""
        if cell is None or not self.is_notebook:
            return self.path
        name = cell.options.get("label") or cell.id
        return f"{self.path}, cell {cell.number}" + (f" ({name})" if name else "")

    def cell_with(self, text: str) -> Cell | None:
        """The first cell that puts `text` on the page: as prose, as an option, as an output; else one with it in its code."""
        for cell in self.cells:
            if (cell.kind != "code" and text in cell.text) or any(
                text in str(value) for value in cell.options.values()
            ):
                return cell
        for cell in self.cells:
            if any(text in part for output in cell.outputs for part in _strings(output)):
                return cell
        return next((cell for cell in self.cells if text in cell.text), None)


def _strings(output: dict[str, Any]) -> Iterator[str]:
    """The texts of an output."""
    for value in [output.get("text"), *(output.get("data") or {}).values()]:
        if isinstance(value, list):
            value = "".join(value)
        if isinstance(value, str):
            yield value


def read(path: Path, root: Path, name: str | None = None) -> Page:
    """The page in `path`, named in errors by `name` or by its path in `root`. Raises InputError for what is wrong."""
    name = name or path.relative_to(root).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read as UTF-8 text ({error.__class__.__name__})") from error
    return _notebook(text, name) if path.suffix == ".ipynb" else _markdown(text, name)


def _notebook(text: str, name: str) -> Page:
    raw = parsed(text, name)
    cells: list[Cell] = []
    meta: dict[str, Any] = {}
    labels: dict[str, int] = {}
    for number, entry in enumerate(raw["cells"], 1):
        kind, lines = entry.get("cell_type"), _lines(entry.get("source", ""))
        where = f"{name}, cell {number}"
        if kind == "raw" and not meta and lines and lines[0].strip() == "---":
            meta = _front_matter("\n".join(lines), where)
            continue
        tags = (entry.get("metadata") or {}).get("tags") or []
        if kind == "raw" or "injected-parameters" in tags:
            continue
        if kind not in ("markdown", "code"):
            raise InputError(f"{where}: unknown cell type {kind!r}; markdown, code or raw is wanted")
        options: dict[str, Any] = {}
        if kind == "code":
            options, lines = _options(lines, where)
            label = options.get("label")
            if label in labels:
                raise InputError(
                    f"{where}: the label {label} is already that of cell {labels[label]}; rename one"
                )
            if label:
                labels[label] = number
        outputs = tuple(entry.get("outputs") or ())
        cell = Cell(
            number, kind, entry.get("id", ""), tuple(lines), options, outputs, entry.get("execution_count")
        )
        cells.append(cell)
    if not meta:
        raise InputError(
            f"{name}: no front matter; begin with a raw cell that holds '---', 'title: …', '---'"
        )
    return Page(name, _checked_meta(meta, name), tuple(cells))


def _markdown(text: str, name: str) -> Page:
    lines = text.splitlines()
    meta: dict[str, Any] = {}
    if lines and lines[0].strip() == "---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() in ("---", "...")), None)
        if end is None:
            raise InputError(f"{name}: the front matter has no closing '---'")
        meta = _front_matter("\n".join(lines[: end + 1]), name)
        lines = lines[end + 1 :]
    return Page(name, _checked_meta(meta, name), (Cell(1, "markdown", "", tuple(lines)),))


def _lines(source: str | list[str]) -> list[str]:
    return (source if isinstance(source, str) else "".join(source)).splitlines()


def _front_matter(text: str, where: str) -> dict[str, Any]:
    body = re.sub(r"\A---[ \t]*\n|\n(---|\.\.\.)[ \t]*\Z", "", text.strip())
    try:
        meta = yaml.safe_load(body)
    except NO_YAML as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f" at line {line + 2}" if line is not None else ""
        problem = getattr(error, "problem", None) or ("" if line is not None else str(error))
        raise InputError(
            f"{where}: the front matter is not YAML{at}: {problem}; quote texts that hold ':' or '#'"
        ) from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: the front matter is {meta!r}; 'title: …' and the like are wanted")
    return meta


def _checked_meta(meta: Mapping[str, Any], name: str) -> dict[str, Any]:
    for key in meta:
        if key == "date-modified":
            raise InputError(f"{name}: front matter: date-modified would change with each build; remove it")
        if key not in META:
            raise InputError(f"{name}: front matter: no key {key!r}{_hint(str(key), META)}")
    if not isinstance(meta.get("title", ""), str):
        raise InputError(f"{name}: front matter: title is {meta['title']!r}; a text is wanted")
    categories = meta.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(item, str) for item in categories):
        raise InputError(
            f"{name}: front matter: categories is {categories!r}; a list such as [paper] is wanted"
        )
    links = meta.get("other-links") or []
    if not isinstance(links, list) or not all(
        isinstance(x, dict) and {"text", "href"} <= set(x) for x in links
    ):
        raise InputError(f"{name}: front matter: other-links is {links!r}; a list of text and href is wanted")
    merged = dict(meta)
    html = meta.get("format") if isinstance(meta.get("format"), dict) else {}
    html = html.get("html") if isinstance(html, dict) else {}
    for key, value in (html or {}).items() if isinstance(html, dict) else ():
        if key not in META:
            raise InputError(f"{name}: front matter: format: html: no key {key!r}{_hint(str(key), META)}")
        merged.setdefault(key, value)
    if "date" in merged:
        merged["date"] = _date(merged["date"], name)
    return merged


def _date(value: Any, name: str) -> datetime.date | datetime.datetime:
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value).strip())
    except ValueError as error:
        raise InputError(
            f"{name}: front matter: date is {value!r}; a date such as 2024-06-18 is wanted"
        ) from error


def _options(lines: list[str], where: str) -> tuple[dict[str, Any], list[str]]:
    """The `#|` lines at the head of a code cell as a mapping, and the rest of its lines."""
    head = []
    for line in lines:
        if not line.startswith("#|"):
            break
        head.append(line[2:].removeprefix(" "))
    rest = lines[len(head) :]
    late = next((line for line in rest if line.startswith("#|")), None)
    if late is not None:
        raise InputError(f"{where}: the option {late!r} stands below code; options come first in a cell")
    while rest and not rest[0].strip():
        rest = rest[1:]
    if not head:
        return {}, rest
    try:
        options = yaml.safe_load("\n".join(head)) or {}
    except NO_YAML as error:
        at = getattr(getattr(error, "problem_mark", None), "line", 0)
        raise InputError(
            f"{where}: the option line {head[min(at, len(head) - 1)]!r} is not YAML; quote its text"
        ) from error
    if not isinstance(options, dict):
        raise InputError(f"{where}: the options are {options!r}; lines such as '#| label: fig-x' are wanted")
    for key, value in options.items():
        if key not in OPTIONS:
            raise InputError(f"{where}: no cell option {key!r}{_hint(str(key), OPTIONS)}")
        given = OPTIONS[key]
        kinds = given if isinstance(given, tuple) else (given,)
        if type(value) not in kinds:
            names = " or ".join(kind.__name__ for kind in kinds)
            raise InputError(f"{where}: option {key} is {value!r}; {names} is wanted")
        if key in CHOICES and value not in CHOICES[key]:
            raise InputError(f"{where}: option {key} is {value!r}; one of {_names(CHOICES[key])} is wanted")
    _consistent(options, where)
    return options, rest


def _consistent(options: Mapping[str, Any], where: str) -> None:
    label = options.get("label", "")
    if label and not re.fullmatch(r"[A-Za-z][\w.-]*", label):
        raise InputError(f"{where}: the label {label!r} cannot be an id; letters, digits, hyphens are wanted")
    if "fig-cap" in options and label.startswith("tbl-"):
        raise InputError(f"{where}: label {label} is a table's, but the cell has fig-cap; use tbl-cap")
    if "tbl-cap" in options and label.startswith("fig-"):
        raise InputError(f"{where}: label {label} is a figure's, but the cell has tbl-cap; use fig-cap")
    if isinstance(options.get("fig-cap"), list) and label:
        raise InputError(f"{where}: a list of captions would give {label} twice; use fig-cap with fig-subcap")
    if "renderings" in options:
        if sorted(map(str, options["renderings"])) != ["dark", "light"]:
            raise InputError(f"{where}: renderings is {options['renderings']!r}; [light, dark] is wanted")
        if "fig-subcap" in options or "layout-ncol" in options:
            raise InputError(
                f"{where}: renderings with fig-subcap or layout-ncol; draw the panels as one figure"
            )


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {_names(known)}"


def _names(values: Iterable[Any]) -> str:
    return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
