"""Whatever a client sends, it gets JSON with a fitting status, and the server goes on."""

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.server.serving import DIMENSIONS, Server

UNIT = [1.0] + [0.0] * (DIMENSIONS - 1)
JSON = {"Content-Type": "application/json"}


def post(server: Server, body: bytes, headers: dict[str, str] = JSON, path: str = "/v1/search") -> httpx2.Response:
    return server.client.post(path, content=body, headers=headers)


def refused(response: httpx2.Response) -> dict[str, str]:
    """The error of an answer that is one, and nothing that a client must not see."""
    assert response.headers["content-type"] == "application/json"
    assert "Traceback" not in response.text
    assert "/tierloom/" not in response.text
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["type", "message"]
    assert len(response.content) < 1000
    error: dict[str, str] = body["error"]
    return error


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> Iterator[None]:
    yield
    assert len(server.search(vector=UNIT)["hits"]) == 5


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"\xff\xfe\x00", 400),
        (b'{"query": "\xff"}', 400),
        (b'{"query": "\\ud800"}', 400),
        (b'{"vector": [NaN]}', 400),
        (b'{"vector": [Infinity]}', 400),
        (b'{"vector": [1e999]}', 422),
        (b'{"query": "a"} {}', 400),
        (b"[" * 500_000, 422),
        (b'{"vector": ' + b"[" * 500_000, 422),
        (b'{"x": ' + b'{"x": ' * 100_000, 422),
        (b'{"top": ' + b"9" * 500_000 + b"}", 422),
        (b"\xef\xbb\xbf" + b'{"query": "a"}', 400),
        ("{'query': 'a'}".encode("utf-16"), 400),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
def test_what_is_no_question_is_refused(server: Server, body: bytes, status: int) -> None:
    response = post(server, body)
    assert response.status_code == status, response.text
    refused(response)


