"""Which files were read already as they are, and which sequences a changed one gives its documents.

A file is known again by its size and the time of its last change. Its documents have that time as their sequence, or,
if the file is older than what was read under its name (a backup that was put back, say), one more than those had:
what lies there now is the truth.
"""

import time
from typing import Final

from tierloom.digest import digest_of
from tierloom.seen_files import GONE, SeenFile
from transforms.reading.listing import Found
from transforms.reading.records import Fields
from transforms.reading.splits import Kind

# Rises when a file's documents would come out differently than by an earlier Tierloom.
_READERS: Final = 1
# How coarse the clock of a file system may be (Linux: a tick of 1 to 10 ms): within it a second change shows no trace.
CLOCK_SECONDS: Final = 0.02


def reading_of(kind: Kind, fields: Fields) -> str:
    """How a file is read: files are read again when this changes."""
    return digest_of("reading", _READERS, kind, fields if kind in ("jsonl", "parquet") else None)[:16]


def first_sequence(size: int, modified_ns: int, seen: SeenFile | None) -> int:
    """The sequence of a file's (first) document without a sequence of its own."""
    if seen is None:
        return modified_ns
    if (seen.size, seen.modified_ns) == (size, modified_ns):
        return seen.first
    return max(modified_ns, seen.sequence + 1)


def is_as_seen(file: Found, reading: str, seen: SeenFile | None) -> bool:
    """Whether the file was read already as it is."""
    return seen is not None and (seen.size, seen.modified_ns, seen.reading) == (file.size, file.modified_ns, reading)


def sequence_for(file: Found, reading: str, seen: SeenFile | None) -> int:
    """The sequence that a file which is not as it was seen gives to its first document."""
    if seen is not None and seen.reading != reading:
        return max(file.modified_ns, seen.sequence + 1)
    return first_sequence(file.size, file.modified_ns, seen)


def gone(seen: SeenFile, sequence: int) -> SeenFile:
    """A file that is no more; `sequence` is the highest of its documents' deletions."""
    last = max(seen.sequence + 1, sequence)
    return SeenFile(seen.name, last, last, int(time.time()), GONE, 0, seen.document_id, seen.reading)


def was_just_changed(file: Found) -> bool:
    """Whether the file may change once more within the same tick of its clock."""
    return 0 <= time.time() - file.modified_ns / 1e9 < CLOCK_SECONDS
