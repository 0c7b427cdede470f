"""Dead letters: what could not be processed, kept with its reason and with what a retry needs."""

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from tierloom.errors import Malformed
from tierloom.sealed import canonical

Stage = Literal["read", "chunk", "embed"]

# The reason of a letter about a source that did not let itself be read: the one that time may cure by itself.
UNREADABLE: Final = "unreadable"


class FailedChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chunk as it was to be embedded."""

    ordinal: int
    heading: str
    text: str
    metadata: str
    model_input: str
    tokens: int


class KeptRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A record of a source that cannot be read again, as it was received, and what its place said of it.

    `data` is its text, or the base64 of bytes that are none. `fields` are the names of the fields of its id, text,
    sequence and deletion. A record without an id has `key`, one without a sequence has `sequence`.
    """

    data: str
    sequence: int
    fields: tuple[str, ...]
    base64: bool = False
    key: str | None = None


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One document or chunk that could not be processed.

    `reason` is a short fixed word (`empty-document`, `invalid-utf8`, `zero-norm`, ...), `detail` a sentence
    with the values. `offset` (bytes) and `line` (from 1) tell where in `source` it was; they are None where
    that means nothing. `document_id` is None when it could not be read. `length` is the bytes of the record,
    None for the rest of the source. `record` is there if the source cannot be read again.
    """

    stage: Stage
    reason: str
    detail: str
    source: str
    offset: int | None = None
    length: int | None = None
    line: int | None = None
    document_id: str | None = None
    sequence: int | None = None
    chunk: FailedChunk | None = None
    record: KeptRecord | None = None

    @property
    def letter_id(self) -> str:
        """What makes two letters the same failure: the place or the chunk, not the wording."""
        ordinal = self.chunk.ordinal if self.chunk else None
        place = None if self.chunk else self._place
        identity = [self.stage, place, self.document_id, self.sequence, ordinal]
        return hashlib.sha256(canonical(identity)).hexdigest()[:24]

    @property
    def _place(self) -> list[str | int | None]:
        # A topic that was made anew, or another standard input, has other records in the same places.
        return [self.source, self.offset, *([self.record.data] if self.record else [])]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DeadLetter, strict=True).decode


def to_jsonl(letters: Iterable[DeadLetter]) -> bytes:
    """One JSON object a line."""
    return b"".join(_encode(letter) + b"\n" for letter in letters)


def from_jsonl(data: bytes, name: str) -> list[DeadLetter]:
    """The letters in an object called `name`. Raises `Malformed`."""
    try:
        return [_decode(line) for line in data.splitlines()]
    except msgspec.DecodeError as error:
        raise Malformed(f"{name}: {error}") from error
