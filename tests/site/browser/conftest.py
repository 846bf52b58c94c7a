"""A browser, and pages opened in it under watch.

Needs Debian's `chromium` on the PATH and playwright; the checks of accessibility need the npm package `axe-core`
(`npm install --no-save axe-core`). Where something is absent the tests skip and say so.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.site import serve
from lib.site.settings import settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as play:
        running = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield running
        running.close()


@contextlib.contextmanager
def served(folder: Path, url: str) -> Iterator[str]:
    """The address of a site that is served from `folder` while the block runs."""
    running = serve.server(folder, 0, url=url)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}/"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="session")
def address(embedded: Path) -> Iterator[str]:
    with served(embedded, "https://example.org/test") as found:
        yield found


@pytest.fixture(scope="session")
def real_address(real: Path) -> Iterator[str]:
    root = Path(__file__).resolve().parents[3]
    with served(real, settings(root).url) as found:
        yield found


@pytest.fixture
def look(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open a page of the torture site."""
    with watched(browser, address) as open_page:
        yield open_page


@pytest.fixture
def look_real(browser: Any, real_address: str) -> Iterator[Callable[..., Any]]:
    """Open a page of the project's own site."""
    with watched(browser, real_address) as open_page:
        yield open_page


@contextlib.contextmanager
def watched(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open pages; at the end nothing may have failed, been asked from elsewhere, or been said on the console."""
    opened: list[Any] = []
    wrong: list[str] = []

    def open_page(
        path: str, width: int = 1280, height: int = 900, *, idle: bool = False, **options: Any
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        opened.append(context)
        page.on(
            "console",
            lambda message: (
                wrong.append(f"console: {message.text}") if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        # Leaving a page aborts what it was still loading; that is no failure.
        page.on(
            "requestfailed",
            lambda request: (
                wrong.append(f"failed: {request.url}") if request.failure != "net::ERR_ABORTED" else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                wrong.append(f"asked: {request.url}")
                if not request.url.startswith((address, "data:", "blob:"))
                else None
            ),
        )
        page.on(
            "response",
            lambda answer: wrong.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None,
        )
        page.goto(address + path, wait_until="networkidle" if idle else "load")
        return page

    yield open_page
    for context in opened:
        context.close()
    assert wrong == []
