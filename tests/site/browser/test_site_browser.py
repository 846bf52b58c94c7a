"""The built pages in a real browser: toggle, search, enlarged figures, filter, keyboard, widths, and no request elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.site import tools

PAGES = (
    "index.html",
    "posts/index.html",
    "posts/torture/index.html",
    "posts/other/index.html",
    "about/index.html",
    "404.html",
)
TORTURE = "posts/torture/index.html"


def background(page: Any) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


LIGHT, DARK = "rgb(255, 255, 255)", "rgb(22, 24, 29)"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_cleanly(look: Callable[..., Any], path: str) -> None:
    page = look(path, idle=True)
    assert page.locator("h1").count() == 1


@pytest.mark.parametrize("width", [360, 768, 1600])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_scrolls_sideways(look: Callable[..., Any], path: str, width: int) -> None:
    page = look(path, width=width)
    # Folds open too: what is in them must fit as well.
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(e => {
            if (e.closest('pre, .table-scroll, .cell-output-display, math, .quarto-float > figure > div, .screen-reader-only, svg, a.anchor, .listing-status')) return false;
            const box = e.getBoundingClientRect();
            return box.width > 0 && box.right > innerWidth + 1;
        }).map(e => e.outerHTML.slice(0, 100))"""
    )
    assert wide == []


def test_the_measure_is_about_seventy_characters(look: Callable[..., Any]) -> None:
    page = look("about/index.html")
    count = page.evaluate(
        """() => {
            const p = document.querySelector('main p');
            p.textContent = 'the quick brown fox jumps over a lazy dog and then sleeps '.repeat(12);
            const range = document.createRange();
            range.selectNodeContents(p);
            const lines = new Set([...range.getClientRects()].map(r => r.top)).size;
            return p.textContent.length / lines;
        }"""
    )
    assert 60 <= count <= 82


def test_toggle_follows_the_system_and_is_remembered(look: Callable[..., Any]) -> None:
    page = look(TORTURE, color_scheme="light")
    toggle = page.get_by_role("button", name="Dark mode")
    assert background(page) == LIGHT
    assert toggle.get_attribute("aria-pressed") == "false"
    assert page.locator("#fig-curve .light-content img").is_visible()
    toggle.click()
    assert background(page) == DARK
    assert toggle.get_attribute("aria-pressed") == "true"
    assert page.locator("#fig-curve .dark-content img").is_visible()
    assert not page.locator("#fig-curve .light-content img").is_visible()
    page.reload()
    assert background(page) == DARK
    page.get_by_role("link", name="Posts", exact=True).click()
    page.wait_for_url("**/posts/index.html")
    page.wait_for_load_state()
    assert background(page) == DARK
    page.get_by_role("button", name="Dark mode").click()
    page.emulate_media(color_scheme="dark")
    assert background(page) == DARK, "back at the system's choice, the page follows it again"


def test_dark_without_script(look: Callable[..., Any]) -> None:
    page = look(TORTURE, color_scheme="dark", java_script_enabled=False)
    assert page.locator("#fig-curve .dark-content img").is_visible()
    assert not page.locator("#fig-curve .light-content img").is_visible()
    assert not page.get_by_role("button", name="Search").is_visible()
    page.locator("summary", has_text="Why").click()
    assert page.get_by_text("Folded away").is_visible()


def test_search_with_the_keyboard(look: Callable[..., Any]) -> None:
    page = look("index.html")
    page.keyboard.press("/")
    field = page.get_by_role("searchbox")
    assert field.is_visible()
    assert field.evaluate("e => e === document.activeElement")
    page.keyboard.type("divs")
    result = page.locator(".search-results a").first
    result.wait_for()
    assert "Torture" in result.inner_text()
    page.keyboard.press("ArrowDown")
    assert result.evaluate("e => e === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/posts/torture/**")


def test_search_that_finds_nothing_and_closes(look: Callable[..., Any]) -> None:
    page = look("posts/torture/index.html")
    page.get_by_role("button", name="Search").click()
    page.keyboard.type("zzzyyyxxx")
    page.get_by_text("Nothing found.").wait_for()
    page.keyboard.press("Escape")
    assert not page.get_by_role("searchbox").is_visible()
    assert page.get_by_role("button", name="Search").evaluate("e => e === document.activeElement")


