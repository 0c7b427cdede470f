"""The bounded pipeline on engines that are not Python's own: what it does on a laptop, it does there."""

import threading
from pathlib import Path

import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.engines.flink import Flink
from tests.pipelines.command_line import (
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    run_apart,
    write_records,
)

BLOCK = 8

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(params=["prism", "flink"])
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of each engine."""
    given: Flink | tuple[str, ...] = request.getfixturevalue(request.param)
    return given.options if isinstance(given, Flink) else given


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Several splits, of documents that meet in several shards; one line is broken."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for part in range(3):
        records = [{"id": f"d{part}-{n}", "sequence": 1, "text": f"text {part} {n}"} for n in range(20)]
        records.append({"id": "everywhere", "sequence": part, "text": f"version {part}"})
        records[0]["padding"] = "y" * (2 << 20)
        write_records(folder / f"{part}.jsonl", records)
    with (folder / "2.jsonl").open("a") as file:
        file.write("{broken\n")
    return folder


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", BLOCK, "--shard-rows", 30)
    return path


def test_an_ingest_is_what_it_is_on_a_laptop(
    endpoint: Endpoint, docs: Path, store: Path, engine: tuple[str, ...]
) -> None:
    closing = run_apart("ingest", store, docs, "--json", *engine).json
    assert (closing["version"], closing["published"]) == (1, True)
    counts = {"documents_in": 64, "live": 61, "superseded": 2, "deleted": 0, "dead_lettered": 1}
    assert closing["documents"] == counts
    assert live_texts(store)["everywhere", 0] == "version 2"
    assert endpoint.billed_tokens == closing["tokens"] + closing["canary_tokens"]
    assert_whole(store)


def test_an_error_in_a_worker_ends_in_one_line(
    endpoint: Endpoint, docs: Path, store: Path, engine: tuple[str, ...]
) -> None:
    endpoint.script = lambda asked: error(401, "no such key")
    finished = run_apart("ingest", store, docs, *engine)
    refusal = f"error: {endpoint.base_url}, asked for test-model: HTTP 401: no such key"
    # Engines and their workers print what was raised, whatever their log level, and may have begun a line of theirs.
    assert finished.status == 1
    assert f"{refusal}\n" in finished.err, finished.err
    assert head_of(store).version == 0


class Killer:
    """Kills a worker of Flink when the model is asked for a text with `word`, once."""

    def __init__(self, flink: Flink) -> None:
        self._flink = flink
        self._lock = threading.Lock()
        self.word: str | None = None

    def __call__(self, asked: Asked) -> Reply | None:
        with self._lock:
            if self.word is not None and any(self.word in text for text in asked.inputs):
                self.word = None
                self._flink.kill_worker()
        return None


def test_a_worker_that_is_killed_costs_what_it_had_in_flight(
    endpoint: Endpoint, docs: Path, store: Path, flink: Flink
) -> None:
    killer = Killer(flink)
    killer.word = "text 2 "
    endpoint.script = killer
    closing = run_apart("ingest", store, docs, "--json", *flink.options).json
    assert killer.word is None
    assert (closing["documents"]["live"], closing["documents"]["dead_lettered"]) == (61, 1)
    again = {text: times for text, times in endpoint.billed.items() if times > 1}
    assert sum(again.values()) - len(again) <= BLOCK, again
    assert_whole(store)
