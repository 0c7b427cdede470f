"""`tierloom stream` from real brokers: killed in mid-stream and started again, nothing is lost, doubled or skipped."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.embedders.endpoint import Endpoint
from tests.engines.kafka import Kafka
from tests.engines.pubsub import PubSub
from tests.pipelines.command_line import assert_whole, declare, head_of, init
from tests.pipelines.streaming.following import following, stopped, texts_of, wait_for_texts, wait_until

# The broker may have to be fetched first.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

BLOCK = 16


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", BLOCK)
    return path


def upsert(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"d{number}", "text": text_of(number), **more}).encode()


def text_of(number: int) -> str:
    return f"document number {number}"


def texts(first: int, end: int) -> dict[str, str]:
    return {f"d{number}": text_of(number) for number in range(first, end)}


def killed_once(
    store: Path, source: str, endpoint: Endpoint, want: dict[str, str], between: Callable[[], None]
) -> None:
    """Follow the source; kill -9 in mid-stream, and go on until all is there."""
    with following(store, source) as process:
        wait_until(lambda: len(texts_of(store)) >= 2 * BLOCK)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    between()
    with following(store, source) as process:
        wait_for_texts(store, want)
        ended = stopped(process)
    assert ended.status == 0, ended
    assert_whole(store)
    head = head_of(store)
    assert head.documents.documents_in == head.documents.live + head.documents.superseded + head.documents.deleted
    # One batch, of at most one block, was under way.
    assert sum(endpoint.billed.values()) - len(endpoint.billed) <= BLOCK


def test_a_topic(store: Path, endpoint: Endpoint, kafka: Kafka) -> None:
    kafka.create("stream-changes", 2)
    kafka.put("stream-changes", [upsert(number) for number in range(60)], partition=0)
    kafka.put("stream-changes", [upsert(number) for number in range(60, 120)], partition=1)
    source = f"kafka://{kafka.servers}/stream-changes?group=search"

    def meanwhile() -> None:
        kafka.put("stream-changes", [upsert(0, text="changed"), json.dumps({"id": "d1", "deleted": True}).encode()])

    want = texts(2, 120) | {"d0": "changed"}
    killed_once(store, source, endpoint, want, meanwhile)
    cursor = head_of(store).cursor_of(f"kafka://{kafka.servers}/stream-changes")
    assert cursor is not None
    assert cursor.positions == {"0": 62, "1": 60}
    reader = Consumer({"bootstrap.servers": kafka.servers, "group.id": "search", "log_level": 0})
    told = reader.committed([TopicPartition("stream-changes", number) for number in (0, 1)], timeout=30)
    reader.close()
    assert [partition.offset for partition in told] == [62, 60]


def test_a_topic_whose_retention_passed_is_a_choice(store: Path, kafka: Kafka) -> None:
    kafka.create("stream-short", 1)
    kafka.put("stream-short", [upsert(number) for number in range(10)])
    source = f"kafka://{kafka.servers}/stream-short"
    with following(store, source) as process:
        wait_for_texts(store, texts(0, 10))
        stopped(process)
    kafka.put("stream-short", [upsert(number) for number in range(10, 20)])
    kafka.forget("stream-short", 0, before=15)
    with following(store, source) as process:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "offset 10 is wanted next, but the broker has 15 to 20" in error
    with following(store, source, "--from-beginning") as process:
        wait_for_texts(store, texts(0, 10) | texts(15, 20))
        assert stopped(process).status == 0


def test_a_broker_that_is_away_for_a_while(store: Path, kafka: Kafka) -> None:
    kafka.create("stream-away", 1)
    kafka.put("stream-away", [upsert(number) for number in range(10)])
    with following(store, f"kafka://{kafka.servers}/stream-away") as process:
        wait_for_texts(store, texts(0, 10))
        kafka.kill()
        kafka.start()
        kafka.put("stream-away", [upsert(number) for number in range(10, 20)])
        wait_for_texts(store, texts(0, 20))
        assert stopped(process).status == 0


@pytest.mark.timeout(240)
def test_a_subscription(store: Path, endpoint: Endpoint, pubsub: PubSub) -> None:
    pubsub.publish(*(upsert(number, sequence=1) for number in range(100)))

    def meanwhile() -> None:
        pubsub.publish(upsert(0, text="changed", sequence=2), b'{"id": "d1", "sequence": 2, "deleted": true}')

    killed_once(store, pubsub.source, endpoint, texts(2, 100) | {"d0": "changed"}, meanwhile)
    # All that is published was acknowledged, and nothing is left to be given to anybody.
    assert pubsub.left() == []
