"""What an unbounded pipeline reads: topics and subscriptions, made Spans of changes."""

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.beam_options import runner_of
from tierloom.document import Origin
from tierloom.errors import InputError, MissingExtra, SourceError
from transforms.bundle import Span
from transforms.job import Job
from transforms.publishing.stream_position import Positions
from transforms.reading.records import Fields
from transforms.streams.messages import message_event

_SUBSCRIPTION: Final = re.compile(r"pubsub://([^/?]+)/([^/?]+)")
# The only engine of a cluster on which Beam's own reader of Pub/Sub for Python works.
_PUBSUB_RUNNER: Final = "DataflowRunner"


class Changes(Protocol):
    """A source that an engine can read."""

    @property
    def source(self) -> str:
        """How the manifest calls it."""

    def take_up(self, positions: Positions) -> Positions:
        """Where each of its partitions is taken up, if `positions` are published.

        Raises `SourceError` when it cannot be reached, `SourceLost` when a position is no longer to be had.
        """

    def read(self, pipeline: Any, taken_up: Positions) -> Any:
        """Its Spans, from these positions on."""


@dataclass(frozen=True, slots=True)
class PubSubChanges:
    """A Pub/Sub subscription. It keeps no positions: the engine acknowledges what it has taken over durably."""

    subscription: str
    source: str
    fields: Fields

    def take_up(self, _positions: Positions) -> Positions:
        return {}

    def read(self, pipeline: Any, _taken_up: Positions) -> Any:
        # Late: it loads Google's client, which nothing else here needs.
        from apache_beam.io.gcp.pubsub import ReadFromPubSub

        messages = pipeline | "read" >> ReadFromPubSub(subscription=self.subscription, with_attributes=True)
        return messages | "changes" >> beam.Map(span_of_message, self.source, self.fields).with_output_types(Span)


def span_of_message(message: Any, source: str, fields: Fields) -> Span:
    """What a message says. Its sequence, if it has none of its own, is when it was published, in nanoseconds."""
    published = message.publish_time
    sequence = int(published.timestamp()) * 1_000_000_000 + published.microsecond * 1000 if published else 0
    return Span((message_event(message.data, fields, Origin(f"{source}/{message.message_id}"), sequence),))


def open_changes(source: str, job: Job, options: PipelineOptions) -> Changes:
    """The source of this name. Raises `SourceError`, `InputError` or `MissingExtra`."""
    if source.startswith("kafka://"):
        return _open_kafka(source, job)
    if match := _SUBSCRIPTION.fullmatch(source):
        if runner_of(options) != _PUBSUB_RUNNER:
            raise InputError(
                f"Beam reads {source} on {_PUBSUB_RUNNER} only, not on {runner_of(options)}; without --runner, "
                "tierloom stream reads it itself"
            )
        return PubSubChanges(f"projects/{match[1]}/subscriptions/{match[2]}", source, job.fields)
    raise SourceError(
        f"{source!r} cannot be read by an engine: that is for kafka://host:9092/topic and for "
        "pubsub://project/subscription; without --runner, tierloom stream reads folders, files and - too"
    )


def _open_kafka(source: str, job: Job) -> Changes:
    try:
        # Optional: only who reads Kafka needs its client.
        from transforms.streams.kafka_partitions import KafkaChanges
    except ImportError as error:
        raise MissingExtra("kafka", f"reading {source}") from error
    return KafkaChanges.of(source, job)
