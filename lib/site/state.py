"""What is known while one page is rendered: its source, the site's settings, and what the filters collect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lib.core import InputError
from lib.site.settings import Site
from lib.site.source import Page


@dataclass(frozen=True)
class Heading:
    """A heading for the table of contents: level, id, and its HTML-free text."""

    level: int
    id: str
    text: str


@dataclass
class State:
    """The state of one page.

    folder: where the page's source lies. resolve: from a link's target as written to the one on the site, raising
    InputError for a page that does not exist. files: what the page needs beside it, by relative path, as bytes or as
    the path of a file to copy.
    """

    page: Page
    site: Site
    folder: Path
    resolve: Callable[[str], str]
    stem: str = "index"
    files: dict[str, bytes | Path] = field(default_factory=dict)
    headings: list[Heading] = field(default_factory=list)
    images: int = 0
    callouts: int = 0
    needs_references: bool = False

    def error(self, token: str, message: str) -> InputError:
        """An InputError about something in the page, placed by the cell in which `token` occurs."""
        return InputError(f"{self.page.where(self.page.cell_with(token))}: {message}")
