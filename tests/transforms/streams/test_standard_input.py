"""Standard input: what is written is taken line by line, and its end is an end."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from tests.transforms.streams.taking import ids_of, take
from tierloom.document import Document
from transforms.reading.records import Fields
from transforms.streams.lines import Lines
from transforms.streams.messages import MOST_KEPT_BYTES, letter_event
from transforms.streams.standard_input import StandardInput


@dataclass
class Pipe:
    stream: StandardInput
    writer: int

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def end(self) -> None:
        os.close(self.writer)
        self.writer = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    made = Pipe(StandardInput(Fields(), reader), writer)
    made.stream.open(None, {})
    yield made
    os.close(reader)
    if made.writer >= 0:
        made.end()


def test_lines_come_as_they_are_written(pipe: Pipe) -> None:
    assert take(pipe.stream, 0).events == []
    pipe.write(b'{"id": "a", "text": "alpha"}\n\n{"id": "b", "te')
    assert ids_of(take(pipe.stream, 1).events) == ["a"]
    pipe.write(b'xt": "beta"}\n{"id": "a", "deleted": true}\n')
    taken = take(pipe.stream, 2)
    assert ids_of(taken.events) == ["b", "a"]
    assert taken.deletions[0].sequence > taken.documents[0].sequence
    assert all(batch.positions is None for batch in taken.batches)


def test_the_last_line_needs_no_end_and_then_it_is_over(pipe: Pipe) -> None:
    pipe.write(b'{"id": "a", "text": "alpha"}\n{"id": "b", "text": "beta"}')
    assert ids_of(take(pipe.stream, 1).events) == ["a"]
    pipe.end()
    batch = pipe.stream.take(10, 5)
    assert batch is not None
    assert ids_of(change.event for change in batch.changes) == ["b"]
    assert pipe.stream.take(10, 5) is None
    assert pipe.stream.take(10, 5) is None


def test_no_more_is_taken_than_asked_for(pipe: Pipe) -> None:
    pipe.write(b"".join(b'{"id": %d, "text": "word"}\n' % number for number in range(10)))
    sizes: list[int] = []
    while len(sizes) < 4:
        batch = pipe.stream.take(3, 5)
        assert batch is not None
        sizes.append(len(batch.changes))
    assert sizes == [3, 3, 3, 1]


def test_a_letter_keeps_its_line_for_it_cannot_be_read_again(pipe: Pipe) -> None:
    pipe.write(b'{"id": "a"}\n{"id": "a"}\ncaf\xe9\n')
    letters = take(pipe.stream, 3).letters
    assert [(letter.reason, letter.offset) for letter in letters] == [
        ("missing-text", 0),
        ("missing-text", 12),
        ("invalid-utf8", 24),
    ]
    assert len({letter.letter_id for letter in letters}) == 3
    assert [letter_event(letter) for letter in letters] == letters


def test_a_letter_can_be_read_again_with_the_fields_it_came_with() -> None:
    reader, writer = os.pipe()
    stream = StandardInput(Fields(id="key", text="body"), reader)
    os.write(writer, b'{"key": "a", "body": 7}\n')
    (letter,) = take(stream, 1).letters
    os.close(reader)
    os.close(writer)
    assert letter.record is not None
    cured = msgspec.structs.replace(letter.record, data=letter.record.data.replace("7", '"seven"'))
    event = letter_event(msgspec.structs.replace(letter, record=cured))
    assert isinstance(event, Document)
    assert (event.document_id, event.text, event.sequence) == ("a", "seven", cured.sequence)


def test_a_line_too_large_to_be_kept_says_so(pipe: Pipe) -> None:
    line = b'{"id": "a", "x": "' + b"x" * MOST_KEPT_BYTES + b'"}'
    writer = threading.Thread(target=pipe.write, args=[line + b"\n"])
    writer.start()
    (letter,) = take(pipe.stream, 1).letters
    writer.join()
    assert (letter.reason, letter.record) == ("missing-text", None)
    assert letter.detail.endswith(f"its {len(line):,} bytes are not kept here, for they are more than 65,536")


def test_a_huge_line_is_passed_without_being_held() -> None:
    lines = Lines(largest=10)
    cut = (
        lines.feed(b"a" * 8)
        + lines.feed(b"a" * 8)
        + lines.feed(b"a" * 8 + b"\nshort\n" + b"b" * 11)
        + lines.feed(b"\n")
    )
    assert [(line.offset, line.length, line.data) for line in cut] == [(0, 25, None), (25, 6, b"short"), (31, 12, None)]
