"""Reading a split: every record becomes a document or a dead letter."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from pyarrow import fs

from tierloom.dead_letter import DeadLetter
from tierloom.document import Document
from transforms.elements import DocumentBlock, Place, Tally
from transforms.job import Job
from transforms.progress import Progress
from transforms.reading.filesystems import file_info
from transforms.reading.jsonl import read_jsonl
from transforms.reading.parquet import WHOLE, read_parquet
from transforms.reading.records import Fields
from transforms.reading.splits import SPLIT_BYTES, FilePart, Split, kind_of
from transforms.reading.text_files import read_text_file
from transforms.timing import stopwatch

# Documents travel to the next step in lists of about so many bytes of text.
_BLOCK_BYTES: Final = SPLIT_BYTES


def read_split(split: Split, fields: Fields | None = None) -> Iterator[Document | DeadLetter]:
    """What the parts of `split` hold, in order.

    What cannot be read comes as a dead letter of stage `read` in the place of the document: no content of a
    file, and no file that is gone, ends the run.
    """
    for part in split.parts:
        yield from _read_part(part, fields or Fields())


def _read_part(part: FilePart, fields: Fields) -> Iterator[Document | DeadLetter]:
    if part.kind == "jsonl":
        return read_jsonl(part, fields)
    if part.kind == "parquet":
        return read_parquet(part, fields)
    return iter((read_text_file(part),))


def split_of_letter(letter: DeadLetter) -> Split:
    """The split that reads exactly what `letter` is about once more, as the file is now.

    For a letter without `length`, that is the rest of its source.
    """
    part = _whole(letter)
    if part.kind in ("jsonl", "parquet"):
        offset = letter.offset or 0
        rest = WHOLE if part.kind == "parquet" else max(part.size - offset, 0)
        part = replace(part, offset=offset, length=rest if letter.length is None else letter.length)
    return Split((part,), part.size if letter.length is None else letter.length)


def _whole(letter: DeadLetter) -> FilePart:
    kind = kind_of(letter.source)
    if kind is None:
        raise ValueError(f"dead letter {letter.letter_id} names {letter.source!r}, which is of no kind that is read")
    size, modified_ns = _state(letter.source)
    document_id = None if kind in ("jsonl", "parquet") else letter.document_id
    return FilePart(letter.source, kind, document_id, 0, size, size, modified_ns)


def _state(uri: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; zeros for what is gone: reading it will tell."""
    try:
        info = file_info(uri)
    except OSError:
        return 0, 0
    return (info.size or 0, info.mtime_ns or 0) if info.type == fs.FileType.File else (0, 0)


def document_blocks(documents: Iterable[Document]) -> Iterator[tuple[Document, ...]]:
    """Consecutive documents, together until their texts reach the size of a block."""
    block: list[Document] = []
    weight = 0
    for document in documents:
        block.append(document)
        weight += len(document.text)
        if weight >= _BLOCK_BYTES:
            yield tuple(block)
            block, weight = [], 0
    if block:
        yield tuple(block)


_Read: TypeAlias = DocumentBlock | TaggedOutput[Literal["letters"], DeadLetter] | TaggedOutput[Literal["tally"], Tally]


class ReadDoFn(beam.DoFn):
    """(number, Split) -> DocumentBlocks; tags `letters` and `tally`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._progress = Progress(self._job.progress)

    def process(self, numbered: tuple[int, Split]) -> Iterator[_Read]:
        number, split = numbered
        letters: list[DeadLetter] = []
        blocks = document_blocks(_set_aside(read_split(split, self._job.fields), letters))
        documents = place = 0
        while block := self._next(blocks):
            yield DocumentBlock(Place(number, place), block)
            documents, place = documents + len(block), place + 1
        for letter in letters:
            yield TaggedOutput("letters", letter)
        yield TaggedOutput("tally", Tally(read=documents + len(letters)))
        self._progress.add(bytes=split.bytes)

    @staticmethod
    def _next(blocks: Iterator[tuple[Document, ...]]) -> tuple[Document, ...]:
        with stopwatch("read"):
            return next(blocks, ())


def _set_aside(read: Iterable[Document | DeadLetter], letters: list[DeadLetter]) -> Iterator[Document]:
    """The documents of what was read; the letters go into `letters`."""
    for one in read:
        if isinstance(one, Document):
            yield one
        else:
            letters.append(one)
