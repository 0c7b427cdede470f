"""A partition read by workers that take turns: every message in one span, and the same spans whoever reads."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from confluent_kafka import Producer

from pipelines.running import make_job
from tests.embedders.endpoint import Endpoint
from tests.transforms.runs import small_collection
from tierloom.document import Document
from tierloom.errors import SourceError, SourceLost
from transforms.bundle import Span
from transforms.job import Job
from transforms.reading.records import Fields
from transforms.streams.kafka_client import KafkaTopic, PartitionReader
from transforms.streams.kafka_partitions import KafkaChanges, Offsets, Partition, ReadPartitionDoFn

COUNT = 30


@pytest.fixture(scope="module")
def topic() -> KafkaTopic:
    """A topic with `COUNT` messages in its partition 1, in the broker that lives inside Kafka's own client."""
    producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
    [broker] = producer.list_topics(timeout=20).brokers.values()
    for number in range(COUNT):
        producer.produce("changes", json.dumps({"id": f"d{number}", "text": "t"}), partition=1)
    assert producer.flush(20) == 0
    found = KafkaTopic.of(f"kafka://{broker.host}:{broker.port}/changes")
    _producers.append(producer)
    return found


# The broker lives as long as its client does.
_producers: list[Producer] = []


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with Endpoint(dimensions=16) as endpoint:
        store = str(tmp_path / "store")
        small_collection(store, endpoint)
        yield make_job(store, "stream", Fields())


class Worker:
    """One worker, that reads turn after turn."""

    def __init__(self, topic: KafkaTopic, job: Job) -> None:
        self.dofn = ReadPartitionDoFn(topic, job)
        self.dofn.setup()

    def turn(self, start: int, split_first: bool = False) -> tuple[list[Span], int]:
        """What one call gives from `start` on, and where the next one is to begin."""
        tracker = ThreadsafeRestrictionTracker(Offsets().create_tracker(OffsetRange(start, 1 << 62)))
        process: Any = self.dofn.process(Partition(1, 0), RestrictionTrackerView(tracker))
        if split_first:
            assert tracker.try_split(0) is not None
        spans = [value.value for value in process]
        residual = tracker.deferred_status()
        begin = start if residual is None else residual[0].start
        tracker.check_done()
        return spans, begin

    def read(self, start: int, stop: int) -> list[Span]:
        spans: list[Span] = []
        while start < stop:
            more, start = self.turn(start)
            spans += more
        return spans


@pytest.fixture
def worker(topic: KafkaTopic, job: Job) -> Iterator[Worker]:
    made = Worker(topic, job)
    yield made
    made.dofn.teardown()


def test_every_message_is_in_one_span(worker: Worker) -> None:
    spans = worker.read(0, COUNT)
    assert [event.document_id for span in spans for event in span.events if isinstance(event, Document)] == [
        f"d{number}" for number in range(COUNT)
    ]
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert (spans[-1].stop, spans[0].partition, spans[0].first) == (COUNT, "1", 0)


def test_who_takes_over_ends_spans_where_they_were_ended(topic: KafkaTopic, job: Job, worker: Worker) -> None:
    # The first worker read when only a part was there.
    worker.dofn._cuts.note("1", 0, 7)
    worker.dofn._cuts.note("1", 7, 9)
    other = Worker(topic, job)
    spans = other.read(0, COUNT)
    other.dofn.teardown()
    assert [(span.start, span.stop) for span in spans[:2]] == [(0, 7), (7, 9)]
    assert spans == worker.read(0, COUNT)


def test_a_cut_that_the_topic_does_not_reach_holds_nobody_up(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    # The topic was made anew, and is shorter.
    monkeypatch.setattr("transforms.streams.kafka_partitions._PATIENCE_SECONDS", 0.2)
    worker.dofn._cuts.note("1", 0, COUNT + 50)
    assert worker.read(0, COUNT)[-1].stop == COUNT


def test_what_is_taken_away_while_it_is_read_is_left_to_another(worker: Worker) -> None:
    spans, _ = worker.turn(3, split_first=True)
    assert spans == []
    assert worker.turn(3)[0][0].start == 3


def test_where_nothing_waits_the_next_turn_comes_later(worker: Worker) -> None:
    assert worker.turn(COUNT) == ([], COUNT)


def test_partitions_are_taken_up_at_their_positions(topic: KafkaTopic, job: Job) -> None:
    assert KafkaChanges(topic, job).take_up({"1": 12}) == {"0": 0, "1": 12, "2": 0, "3": 0}


@pytest.mark.parametrize("offset", [COUNT + 1, 10**9])
def test_an_offset_that_is_not_there_stops_the_stream(topic: KafkaTopic, job: Job, offset: int) -> None:
    with pytest.raises(SourceLost, match=rf"partition 1: offset {offset} .* 0 to {COUNT}"):
        KafkaChanges(topic, job).take_up({"1": offset})
    reader = PartitionReader(topic, 1)
    reader.seek(offset)
    with pytest.raises(SourceLost, match="from-beginning"):
        reader.until(offset + 1, 20)
    reader.close()


def test_a_partition_that_is_not_there_stops_the_stream(topic: KafkaTopic, job: Job) -> None:
    with pytest.raises(SourceLost, match="has no partition 7 any more"):
        KafkaChanges(topic, job).take_up({"1": 3, "7": 3})


def test_a_broker_that_is_not_there_is_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.streams.kafka_client._ASK_SECONDS", 0.5)
    with pytest.raises(SourceError, match=r"kafka://127\.0\.0\.1:1/changes cannot be read"):
        KafkaChanges.of("kafka://127.0.0.1:1/changes", job).take_up({})


def test_a_broker_that_goes_away_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reader = PartitionReader(KafkaTopic.of("kafka://127.0.0.1:1/changes"), 3)
    reader.seek(0)
    until = time.monotonic() + 20
    while not caplog.records and time.monotonic() < until:
        assert reader.turn(10, 0.5) == []
    reader.close()
    assert caplog.records[0].getMessage().startswith("kafka://127.0.0.1:1/changes, partition 3: ")
