"""A Pub/Sub subscription, at Google's own server for tests."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.engines.pubsub import PROJECT, PubSub
from tests.transforms.streams.taking import ids_of, take
from tierloom.errors import SourceError
from transforms.reading.records import Fields
from transforms.streams.messages import letter_event
from transforms.streams.pubsub import PubSubStream, Subscription
from transforms.streams.stream import Batch

# The server may have to be fetched first.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@dataclass
class Follower:
    """Opens streams, and closes them in the end."""

    said: list[str] = field(default_factory=list)
    opened: list[PubSubStream] = field(default_factory=list)

    def __call__(self, source: str, patience: float = 30) -> PubSubStream:
        stream = PubSubStream(Subscription.of(source), Fields(), self.said.append, patience)
        self.opened.append(stream)
        stream.open(None, {})
        return stream


@pytest.fixture
def follow(pubsub_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Follower]:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_server)
    follower = Follower()
    yield follower
    for stream in follower.opened:
        stream.close()


def record(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"d{number}", "text": f"text {number}", **more}).encode()


def test_a_message_is_acknowledged_when_it_is_published(pubsub: PubSub, follow: Follower) -> None:
    pubsub.publish(*map(record, range(5)))
    stream = follow(pubsub.source)
    taken = take(stream, 5)
    assert sorted(ids_of(taken.events)) == [f"d{number}" for number in range(5)]
    assert all(abs(change.arrived - time.time()) < 30 for change in taken.changes)
    assert {batch.positions for batch in taken.batches} == {None}
    stream.published(Batch(tuple(taken.changes)[:3]))
    stream.close()
    # What was not published comes again, at once.
    again = take(follow(pubsub.source), 2)
    assert sorted(ids_of(again.events)) == sorted(ids_of(taken.events)[3:])


def test_the_first_messages_are_waited_for(pubsub: PubSub, follow: Follower) -> None:
    pubsub.publish(record(1))
    batch = follow(pubsub.source).take(10, 0)
    assert batch is not None
    assert len(batch.changes) == 1


def test_what_is_held_is_nobody_elses(pubsub: PubSub, follow: Follower) -> None:
    """Longer than the deadline of the subscription, which is 10 s: the client extends it."""
    pubsub.publish(record(1))
    stream = follow(pubsub.source)
    assert len(take(stream, 1).events) == 1
    until = time.monotonic() + 13
    while time.monotonic() < until:
        assert (pubsub.left(), take(stream, 0).events) == ([], [])
    stream.close()
    assert len(take(follow(pubsub.source), 1).events) == 1


def test_changes_without_a_sequence_are_as_old_as_their_messages(pubsub: PubSub, follow: Follower) -> None:
    pubsub.publish(record(1), record(2, sequence=7), json.dumps({"id": "d3", "deleted": True}).encode())
    began = time.time_ns()
    taken = take(follow(pubsub.source), 3)
    sequences = {event.document_id: event.sequence or 0 for event in taken.events}
    assert sequences["d2"] == 7
    assert abs(sequences["d1"] - began) < 30 * 10**9
    assert sequences["d3"] > sequences["d1"]
    assert ids_of(taken.deletions) == ["d3"]


def test_what_cannot_be_read_is_kept_in_its_letter(pubsub: PubSub, follow: Follower) -> None:
    pubsub.publish(b"{broken", b"\xff\xfe", b'{"text": "no id"}')
    taken = take(follow(pubsub.source), 3)
    assert sorted(letter.reason for letter in taken.letters) == ["invalid-json", "invalid-utf8", "missing-id"]
    assert all(letter.source.startswith(f"{pubsub.source}/") for letter in taken.letters)
    assert len({letter.letter_id for letter in taken.letters}) == 3
    assert [letter_event(letter) for letter in taken.letters] == taken.letters


def test_no_more_is_taken_than_asked_for(pubsub: PubSub, follow: Follower) -> None:
    pubsub.publish(*map(record, range(10)))
    taken = take(follow(pubsub.source), 10, limit=3)
    assert len(taken.changes) == 10


def test_a_subscription_that_is_not_there(follow: Follower) -> None:
    stream = follow(f"pubsub://{PROJECT}/nothing")
    with pytest.raises(SourceError, match=rf"pubsub://{PROJECT}/nothing cannot be read: .*Does it exist, and may"):
        take(stream, 1)


def test_a_service_out_of_reach_is_said_once_and_not_waited_for_for_ever(
    follow: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    stream = follow(f"pubsub://{PROJECT}/any", patience=0.5)
    with pytest.raises(SourceError, match=r"has been out of reach for \d+ s"):
        take(stream, 1)
    assert follow.said == [f"the service of pubsub://{PROJECT}/any is out of reach: no connection; waiting for it"]


@pytest.mark.parametrize("url", ["pubsub://project", "pubsub:///name", "pubsub://a/b/c", "pubsub://a/b?x=1"])
def test_what_is_no_subscription(url: str) -> None:
    with pytest.raises(SourceError, match="is no subscription; write pubsub://project/subscription"):
        Subscription.of(url)
