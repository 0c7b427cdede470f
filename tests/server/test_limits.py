"""What a server is not to be driven beyond."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply
from tests.server.conftest import ENVIRONMENT, rows
from tests.server.serving import DIMENSIONS, KEY_VARIABLE, Server, collection, endpoint_checkpoint, serving
from tests.server.test_refusals import UNIT, address, refused
from tierloom.stores.local import LocalStore

pytestmark = pytest.mark.slow


class Gate:
    """A script of an endpoint that lets nobody through until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, asked: Asked) -> Reply | None:
        self.opened.wait(60)
        return None


@contextlib.contextmanager
def slow_model(folder: Path, *options: object) -> Iterator[tuple[Server, Endpoint, Gate]]:
    """A server whose model answers when its gate is opened."""
    gate = Gate()
    with Endpoint(dimensions=DIMENSIONS, script=gate) as endpoint:
        store = collection(folder, rows(), endpoint_checkpoint(endpoint.base_url))
        with serving(store, "--canary", 0, *options, environment=ENVIRONMENT) as server:
            try:
                yield server, endpoint, gate
            finally:
                gate.opened.set()


@pytest.fixture(scope="module")
def tight(store: LocalStore) -> Iterator[Server]:
    options = {"--max-body": 2000, "--timeout": 0.5, "--max-top": 5, "--max-batch": 2, "--max-requests": 4}
    with serving(store, *(word for pair in options.items() for word in pair), environment=ENVIRONMENT) as server:
        yield server


def test_a_large_body_is_refused_by_its_length(tight: Server) -> None:
    response = tight.client.post("/v1/search", json={"query": "a" * 3000})
    assert response.status_code == 413
    assert refused(response) == {
        "type": "TooLarge",
        "message": "the body of a request may have 2,000 bytes; ask for less, or in parts",
    }


def test_a_large_body_without_a_length_is_refused_as_it_comes(tight: Server) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    with contextlib.suppress(httpx2.WriteError):
        assert tight.client.post("/v1/search", content=endless(), headers=headers).status_code == 413
    assert sent < 64 << 20


def test_twenty_megabytes_still_hear_why(tight: Server) -> None:
    headers = {"Content-Type": "application/json"}
    response = tight.client.post("/v1/search", content=b" " * (10 << 20), headers=headers)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"


def test_the_limits_are_those_of_the_options(tight: Server) -> None:
    for question in ({"vector": UNIT, "top": 6}, {"queries": ["a", "b", "c"]}):
        assert tight.client.post("/v1/search", json=question).status_code == 422
    assert tight.client.post("/v1/search", json={"vector": UNIT, "top": 5}).status_code == 200


def test_a_body_that_comes_too_slowly_is_given_up(tight: Server) -> None:
    with socket.create_connection(address(tight)) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        )
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"type":"Timeout"' in answer


def test_a_head_that_comes_too_slowly_is_given_up(tight: Server) -> None:
    with socket.create_connection(address(tight)) as connection:
        dripping = threading.Event()
        dripper = threading.Thread(target=drip, args=(connection, dripping))
        dripper.start()
        assert read_to_end(connection) == b""
        dripping.set()
        dripper.join()


def drip(connection: socket.socket, enough: threading.Event) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        while not enough.wait(0.05):
            connection.sendall(b"x")


def read_to_end(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_so_many_requests_are_under_way_and_no_more(tight: Server) -> None:
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(address(tight))).sendall(head)
        while (response := tight.client.get("/v1/version")).status_code == 200:
            pass
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert refused(response)["type"] == "Busy"
        assert tight.client.get("/healthz").status_code == 200
        assert tight.client.get("/readyz").status_code == 200


def test_a_full_queue_turns_away_and_forgets_nobody(tmp_path: Path) -> None:
    with slow_model(tmp_path / "store", "--threads", 1, "--queue", 2) as (server, endpoint, gate):
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(server.search, query=f"question {at}") for at in range(3)]
            while endpoint.requests < 1 or server.metrics()["tierloom_requests_in_flight"] < 4:
                pass
            response = server.client.post("/v1/search", json={"vector": UNIT})
            assert (response.status_code, response.headers["retry-after"]) == (429, "1")
            assert refused(response)["type"] == "Busy"
            gate.opened.set()
            assert all(len(future.result()["hits"]) == 5 for future in waiting)
        assert len(server.search(vector=UNIT)["hits"]) == 5
        outcomes = server.metrics()
    busy = 'tierloom_queries_total{class="",outcome="Busy",profile="",tier="",version=""}'
    assert outcomes[busy] == 1


def test_what_takes_too_long_is_answered_with_504(tmp_path: Path) -> None:
    with slow_model(tmp_path / "store", "--threads", 1, "--queue", 0, "--timeout", 0.2) as (server, endpoint, gate):
        response = server.client.post("/v1/search", json={"query": "a question"})
        assert response.status_code == 504
        assert refused(response) == {"type": "Timeout", "message": "not answered within 0.2 seconds"}
        # Its thread cannot be stopped, and is still at work: no further one is taken on meanwhile.
        assert server.client.post("/v1/search", json={"vector": UNIT}).status_code == 429
        gate.opened.set()
        while (response := server.client.post("/v1/search", json={"vector": UNIT})).status_code == 429:
            pass
        assert response.status_code == 200
        assert endpoint.requests == 1


def test_questions_are_embedded_side_by_side(tmp_path: Path) -> None:
    with slow_model(tmp_path / "store", "--threads", 4) as (server, endpoint, gate), ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.search, query=f"question {at}") for at in range(4)]
        while endpoint.most_under_way < 4:
            pass
        gate.opened.set()
        assert all(len(future.result()["hits"]) == 5 for future in asked)


def test_a_model_out_of_reach_is_given_up_while_somebody_still_waits(tmp_path: Path) -> None:
    with Endpoint(dimensions=DIMENSIONS) as gone:
        base_url = gone.base_url
    dead = collection(tmp_path / "store", rows(), endpoint_checkpoint(base_url))
    with serving(dead, "--canary", 0, "--timeout", 30, environment=ENVIRONMENT) as server:
        response = server.client.post("/v1/search", json={"query": "a question"})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert refused(response)["type"] == "EmbedderUnavailable"
        assert ENVIRONMENT[KEY_VARIABLE] not in response.text + server.logged()
        assert len(server.search(vector=UNIT)["hits"]) == 5
