"""One topic of a Kafka broker: its offsets, its messages, and what they say."""

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document, Origin
from tierloom.errors import SourceError, SourceLost
from transforms.reading.records import Fields, record_event
from transforms.reading.refused import Refused, refusal
from transforms.streams.messages import key_of, message_event

_LOGGER: Final = logging.getLogger(__name__)
_ASK_SECONDS: Final = 30.0
_STEP: Final = 64
_IDLE_SECONDS: Final = 0.1
_TURN_BYTES: Final = 2 << 20
# Of each partition.
_FETCHED_AHEAD_KBYTES: Final = 16_384
_SERVERS: Final = re.compile(r"[a-zA-Z0-9._:,\[\]-]+")
_OPTIONS: Final = frozenset({"group", "config"})
_TOPIC: Final = re.compile(r"/[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic, the consumer group in whose name it is read, and the path of a file with settings of the client.

    Credentials belong into that file: a URL is shown, and lists of processes show it, too.
    """

    servers: str
    name: str
    group: str = "tierloom"
    config: str = ""

    @classmethod
    def of(cls, url: str) -> "KafkaTopic":
        """Of `kafka://host:9092,host:9092/topic?group=name&config=file`. Raises `SourceError`."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not _SERVERS.fullmatch(parts.netloc) or not _TOPIC.fullmatch(parts.path) or options.keys() - _OPTIONS:
            raise SourceError(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} is no topic; write "
                "kafka://host:9092/topic, if need be with ?group=name and &config=file, a file of settings of Kafka's "
                "client (security.protocol=..., sasl.password=...)"
            )
        return cls(parts.netloc, parts.path[1:], options.get("group") or "tierloom", options.get("config", ""))

    @property
    def source(self) -> str:
        """How the manifest calls it."""
        return f"kafka://{self.servers}/{self.name}"

    def consumer(self, **more: Any) -> Consumer:
        """Reads what it is assigned, and stops rather than skip what is gone. The group's offsets are not used.

        Raises `SourceError` when the settings are not the client's.
        """
        own = {
            "bootstrap.servers": self.servers,
            "group.id": self.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": _FETCHED_AHEAD_KBYTES,
            # What goes wrong is told by `error_cb`, not on the terminal.
            "log_level": 0,
        }
        try:
            return Consumer({**_settings(self.config), **own, **more})
        except (KafkaException, ValueError, TypeError) as error:
            raise SourceError(f"{self.config or self.source}: Kafka's client refuses its settings: {error}") from error

    def offsets(self) -> dict[int, tuple[int, int]]:
        """Of each partition the oldest offset and the one that comes next. Raises `SourceError`."""
        consumer = self.consumer()
        try:
            return offsets_of(consumer, self, _ASK_SECONDS)
        except KafkaException as error:
            raise SourceError(f"{self.source} cannot be read: {error.args[0].str()}") from error
        finally:
            consumer.close()


def offsets_of(consumer: Consumer, topic: KafkaTopic, seconds: float) -> dict[int, tuple[int, int]]:
    """Of each partition the oldest offset and the one that comes next. Raises `KafkaException`."""
    found = consumer.list_topics(topic.name, timeout=seconds).topics[topic.name]
    if found.error:
        raise KafkaException(found.error)
    offsets = {}
    for number in sorted(found.partitions):
        ends = consumer.get_watermark_offsets(TopicPartition(topic.name, number), timeout=seconds)
        if ends is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        offsets[number] = ends
    return offsets


def is_lost(error: KafkaError) -> bool:
    """Whether the offset that was to come next is not there."""
    return error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


def _settings(path: str) -> dict[str, str]:
    """Settings of the client from a file of `name=value` lines; credentials, mostly. Raises `SourceError`."""
    if not path:
        return {}
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"the settings of Kafka's client cannot be read: {error}") from error
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    if wrong := [number for number, (_, equals, _) in enumerate(pairs, 1) if not equals]:
        # Not the line itself: it may hold a secret.
        raise SourceError(f"{path}: setting {wrong[0]} is not of the form name=value")
    return {name.strip(): value.strip() for name, _, value in pairs}


