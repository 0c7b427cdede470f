"""Prism: Beam's own portable runner, in Go. `prism` gives the options with which a command runs on it."""

from typing import Final

import pytest

from tests.engines.builds import begin_builds, go_program

BUILD: Final = go_program("github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0")


def pytest_collection_finish(session: pytest.Session) -> None:
    begin_builds(session, "prism", [BUILD])


@pytest.fixture(scope="session")
def prism() -> tuple[str, ...]:
    return ("--runner=PrismRunner", f"--prism_location={BUILD.path()}", "--prism_log_level=error")