def test_a_figure_is_enlarged_and_gives_the_focus_back(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    link = page.locator("#fig-curve .light-content a.lightbox")
    link.focus()
    page.keyboard.press("Enter")
    box = page.get_by_role("dialog", name="Enlarged figure")
    assert box.is_visible()
    assert box.locator("img").get_attribute("alt") == "A falling curve"
    assert "Accuracy against" in box.locator("p").inner_text()
    before = box.locator("img").get_attribute("src")
    page.keyboard.press("ArrowRight")
    assert box.locator("img").get_attribute("src") != before
    page.keyboard.press("ArrowLeft")
    assert box.locator("img").get_attribute("src") == before
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert link.evaluate("e => e === document.activeElement")


def test_the_filter_is_in_the_address(look: Callable[..., Any]) -> None:
    page = look("posts/index.html")
    posts = page.locator(".quarto-post:visible")
    assert posts.count() == 2
    page.get_by_role("button", name="deep learning").click()
    assert posts.count() == 1
    assert page.get_by_role("status").inner_text() == "1 post in deep learning"
    page.get_by_role("button", name="All").click()
    assert posts.count() == 2
    page.go_back()
    assert posts.count() == 1
    again = look("posts/index.html#category=deep+learning")
    assert again.locator(".quarto-post:visible").count() == 1


def test_a_slider_moves_its_figure(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    box = page.locator("#fig-move .interactive")
    bar = box.locator("rect[data-at='0']")
    slider = box.get_by_role("slider", name="α")
    assert box.locator("output").inner_text() == "10"
    before = float(bar.get_attribute("height"))
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert box.locator("output").inner_text() == "50"
    assert slider.get_attribute("aria-valuetext") == "50"
    assert float(bar.get_attribute("height")) == pytest.approx(before / 3, rel=0.01)
    page.keyboard.press("Home")
    assert float(bar.get_attribute("height")) == pytest.approx(before / 0.6, rel=0.01)


def shown(box: Any) -> tuple[str, str, str]:
    """The slider's frame, what is said about it, and where the query points, in px."""
    path = box.locator("path").get_attribute("d")
    return (
        box.locator("output").inner_text(),
        box.locator(".interactive-says").inner_text(),
        path.split("M")[1],
    )


def test_a_query_is_dragged_with_the_mouse(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    box = page.locator("#fig-drag .interactive")
    box.scroll_into_view_if_needed()
    assert shown(box) == ("0°", "The query points to 0°.", "230.0 230.0L421.7 230.0")
    area = box.locator("svg").bounding_box()
    middle = (area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.move(area["x"] + area["width"] * 0.9, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 10, area["y"] + 20, steps=4)
    assert shown(box) == ("90°", "The query points to 90°.", "230.0 230.0L230.0 38.3")
    # Outside the drawing it is still held.
    page.mouse.move(area["x"] - 60, middle[1] + 5, steps=4)
    assert shown(box)[0] == "180°"
    assert "hollow" in box.locator("circle").first.get_attribute("class")
    page.mouse.up()
    page.mouse.move(middle[0], area["y"] + area["height"] - 5)
    assert shown(box)[0] == "180°"
    # The slider has the focus, so the keyboard goes on from there.
    page.keyboard.press("ArrowRight")
    assert shown(box)[0] == "270°"
    handle = box.locator(".handle")
    assert (handle.get_attribute("cx"), handle.get_attribute("cy")) == ("230", "421.7")
    slider = box.get_by_role("slider", name="direction")
    assert slider.get_attribute("aria-valuetext") == "270°: The query points to 270°."


def test_a_finger_drags_by_the_handle_and_scrolls_elsewhere(look: Callable[..., Any]) -> None:
    page = look(TORTURE, width=360, height=700, has_touch=True, is_mobile=True)
    box = page.locator("#fig-drag .interactive")
    box.scroll_into_view_if_needed()
    assert box.locator(".handle").evaluate("e => getComputedStyle(e).touchAction") == "none"
    assert box.locator("svg").evaluate("e => getComputedStyle(e).touchAction") == "auto"
    send = """(svg, [target, x, y, type]) => {
        const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
        (target ? svg.querySelector(target) : svg).dispatchEvent(
            new PointerEvent(type, {clientX: at.x, clientY: at.y, pointerType: 'touch', pointerId: 1, bubbles: true}));
    }"""
    svg = box.locator("svg")
    svg.evaluate("e => { e.setPointerCapture = () => {} }")
    svg.evaluate(send, ["", 230, 40, "pointerdown"])
    assert shown(box)[0] == "0°"
    svg.evaluate(send, [".handle", 230, 40, "pointerdown"])
    assert shown(box)[0] == "90°"


def test_a_figure_plays_and_stops(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    box = page.locator("#fig-drag .interactive")
    button = box.get_by_role("button", name="Play")
    page.clock.install()
    button.click()
    assert box.get_by_role("button").inner_text() == "Pause"
    page.clock.run_for(1000)
    assert shown(box)[0] == "90°"
    box.get_by_role("button").click()
    page.clock.run_for(5000)
    assert shown(box)[0] == "90°"
    button.click()
    page.clock.run_for(5000)
    assert shown(box)[0] == "270°"
    assert box.get_by_role("button").inner_text() == "Play"
    button.click()
    assert shown(box)[0] == "0°", "at the end it begins again"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_moving_figures_take_the_colours_of_the_page(look: Callable[..., Any], scheme: str) -> None:
    page = look(TORTURE, color_scheme=scheme)
    colour = "#fig-move rect[data-at='0']"
    assert (
        page.locator(colour).evaluate("e => getComputedStyle(e).fill")
        == {
            "light": "rgb(73, 105, 236)",
            "dark": "rgb(110, 141, 255)",
        }[scheme]
    )
    page.get_by_role("button", name="Dark mode").click()
    assert (
        page.locator(colour).evaluate("e => getComputedStyle(e).fill")
        == {
            "dark": "rgb(73, 105, 236)",
            "light": "rgb(110, 141, 255)",
        }[scheme]
    )


def test_a_figure_stands_still_without_script(look: Callable[..., Any]) -> None:
    page = look(TORTURE, java_script_enabled=False)
    assert page.locator("#fig-move svg").is_visible()
    assert not page.locator("#fig-move input").is_visible()
    assert page.locator("#fig-drag svg").is_visible()
    assert not page.locator("#fig-drag button").is_visible()
    assert page.get_by_text("The query points to 0°.").is_visible()
    assert page.locator("#fig-drag .handle").count() == 0


def test_copying_code(look: Callable[..., Any]) -> None:
    page = look(TORTURE, permissions=["clipboard-read", "clipboard-write"])
    block = page.locator("div.sourceCode", has_text="print('naïve')")
    block.hover()
    block.get_by_role("button", name="Copy").click()
    block.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "print('naïve')"


def test_keyboard_order_begins_with_the_skip_link(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"
            )
        )
    assert names == [
        "Skip to the text",
        "A test",
        "Posts",
        "About",
        "Search",
        "Dark mode",
        "RSS feed",
        names[7],
    ]
    page.locator(".skip-link").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "quarto-document-content"


def test_the_focus_is_visible(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_link_into_a_fold_opens_it(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    page.evaluate("document.querySelector('.callout-collapse p').id = 'inside'")
    page.evaluate("location.hash = '#inside'")
    page.wait_for_function("document.querySelector('.callout-note details').open")


def test_nothing_moves_while_loading(look: Callable[..., Any]) -> None:
    page = look(TORTURE)
    shift = page.evaluate(
        """() => new Promise(done => {
            let total = 0;
            new PerformanceObserver(list => { for (const e of list.getEntries()) if (!e.hadRecentInput) total += e.value; })
                .observe({type: 'layout-shift', buffered: true});
            setTimeout(() => done(total), 400);
        })"""
    )
    assert shift < 0.02


def test_print(look: Callable[..., Any]) -> None:
    page = look(TORTURE, color_scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("#quarto-header").is_visible()
    assert page.locator("#fig-curve .light-content img").is_visible()
    assert not page.locator("#fig-curve .dark-content img").is_visible()
    assert not page.get_by_text("Draw the curve").is_visible(), "a fold that stays folded"
    assert page.get_by_text("Shown at once").is_visible()
    assert not page.locator("#fig-drag button").is_visible()
    assert page.locator("#fig-drag svg").is_visible()
    page.set_viewport_size({"width": 660, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 660


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(look: Callable[..., Any], path: str, scheme: str) -> None:
    script = tools.axe()
    page = look(path, color_scheme=scheme)
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    page.add_script_tag(content=script)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{item['id']}: {item['help']}: {[node['html'][:120] for node in item['nodes']][:3]}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
    ]
    assert serious == []
