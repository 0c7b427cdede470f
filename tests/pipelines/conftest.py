"""Fixtures: `endpoint` (a server that behaves until a test gives it a script), and the key that it is sent."""

from collections.abc import Iterator

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import KEY, KEY_VARIABLE


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_LOG", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served
