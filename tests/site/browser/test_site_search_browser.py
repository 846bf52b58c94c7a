"""What search shows of a page is its text, however much that looks like markup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.site import build as building
from lib.site.execute import Executed
from tests.site import project
from tests.site.browser.conftest import served, watched
from tests.site.project import markdown, notebook


def test_markup_in_a_text_is_shown_as_text(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "## One <i>\n\nPickled `<img src=x onerror=alert(1)>` gherkins & `<b>bold</b>` ones.\n\n## Two\n\nText."
    front = 'title: "A <u>title</u>"\ndate: 2024-01-02'
    root = project.make(tmp_path, {"a": notebook(front, markdown(text.replace("<i>", "`<i>`")))})
    monkeypatch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
    out = building.build(root, renderer="embedded").out
    look: Callable[..., Any]
    with served(out, "https://example.org/test") as address, watched(browser, address) as look:
        page = look("index.html")
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.keyboard.press("/")
        page.keyboard.type("gherkins")
        result = page.locator(".search-results a").first
        result.wait_for()
        assert "<u>title</u>" in result.inner_text()
        assert "<img src=x" in page.locator(".search-results").inner_text()
        assert page.locator(".search-results img, .search-results b, .search-results u").count() == 0
