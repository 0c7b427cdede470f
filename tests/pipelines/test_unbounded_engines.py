"""The unbounded pipeline on engines of its own kind, from a Kafka topic; on Flink, with workers that are killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer

from tests.embedders.endpoint import Endpoint
from tests.engines.flink import Flink
from tests.pipelines.command_line import ROOT, apart, assert_whole, declare, head_of, init, ok, run
from tests.pipelines.test_engines import Killer
from tests.pipelines.test_unbounded import history, live_documents, model_of, put
from tierloom.document import Deletion, Document

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
                apart(("stream", store, topic.url, *options)),
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *_: object) -> None:
        # With its runner, which would go on without it.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=20)

    def await_documents(self, wanted: Mapping[str, str]) -> None:
        """Until exactly these live."""
        self._await(lambda: live_documents(self._store) == wanted)

    def await_letters(self, count: int) -> None:
        """Until so many dead letters are open."""
        self._await(lambda: head_of(self._store).documents.dead_lettered == count)

    def await_any(self, word: str) -> None:
        """Until a document with this in its text lives."""
        self._await(lambda: any(word in text for text in live_documents(self._store).values()))

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


def record_of(change: Document | Deletion) -> dict[str, object]:
    said = {"text": change.text} if isinstance(change, Document) else {"deleted": True}
    return {"id": change.document_id, "sequence": change.sequence, **said}


def streaming(engine: "Flink | tuple[str, ...]") -> tuple[str, ...]:
    if isinstance(engine, Flink):
        return (*engine.options, "--checkpointing_interval=1000")
    return engine


@pytest.mark.parametrize("kind", ["prism", "flink_alone"])
def test_a_topic_ends_as_the_model_does(
    tmp_path: Path, endpoint: Endpoint, store: Path, topic: Topic, request: pytest.FixtureRequest, kind: str
) -> None:
    options = streaming(request.getfixturevalue(kind))
    model = model_of(history(1))
    with Following(store, topic, tmp_path / "stream.log", *options) as stream:
        stream.await_documents({"first": "first"})
        topic.send(*map(record_of, history(1)), {"sequence": 1, "text": "no id", "id": None})
        stream.await_documents({"first": "first", **model})
        stream.await_letters(1)
    # The pipeline is gone, and all that it remembered: what goes on is the cursor in the manifest.
    topic.send(record_of(put("d1", 99, "afterwards")), record_of(Deletion("d2", 99)))
    asked = len(endpoint.asked)
    ok(run("stream", store, topic.url, "--once"))
    model = {**model, "first": "first", "d1": "afterwards"}
    model.pop("d2", None)
    assert live_documents(store) == model
    assert [text for one in endpoint.asked[asked:] for text in one.documents] == ["afterwards"]
    assert head_of(store).documents.adds_up
    assert_whole(store)


def round_of(number: int) -> list[Document | Deletion]:
    """A change of every document, a few deletions, and changes that come a round late."""
    ids = [f"d{n}" for n in range(24)]
    deleted = set(ids[number::9])
    news: list[Document | Deletion] = [
        Deletion(id_, 10 * number) if id_ in deleted else put(id_, 10 * number, f"{id_} in round {number}")
        for id_ in ids
    ]
    late = [put(id_, 10 * number - 15, f"{id_}, late in round {number}") for id_ in ids[::5]]
    return news[::2] + late + news[1::2]


def test_workers_that_are_killed_lose_nothing_and_pay_once(
    tmp_path: Path, endpoint: Endpoint, store: Path, topic: Topic, flink_alone: Flink
) -> None:
    killer = Killer(flink_alone)
    endpoint.script = killer
    every: list[Document | Deletion] = []
    with Following(store, topic, tmp_path / "stream.log", *streaming(flink_alone)) as stream:
        stream.await_documents({"first": "first"})
        for number in range(4):
            # In the middle of a request; and as soon as something of the round is published.
            killer.word = f"round {number}" if number == 1 else None
            every += round_of(number)
            topic.send(*map(record_of, round_of(number)))
            if number == 2:
                stream.await_any(f"round {number}")
                flink_alone.kill_worker()
            stream.await_documents({"first": "first", **model_of(every)})
    head = head_of(store)
    assert killer.word is None
    assert (head.documents.live, head.documents.adds_up) == (1 + len(model_of(every)), True)
    assert_whole(store)
    # Each partition had at most one small shard under way when the first worker died; the others were found.
    again = {text: times for text, times in endpoint.billed.items() if times > 1}
    assert all("round 1" in text and times == 2 for text, times in again.items()), again
