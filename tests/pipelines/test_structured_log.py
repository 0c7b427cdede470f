"""`--log-format json`: every line of standard error is an object."""

import json
import logging
import os
import pty
import subprocess
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.telling import speaking, wanted_format
from tests.embedders.endpoint import Endpoint, error
from tests.pipelines.command_line import (
    KEY,
    ROOT,
    Finished,
    apart,
    declare,
    head_of,
    init,
    ok,
    run,
    run_apart,
    write_records,
)
from tierloom.stores.local import LocalStore
from tierloom.taking_turns import Turn

JSON = ("--log-format", "json")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_records(
        tmp_path / "r.jsonl", [{"id": f"d{n}", "sequence": 1, "text": f"number {n}"} for n in range(5)]
    )


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    init(tmp_path / "store", declare(tmp_path, endpoint))
    return tmp_path / "store"


def lines(finished: Finished) -> list[dict[str, Any]]:
    """Every line, and that each has what it must."""
    found = [json.loads(line) for line in finished.err.splitlines()]
    for line in found:
        assert list(line)[:3] == ["time", "level", "event"]
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        assert line["level"] in ("info", "warning", "error")
        assert isinstance(line["message"], str)
    return found


def test_a_run_is_told_from_its_start_to_its_result(store: Path, source: Path) -> None:
    ended = ok(run_apart("ingest", store, source, "--sync", *JSON))
    told = [line for line in lines(ended) if line.get("state") != "running"]
    assert [line["event"] for line in told] == ["reading", "syncing", "progress", "progress", "result"]
    assert {line["command"] for line in told} == {"ingest"}
    assert {line["store"] for line in told} == {str(store)}
    assert {line["run"] for line in told} == {head_of(store).run.run}
    reading, syncing, started, at_the_end, result = told
    assert (reading["files"], reading["bytes"]) == (1, source.stat().st_size)
    assert syncing["deletions"] == 0
    assert (started["state"], at_the_end["state"]) == ("started", "ended")
    assert (at_the_end["done"], at_the_end["tokens"]) == (5, head_of(store).run.tokens)
    assert result["result"]["version"] == 1
    assert "1 published" in ended.out


def test_the_result_is_the_same_as_that_of_json(store: Path, source: Path) -> None:
    ended = ok(run("ingest", store, source, "--json", *JSON))
    assert lines(ended)[-1]["result"] == ended.json


SCHEDULED = [("compact", "STORE"), ("gc", "STORE"), ("gc", "STORE", "--dry-run"), ("verify", "STORE")]


@pytest.mark.parametrize("command", SCHEDULED, ids=" ".join)
def test_what_runs_on_a_schedule_tells_its_result(store: Path, source: Path, command: tuple[str, ...]) -> None:
    ok(run("ingest", store, source))
    ended = ok(run(*(store if argument == "STORE" else argument for argument in command), *JSON, "--json"))
    result = lines(ended)[-1]
    assert (result["event"], result["command"], result["result"]) == ("result", command[0], ended.json)


def test_a_stream_tells_how_it_goes(store: Path, source: Path) -> None:
    told = lines(ok(run_apart("stream", store, source, "--once", "--max-batch", "2", *JSON)))
    progress = [line for line in told if line["event"] == "progress"]
    assert progress[0]["state"] == "running"
    assert progress[-1]["state"] == "ended"
    assert progress[-1]["version"] == head_of(store).version
    assert told[-1]["result"]["changes"] == 5


def test_an_error_is_a_line_with_its_type(store: Path, source: Path, endpoint: Endpoint) -> None:
    endpoint.script = lambda asked: error(401, "no such key")
    refused = run_apart("ingest", store, source, *JSON)
    assert refused.status == 1
    last = lines(refused)[-1]
    assert (last["level"], last["event"], last["type"]) == ("error", "error", "EmbedderRefused")
    assert "no such key" in last["message"]
    assert KEY not in refused.err


def test_whoever_must_wait_is_told_in_the_same_way(store: Path) -> None:
    with Turn(LocalStore(store), "gc"):
        refused = run("gc", store, *JSON)
    assert refused.status == 75
    (line,) = lines(refused)
    assert (line["type"], line["command"]) == ("TurnHeld", "gc")


@pytest.mark.parametrize("arguments", [["no-such"], ["gc"], ["gc", "s", "--no-such"], ["gc", "s", "--grace", "x"]])
def test_a_command_line_that_is_none_is_a_line(arguments: list[str]) -> None:
    refused = run(*JSON, *arguments)
    assert refused.status == 2
    (line,) = lines(refused)
    assert line["event"] == "error"


def test_a_mistake_of_ours_is_a_line_with_its_traceback(store: Path) -> None:
    broken = "import index_builder.audit as a; a._problems = lambda *_: 1 / 0"
    (line,) = lines(run_apart("verify", store, *JSON, before=broken))
    assert line["type"] == "ZeroDivisionError"
    assert "Traceback" in line["traceback"]


def test_what_libraries_say_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking("json"):
        logging.getLogger("of_a_library").warning("nothing that a user could do anything about")
        logging.getLogger("tierloom.lease").warning("the lease on version %d was lost", 3)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("an old way\nof doing it", DeprecationWarning, stacklevel=1)
        try:
            raise ZeroDivisionError("a\nb")
        except ZeroDivisionError:
            logging.getLogger("kafka").exception("broken")
    lease, old, broken = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (lease["event"], lease["logger"], lease["level"]) == ("log", "tierloom.lease", "warning")
    assert lease["message"] == "the lease on version 3 was lost"
    assert "an old way\nof doing it" in old["message"]
    assert "ZeroDivisionError" in broken["traceback"]


def test_afterwards_all_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = (logging.root.handlers[:], logging.root.level)
    with speaking("json"):
        pass
    assert (logging.root.handlers[:], logging.root.level) == before


def test_on_a_terminal_nothing_is_drawn(store: Path, source: Path) -> None:
    ours, theirs = pty.openpty()
    command = apart(("ingest", store, source, *JSON))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        # A terminal that nobody writes to any more is an error to read from.
        while True:
            try:
                written += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    assert process.returncode == 0
    assert lines(Finished(0, "", written.decode()))[-1]["event"] == "result"


@pytest.mark.parametrize(
    ("arguments", "environment", "wanted"),
    [
        ([], {}, "text"),
        (["gc", "s"], {"TIERLOOM_LOG_FORMAT": "json"}, "json"),
        (["gc", "s", "--log-format", "text"], {"TIERLOOM_LOG_FORMAT": "json"}, "text"),
        (["--log-format=json", "gc"], {}, "json"),
        (["--log-format", "json", "gc", "--log-format", "text"], {}, "text"),
        (["gc", "--log-format"], {}, "text"),
    ],
)
def test_where_the_format_is_said(arguments: list[str], environment: dict[str, str], wanted: str) -> None:
    assert wanted_format(arguments, environment) == wanted


def test_a_format_that_is_none_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("gc", store, "--log-format", "xml").status == 2
    monkeypatch.setenv("TIERLOOM_LOG_FORMAT", "xml")
    refused = run("gc", store)
    assert refused.status == 2
    assert "xml" in refused.err
