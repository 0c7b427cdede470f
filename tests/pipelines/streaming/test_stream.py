"""`tierloom stream` as a user has it: started, stopped, killed, started again."""

import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply
from tests.pipelines.command_line import apart, assert_whole, declare, head_of, init, ok, run, write_records
from tests.pipelines.streaming.following import (
    append,
    commands_of,
    finished,
    following,
    stopped,
    texts_of,
    wait_for_texts,
    wait_until,
)

BLOCK = 8


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", BLOCK)
    return path


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    path = tmp_path / "changes.jsonl"
    path.touch()
    return path


def upsert(number: int, sequence: int = 1) -> dict[str, object]:
    return {"id": f"d{number}", "sequence": sequence, "text": text_of(number, sequence)}


def text_of(number: int, sequence: int = 1) -> str:
    return f"document {number} as of {sequence}"


class TestStandardInput:
    def follow(self, store: Path, lines: str) -> subprocess.CompletedProcess[str]:
        command = apart(("stream", store, "-", "--json"))
        return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, check=False)

    def test_every_line_is_a_change_until_it_ends(self, store: Path) -> None:
        lines = [
            '{"id": "a", "sequence": 1, "text": "first"}',
            '{"id": "b", "sequence": 1, "text": "second"}',
            '{"id": "a", "sequence": 3, "text": "first, changed"}',
            '{"id": "a", "sequence": 2, "text": "first, late"}',
            '{"id": "b", "sequence": 2, "deleted": true}',
            '{"sequence": 1, "text": "without an id"}',
            '{"id": "c", "sequence": "soon", "text": "without a sequence"}',
        ]
        ended = self.follow(store, "\n".join(lines) + "\n")
        assert ended.returncode == 0, ended
        assert texts_of(store) == {"a": "first, changed"}
        letters = ok(run("dead-letters", store)).out
        assert "missing-id" in letters
        assert "invalid-sequence" in letters
        head = head_of(store)
        assert (head.documents.documents_in, head.documents.dead_lettered, head.run.removed) == (7, 2, 0)
        assert_whole(store)

    def test_an_empty_one_publishes_nothing(self, store: Path) -> None:
        ended = self.follow(store, "")
        assert ended.returncode == 0, ended
        assert head_of(store).version == 0


def test_a_stream_goes_on_where_it_was_stopped(store: Path, changes: Path, endpoint: Endpoint) -> None:
    with following(store, changes) as stream:
        append(changes, upsert(1), upsert(2))
        wait_for_texts(store, {"d1": text_of(1), "d2": text_of(2)})
        append(changes, upsert(1, 2), {"id": "d2", "sequence": 2, "deleted": True})
        wait_for_texts(store, {"d1": text_of(1, 2)})
        closing = stopped(stream).json
    assert (closing["added"], closing["changed"], closing["removed"]) == (2, 1, 1)
    assert closing["latency"]["p50"] > 0
    append(changes, upsert(3), upsert(2, 1))
    caught_up = ok(run("stream", store, changes, "--once", "--json")).json
    assert caught_up["changes"] == 2
    # A late, older event does not bring back what was deleted.
    assert texts_of(store) == {"d1": text_of(1, 2), "d3": text_of(3)}
    assert max(endpoint.billed.values()) == 1
    assert_whole(store)


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_the_batch_under_way_is_published_before_it_ends(
    store: Path, changes: Path, endpoint: Endpoint, by: signal.Signals
) -> None:
    asked, told = threading.Event(), threading.Event()

    def hold(_: Asked) -> None:
        asked.set()
        told.wait(60)

    endpoint.script = hold
    append(changes, upsert(1))
    with following(store, changes) as stream:
        assert asked.wait(60)
        stream.send_signal(by)
        told.set()
        closing = finished(stream).json
    assert closing["versions"] == 1
    assert texts_of(store) == {"d1": text_of(1)}


def test_ctrl_c_which_goes_to_all_its_processes_ends_it_quietly(store: Path, changes: Path) -> None:
    append(changes, upsert(1))
    with following(store, changes) as stream:
        wait_for_texts(store, {"d1": text_of(1)})
        os.killpg(stream.pid, signal.SIGINT)
        ended = finished(stream)
    assert ended.status == 0
    assert "Traceback" not in ended.err
    assert "upkeep" not in ended.err


def test_nothing_is_taken_while_a_batch_is_worked_on(store: Path, changes: Path, endpoint: Endpoint) -> None:
    """Back-pressure: what comes while the model is slow waits in the source, and goes with the next batch."""
    asked, told = threading.Event(), threading.Event()

    def hold(request: Asked) -> None:
        if request.documents and not asked.is_set():
            asked.set()
            told.wait(60)

    endpoint.script = hold
    append(changes, upsert(1))
    with following(store, changes, "--max-batch", 4) as stream:
        assert asked.wait(60)
        append(changes, *(upsert(number) for number in range(2, 8)))
        told.set()
        wait_for_texts(store, {f"d{number}": text_of(number) for number in range(1, 8)})
        stopped(stream)
    made = [len(request.documents) for request in endpoint.asked if request.documents]
    assert made[0] == 1
    assert max(made) <= 4
    assert sum(made) == 7


