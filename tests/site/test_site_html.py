"""Every page is valid HTML, and the checker that says so does find mistakes."""

from __future__ import annotations

from pathlib import Path

from tests.site import tools


def test_the_pages_with_every_construct_are_valid(embedded: Path) -> None:
    assert tools.html_problems(embedded) == []


def test_the_posts_are_valid(real: Path) -> None:
    assert tools.html_problems(real) == []


def test_a_mistake_is_found(tmp_path: Path) -> None:
    page = '<!DOCTYPE html><html lang="en"><title>x</title><p id="a"><b id="a"></p>'
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    found = " ".join(tools.html_problems(tmp_path))
    assert "Duplicate ID" in found
    assert "unclosed" in found.lower() or "Stray" in found or "violates nesting" in found
