"""Records of streams that could not be read: their letters keep them, and that is what a retry reads."""

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.embedders.endpoint import Endpoint
from tests.transforms.runs import head_of, ingest_job, run_retry, small_collection
from tierloom.dead_letter import DeadLetter
from tierloom.document import Origin
from tierloom.letters import read_letters
from tierloom.object_files import ObjectFiles
from tierloom.stores.opening import open_store
from transforms.micro_batch import MicroBatches
from transforms.read import can_be_read_again
from transforms.reading.records import Fields
from transforms.reading.refused import Refused
from transforms.streams.messages import MOST_KEPT_BYTES, message_event
from transforms.streams.stream import Batch, Change

FIELDS = Fields(id="key", text="body")
GOOD = b'{"key": "a", "body": "word 001"}'


def strict(_record: Mapping[str, Any], _fields: Fields, _origin: Origin, _sequence: int) -> None:
    """A reader of an earlier day."""
    raise Refused("invalid-text", "not yet understood")


def letter_of(data: bytes, offset: int) -> DeadLetter:
    event = message_event(data, FIELDS, Origin("kafka://host:9092/topic/0", offset, len(data)), offset + 7)
    assert isinstance(event, DeadLetter)
    return event


def open_letters(store: str) -> list[DeadLetter]:
    opened = open_store(store)
    return read_letters(head_of(store).dead_letters, ObjectFiles(opened))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "key")
    with Endpoint(dimensions=16) as endpoint:
        small_collection(str(tmp_path / "store"), endpoint)
        yield str(tmp_path / "store")


def receive(store: str, *letters: DeadLetter) -> None:
    """Publish the letters as a stream does that received them."""
    batches = MicroBatches(replace(ingest_job(store), base=None))
    batches.publish(Batch(tuple(Change(letter, time.time()) for letter in letters)), uuid.uuid4().hex, None)
    batches.close()


def test_a_retry_reads_what_the_letters_keep(store: str) -> None:
    with pytest.MonkeyPatch.context() as then:
        then.setattr("transforms.streams.messages.record_event", strict)
        cured, large = letter_of(GOOD, 1), letter_of(GOOD + b" " * MOST_KEPT_BYTES, 2)
        broken = letter_of(b"{broken", 3)
        receive(store, cured, large, broken)
        assert ids(open_letters(store)) == ids([cured, large, broken])
    assert [can_be_read_again(letter) for letter in (cured, large, broken)] == [True, False, True]
    report = run_retry(store)
    assert (report.record.documents.documents_in, report.record.documents.live) == (2, 1)
    assert ids(open_letters(store)) == ids([large, broken])
    head = head_of(store)
    assert (head.documents.documents_in, head.documents.live, head.documents.dead_lettered) == (3, 1, 2)


def test_what_cannot_be_read_again_stays_as_it_was(store: str) -> None:
    letter = letter_of(b"{broken", 3)
    receive(store, letter)
    before = head_of(store).version
    run_retry(store)
    assert head_of(store).version == before
    assert open_letters(store) == [letter]


def test_two_records_in_the_same_place_are_two_letters(store: str) -> None:
    """As from two standard inputs, or from a topic that was made anew."""
    receive(store, letter_of(b"{broken", 3))
    receive(store, letter_of(b"[]", 3))
    receive(store, letter_of(b"{broken", 3))
    assert len(open_letters(store)) == 2


def ids(letters: list[DeadLetter]) -> set[str]:
    return {letter.letter_id for letter in letters}
