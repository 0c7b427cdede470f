from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.dead_letter import DeadLetter, FailedChunk, from_jsonl, to_jsonl
from tierloom.errors import Malformed

_TEXT = st.text(st.characters(codec="utf-8"))
_CHUNKS = st.builds(FailedChunk, st.integers(0, 9), _TEXT, _TEXT, _TEXT, _TEXT, st.integers(0, 9))
_LETTERS = st.builds(
    DeadLetter,
    st.sampled_from(["read", "chunk", "embed"]),
    _TEXT,
    _TEXT,
    _TEXT,
    offset=st.none() | st.integers(0, 2**53),
    document_id=st.none() | _TEXT,
    sequence=st.none() | st.integers(-(2**63), 2**63 - 1),
    chunk=st.none() | _CHUNKS,
)

_CHUNK = FailedChunk(3, "heading", "text", "{}", "heading text", 2)
_LETTER = DeadLetter("embed", "zero-norm", "the vector is zero", "a.jsonl", 10, 20, 2, "a", 7, _CHUNK)


@given(st.lists(_LETTERS, max_size=4))
def test_letters_come_back_one_a_line(letters: list[DeadLetter]) -> None:
    data = to_jsonl(letters)
    assert from_jsonl(data, "name") == letters
    assert data.count(b"\n") == len(letters)


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        to_jsonl([_LETTER])[:-3],
        to_jsonl([_LETTER]).replace(b'"embed"', b'"other"'),
        to_jsonl([_LETTER]).replace(b'"ordinal":3', b'"ordinal":"3"'),
        to_jsonl([_LETTER]).replace(b"{", b'{"surprise":1,', 1),
        b"[" * 100_000,
    ],
)
def test_other_lines_are_malformed(line: bytes) -> None:
    with pytest.raises(Malformed, match=r"dead-letters/r/0\.jsonl"):
        from_jsonl(to_jsonl([_LETTER]) + line, "dead-letters/r/0.jsonl")


@pytest.mark.parametrize(
    "changes",
    [{"detail": "worded otherwise"}, {"reason": "nan"}, {"line": 9}, {"source": "moved.jsonl"}, {"offset": 0}],
)
def test_the_same_failed_chunk_is_the_same_letter(changes: dict[str, Any]) -> None:
    assert msgspec.structs.replace(_LETTER, **changes).letter_id == _LETTER.letter_id


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "chunk"},
        {"document_id": "b"},
        {"document_id": None},
        {"sequence": 8},
        {"chunk": None},
        {"chunk": msgspec.structs.replace(_CHUNK, ordinal=4)},
    ],
)
def test_another_failure_is_another_letter(changes: dict[str, Any]) -> None:
    assert msgspec.structs.replace(_LETTER, **changes).letter_id != _LETTER.letter_id


def test_unreadable_records_are_told_apart_by_their_place() -> None:
    letter = DeadLetter("read", "invalid-json", "line 2", "a.jsonl", offset=10)
    assert letter.letter_id != msgspec.structs.replace(letter, offset=11).letter_id
    assert letter.letter_id != msgspec.structs.replace(letter, source="b.jsonl").letter_id
