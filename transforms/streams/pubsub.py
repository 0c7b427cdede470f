"""A Pub/Sub subscription as a stream: acknowledged when the version that holds a message is published."""

import queue
import re
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler

from tierloom.document import Origin
from tierloom.errors import SourceError
from tierloom.seen_files import SeenFile
from transforms.reading.records import Fields
from transforms.streams.messages import message_event
from transforms.streams.outages import Outage, Say
from transforms.streams.stream import Batch, Change

# Held by this stream and by nobody else: more than a batch, so that the next one has come when one is published.
_HELD_MESSAGES: Final = 5000
_HELD_BYTES: Final = 64 << 20
_BATCH_BYTES: Final = 16 << 20
# A message is given to another subscriber when it was held so long: longer than any publishing should take.
_HELD_SECONDS: Final = 3600
# The first messages take a while to come; until then nobody may think that there are none.
_CONNECT_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 10.0
_GIVEN_BACK: Final = 1000
_NAME: Final = re.compile(r"pubsub://([^/?#]+)/([^/?#]+)")


@dataclass(frozen=True, slots=True)
class Subscription:
    """`pubsub://project/subscription`."""

    project: str
    name: str

    @classmethod
    def of(cls, url: str) -> "Subscription":
        """Raises `SourceError`."""
        if match := _NAME.fullmatch(url):
            return cls(match[1], match[2])
        raise SourceError(f"{url!r} is no subscription; write pubsub://project/subscription")

    @property
    def source(self) -> str:
        """How the manifest calls it."""
        return f"pubsub://{self.project}/{self.name}"

    @property
    def path(self) -> str:
        """How Google calls it."""
        return f"projects/{self.project}/subscriptions/{self.name}"


class PubSubStream:
    """Messages come in no order but that of their ordering keys: a record without a sequence has the time at which
    its message was published, in nanoseconds since 1970. The client extends the leases of all that is held."""

    def __init__(self, subscription: Subscription, fields: Fields, say: Say, patience: float) -> None:
        """A service out of reach is waited for `patience` seconds."""
        self._subscription = subscription
        self._fields = fields
        self._outage = Outage(f"the service of {subscription.source}", say, patience)
        self._came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._held: deque[Any] = deque()
        self._state = grpc.ChannelConnectivity.IDLE
        self._pull: Any = None
        self._connected_by = 0.0

    @property
    def source(self) -> str:
        return self._subscription.source

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        try:
            self._client = pubsub_v1.SubscriberClient()
        except GoogleAuthError as error:
            raise SourceError(
                f"{self.source} cannot be read: {error}. Log in with `gcloud auth application-default login`, or name "
                "a key file in GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        self._connected_by = time.monotonic() + _CONNECT_SECONDS
        self._client.transport.grpc_channel.subscribe(self._note_state)
        self._pull = self._client.subscribe(
            self._subscription.path,
            self._came.put,
            flow_control=pubsub_v1.types.FlowControl(
                max_messages=_HELD_MESSAGES, max_bytes=_HELD_BYTES, max_lease_duration=_HELD_SECONDS
            ),
            # One thread: messages come in the order in which they are given.
            scheduler=ThreadScheduler(ThreadPoolExecutor(1, thread_name_prefix="pubsub")),
        )

    def take(self, limit: int, seconds: float) -> Batch | None:
        until = max(time.monotonic() + seconds, self._connected_by)
        changes: list[Change] = []
        held = 0
        while len(changes) < limit and held < _BATCH_BYTES:
            message = self._next(0 if changes else max(until - time.monotonic(), 0))
            if message is None:
                break
            self._held.append(message)
            changes.append(self._change(message))
            held += len(message.data)
        # Whatever comes next is not the first.
        self._connected_by = 0.0
        if not changes:
            self._refuse_failure()
        return Batch(tuple(changes))

    def published(self, batch: Batch) -> None:
        for _ in batch.changes:
            self._held.popleft().ack()

    def behind(self) -> int | None:
        """The service does not tell a subscriber."""
        return None

    def close(self) -> None:
        if self._pull is None:
            return
        pull, self._pull = self._pull, None
        pull.cancel()
        try:
            # What the pull ended of was raised when it was taken from.
            with suppress(GoogleAPICallError):
                pull.result(timeout=_CLOSE_SECONDS)
        except TimeoutError:
            # The service is out of reach, and the client's threads still try: they end with the process.
            return
        self._let_go()
        self._client.close()

    def _let_go(self) -> None:
        """Give back what is held. Only now: what is given back to an open pull comes again."""
        while (message := self._next(0)) is not None:
            self._held.append(message)
        ids = [message.ack_id for message in self._held]
        self._held.clear()
        # If that fails, it is given back when its lease ends.
        with suppress(GoogleAPICallError):
            for first in range(0, len(ids), _GIVEN_BACK):
                self._client.modify_ack_deadline(
                    subscription=self._subscription.path,
                    ack_ids=ids[first : first + _GIVEN_BACK],
                    ack_deadline_seconds=0,
                    retry=None,
                    timeout=_CLOSE_SECONDS,
                )

    def _next(self, seconds: float) -> Any:
        """The next message; None if none comes in time."""
        try:
            return self._came.get(timeout=seconds) if seconds else self._came.get_nowait()
        except queue.Empty:
            return None

    def _change(self, message: Any) -> Change:
        origin = Origin(f"{self.source}/{message.message_id}")
        sequence = _nanoseconds(message.publish_time)
        arrived = min(sequence / 1e9, time.time())
        return Change(message_event(message.data, self._fields, origin, sequence), arrived)

    def _refuse_failure(self) -> None:
        """Raise what ended the pull, or what has been out of reach for too long."""
        if self._pull.done():
            error = self._pull.exception()
            raise SourceError(
                f"{self.source} cannot be read: {error}. Does it exist, and may this account consume it "
                "(roles/pubsub.subscriber)?"
            ) from error
        if self._state == grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._outage.note("no connection")
        elif self._state == grpc.ChannelConnectivity.READY:
            self._outage.end()

    def _note_state(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