class PartitionReader:
    """Reads one partition of a topic from any offset on. For one thread.

    While the broker is out of reach, nothing comes: the client goes on trying, and the log of the worker says so.
    """

    def __init__(self, topic: KafkaTopic, number: int) -> None:
        self._topic = topic
        self._number = number
        self._consumer = topic.consumer(error_cb=self._log)
        self.position = -1

    def seek(self, offset: int) -> None:
        """Go on at `offset`."""
        if offset != self.position:
            self._consumer.assign([TopicPartition(self._topic.name, self._number, offset)])
            self.position = offset

    def turn(self, most: int, seconds: float) -> list[Message]:
        """Up to `most` messages that come within `seconds`, of about `_TURN_BYTES` in all; where nothing waits, none.

        Raises `SourceLost`.
        """
        until = time.monotonic() + seconds
        messages = self._take(1, min(_IDLE_SECONDS, seconds))
        held = 0
        while messages and len(messages) < most and held < _TURN_BYTES and (left := until - time.monotonic()) > 0:
            taken = self._take(min(_STEP, most - len(messages)), left)
            messages += taken
            held += sum(len(_bytes(message.value())) for message in taken)
        return messages

    def until(self, stop: int, seconds: float) -> list[Message]:
        """Every message before the offset `stop`; none if they do not all come within `seconds`.

        Raises `SourceLost`.
        """
        messages: list[Message] = []
        until = time.monotonic() + seconds
        while self.position < stop:
            if (left := until - time.monotonic()) <= 0:
                return []
            messages += self._take(min(_STEP, stop - self.position), left)
        # Where the broker removed the last ones before `stop`, the next one is behind it.
        self.seek(stop)
        return [message for message in messages if _offset(message) < stop]

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def _take(self, most: int, seconds: float) -> list[Message]:
        messages = [message for message in self._consumer.consume(most, seconds) if self._is_there(message)]
        if messages:
            self.position = _offset(messages[-1]) + 1
        return messages

    def _is_there(self, message: Message) -> bool:
        error = message.error()
        if error is not None and is_lost(error):
            oldest, newest = self._topic.offsets()[self._number]
            raise lost(self._topic, self._number, self.position, oldest, newest)
        return error is None

    def _log(self, error: KafkaError) -> None:
        _LOGGER.warning("%s, partition %d: %s", self._topic.source, self._number, error.str())


def _offset(message: Message) -> int:
    return message.offset() or 0


def lost(topic: KafkaTopic, number: int, wanted: int, oldest: int, newest: int) -> SourceLost:
    """The error of an offset that is gone."""
    return SourceLost(
        f"{topic.source}, partition {number}: offset {wanted} is wanted next, but the broker has {oldest} to {newest}; "
        "what lay between is lost to the stream: ingest it from elsewhere, then start with --from-beginning"
    )


def event_of(message: Message, topic: KafkaTopic, fields: Fields) -> Document | Deletion | DeadLetter:
    """What a message says. Its sequence, if it has none of its own, is its offset.

    Without a value it deletes the document that its key names; it may have a sequence in a header.
    """
    offset, value = message.offset() or 0, message.value()
    origin = Origin(f"{topic.source}/{message.partition()}", offset, len(value or b""))
    try:
        key = None if message.key() is None else key_of(_bytes(message.key()))
        if value is None:
            return record_event(_deletion(message, key, fields), fields, origin, offset)
    except Refused as refused:
        return refusal(refused, origin)
    return message_event(_bytes(value), fields, origin, offset, key)


def _deletion(message: Message, key: str | None, fields: Fields) -> dict[str, object]:
    """The record of a message without a value."""
    headers = dict(message.headers() or ())
    stated = headers.get(fields.sequence)
    text = stated.decode("utf-8", "replace") if isinstance(stated, bytes) else stated
    sequence = int(text) if text and text.lstrip("-").isdecimal() else text
    record: dict[str, object] = {fields.deleted: True, fields.sequence: sequence}
    return record if key is None else {**record, fields.id: key}


def _bytes(data: str | bytes | None) -> bytes:
    return data.encode() if isinstance(data, str) else data or b""
