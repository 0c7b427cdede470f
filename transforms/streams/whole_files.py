"""Reading one file to its end, as a stream does: in the order of its records, then what was seen of the file."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from tierloom.dead_letter import UNREADABLE, DeadLetter
from tierloom.document import Deletion, Document, Origin
from tierloom.errors import SourceError
from tierloom.seen_files import SeenFile
from transforms.read import read_split
from transforms.reading.listing import Found
from transforms.reading.parquet import WHOLE, parquet_pieces
from transforms.reading.records import Fields
from transforms.reading.refused import Refused, refusal
from transforms.reading.seeing import reading_of, sequence_for, was_just_changed
from transforms.reading.sources import whole_file
from transforms.reading.splits import FilePart, Kind, Split

Read: TypeAlias = Document | Deletion | DeadLetter | SeenFile


def read_whole_file(file: Found, kind: Kind, fields: Fields, known: SeenFile | None) -> Iterator[Read]:
    """What the file holds, then what is seen of it; nothing more once it is found to be gone.

    `known` is how it was read before: the documents that it gave keep their ids.
    """
    # A change that comes after the reading began may show no trace.
    modified_ns = 0 if was_just_changed(file) else file.modified_ns
    reading = reading_of(kind, fields)
    part = whole_file(file, kind, sequence_for(file, reading, known))
    if known is not None and known.document_id is not None:
        part = replace(part, document_id=known.document_id)
    events = 0
    for event in _events(part, fields):
        if isinstance(event, DeadLetter) and event.reason == UNREADABLE and has_gone(file.uri):
            return
        yield event
        events += 1
    last = part.sequence if part.document_id else part.sequence + max(file.size, events)
    yield SeenFile(
        name=file.uri,
        first=part.sequence,
        sequence=last,
        noted=max(0, file.modified_ns // 1_000_000_000),
        size=file.size,
        modified_ns=modified_ns,
        document_id=part.document_id,
        reading=reading,
    )


def has_gone(uri: str) -> bool:
    """Whether there is surely no such file. False for what cannot be looked at, or has a name that is no UTF-8."""
    try:
        os.lstat(uri)
    except (FileNotFoundError, NotADirectoryError):
        return "\\" not in uri
    except OSError:
        return False
    return False


_ONE_PIECE: Final = 1 << 62


def _events(part: FilePart, fields: Fields) -> Iterator[Document | Deletion | DeadLetter]:
    if part.kind != "parquet":
        return read_split(Split((part,), part.size), fields)
    try:
        for _ in parquet_pieces(part, fields, _ONE_PIECE):
            pass
    except SourceError as error:
        return iter((refusal(Refused("not-records", str(error)), Origin(part.uri)),))
    return read_split(Split((replace(part, length=WHOLE),), part.size), fields)
