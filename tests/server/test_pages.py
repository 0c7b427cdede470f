"""The pages, in a real browser: they work, load nothing from elsewhere, and run nothing that a document says."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.embedders.endpoint import Endpoint
from tests.engines.chromium import looking
from tests.server.conftest import ENVIRONMENT
from tests.server.serving import DIMENSIONS, Server, collection, endpoint_checkpoint, serving
from tests.small_shards import Row

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = '<img src=x onerror="document.title=\'run\'"><script>document.title="run"</script>'
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A collection whose every word tries to run."""
    metadata = json.dumps({HOSTILE: HOSTILE, "__proto__": {"a": [HOSTILE]}})
    rows = [Row(f"{HOSTILE}{at}", heading=HOSTILE, text=f"{HOSTILE} {at}", metadata=metadata) for at in range(40)]
    rows.append(Row(HOSTILE + "/without-heading", text="x" * 400))
    with Endpoint(dimensions=DIMENSIONS) as endpoint:
        store = collection(tmp_path_factory.mktemp("hostile"), rows, endpoint_checkpoint(endpoint.base_url))
        with serving(store, "--canary", 0, environment=ENVIRONMENT) as server:
            yield server


def ask(page: "Page", server: Server, question: str) -> None:
    page.goto(server.url)
    # A page is loaded before it is drawn, and autofocus comes with the drawing.
    page.wait_for_selector("#query:focus")
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")


@pytest.mark.engine
def test_a_question_is_answered_by_every_tier_side_by_side(browser: "Browser", server: Server) -> None:
    with looking(browser, viewport=DESKTOP) as view:
        ask(view.page, server, "where do all tiers meet?")
        heads = view.page.locator(".lane h2").all_inner_texts()
        assert [head.split()[0] for head in heads] == ["Exact", "4", "4", "8", "8", "16", "16"]
        assert view.page.locator(".lane .hit").count() == 70
        assert "ms" in view.page.locator(".lane .figures").nth(1).inner_text()
        assert "% of exact" in view.page.locator(".lane .figures").nth(1).inner_text()
        assert "prod · version 2 · 450 chunks" in view.page.locator("#served").inner_text()
        assert view.overflow <= 0
        assert view.complaints == []


@pytest.mark.engine
def test_it_is_used_with_the_keyboard_alone(browser: "Browser", server: Server) -> None:
    with looking(browser, viewport=DESKTOP) as view:
        page = view.page
        ask(page, server, "keys")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        focused = page.locator(":focus")
        assert focused.get_attribute("aria-expanded") == "false"
        page.keyboard.press("Enter")
        assert focused.get_attribute("aria-expanded") == "true"
        assert "kind: é" in focused.inner_text()
        page.keyboard.press("/")
        page.keyboard.type("another question")
        assert page.locator("#query").input_value() == "another question"
        page.get_by_label("Reranked", exact=True).check()
        assert page.locator(".lane:visible").count() == 4
        page.reload()
        page.wait_for_selector(".hit")
        assert page.locator("#query").input_value() == "keys"


@pytest.mark.engine
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(browser: "Browser", server: Server, scheme: str) -> None:
    with looking(browser, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True) as view:
        ask(view.page, server, "on a phone")
        assert view.overflow <= 0
        colour = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 384) == (scheme == "dark")


@pytest.mark.engine
def test_nothing_that_a_document_says_is_run(browser: "Browser", hostile: Server) -> None:
    with looking(browser, viewport=DESKTOP) as view:
        page = view.page
        ask(page, hostile, HOSTILE)
        for hit in page.locator(".hit").all()[:12]:
            hit.click()
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1
        assert HOSTILE in page.locator(".hit .text").first.inner_text()
        assert HOSTILE in page.locator(".hit .more").first.inner_text()
        assert page.title() == "Tierloom: every tier, side by side"
        assert view.complaints == []
        assert view.overflow <= 0


@pytest.mark.engine
def test_an_error_is_shown_in_its_own_words(browser: "Browser", hostile: Server) -> None:
    with looking(browser) as view:
        view.page.goto(hostile.url)
        view.page.locator("#query").fill("a" * 9000)
        view.page.keyboard.press("Enter")
        view.page.wait_for_selector("#status.error")
        assert "9,000 characters" in view.page.locator("#status").inner_text()


@pytest.mark.engine
def test_the_description_is_read_and_tried_without_a_network(browser: "Browser", server: Server) -> None:
    with looking(browser, viewport=DESKTOP) as view:
        page = view.page
        page.goto(f"{server.url}/docs")
        page.locator("#operations-search-search_v1_search_post").click()
        page.locator("button.execute").first.click()
        page.wait_for_selector(".live-responses-table")
        assert '"hits"' in page.locator(".live-responses-table").inner_text()
        assert view.complaints == []
        assert {url.rpartition("/")[2] for url in view.requests} >= {"swagger-ui-bundle.js", "openapi.json"}


def test_scripts_run_by_a_nonce_that_is_new_each_time(server: Server) -> None:
    policies = set()
    for _ in range(3):
        response = server.client.get("/")
        policy = response.headers["content-security-policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert len(nonce) >= 20
        assert response.text.count(f'nonce="{nonce}"') == 2
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "@nonce@" not in response.text
        policies.add(policy)
    assert len(policies) == 3


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_name_nothing_of_elsewhere(server: Server, path: str) -> None:
    html = server.client.get(path).text
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert 'src="//' not in html
