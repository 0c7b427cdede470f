"""Kafka for distributed engines: each partition of a topic is read for ever, by whichever worker holds it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import WalltimeWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from tierloom.errors import SourceLost
from tierloom.stores.opening import open_store
from transforms.bundle import Span
from transforms.job import Job
from transforms.publishing.stream_position import Positions
from transforms.streams.cuts import Cuts
from transforms.streams.kafka_client import KafkaTopic, PartitionReader, event_of, lost

_END: Final = 1 << 62
# A span holds what comes in a turn: so long may a change wait for others, and for the other partitions.
_TURN_SECONDS: Final = 0.5
_AT_ONCE: Final = 500
_IDLE_SECONDS: Final = 0.25
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, and the offset at which the pipeline takes it up."""

    number: int
    first: int


class _OffsetsTracker(OffsetRestrictionTracker):
    """Offsets without an end. They are never shared out: a partition has one reader at a time."""

    def is_bounded(self) -> bool:
        return False

    def try_split(self, fraction_of_remainder: float) -> Any:
        return super().try_split(0) if fraction_of_remainder == 0 else None


class Offsets(RestrictionProvider):
    def initial_restriction(self, partition: Partition) -> OffsetRange:
        return OffsetRange(partition.first, _END)

    def create_tracker(self, restriction: OffsetRange) -> _OffsetsTracker:
        return _OffsetsTracker(restriction)

    def restriction_size(self, _partition: Partition, _restriction: OffsetRange) -> int:
        return 1


_RESTRICTION: Final = beam.DoFn.RestrictionParam(Offsets())
# Changes carry the time at which they were read: none is late, whatever their records say.
_WATERMARK: Final = beam.DoFn.WatermarkEstimatorParam(WalltimeWatermarkEstimator.default_provider())


class ReadPartitionDoFn(beam.DoFn):
    """Partition -> Spans of its changes, without end. Raises `SourceLost` when an offset is gone."""

    def __init__(self, topic: KafkaTopic, job: Job) -> None:
        self._topic = topic
        self._job = job

    def setup(self) -> None:
        self._readers: dict[int, PartitionReader] = {}
        self._cuts = Cuts(open_store(self._job.store), self._topic.source)

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self, partition: Partition, tracker: Any = _RESTRICTION, _watermark: Any = _WATERMARK
    ) -> Iterator[TimestampedValue]:
        start = tracker.current_restriction().start
        span = self._next(partition, start)
        # What is not claimed is read again, here or elsewhere.
        if span.events and tracker.try_claim(span.stop - 1):
            self._cuts.note(span.partition, start, span.stop)
            yield TimestampedValue(span, Timestamp.now())
        tracker.defer_remainder(Duration(0 if span.events else _IDLE_SECONDS))

    def _next(self, partition: Partition, start: int) -> Span:
        """The span that begins at `start`: as it was cut before, or what comes within a turn."""
        reader, name = self._reader_of(partition.number), str(partition.number)
        reader.seek(start)
        stop = self._cuts.after(name, start)
        messages = reader.until(stop, _PATIENCE_SECONDS) if stop else []
        if not messages:
            reader.seek(start)
            messages = reader.turn(_AT_ONCE, _TURN_SECONDS)
        events = tuple(event_of(message, self._topic, self._job.fields) for message in messages)
        return Span(events, name, partition.first, start, reader.position)

    def teardown(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def _reader_of(self, number: int) -> PartitionReader:
        if number not in self._readers:
            self._readers[number] = PartitionReader(self._topic, number)
        return self._readers[number]


@dataclass(frozen=True, slots=True)
class KafkaChanges:
    """A topic, for an engine to read: as many workers at a time as it has partitions."""

    topic: KafkaTopic
    job: Job

    @classmethod
    def of(cls, url: str, job: Job) -> "KafkaChanges":
        """Raises `SourceError` for what is no URL of a topic."""
        return cls(KafkaTopic.of(url), job)

    @property
    def source(self) -> str:
        """How the manifest calls it."""
        return self.topic.source

    def take_up(self, positions: Positions) -> Positions:
        """The position of each partition; the oldest offset of one that has none.

        Raises `SourceError` when the topic cannot be reached, `SourceLost` when a position is no longer to be had.
        """
        found = {str(number): ends for number, ends in self.topic.offsets().items()}
        if gone := sorted(positions.keys() - found.keys()):
            raise SourceLost(
                f"{self.source} has no partition {', '.join(gone)} any more, though it was published: was the topic "
                "made anew? --from-beginning takes it as it is"
            )
        for name, (oldest, newest) in found.items():
            if not oldest <= positions.get(name, oldest) <= newest:
                raise lost(self.topic, int(name), positions[name], oldest, newest)
        return {name: positions.get(name, oldest) for name, (oldest, _) in found.items()}

    def read(self, pipeline: Any, taken_up: Positions) -> Any:
        """Its Spans, from these positions on."""
        found = [Partition(int(name), first) for name, first in taken_up.items()]
        partitions = pipeline | "partitions" >> beam.Create(found)
        return partitions | "read" >> beam.ParDo(ReadPartitionDoFn(self.topic, self.job)).with_output_types(Span)
