"""The lines of the log, the names of loopback, and the figures that must not grow without end."""

import json
import logging
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.answer import STEPS, Answer
from tierloom.server.hosts import is_loopback, names_loopback
from tierloom.server.logs import _JsonLines, _TextLines
from tierloom.server.metrics import Metrics
from tierloom.server.running import _bind
from tierloom.server.tracing import REQUEST_ID, request_id_of


def record(message: str, name: str = "tierloom.access") -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, "", 0, "%s", (message,), None)


@given(st.dictionaries(st.text(), st.text()))
def test_what_others_sent_never_begins_a_line(members: dict[str, str]) -> None:
    line = record(json.dumps(members))
    assert _JsonLines().format(line).count("\n") == 0
    assert len(_TextLines().format(record(json.dumps({"path": "".join(members.values())}))).splitlines()) == 1


@given(st.text())
def test_a_message_is_one_member(message: str) -> None:
    said = json.loads(_JsonLines().format(record(message, "uvicorn.error")))
    assert (said["message"], said["level"], said["logger"]) == (message, "info", "uvicorn.error")


def test_a_line_says_which_request_it_belongs_to() -> None:
    token = REQUEST_ID.set("one")
    try:
        assert json.loads(_JsonLines().format(record('{"status": 200}')))["request_id"] == "one"
        assert _TextLines().format(record('{"status": 200}')).endswith("info tierloom.access [one] status=200")
    finally:
        REQUEST_ID.reset(token)


@pytest.mark.parametrize("given_id", [None, "", "a b", "a\n", "é", "x" * 65, '"', "{}"])
def test_an_odd_request_id_is_replaced(given_id: str | None) -> None:
    assert request_id_of(given_id) not in (given_id, request_id_of(given_id))
    assert request_id_of("harmless-1.2_3") == "harmless-1.2_3"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost"])
def test_loopback_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)
    assert names_loopback(f"[{host}]:80" if ":" in host else f"{host}:80")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org", "[::1]x:80"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not names_loopback(host)


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off where the listening socket says that it is of TCP, and only there."""
    with _bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def answer(version: int, query_class: str | None = None, routed: bool = False) -> Answer:
    return Answer((), query_class, "default", "64", 64, version, "0", 1, 1, True, dict.fromkeys(STEPS, 0.1), routed)


def test_series_of_old_versions_and_of_strange_classes_do_not_pile_up() -> None:
    metrics = Metrics()
    for version in range(100):
        metrics.answered([answer(version, f"class {version}"), answer(1)])
    lines = [line for line in metrics.exposition().decode().splitlines() if line.startswith("tierloom_queries_total{")]
    assert len(lines) == 5
    assert [line for line in lines if 'version="1"' in line and line.endswith(" 100.0")]
    assert not [line for line in lines if 'class="class' in line]
