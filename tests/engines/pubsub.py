"""A real Pub/Sub server on loopback: pstest, Google's own.

`pubsub` is what a test asks for: an environment in which Google's client speaks to it, and a new subscription.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engines.builds import CACHE, Build, begin_builds

PROJECT: Final = "test"
FOLDER: Final = Path(__file__).parent / "pubsub_server"
SERVER: Final = Build(
    CACHE / "bin" / "pubsub_server", ("go",), ("go", "build", "-C", str(FOLDER), "-o", "{product}", ".")
)


@dataclass(frozen=True, slots=True)
class PubSub:
    """A topic, and a subscription to it of the same name."""

    name: str
    publisher: Any
    subscriber: Any

    @property
    def source(self) -> str:
        return f"pubsub://{PROJECT}/{self.name}"

    @property
    def subscription(self) -> str:
        return f"projects/{PROJECT}/subscriptions/{self.name}"

    def publish(self, *messages: bytes, **more: str) -> None:
        for message in messages:
            self.publisher.publish(_topic(self.name), message, **more).result(timeout=10)

    def left(self) -> list[bytes]:
        """What the service gives to a second subscriber: what is neither acknowledged nor leased."""
        from google.api_core.exceptions import DeadlineExceeded

        try:
            pulled = self.subscriber.pull(subscription=self.subscription, max_messages=1000, timeout=1)
        except DeadlineExceeded:
            return []
        return [received.message.data for received in pulled.received_messages]


def pytest_collection_finish(session: pytest.Session) -> None:
    begin_builds(session, "pubsub_server", [SERVER])


@pytest.fixture(scope="session")
def pubsub_server() -> Iterator[str]:
    """The address of a running server."""
    process = subprocess.Popen([str(SERVER.path())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    # It ends with its standard input.
    process.communicate(timeout=10)


@pytest.fixture
def pubsub(pubsub_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    # Here, for it takes a second to load, and most runs of tests do without.
    from google.cloud import pubsub_v1

    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_server)
    name = f"changes-{os.getpid()}-{next(_numbers)}"
    publisher = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_messages=1))
    subscriber = pubsub_v1.SubscriberClient()
    publisher.create_topic(name=_topic(name))
    made = PubSub(name, publisher, subscriber)
    subscriber.create_subscription(name=made.subscription, topic=_topic(name), ack_deadline_seconds=10)
    yield made
    subscriber.close()
    publisher.stop()
    publisher.transport.close()


def _topic(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


_numbers = count()