@pytest.mark.parametrize(
    ("question", "status", "kind", "said"),
    [
        ({}, 422, "BadRequest", "one of `query`, `vector` and `queries`"),
        ({"query": "a", "vector": UNIT}, 422, "BadRequest", "not query and vector"),
        ({"query": 7}, 422, "BadRequest", r"\$\.query"),
        ({"query": "a", "tpo": 3}, 422, "BadRequest", "unknown field `tpo`"),
        ({"query": " \n"}, 422, "QueryError", "ask something"),
        ({"vector": []}, 422, "QueryError", r"\(0,\)"),
        ({"vector": [1.0] * 31}, 422, "QueryError", r"\(31,\)"),
        ({"vector": [0.0] * DIMENSIONS}, 422, "QueryError", "points nowhere"),
        ({"vector": ["a"] * DIMENSIONS}, 422, "BadRequest", "Expected `float`"),
        ({"vector": [[1.0]] * DIMENSIONS}, 422, "BadRequest", "Expected `float`"),
        ({"vector": [True] * DIMENSIONS}, 422, "BadRequest", "Expected `float`"),
        ({"vector": [0] * 300_000}, 422, "QueryError", r"\(300000,\)"),
        ({"vector": UNIT, "tier": 5}, 422, "CheckpointError", "no tier 5; it has 4, 8, 16"),
        ({"vector": UNIT, "tier": "../4"}, 422, "CheckpointError", "no tier"),
        ({"vector": UNIT, "tier": 10**30}, 422, "BadRequest", "so many dimensions"),
        ({"vector": UNIT, "tier": -(2**63)}, 422, "BadRequest", "so many dimensions"),
        ({"vector": UNIT, "tier": "x" * 5000}, 422, "BadRequest", "5,000 characters"),
        ({"vector": UNIT, "tier": 4.0}, 422, "BadRequest", r"\$\.tier"),
        ({"vector": UNIT, "profile": "no such"}, 422, "QueryError", "no profile 'no such'; it has quick, thorough"),
        ({"vector": UNIT, "top": 0}, 422, "BadRequest", r"\$\.top"),
        ({"vector": UNIT, "top": True}, 422, "BadRequest", r"\$\.top"),
        ({"vector": UNIT, "top": 10**40}, 422, "BadRequest", "`top`: this server allows 1,000"),
        ({"vector": UNIT, "top": 1001}, 422, "BadRequest", "`top`: this server allows 1,000, not 1,001"),
        ({"vector": UNIT, "shortlist": 10_001}, 422, "BadRequest", "`shortlist`: this server allows 10,000"),
        ({"vector": UNIT, "documents": ["a"] * 1001}, 422, "BadRequest", "`documents`: this server allows 1,000"),
        ({"vector": UNIT, "documents": "a"}, 422, "BadRequest", r"\$\.documents"),
        ({"queries": ["a"] * 65}, 422, "BadRequest", "`queries`: this server allows 64"),
        ({"queries": [UNIT, [1.0]]}, 422, "QueryError", r"\(1,\)"),
        ({"queries": [None]}, 422, "BadRequest", r"\$\.queries"),
        ({"query": "a" * 8193}, 422, "BadRequest", "8,193 characters; this server allows 8,192"),
        ({"vector": UNIT, "checkpoint": "0" * 32}, 422, "CheckpointMismatch", "of checkpoint 000"),
        ({"vector": UNIT, "rerank": "yes"}, 422, "BadRequest", r"\$\.rerank"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_question_hears_why(server: Server, question: Any, status: int, kind: str, said: str) -> None:
    response = post(server, json.dumps(question).encode())
    assert response.status_code == status
    error = refused(response)
    assert error["type"] == kind
    with pytest.raises(ValueError, match=said):
        raise ValueError(error["message"])


@pytest.mark.parametrize("body", [b"{}", b'{"query": "a", "top": 1001}', b'{"query": 1}', b'{"query": ""}', b"\xff"])
def test_comparisons_are_checked_too(server: Server, body: bytes) -> None:
    response = post(server, body, path="/v1/compare")
    assert response.status_code in (400, 422)
    refused(response)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_body_is_json_by_its_type(server: Server, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = post(server, b'{"query": "a"}', headers)
    assert response.status_code == 415
    assert "application/json" in refused(response)["message"]
    assert post(server, b'{"query": "a"}', {"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "NotFound"),
        ("GET", "/v1/../../etc/passwd", 404, "NotFound"),
        ("GET", "/docs/files/..%2f..%2f__init__.py", 404, "NotFound"),
        ("GET", "/docs/files/index.html", 404, "NotFound"),
        ("GET", "/%00%ff", 404, "NotFound"),
        ("GET", "/v1/search", 405, "MethodNotAllowed"),
        ("DELETE", "/", 405, "MethodNotAllowed"),
        ("POST", "/metrics", 405, "MethodNotAllowed"),
    ],
)
def test_what_is_not_there_is_said_so(server: Server, method: str, path: str, status: int, kind: str) -> None:
    response = server.client.request(method, path)
    assert (response.status_code, refused(response)["type"]) == (status, kind)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:1234", 200),
        ("127.9.9.9", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8080", 403),
        ("", 403),
    ],
)
def test_a_name_that_was_rebound_to_loopback_is_refused(server: Server, host: str, status: int) -> None:
    assert server.client.get("/v1/version", headers={"Host": host}).status_code == status


def test_what_is_not_http_is_refused(server: Server) -> None:
    for said in (b"\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n", b"GET /\r\n\r\n\r\n", b"A" * 40_000):
        with socket.create_connection(address(server)) as connection:
            connection.sendall(said)
            assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_client_that_leaves_costs_nothing(server: Server) -> None:
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    for _ in range(20):
        with socket.create_connection(address(server)) as connection:
            connection.sendall(head)
    gone = 'tierloom_requests_total{path="/v1/search",status="499"}'
    while (metrics := server.metrics()).get(gone, 0) < 20:
        pass
    assert metrics["tierloom_requests_in_flight"] == 1
    # Whoever asked whether it is ready before it was has had his 503.
    searches = [line for line in server.log_lines("tierloom.access") if line["path"] == "/v1/search"]
    assert {line["status"] for line in searches if line["status"] >= 499} == {499}
    assert "Traceback" not in server.logged()


def address(server: Server) -> tuple[str, int]:
    split = urlsplit(server.url)
    assert split.hostname is not None
    assert split.port is not None
    return split.hostname, split.port
