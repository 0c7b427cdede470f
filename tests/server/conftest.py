"""One collection and one server for the tests that only ask."""

from collections.abc import Iterator

import pytest

from tests.embedders.endpoint import Endpoint
from tests.server.serving import DIMENSIONS, KEY_VARIABLE, Server, collection, endpoint_checkpoint, serving
from tests.small_shards import Row
from tierloom.stores.local import LocalStore

ENVIRONMENT = {KEY_VARIABLE: "sk-planted-0123456789abcdef"}


def rows() -> list[Row]:
    """Three chunks in each of 150 documents."""
    return [
        Row(f"document-{at}", ordinal, heading=f"heading {at}", text=f"text {at} {ordinal}", metadata='{"kind": "é"}')
        for at in range(150)
        for ordinal in range(3)
    ]


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=DIMENSIONS) as served:
        yield served


@pytest.fixture(scope="session")
def store(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return collection(tmp_path_factory.mktemp("served"), rows(), endpoint_checkpoint(endpoint.base_url))


@pytest.fixture(scope="session")
def server(store: LocalStore) -> Iterator[Server]:
    with serving(store, "--canary", 0, environment=ENVIRONMENT) as served:
        yield served
