"""A Kafka topic at a real broker: retention, new partitions, a broker that goes and comes back."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from tests.engines.kafka import Kafka
from tests.transforms.streams.taking import Taken, ids_of, take, take_until
from tierloom.errors import SourceError, SourceLost
from transforms.reading.records import Fields
from transforms.streams.kafka import KafkaStream
from transforms.streams.kafka_client import KafkaTopic

# The broker may have to be fetched first.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@dataclass
class Follower:
    """Opens streams, and closes them in the end."""

    servers: str
    said: list[str] = field(default_factory=list)
    opened: list[KafkaStream] = field(default_factory=list)

    def __call__(self, topic: str, positions: Mapping[str, int] | None = None) -> KafkaStream:
        stream = KafkaStream(KafkaTopic(self.servers, topic), Fields(), self.said.append, 60, lambda: False)
        self.opened.append(stream)
        stream.open(positions, {})
        return stream


@pytest.fixture
def follow(kafka: Kafka) -> Iterator[Follower]:
    follower = Follower(kafka.servers)
    yield follower
    for stream in follower.opened:
        stream.close()


def records(first: int, end: int) -> list[bytes]:
    return [json.dumps({"id": f"d{number}", "text": f"text {number}"}).encode() for number in range(first, end)]


def ids(first: int, end: int) -> list[str]:
    return [f"d{number}" for number in range(first, end)]


def test_it_goes_on_where_it_was_published(kafka: Kafka, follow: Follower) -> None:
    kafka.create("goes-on")
    kafka.put("goes-on", records(0, 1000))
    first = take_until(follow("goes-on"), lambda taken: len(taken.changes) >= 400, limit=100)
    cut = first.batches[1].positions
    assert cut is not None
    rest = take(follow("goes-on", cut), 1000 - cut["0"], limit=1000)
    assert ids_of(rest.events) == ids(cut["0"], 1000)


def test_retention_that_passed_the_position_is_a_stop_not_a_skip(kafka: Kafka, follow: Follower) -> None:
    kafka.create("retained", 2)
    kafka.put("retained", records(0, 100))
    kafka.forget("retained", 0, before=60)
    lost = r"retained, partition 0: offset 40 is wanted next, but the broker has 60 to 100; .*--from-beginning"
    with pytest.raises(SourceLost, match=lost):
        follow("retained", {"0": 40, "1": 0})
    assert ids_of(take(follow("retained"), 40).events) == ids(60, 100)
    assert ids_of(take(follow("retained", {"0": 60, "1": 0}), 40).events) == ids(60, 100)


def test_retention_that_overtakes_a_stream(kafka: Kafka, follow: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing may be fetched ahead, or the stream would not notice.
    monkeypatch.setattr("transforms.streams.kafka_client._FETCHED_AHEAD_KBYTES", 1)
    kafka.create("overtaken")
    kafka.put("overtaken", [record[:-1] + b', "x": "' + b"x" * 20_000 + b'"}' for record in records(0, 500)])
    stream = follow("overtaken")
    taken = take_until(stream, lambda taken: len(taken.changes) >= 1, limit=1)
    kafka.forget("overtaken", 0, before=450)
    with pytest.raises(SourceLost, match=r"partition 0: offset \d+ is wanted next, but the broker has 450 to 500"):
        take(stream, 500)
    assert ids_of(taken.events)[0] == "d0"


def test_new_partitions_are_read_from_their_beginning(
    kafka: Kafka, follow: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.streams.kafka._PARTITIONS_SECONDS", 0.0)
    kafka.create("grows")
    kafka.put("grows", records(0, 5))
    stream = follow("grows")
    first = take(stream, 5)
    kafka.add_partitions("grows", 2)
    kafka.put("grows", records(5, 9), partition=1)
    taken = take(stream, 4)
    assert (ids_of(taken.events), taken.positions) == (ids(5, 9), {"0": 5, "1": 4})
    assert ids_of(take(follow("grows", first.positions), 4).events) == ids(5, 9)


def test_a_topic_that_is_deleted_ends_the_stream(
    kafka: Kafka, follow: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.streams.kafka._PARTITIONS_SECONDS", 0.0)
    kafka.create("deleted")
    kafka.put("deleted", records(0, 5))
    stream = follow("deleted")
    taken = take(stream, 5)
    kafka.delete("deleted")
    with pytest.raises(SourceError, match=r"deleted cannot be read: .*[Uu]nknown topic"):
        take(stream, 1)
    kafka.create("deleted")
    with pytest.raises(SourceLost, match="offset 5 is wanted next, but the broker has 0 to 0"):
        follow("deleted", taken.positions)


def test_a_broker_that_is_away_is_waited_for(kafka: Kafka, follow: Follower) -> None:
    kafka.create("away")
    kafka.put("away", records(0, 50))
    stream = follow("away")
    first = take(stream, 50)
    kafka.kill()
    until = time.monotonic() + 30
    while not follow.said:
        assert time.monotonic() < until
        batch = stream.take(10, 0.1)
        assert batch is not None
        assert not batch.changes
    kafka.start()
    kafka.put("away", records(50, 60))
    rest = take(stream, 10)
    assert ids_of(rest.events) == ids(50, 60)
    assert rest.positions == {"0": first.positions["0"] + 10}
    assert [said.partition(f"kafka://{kafka.servers}/away ")[2][:12] for said in follow.said] == [
        "is out of re",
        "is back afte",
    ]


def everything(stream: KafkaStream, count: int) -> Taken:
    return take(stream, count, limit=2000)


def test_a_hundred_thousand_records(kafka: Kafka, follow: Follower) -> None:
    kafka.create("many", 3)
    for partition in range(3):
        kafka.put("many", records(partition * 30_000, (partition + 1) * 30_000), partition)
    began = time.monotonic()
    taken = everything(follow("many"), 90_000)
    assert sorted(ids_of(taken.events)) == sorted(ids(0, 90_000))
    # Far above what can be embedded: 500 chunks a second.
    assert len(taken.changes) / (time.monotonic() - began) > 5000
