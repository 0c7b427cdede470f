"""The page as a reader sees it, in a real browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from index_builder.reporting.facts import gather
from pipelines.report.page import page
from tests.engines.chromium import View, looking
from tests.made_reports import STATES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.engine

# Within margins of 14 mm, in CSS pixels of 1/96 inch.
_A4: Final[Any] = {"width": 688, "height": 1016}

# The size of each figure, and how many of its marks can be seen.
_FIGURES = """() => [...document.querySelectorAll("figure svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    const marks = [...svg.querySelectorAll("path, rect, text")].filter(mark => {
        const drawn = mark.getBoundingClientRect();
        return drawn.width + drawn.height > 0;
    });
    return [box.width, box.height, marks.length];
})"""
# The contrast of each text to what is behind it.
_CONTRASTS = """() => {
    const numbers = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = colour => {
        const linear = one => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4;
        const [r, g, b] = numbers(colour).map(one => linear(one / 255));
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const behind = element => {
        while (element) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
            element = element.parentElement;
        }
        return "rgb(255, 255, 255)";
    };
    return [...document.querySelectorAll("main *")].filter(one => [...one.childNodes].some(child =>
        child.nodeType === 3 && child.data.trim())).map(one => {
        const style = getComputedStyle(one);
        const own = one.namespaceURI.endsWith("svg") ? style.fill : style.color;
        const [high, low] = [light(own), light(behind(one.closest("svg") || one))].sort((a, b) => b - a);
        return [(high + .05) / (low + .05), one.tagName + ": " + one.textContent.trim().slice(0, 40)];
    });
}"""


def report(folder: Path, state: str) -> str:
    """The address of the written report."""
    path = folder / "report.html"
    path.write_text(page(gather(STATES[state](folder / "store"))))
    return path.as_uri()


def look(view: View, address: str) -> None:
    view.page.goto(address)
    assert view.requests == [address]
    assert view.complaints == []


@pytest.mark.parametrize("state", STATES)
def test_it_asks_for_nothing_and_fits_where_it_is_read(browser: "Browser", tmp_path: Path, state: str) -> None:
    address = report(tmp_path, state)
    for width, height in ((1280, 900), (390, 844)):
        with looking(browser, viewport={"width": width, "height": height}) as view:
            look(view, address)
            assert view.overflow <= 0, width
            for drawn_width, drawn_height, marks in view.page.evaluate(_FIGURES):
                assert min(drawn_width, drawn_height) > 50
                assert marks > 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_told_from_its_ground(
    browser: "Browser", tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    address = report(tmp_path, "grown")
    with looking(browser, color_scheme=scheme) as view:
        look(view, address)
        contrasts: list[tuple[float, str]] = view.page.evaluate(_CONTRASTS)
        # WCAG 2.2, 1.4.3: at least 4.5 to 1.
        assert [(ratio, text) for ratio, text in contrasts if ratio < 4.5] == []
        assert len(contrasts) > 300


def test_it_looks_different_in_the_dark_and_is_never_blank(browser: "Browser", tmp_path: Path) -> None:
    address = report(tmp_path, "grown")
    grounds = [shot(browser, address, color_scheme=scheme) for scheme in ("light", "dark")]
    # A blank page is compressed to next to nothing.
    assert all(len(ground) > 50_000 for ground in grounds)
    assert grounds[0] != grounds[1]


def shot(browser: "Browser", address: str, **context: Any) -> bytes:
    with looking(browser, viewport={"width": 1280, "height": 900}, **context) as view:
        look(view, address)
        return view.page.screenshot(full_page=True)


def test_it_prints_on_white_with_every_number(browser: "Browser", tmp_path: Path) -> None:
    address = report(tmp_path, "grown")
    with looking(browser, color_scheme="dark", viewport=_A4) as view:
        look(view, address)
        view.page.emulate_media(media="print")
        assert view.overflow <= 0
        assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert view.page.locator("#measured").is_visible()
        assert view.page.pdf(format="A4").startswith(b"%PDF")


def test_each_figure_says_what_it_shows(browser: "Browser", tmp_path: Path) -> None:
    with looking(browser) as view:
        look(view, report(tmp_path, "grown"))
        labels = view.page.eval_on_selector_all(
            "figure",
            "all => all.map(one => (one.matches('[role=img]') ? one : one.querySelector('[role=img]')).ariaLabel)",
        )
        assert len(labels) >= 12
        assert all(labels)
