"""Splits: the units of reading, and how files are packed into them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tierloom.dead_letter import DeadLetter
from tierloom.seen_files import SeenFile

Kind = Literal["text", "markdown", "restructuredtext", "html", "jsonl", "parquet"]

SPLIT_BYTES: Final = 2 << 20
# Of a large file of records more goes into one split: comparing it with what is live costs less that way.
_LARGEST: Final = 4
LARGEST_SPLIT_BYTES: Final = _LARGEST * SPLIT_BYTES
_SPLITS_OF_A_FILE: Final = 16
# What opening a file costs, in bytes of reading: a folder of empty files is not one endless split.
_OPENING_BYTES: Final = 4 << 10

_KINDS: Final[dict[str, Kind]] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "restructuredtext",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
ENDINGS: Final = tuple(_KINDS)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file, or the part of one that a split reads.

    `uri` is an absolute path or `gs://bucket/name`. `offset` and `length` count bytes (of JSONL: a line belongs
    to the part in which it starts) or, of Parquet, rows. `size` is the file's in bytes. `document_id` is None
    where the records themselves carry ids. A document without a sequence of its own has `sequence`, in a file of
    records plus its offset.
    """

    uri: str
    kind: Kind
    document_id: str | None
    offset: int
    length: int
    size: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Split:
    """One unit of reading: small files together, or a part of a large one, `bytes` in all; `files` are those that
    begin in it. `letters` keep records that are to be read once more."""

    parts: tuple[FilePart, ...]
    bytes: int
    files: tuple[SeenFile, ...] = ()
    letters: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A file part and its bytes in the file; with the first part of a file, what is seen of the file."""

    part: FilePart
    bytes: int
    file: SeenFile | None = None


def kind_of(name: str) -> Kind | None:
    """The kind of a file by its ending, in either case; None for those that are not read."""
    dot = name.rfind(".")
    return _KINDS.get(name[dot:].lower()) if dot > name.rfind("/") else None


def range_bytes(file_bytes: int, split_bytes: int) -> int:
    """How much of a file of records goes into one split: the same for the same file, whatever lies beside it, or
    a run that was killed would not find its blocks again."""
    times = max(1, file_bytes // (split_bytes * _SPLITS_OF_A_FILE))
    return split_bytes * min(_LARGEST, 1 << (times.bit_length() - 1))


def pack(pieces: Iterable[Piece], split_bytes: int) -> Iterator[Split]:
    """Splits of the pieces, in their order. One piece larger than `split_bytes` is a split of its own."""
    batch: list[Piece] = []
    weight = 0
    for piece in pieces:
        heavy = max(piece.bytes, _OPENING_BYTES)
        if batch and weight + heavy > split_bytes:
            yield _split(batch)
            batch, weight = [], 0
        batch.append(piece)
        weight += heavy
    if batch:
        yield _split(batch)


def _split(pieces: list[Piece]) -> Split:
    return Split(
        tuple(piece.part for piece in pieces),
        sum(piece.bytes for piece in pieces),
        tuple(piece.file for piece in pieces if piece.file),
    )
