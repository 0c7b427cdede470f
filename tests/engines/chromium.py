"""Chromium, headless, from the system's packages. `browser` is what a test asks for, and `looking` how it opens pages.

The browser is driven by playwright, whose wheel brings its own driver and no browser. No request leaves loopback: no
other host is resolved, and a page that asks for one fails its test.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import pytest

from tests.engines.builds import refuse

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
# These ask nobody.
_LOCAL_SCHEMES: Final = ("about", "blob", "data", "file")
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND" + "".join(f", EXCLUDE {host}" for host in LOOPBACK),
)
_INSTALL: Final = (("apt-get", "-q", "update"), ("apt-get", "-qy", "install", "--no-install-recommends", "chromium"))


@dataclass(frozen=True, slots=True)
class View:
    """A page, the URLs that it asked for, and what it complained about: errors, and warnings of its console."""

    page: "Page"
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def foreign(self) -> list[str]:
        """Requests to anybody but this machine."""
        return [url for url in self.requests if not is_local(url)]

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return cast(int, self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def look_out(self) -> None:
        """Begin to note what the page asks for and complains about."""
        # Functions, for playwright writes into the owner of a bound method.
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self._note(message.type, message.text))
        self.page.on("pageerror", lambda error: self._note("error", str(error)))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)


def is_local(url: str) -> bool:
    """Whether a request for this URL stays on this machine."""
    split = urlsplit(url)
    return split.scheme in _LOCAL_SCHEMES or split.hostname in LOOPBACK


@contextmanager
def looking(browser: "Browser", **context: Any) -> Iterator[View]:
    """A new page with a fresh profile; `context` is what playwright's `new_context` takes. Fails at the end if the
    page asked for anything beyond loopback."""
    with browser.new_context(**context) as opened:
        view = View(opened.new_page())
        view.look_out()
        yield view
        if view.foreign:
            pytest.fail(f"requests left loopback: {', '.join(view.foreign)}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser. Root installs it where it is missing; else its tests are skipped, and fail in CI."""
    if shutil.which("chromium") is None and os.getuid() == 0 and shutil.which("apt-get"):
        for step in _INSTALL:
            subprocess.run(
                step, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL, check=False
            )
    return shutil.which("chromium") or refuse("no chromium on PATH; on Debian: apt-get install chromium")


@pytest.fixture
def browser(chromium: str, tmp_path: Path) -> Iterator["Browser"]:
    """A browser of this test alone: while playwright is at work, its event loop is the one of this thread, and no other
    can be run in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=list(_FLAGS), downloads_path=tmp_path / "downloads"
        )
        yield launched
        launched.close()
