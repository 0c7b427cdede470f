"""A Kafka topic as a stream: every partition from its own offset on."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from tierloom.errors import SourceError, SourceLost
from tierloom.seen_files import SeenFile
from transforms.reading.records import Fields
from transforms.streams.kafka_client import KafkaTopic, event_of, is_lost, lost, offsets_of
from transforms.streams.outages import Outage, Say
from transforms.streams.stream import Batch, Change

_STEP: Final = 64
_BATCH_BYTES: Final = 16 << 20
_ASK_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.2
_PARTITIONS_SECONDS: Final = 30.0
# What waiting does not cure.
_LASTING: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
)


class KafkaStream:
    """Reads all partitions by itself: the consumer group shares nothing out.

    After each version the group is told where the stream stands, so that the broker's own tools show it; what counts
    are the positions in the manifest.
    """

    def __init__(
        self, topic: KafkaTopic, fields: Fields, say: Say, patience: float, stopping: Callable[[], bool]
    ) -> None:
        """A broker out of reach is waited for `patience` seconds, or until it is `stopping`."""
        self._topic = topic
        self._fields = fields
        self._stopping = stopping
        self._outage = Outage(f"the broker of {topic.source}", say, patience)
        # By partition: the offset that is taken next, and the one that the broker will give next.
        self._positions: dict[int, int] = {}
        self._newest: dict[int, int] = {}
        self._asked = 0.0
        self._error: KafkaError | None = None

    @property
    def source(self) -> str:
        return self._topic.source

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        self._consumer = self._topic.consumer(error_cb=self._note_error)
        while (found := self._offsets()) is None:
            if self._stopping():
                return
            time.sleep(_PAUSE_SECONDS)
        published = {int(number): offset for number, offset in (positions or {}).items()}
        if gone := sorted(published.keys() - found.keys()):
            raise SourceLost(
                f"{self.source} has no partition {', '.join(map(str, gone))} any more, though it was published up to "
                f"{[published[number] for number in gone]}: was the topic made anew? --from-beginning takes it as it is"
            )
        self._assign(found, published)

    def take(self, limit: int, seconds: float) -> Batch | None:
        messages = self._messages(self._consumer.poll(seconds), limit)
        if not messages:
            self._look_after()
            return Batch(())
        changes = tuple(Change(event_of(message, self._topic, self._fields), _arrived(message)) for message in messages)
        for message in messages:
            self._positions[message.partition() or 0] = (message.offset() or 0) + 1
        return Batch(changes, {str(number): offset for number, offset in self._positions.items()})

    def published(self, batch: Batch) -> None:
        offsets = [TopicPartition(self._topic.name, int(n), offset) for n, offset in (batch.positions or {}).items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException:
            # A courtesy: the next one makes up for it.
            return

    def behind(self) -> int | None:
        return sum(max(self._newest_of(number) - offset, 0) for number, offset in self._positions.items())

    def close(self) -> None:
        if self._asked:
            self._consumer.close()

    def _messages(self, first: Message | None, limit: int) -> list[Message]:
        """Those of at most `limit` that have come already and are no error; about `_BATCH_BYTES` of them."""
        waiting = [] if first is None else [first]
        messages: list[Message] = []
        held = 0
        while waiting:
            taken = [message for message in waiting if self._is_message(message)]
            messages += taken
            held += sum(len(message.value() or b"") for message in taken)
            step = min(_STEP, limit - len(messages)) if held < _BATCH_BYTES else 0
            waiting = self._consumer.consume(step, 0) if step else []
        return messages

    def _is_message(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            self._outage.end()
            return True
        if is_lost(error):
            number = message.partition() or 0
            oldest, newest = (self._offsets() or {}).get(number, (-1, -1))
            raise lost(self._topic, number, self._positions[number], oldest, newest)
        self._note_error(error)
        return False

    def _note_error(self, error: KafkaError) -> None:
        self._error = error

    def _look_after(self) -> None:
        """Nothing came: see whether the broker is there, and whether the topic has new partitions."""
        error, self._error = self._error, None
        due = self._outage.lasts or time.monotonic() - self._asked > _PARTITIONS_SECONDS
        if error is None and not due:
            return
        if error is not None and error.code() in _LASTING:
            raise SourceError(f"{self.source} cannot be read: {error.str()}")
        if found := self._offsets():
            self._assign({number: ends for number, ends in found.items() if number not in self._positions}, {})

    def _offsets(self) -> dict[int, tuple[int, int]] | None:
        """Of each partition the oldest offset and the next one; None while the broker is out of reach."""
        self._asked = time.monotonic()
        try:
            found = offsets_of(self._consumer, self._topic, _ASK_SECONDS)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() in _LASTING:
                raise SourceError(f"{self.source} cannot be read: {cause.str()}") from error
            self._outage.note(cause.str())
            return None
        self._outage.end()
        return found

    def _assign(self, found: Mapping[int, tuple[int, int]], published: Mapping[int, int]) -> None:
        """Take up partitions behind what is published of them, or at their beginning."""
        taken_up = []
        for number, (oldest, newest) in found.items():
            wanted = published.get(number, oldest)
            if not oldest <= wanted <= newest:
                raise lost(self._topic, number, wanted, oldest, newest)
            self._positions[number], self._newest[number] = wanted, newest
            # Retention may pass the oldest offset at any moment.
            start = wanted if number in published else OFFSET_BEGINNING
            taken_up.append(TopicPartition(self._topic.name, number, start))
        if taken_up:
            self._consumer.incremental_assign(taken_up)

    def _newest_of(self, number: int) -> int:
        ends = self._consumer.get_watermark_offsets(TopicPartition(self._topic.name, number), cached=True)
        if ends is not None and ends[1] >= 0:
            self._newest[number] = max(self._newest[number], ends[1])
        return self._newest[number]


def _arrived(message: Message) -> float:
    """When the broker or the producer stamped it; now if neither did. Seconds since 1970."""
    _, milliseconds = message.timestamp()
    return min(milliseconds / 1000, time.time()) if milliseconds > 0 else time.time()
