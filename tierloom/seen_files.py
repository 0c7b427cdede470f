"""Files that were read: as what, and up to which sequence. A file that is as it was is not read again."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final

import pyarrow as pa

from tierloom import names
from tierloom.ledger import Ledger
from tierloom.manifest import LedgerPart
from tierloom.object_files import ObjectFiles

GONE: Final = -1


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file of a source as it was read, or `size` GONE for one that is no more.

    `name` is its URI. Of its documents those without a sequence of their own were given one from `first` to
    `sequence`; whatever it holds later gets a higher one. `document_id` is None where its records carry ids.
    `reading` tells how it was read: which fields are which. `modified_ns` is 0 where the file may have changed
    without a trace.
    """

    name: str
    first: int
    sequence: int
    noted: int
    size: int
    modified_ns: int
    document_id: str | None
    reading: str


SEEN_FILES: Final = Ledger(
    pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("first", pa.int64(), nullable=False),
            pa.field("sequence", pa.int64(), nullable=False),
            pa.field("noted", pa.int64(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("modified_ns", pa.int64(), nullable=False),
            pa.field("document_id", pa.string()),
            pa.field("reading", pa.string(), nullable=False),
        ]
    ),
    names.seen_files,
)


def read_seen_files(parts: Sequence[LedgerPart], files: ObjectFiles) -> dict[str, SeenFile]:
    """Every file that was seen, by its URI."""
    return {row["name"]: SeenFile(**row) for row in SEEN_FILES.read(parts, files).to_pylist()}


def seen_file_entries(seen: Iterable[SeenFile]) -> pa.Table:
    """Ledger entries of these files."""
    every = [asdict(file) for file in seen]
    return pa.table({field.name: [row[field.name] for row in every] for field in fields(SeenFile)}, SEEN_FILES.schema)
