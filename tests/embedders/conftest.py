"""Fixtures: `endpoint` (a server that behaves), `open_at` (opens embedders there); `checkpoint_at` makes checkpoints.

No test waits: `open_at` gives the embedder a `sleep` that only notes the seconds.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.embedders.endpoint import Endpoint, vector_of
from tierloom.checkpoint import Checkpoint, Limits, Space
from tierloom.checkpoint import Endpoint as Address
from tierloom.embedders.openai_compatible import OpenAICompatibleEmbedder
from tierloom.embedders.retrying import Patience
from tierloom.spending.account import Account

PLANTED = "sk-planted-0123456789abcdef"
KEY_VARIABLE = "TIERLOOM_TEST_KEY"


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_LOG", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY_VARIABLE, PLANTED)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


def checkpoint_at(base_url: str | None, dimensions: int = 16, limits: Limits | None = None) -> Checkpoint:
    return Checkpoint(
        space=Space("openai", "test-model", "1", dimensions, (8, dimensions), query_prompt="query: "),
        limits=limits or Limits(),
        endpoint=Address(base_url=base_url, api_key_env=KEY_VARIABLE),
    )


class Opener:
    """Opens embedders that never wait, and closes them. `slept` holds the seconds they would have waited."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._opened: list[OpenAICompatibleEmbedder] = []

    def __call__(
        self,
        endpoint: Endpoint | str,
        limits: Limits | None = None,
        concurrency: int = 4,
        patience: Patience | None = None,
        read_seconds: float = 20.0,
        account: Account | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> OpenAICompatibleEmbedder:
        base_url = endpoint if isinstance(endpoint, str) else endpoint.base_url
        embedder = OpenAICompatibleEmbedder(
            checkpoint_at(base_url, limits=limits),
            concurrency,
            patience or Patience(),
            connect_seconds=20.0,
            read_seconds=read_seconds,
            sleep=sleep or self.slept.append,
            account=account,
        )
        self._opened.append(embedder)
        return embedder

    def close(self) -> None:
        for embedder in self._opened:
            embedder.close()


@pytest.fixture
def open_at() -> Iterator[Opener]:
    opener = Opener()
    yield opener
    opener.close()


def bounds(texts: Sequence[str]) -> list[int]:
    return [len(text.encode()) for text in texts]


def expected(texts: Sequence[str], dimensions: int = 16) -> NDArray[np.float32]:
    return np.stack([vector_of(text, dimensions) for text in texts])
