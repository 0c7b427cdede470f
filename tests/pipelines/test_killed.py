"""`kill -9` in the middle of an ingest, and the same command once more."""

import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.embedders.endpoint import Asked, Endpoint, error
from tests.pipelines.command_line import (
    ROOT,
    apart,
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    ok,
    run,
    write_records,
)
from tierloom.collection import SHARDS_IN_FLIGHT

DOCUMENTS = 60
# One document is one chunk.
BLOCK = 8
SMALL_SHARD = BLOCK // SHARDS_IN_FLIGHT


class Killer:
    """Ends the process that is asking when it sends its n-th request."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._seen = 0
        self.victim: subprocess.Popen[bytes] | None = None

    def __call__(self, asked: Asked) -> None:
        with self._lock:
            self._seen += 1
            if self._seen == self._at and self.victim is not None:
                os.kill(self.victim.pid, signal.SIGKILL)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [{"id": f"d{n}", "sequence": 1, "text": f"document number {n}"} for n in range(DOCUMENTS)]
    return write_records(tmp_path / "records.jsonl", records)


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", BLOCK, "--shard-rows", 20)
    return path


def unique_tokens() -> int:
    return sum(len(f"document number {n}") for n in range(DOCUMENTS))


def test_the_table_says_what_an_interrupted_run_had_finished(endpoint: Endpoint, store: Path, source: Path) -> None:
    endpoint.script = lambda asked: error(401, "no such key") if asked.number >= 6 else None
    refused = run("ingest", store, source, "--concurrency", 1)
    assert "no such key" in refused.error
    finished = len(list((store / "shards").glob("*")))
    assert finished > 0
    endpoint.script = None
    table = ok(run("ingest", store, source)).out
    assert f"{SMALL_SHARD * finished} reused from shards that an interrupted run had finished" in table
    assert f"{DOCUMENTS - SMALL_SHARD * finished} embedded" in table
    assert_whole(store)


# A small shard takes one request.
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_ingest_is_finished_by_the_next(
    tmp_path: Path, endpoint: Endpoint, store: Path, source: Path, seed: int, concurrency: int
) -> None:
    killer = Killer(at=random.Random(seed).randint(1, DOCUMENTS // SMALL_SHARD))
    endpoint.script = killer
    killer.victim = subprocess.Popen(
        apart(("ingest", store, source, "--concurrency", concurrency)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert killer.victim.wait(timeout=100) == -signal.SIGKILL
    assert head_of(store).version == 0
    finished = {path.name for path in (store / "shards").glob("*")}

    endpoint.script = None
    closing = ok(run("ingest", store, source, "--json")).json
    assert closing["found_chunks"] == SMALL_SHARD * len(finished)
    assert closing["found_chunks"] + closing["embedded_chunks"] == DOCUMENTS
    assert closing["documents"]["live"] == DOCUMENTS
    assert live_texts(store) == {(f"d{n}", 0): f"document number {n}" for n in range(DOCUMENTS)}
    # What was on its way when the worker died was paid for and never stored.
    paid = endpoint.billed_tokens - endpoint.canary_tokens
    assert paid <= unique_tokens() + BLOCK * len("document number 00")
    assert_whole(store)
