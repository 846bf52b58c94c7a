"""Every page of the project's own site in a real browser: loads cleanly, weighs little, fits, and is accessible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.site.check import WEIGHT
from tests.site import tools

ROOT = Path(__file__).resolve().parents[3]
SLUGS = sorted(path.parent.name for path in ROOT.glob("posts/*/index.ipynb"))
PAGES = (
    "",
    "posts/",
    "scorecard/",
    "benchmarks/",
    "about/",
    "404.html",
    *(f"posts/{slug}/" for slug in SLUGS),
)
OPEN = "for (const box of document.querySelectorAll('details')) box.open = true"

# The page, and what it asked for to be read: everything but pictures.
WEIGHED = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter(entry => entry.initiatorType !== 'img' && !/\\.(png|jpe?g|svg|gif|webp)$/.test(new URL(entry.name).pathname))
    .map(entry => [entry.name, entry.decodedBodySize])"""
MOVED = """() => new Promise(done => {
    let total = 0;
    new PerformanceObserver(list => { for (const e of list.getEntries()) if (!e.hadRecentInput) total += e.value; })
        .observe({type: 'layout-shift', buffered: true});
    setTimeout(() => done(total), 300);
})"""
SMALL = """() => [...document.querySelectorAll('main *')].filter(e =>
        [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest('svg, math, sup, sub, .screen-reader-only')
        && e.getClientRects().length && parseFloat(getComputedStyle(e).fontSize) < 11)
    .map(e => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_weighs_little_and_fits(look_real: Callable[..., Any], path: str) -> None:
    page = look_real(path, width=1600, idle=True)
    assert page.locator("h1").count() == 1
    weights = page.evaluate(WEIGHED)
    assert sum(size for _, size in weights) <= WEIGHT, weights
    assert page.evaluate(MOVED) < 0.02
    page.evaluate(OPEN)
    for width in (1600, 768, 360):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(SMALL) == []


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(look_real: Callable[..., Any], path: str) -> None:
    script = tools.axe()
    page = look_real(path)
    page.evaluate(OPEN)
    page.add_script_tag(content=script)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            f"{scheme}: {item['id']}: {item['help']}: {[node['html'][:120] for node in item['nodes']][:3]}"
            for item in found["violations"]
            if item["impact"] in ("serious", "critical")
        ]
        assert serious == []


@pytest.mark.parametrize("slug", SLUGS)
def test_figures_that_move_do(look_real: Callable[..., Any], slug: str) -> None:
    page = look_real(f"posts/{slug}/", width=360)
    page.evaluate(OPEN)
    for box in page.locator(".interactive").all():
        slider, drawing = box.get_by_role("slider"), box.locator("svg")
        slider.focus()
        seen = set()
        for key in ("Home", "End", "PageDown"):
            page.keyboard.press(key)
            assert slider.get_attribute("aria-valuetext")
            seen.add(drawing.inner_html())
        assert len(seen) >= 2, "the drawing stays as it is"
        button = box.get_by_role("button", name="Play")
        if button.count():
            button.click()
            box.get_by_role("button", name="Pause").click()
        sizes = box.locator("svg text").evaluate_all(
            "all => all.filter(e => e.getClientRects().length && e.textContent.trim())"
            ".map(e => e.getBoundingClientRect().height)"
        )
        assert min(sizes) >= 9, "letters too small for a telephone"
