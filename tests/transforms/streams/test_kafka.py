"""A Kafka topic, at the broker that Kafka's own client carries for tests."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.transforms.streams.taking import ids_of, take, take_until
from tierloom.errors import SourceError, SourceLost
from transforms.reading.records import Fields
from transforms.streams.kafka import KafkaStream
from transforms.streams.kafka_client import KafkaTopic
from transforms.streams.messages import letter_event

# What librdkafka calls it.
ANY_PARTITION = -1
Headers = list[tuple[str, str | bytes | None]]


@dataclass
class Broker:
    """A producer whose client is the broker, too."""

    producer: Producer
    servers: str

    def topic(self, name: str) -> KafkaTopic:
        return KafkaTopic(self.servers, name)

    def put(self, topic: str, records: Iterable[object], partition: int = ANY_PARTITION) -> None:
        for record in records:
            value = record if isinstance(record, bytes) else json.dumps(record).encode()
            key = record["id"] if isinstance(record, dict) else None
            self.producer.produce(topic, value, key=key, partition=partition)
        assert self.producer.flush(10) == 0


@dataclass
class Follower:
    """Opens streams, and closes them in the end."""

    said: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    opened: list[KafkaStream] = field(default_factory=list)

    def __call__(
        self, topic: KafkaTopic, positions: Mapping[str, int] | None = None, patience: float = 30
    ) -> KafkaStream:
        stream = KafkaStream(topic, Fields(), self.said.append, patience, self.stopping.is_set)
        self.opened.append(stream)
        stream.open(positions, {})
        return stream


@pytest.fixture(scope="module")
def broker() -> Broker:
    settings = {"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0}
    producer = Producer(settings)
    (server,) = producer.list_topics(timeout=10).brokers.values()
    return Broker(producer, f"{server.host}:{server.port}")


@pytest.fixture
def follow() -> Iterator[Follower]:
    follower = Follower()
    yield follower
    for stream in follower.opened:
        stream.close()


def record(number: int, **more: object) -> dict[str, object]:
    return {"id": f"d{number}", "text": f"text {number}", **more}


def test_every_partition_is_read_and_taken_up_again(broker: Broker, follow: Follower) -> None:
    broker.put("all", [record(number) for number in range(100)])
    stream = follow(broker.topic("all"))
    first = take_until(stream, lambda taken: len(taken.changes) >= 30, limit=10)
    read = [batch for batch in first.batches if batch.changes]
    seen, positions = read[:3], read[2].positions
    before = [change.event for batch in seen for change in batch.changes]
    assert positions is not None
    assert positions.keys() == {"0", "1", "2", "3"}
    assert 0 < sum(positions.values()) == len(before) < 100
    again = take(follow(broker.topic("all"), positions), 100 - len(before))
    assert sorted(ids_of([*before, *again.events])) == sorted(f"d{number}" for number in range(100))
    assert sum(again.positions.values()) == 100
    assert (follow.said, stream.source) == ([], f"kafka://{broker.servers}/all")


def test_what_messages_say(broker: Broker, follow: Follower) -> None:
    told: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b'{"id": "a", "text": "own id"}', b"key", []),
        (b'{"text": "the id is the key"}', b"b", []),
        (b'{"id": "c", "text": "dated", "sequence": "2026-01-01T00:00:00Z"}', None, []),
        (b'{"id": "d", "deleted": true, "sequence": 5}', None, []),
        (None, b"e", []),
        (None, b"f", [("sequence", b"77")]),
        (None, b"g", [("sequence", b"2026-01-01T00:00:00Z")]),
    ]
    for value, key, headers in told:
        broker.producer.produce("says", value, key=key, headers=headers, partition=1)
    broker.producer.flush(10)
    taken = take(follow(broker.topic("says")), len(told))
    assert [(d.document_id, d.text, d.sequence) for d in taken.documents] == [
        ("a", "own id", 0),
        ("b", "the id is the key", 1),
        ("c", "dated", 1767225600_000000000),
    ]
    assert [(d.document_id, d.sequence) for d in taken.deletions] == [
        ("d", 5),
        ("e", 4),
        ("f", 77),
        ("g", 1767225600_000000000),
    ]
    assert all(abs(change.arrived - time.time()) < 30 for change in taken.changes)


def test_what_cannot_be_read_is_kept_in_its_letter(broker: Broker, follow: Follower) -> None:
    bad = [b"{broken", b'{"text": "no id"}', b'{"id": "a", "text": "x", "sequence": 1.5}', b"\xff\xfe", b""]
    broker.put("bad", list(bad), partition=2)
    broker.producer.produce("bad", None, key=b"\xff", partition=2)
    broker.producer.produce("bad", None, key=b"k", headers=[("sequence", b"soon")], partition=2)
    broker.producer.produce("bad", None, partition=2)
    broker.put("bad", [record(1)], partition=2)
    taken = take(follow(broker.topic("bad")), 9)
    assert ids_of(taken.documents) == ["d1"]
    source = f"kafka://{broker.servers}/bad/2"
    assert [(letter.source, letter.offset, letter.reason) for letter in taken.letters] == [
        (source, 0, "invalid-json"),
        (source, 1, "missing-id"),
        (source, 2, "invalid-sequence"),
        (source, 3, "invalid-utf8"),
        (source, 4, "invalid-json"),
        (source, 5, "invalid-utf8"),
        (source, 6, "invalid-sequence"),
        (source, 7, "missing-id"),
    ]
    kept = [letter for letter in taken.letters if letter.record]
    assert [letter_event(letter) for letter in kept] == kept == taken.letters[:5]


def test_positions_that_the_topic_does_not_have(broker: Broker, follow: Follower) -> None:
    broker.put("short", [record(number) for number in range(10)], partition=0)
    topic = broker.topic("short")
    with pytest.raises(SourceLost, match=r"short, partition 0: offset 11 is wanted next, but the broker has 0 to 10"):
        follow(topic, {"0": 11, "1": 0})
    with pytest.raises(SourceLost, match=r"short has no partition 4, 9 any more, though .* up to \[0, 3\]"):
        follow(topic, {"0": 10, "4": 0, "9": 3})
    assert len(take(follow(topic, {"0": 9}), 1).events) == 1


def test_a_topic_that_is_not_there(broker: Broker, follow: Follower) -> None:
    with pytest.raises(SourceError, match=r"nothing cannot be read: .*Unknown topic"):
        follow(broker.topic("nothing"))


def test_a_broker_out_of_reach_is_said_once_and_not_waited_for_for_ever(follow: Follower) -> None:
    with pytest.raises(SourceError, match=r"has been out of reach for \d+ s: .* Start again when it is back"):
        follow(KafkaTopic("127.0.0.1:1", "topic"), patience=0.5)
    assert len(follow.said) == 1
    assert follow.said[0].startswith("the broker of kafka://127.0.0.1:1/topic is out of reach: ")


def test_a_stream_that_is_to_stop_waits_no_longer(follow: Follower) -> None:
    follow.stopping.set()
    stream = follow(KafkaTopic("127.0.0.1:1", "topic"), patience=3600)
    batch = stream.take(10, 0)
    assert batch is not None
    assert not batch.changes


def test_the_group_is_told_what_is_published(broker: Broker, follow: Follower) -> None:
    broker.put("told", [record(number) for number in range(7)], partition=3)
    stream = follow(broker.topic("told"))
    taken = take(stream, 7)
    for batch in taken.batches:
        stream.published(batch)
    reader = Consumer({"bootstrap.servers": broker.servers, "group.id": "tierloom", "log_level": 0})
    until = time.monotonic() + 10
    while (found := reader.committed([TopicPartition("told", 3)], timeout=10)[0].offset) != 7:
        assert time.monotonic() < until, found
    reader.close()
    # It is not asked: the manifest's positions count.
    assert len(take(follow(broker.topic("told"), {"3": 2}), 5).events) == 5


def test_how_much_is_behind(broker: Broker, follow: Follower) -> None:
    broker.put("behind", [record(number) for number in range(20)], partition=0)
    stream = follow(broker.topic("behind"), {"0": 5})
    assert stream.behind() == 15
    taken = take_until(stream, lambda taken: len(taken.changes) >= 10, limit=10)
    assert stream.behind() == 15 - len(taken.changes)


def test_no_more_is_held_than_a_batch(broker: Broker, follow: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.streams.kafka._BATCH_BYTES", 100_000)
    broker.put("wide", [record(number, more="x" * 10_000) for number in range(200)], partition=0)
    taken = take(follow(broker.topic("wide")), 200, limit=1000)
    assert len(taken.changes) == 200
    assert max(len(batch.changes) for batch in taken.batches) <= 1 + 64 + 10


NO_TOPIC = "is no topic; write kafka://host:9092/topic"


@pytest.mark.parametrize(
    "url",
    [
        "kafka://host",
        "kafka:///topic",
        "kafka://host/a/b",
        "kafka://host/topic?sasl.password=hush",
        "kafka://me:hush@host:9092/topic",
        "kafka://host/",
    ],
)
def test_what_is_no_topic(url: str) -> None:
    with pytest.raises(SourceError, match=NO_TOPIC) as raised:
        KafkaTopic.of(url)
    assert "hush" not in str(raised.value)


def test_a_topic_and_its_settings(tmp_path: Path, follow: Follower) -> None:
    topic = KafkaTopic.of("kafka://a:9092,b:9092/my.topic-1?group=search")
    assert topic == KafkaTopic("a:9092,b:9092", "my.topic-1", "search")
    assert topic.source == "kafka://a:9092,b:9092/my.topic-1"
    file = tmp_path / "client.properties"
    topic = KafkaTopic.of(f"kafka://127.0.0.1:1/topic?config={file}")
    with pytest.raises(SourceError, match="No such file"):
        topic.consumer()
    file.write_text("# for the broker\nsecurity.protocol = ssl\nsasl.password hush\n")
    with pytest.raises(SourceError, match=r"client\.properties: setting 2 is not of the form name=value") as raised:
        topic.consumer()
    assert "hush" not in str(raised.value)
    file.write_text("no.such.setting=hush\n")
    with pytest.raises(SourceError, match=r"refuses its settings: .*no\.such\.setting") as raised:
        topic.consumer()
    assert "hush" not in str(raised.value)
    file.write_text("client.id=mine\n")
    topic.consumer().close()
