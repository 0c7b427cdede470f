"""Dead letters: what could not be processed, kept with its reason and with what a retry needs."""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from tierloom.errors import Malformed
from tierloom.sealed import canonical

Stage = Literal["read", "chunk", "embed"]


class FailedChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chunk as it was to be embedded."""

    ordinal: int
    heading: str
    text: str
    metadata: str
    model_input: str
    tokens: int


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One document or chunk that could not be processed.

    `reason` is a short fixed word (`empty-document`, `invalid-utf8`, `zero-norm`, ...), `detail` a sentence
    with the values. `offset` (bytes) and `line` (from 1) tell where in `source` it was; they are None where
    that means nothing. `document_id` is None when it could not be read. `length` is the bytes of the record,
    None for the rest of the source.
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

    @property
    def letter_id(self) -> str:
        """What makes two letters the same failure: the place or the chunk, not the wording."""
        ordinal = self.chunk.ordinal if self.chunk else None
        place = None if self.chunk else [self.source, self.offset]
        identity = [self.stage, place, self.document_id, self.sequence, ordinal]
        return hashlib.sha256(canonical(identity)).hexdigest()[:24]


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
