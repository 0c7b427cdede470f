"""The browser that pages are looked at in: it stays on this machine, and leaves nothing behind for other tests."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.chromium import is_local, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.engine
def test_it_notes_what_a_page_asks_for_and_complains_about(browser: "Browser", tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>Hello</title><div style='width:900px'>wide</div><script>console.error('oh dear')</script>")
    with looking(browser, viewport={"width": 400, "height": 300}) as view:
        view.page.goto(page.as_uri())
        assert view.page.title() == "Hello"
        assert view.requests == [page.as_uri()]
        assert view.complaints == ["oh dear"]
        assert view.overflow > 400


@pytest.mark.engine
@pytest.mark.parametrize("host", ["tierloom.invalid", "example.com", "192.0.2.1"])
def test_a_page_that_asks_for_another_host_gets_nothing_and_fails(browser: "Browser", host: str) -> None:
    def look() -> None:
        with looking(browser) as view:
            view.page.set_content(f"<img src='http://{host}/spy.png'>")
            assert any("ERR_NAME_NOT_RESOLVED" in complaint for complaint in view.complaints)

    with pytest.raises(pytest.fail.Exception, match=host):
        look()


@pytest.mark.engine
@pytest.mark.parametrize("turn", [1, 2])
def test_other_tests_can_run_event_loops_after_it(request: pytest.FixtureRequest, turn: int) -> None:
    # The browser of the tests before is closed by now, and with it its loop.
    assert asyncio.run(asyncio.sleep(0, turn)) == turn


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/a", True),
        ("http://localhost/", True),
        ("http://[::1]:1/", True),
        ("data:text/plain,a", True),
        ("file:///tmp/a.html", True),
        ("https://example.com/127.0.0.1", False),
        ("http://127.0.0.1.example.com/", False),
        ("ws://example.com/", False),
    ],
)
def test_local_is_what_stays_on_this_machine(url: str, local: bool) -> None:
    assert is_local(url) is local
