"""A token keeps strangers out, and is never seen."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.command_line import run
from tests.server.conftest import ENVIRONMENT
from tests.server.serving import Server, serving
from tests.server.test_refusals import UNIT, refused
from tierloom.stores.local import LocalStore

TOKEN = "tökén-0123456789"
VARIABLE = "TIERLOOM_TEST_TOKEN"
PATHS = ("/", "/docs", "/docs/files/swagger-ui.css", "/openapi.json", "/v1/version", "/metrics", "/nothing")


@pytest.fixture(scope="module")
def guarded(store: LocalStore) -> Iterator[Server]:
    environment = {**ENVIRONMENT, VARIABLE: TOKEN}
    with serving(store, "--token-env", VARIABLE, "--canary", 0, environment=environment) as server:
        yield server
        assert TOKEN not in server.logged()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_told(guarded: Server, path: str) -> None:
    response = guarded.client.get(path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="tierloom"')
    assert refused(response)["type"] == "Unauthorized"
    assert guarded.client.post("/v1/search", json={"vector": UNIT}).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer",
        b"Bearer wrong",
        TOKEN.encode(),
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.encode() + b"x",
        b"Basic " + TOKEN.encode(),
        b"Basic " + base64.b64encode(TOKEN.encode()),
        b"Basic ====",
        b"Digest " + TOKEN.encode(),
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 20_000,
    ],
)
def test_a_wrong_token_is_none(guarded: Server, authorization: bytes) -> None:
    response = guarded.client.get("/v1/version", headers=[(b"Authorization", authorization)])
    assert response.status_code == 401
    refused(response)


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer " + TOKEN.encode(),
        b"bearer  " + TOKEN.encode(),
        b"Basic " + base64.b64encode(b":" + TOKEN.encode()),
        b"Basic " + base64.b64encode(b"anybody:" + TOKEN.encode()),
    ],
)
def test_the_token_opens_and_so_does_a_browser_that_asks_for_it(guarded: Server, authorization: bytes) -> None:
    for path in PATHS[:-1]:
        assert guarded.client.get(path, headers=[(b"Authorization", authorization)]).status_code == 200


def test_probes_need_none_and_other_hosts_are_served(guarded: Server) -> None:
    assert guarded.client.get("/healthz").json() == {"status": "alive"}
    assert guarded.client.get("/readyz").json() == {"status": "ready"}
    assert guarded.client.get("/readyz", headers={"Host": "search.example"}).status_code == 200


def test_the_description_says_that_a_token_is_asked_for(guarded: Server) -> None:
    headers = [(b"Authorization", b"Bearer " + TOKEN.encode())]
    description = guarded.client.get("/openapi.json", headers=headers).json()
    assert description["security"] == [{"token": []}]
    assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_metrics_may_be_open(store: LocalStore) -> None:
    environment = {**ENVIRONMENT, VARIABLE: TOKEN}
    options = ("--token-env", VARIABLE, "--open-metrics", "--canary", 0)
    with serving(store, *options, environment=environment) as server:
        assert server.client.get("/metrics").status_code == 200
        assert server.client.get("/v1/version").status_code == 401


def test_an_empty_token_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "  "):
        monkeypatch.delenv(VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(VARIABLE, value)
        finished = run("serve", tmp_path, "--token-env", VARIABLE, "--log-format", "text")
        assert finished.error == f"the environment variable {VARIABLE} holds no token: set it, or leave --token-env out"