class Killer:
    """Ends the process that is asking when it sends its n-th request."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.victim: subprocess.Popen[str] | None = None

    def __call__(self, asked: Asked) -> Reply | None:
        if asked.number == self._at and self.victim is not None:
            os.kill(self.victim.pid, signal.SIGKILL)
        return None


@pytest.mark.parametrize("seed", range(4))
def test_after_a_kill_nothing_is_lost_doubled_or_paid_again(
    store: Path, changes: Path, endpoint: Endpoint, seed: int
) -> None:
    draw = random.Random(seed)
    records = [upsert(draw.randrange(20), sequence) for sequence in range(60)]
    expected = {str(record["id"]): str(record["text"]) for record in records}
    append(changes, *records)
    endpoint.script = killer = Killer(at=draw.randrange(2, 8))
    with following(store, changes, "--concurrency", 1) as stream:
        killer.victim = stream
        assert stream.wait(timeout=60) == -signal.SIGKILL
    endpoint.script = None
    ok(run("stream", store, changes, "--once", "--interval", 0))
    assert texts_of(store) == expected
    assert head_of(store).documents.documents_in == len(records)
    paid_again = endpoint.billed_tokens - endpoint.canary_tokens - sum(len(text.encode()) for text in endpoint.billed)
    assert paid_again <= BLOCK * len(text_of(20, 60))
    assert_whole(store)


def test_two_streams_over_one_source(store: Path, changes: Path) -> None:
    with following(store, changes) as first, following(store, changes) as second:
        numbers = iter(range(1000))
        while first.poll() is None and second.poll() is None:
            before = head_of(store).version
            append(changes, upsert(next(numbers)))
            wait_until(lambda since=before: head_of(store).version > since)  # type: ignore[misc]
        loser, winner = (first, second) if first.poll() is not None else (second, first)
        told = finished(loser)
        assert told.status == 1
        assert f"process {winner.pid}" in told.err
        assert "is read by another stream too" in told.err
        stopped(winner)
    ok(run("stream", store, changes, "--once"))
    last = next(numbers)
    assert texts_of(store) == {f"d{number}": text_of(number) for number in range(last)}
    assert_whole(store)


def test_a_watched_folder(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()

    def named(texts: dict[str, str]) -> dict[str, str]:
        return {f"watched/{name}": text for name, text in texts.items()}

    (folder / "a.txt").write_text("one")
    with following(store, folder) as stream:
        wait_for_texts(store, named({"a.txt": "one"}))
        (folder / "b.txt").write_text("two")
        (folder / "a.txt").write_text("one, changed")
        wait_for_texts(store, named({"a.txt": "one, changed", "b.txt": "two"}))
        (folder / "b.txt").rename(folder / "c.txt")
        wait_for_texts(store, named({"a.txt": "one, changed", "c.txt": "two"}))
        stopped(stream)
    (folder / "c.txt").write_text("two, while nobody looked")
    (folder / "d.txt").write_text("four")
    ok(run("stream", store, folder, "--once"))
    assert texts_of(store) == named({"a.txt": "one, changed", "c.txt": "two, while nobody looked", "d.txt": "four"})
    assert_whole(store)


def test_a_file_that_was_cut_short_is_a_choice(store: Path, changes: Path) -> None:
    append(changes, upsert(1), upsert(2))
    ok(run("stream", store, changes, "--once"))
    write_records(changes, [upsert(3)])
    refused = run("stream", store, changes, "--once")
    assert "--from-beginning" in refused.error
    ok(run("stream", store, changes, "--once", "--from-beginning"))
    assert texts_of(store) == {f"d{number}": text_of(number) for number in (1, 2, 3)}
    append(changes, upsert(4))
    ok(run("stream", store, changes, "--once"))
    assert "d4" in texts_of(store)


def test_small_shards_are_merged_behind(store: Path, changes: Path) -> None:
    with following(store, changes, "--max-batch", 1) as stream:
        append(changes, *(upsert(number) for number in range(40)))
        wait_until(lambda: "compact" in commands_of(store))
        wait_until(lambda: head_of(store).live_chunks == 40)
        wait_until(lambda: len(head_of(store).vector_shards) < 20)
        stopped(stream)
    assert texts_of(store) == {f"d{number}": text_of(number) for number in range(40)}
    assert_whole(store)


def test_an_option_that_nobody_knows(store: Path, changes: Path) -> None:
    assert "no such option: --intervall" in run("stream", store, changes, "--intervall", 3).error


def test_an_engine_does_not_end_by_itself(store: Path) -> None:
    told = run("stream", store, "kafka://localhost:9/topic", "--once", "--runner", "FlinkRunner").error
    assert "--once is of no use to an engine" in told


@pytest.mark.parametrize(
    ("source", "told"),
    [("nothing-here", "does not exist"), ("redis://host/topic", "has the scheme 'redis'")],
)
def test_what_is_no_stream(store: Path, source: str, told: str) -> None:
    assert told in run("stream", store, source).error
