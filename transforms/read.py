"""Reading a split: every record becomes a document, a deletion or a dead letter."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from pyarrow import fs

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.seen_files import SeenFile
from transforms.elements import EventBlock, Place, Tally
from transforms.job import Job
from transforms.progress import Progress
from transforms.reading.filesystems import file_info
from transforms.reading.jsonl import read_jsonl
from transforms.reading.parquet import WHOLE, read_parquet
from transforms.reading.records import Fields
from transforms.reading.seeing import first_sequence
from transforms.reading.splits import LARGEST_SPLIT_BYTES, FilePart, Split, kind_of
from transforms.reading.text_files import read_text_file
from transforms.streams.messages import letter_event
from transforms.timing import stopwatch

# Documents travel to the next step in lists of about so many bytes of text.
_BLOCK_BYTES: Final = LARGEST_SPLIT_BYTES
_DELETION_BYTES: Final = 64

Files: TypeAlias = tuple[SeenFile, ...]


def read_split(split: Split, fields: Fields | None = None) -> Iterator[Document | Deletion | DeadLetter]:
    """What the parts of `split` hold, in order.

    What cannot be read comes as a dead letter of stage `read` in the place of the document: no content of a
    file, and no file that is gone, ends the run.
    """
    for part in split.parts:
        yield from _read_part(part, fields or Fields())
    yield from map(letter_event, split.letters)


def _read_part(part: FilePart, fields: Fields) -> Iterator[Document | Deletion | DeadLetter]:
    if part.kind == "jsonl":
        return read_jsonl(part, fields)
    if part.kind == "parquet":
        return read_parquet(part, fields)
    return iter((read_text_file(part),))


def can_be_read_again(letter: DeadLetter) -> bool:
    """Whether there is anything to send through once more: a chunk or a record in the letter, or a file."""
    return bool(letter.chunk or letter.record or kind_of(letter.source))


def split_of_letter(letter: DeadLetter, seen: Mapping[str, SeenFile] | None = None) -> Split:
    """The split that reads exactly what `letter` is about once more, as the file is now.

    For a letter without `length`, that is the rest of its source. `seen` are the files as they were read.
    """
    if letter.record is not None:
        return Split((), len(letter.record.data), letters=(letter,))
    part = _whole(letter, (seen or {}).get(letter.source))
    if part.kind in ("jsonl", "parquet"):
        offset = letter.offset or 0
        rest = WHOLE if part.kind == "parquet" else max(part.size - offset, 0)
        part = replace(part, offset=offset, length=rest if letter.length is None else letter.length)
    return Split((part,), part.size if letter.length is None else letter.length)


def _whole(letter: DeadLetter, seen: SeenFile | None) -> FilePart:
    kind = kind_of(letter.source)
    if kind is None:
        raise ValueError(f"dead letter {letter.letter_id} names {letter.source!r}, which is of no kind that is read")
    size, modified_ns = _state(letter.source)
    document_id = None if kind in ("jsonl", "parquet") else letter.document_id
    return FilePart(letter.source, kind, document_id, 0, size, size, first_sequence(size, modified_ns, seen))


def _state(uri: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; zeros for what is gone: reading it will tell."""
    try:
        info = file_info(uri)
    except OSError:
        return 0, 0
    return (info.size or 0, info.mtime_ns or 0) if info.type == fs.FileType.File else (0, 0)


def event_blocks(events: Iterable[Document | Deletion]) -> Iterator[tuple[Document | Deletion, ...]]:
    """Consecutive events, together until the texts of the documents reach the size of a block."""
    block: list[Document | Deletion] = []
    weight = 0
    for event in events:
        block.append(event)
        weight += len(event.text) if isinstance(event, Document) else _DELETION_BYTES
        if weight >= _BLOCK_BYTES:
            yield tuple(block)
            block, weight = [], 0
    if block:
        yield tuple(block)


_Read: TypeAlias = (
    EventBlock
    | TaggedOutput[Literal["letters"], DeadLetter]
    | TaggedOutput[Literal["tally"], Tally]
    | TaggedOutput[Literal["files"], Files]
)


class ReadDoFn(beam.DoFn):
    """(number, Split) -> EventBlocks; tags `letters`, `tally` and `files`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._progress = Progress(self._job.progress)

    def process(self, numbered: tuple[int, Split]) -> Iterator[_Read]:
        number, split = numbered
        letters: list[DeadLetter] = []
        blocks = event_blocks(_set_aside(read_split(split, self._job.fields), letters))
        events = place = 0
        while block := self._next(blocks):
            yield EventBlock(Place(number, place), block)
            events, place = events + len(block), place + 1
        for letter in letters:
            yield TaggedOutput("letters", letter)
        yield TaggedOutput("tally", Tally(read=events + len(letters)))
        if split.files:
            yield TaggedOutput("files", split.files)
        self._progress.add(bytes=split.bytes)

    @staticmethod
    def _next(blocks: Iterator[tuple[Document | Deletion, ...]]) -> tuple[Document | Deletion, ...]:
        with stopwatch("read"):
            return next(blocks, ())


def _set_aside(
    read: Iterable[Document | Deletion | DeadLetter], letters: list[DeadLetter]
) -> Iterator[Document | Deletion]:
    """The events of what was read; the letters go into `letters`."""
    for one in read:
        if isinstance(one, DeadLetter):
            letters.append(one)
        else:
            yield one
