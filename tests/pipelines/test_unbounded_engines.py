"""The unbounded pipeline on engines of its own kind, from a Kafka topic; on Flink, with workers that are killed."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer

from tests.embedders.endpoint import Endpoint
from tests.engines.flink import Flink
from tests.pipelines.command_line import ROOT, apart, assert_whole, declare, head_of, init
from tests.pipelines.test_unbounded import history, live_documents, model_of
from tierloom.document import Document

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PARTITIONS: Final = 4
PATIENCE_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the broker that lives inside Kafka's own client."""

    producer: Producer
    url: str

    def send(self, *records: Mapping[str, object]) -> None:
        """One message a record, in the partition of its id."""
        for record in records:
            key = str(record["id"])
            self.producer.produce("changes", json.dumps(record), key, partition=hash_of(key) % PARTITIONS)
        assert self.producer.flush(20) == 0


def hash_of(key: str) -> int:
    return sum(key.encode())


@pytest.fixture
def topic() -> Topic:
    producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
    [broker] = producer.list_topics(timeout=20).brokers.values()
    found = Topic(producer, f"kafka://{broker.host}:{broker.port}/changes")
    # The broker makes a topic when one is first written to.
    found.send({"id": "first", "sequence": 1, "text": "first"})
    return found


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint))
    return path


class Following:
    """`tierloom stream` on an engine, until the test ends."""

    def __init__(self, store: Path, topic: Topic, log: Path, *options: object) -> None:
        self._store, self._log = store, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                apart(("stream", store, topic.url, *options)), cwd=ROOT, stdout=output, stderr=output
            )

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(timeout=20)

    def await_documents(self, wanted: Mapping[str, str]) -> None:
        """Until exactly these live."""
        self._await(lambda: live_documents(self._store) == wanted)

    def await_letters(self, count: int) -> None:
        """Until so many dead letters are open."""
        self._await(lambda: head_of(self._store).documents.dead_lettered == count)

    def _await(self, come: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not come():
            assert time.monotonic() < until, (live_documents(self._store), self._log.read_text()[-4000:])
            self._await_more()

    def _await_more(self) -> None:
        try:
            status = self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            return
        pytest.fail(f"ended with {status}: {self._log.read_text()[-4000:]}")


def records_of(seed: int) -> list[dict[str, object]]:
    return [
        {"id": change.document_id, "sequence": change.sequence, "text": change.text}
        if isinstance(change, Document)
        else {"id": change.document_id, "sequence": change.sequence, "deleted": True}
        for change in history(seed)
    ]


def streaming(engine: "Flink | tuple[str, ...]") -> tuple[str, ...]:
    if isinstance(engine, Flink):
        return (*engine.options, "--checkpointing_interval=1000")
    return engine


@pytest.mark.parametrize("kind", ["prism", "flink"])
def test_a_topic_ends_as_the_model_does(
    tmp_path: Path, endpoint: Endpoint, store: Path, topic: Topic, request: pytest.FixtureRequest, kind: str
) -> None:
    options = streaming(request.getfixturevalue(kind))
    model = model_of(history(1))
    with Following(store, topic, tmp_path / "stream.log", *options) as stream:
        stream.await_documents({"first": "first"})
        topic.send(*records_of(1), {"sequence": 1, "text": "no id", "id": None})
        stream.await_documents({"first": "first", **model})
        stream.await_letters(1)
    assert head_of(store).documents.adds_up
    assert_whole(store)
