"""Planning what to read: sources become splits, the same ones for the same input."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tierloom.errors import SourceError
from tierloom.seen_files import SeenFile
from transforms.reading.listing import Found, find_files, shown_path
from transforms.reading.parquet import parquet_pieces
from transforms.reading.records import Fields
from transforms.reading.seeing import CLOCK_SECONDS, is_as_seen, reading_of, sequence_for, was_just_changed
from transforms.reading.splits import ENDINGS, SPLIT_BYTES, FilePart, Kind, Piece, Split, kind_of, pack, range_bytes

# Of a file whose end is not known: it cannot be read now, and is not remembered either.
_MOST_RECORDS: Final = 1 << 40
_LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest reads: `files` and `bytes` in all. `found` are all files of the sources; `unchanged` counts those
    that were read before as they are, `passed_over` those of endings that are not read."""

    splits: tuple[Split, ...]
    files: int
    bytes: int
    found: tuple[Found, ...]
    unchanged: int
    passed_over: int


def plan_splits(
    sources: Sequence[str],
    fields: Fields | None = None,
    split_bytes: int = SPLIT_BYTES,
    seen: Mapping[str, SeenFile] | None = None,
) -> Plan:
    """The splits of `sources`: folders (recursively), globs (with `**`), files; local or `gs://`.

    A file reached through several sources is read once, one that was `seen` as it is not at all.

    Raises `SourceError` for a source that does not exist or matches nothing that is read, for two files that would
    be one document, and for a Parquet file that is corrupt or lacks a named column.
    """
    files, passed_over = _listed(sources)
    for _ in range(_LOOKS):
        if not any(map(was_just_changed, files)):
            break
        # What changes from now on will show in the time of its change.
        time.sleep(CLOCK_SECONDS)
        files, passed_over = _listed(sources)
    _refuse_shared_ids(files)
    unsettled = frozenset(file.uri for file in files if was_just_changed(file))
    planner = _Planner(fields or Fields(), split_bytes, seen or {}, unsettled)
    changed = [file for file in files if not planner.knows(file)]
    return Plan(
        splits=tuple(pack((piece for file in changed for piece in planner.pieces(file)), split_bytes)),
        files=len(changed),
        bytes=sum(file.size for file in changed),
        found=tuple(files),
        unchanged=len(files) - len(changed),
        passed_over=passed_over,
    )


def _listed(sources: Sequence[str]) -> tuple[list[Found], int]:
    """The files of the sources by URI; and how many are passed over."""
    found: dict[str, Found] = {}
    passed_over: set[str] = set()
    for source in sources:
        _collect(source, found, passed_over)
    return sorted(found.values(), key=lambda file: file.uri), len(passed_over)


def _collect(source: str, found: dict[str, Found], passed_over: set[str]) -> None:
    """Add the files of `source` to `found`, by identity; of two names the longer wins: the outermost root."""
    matched = 0
    for file in find_files(source):
        if kind_of(file.name) is None:
            passed_over.add(_refuse_explicit(file).identity)
            continue
        matched += 1
        known = found.get(file.identity)
        if known is None or len(known.name) < len(file.name):
            found[file.identity] = file
    if not matched:
        raise SourceError(
            f"source {shown_path(source)!r} matches no file that is read; those end in {', '.join(ENDINGS)}"
        )


def _refuse_explicit(file: Found) -> Found:
    if file.explicit:
        raise SourceError(f"{file.uri} is of no known kind; files that are read end in {', '.join(ENDINGS)}")
    return file


def _refuse_shared_ids(files: Iterable[Found]) -> None:
    owners: dict[str, Found] = {}
    for file in files:
        if not _carries_records(_kind(file)) and (other := owners.setdefault(file.name, file)) is not file:
            raise SourceError(
                f"{other.uri} and {file.uri} would both be document {file.name!r}; "
                "ingest them from a common parent folder"
            )


def _kind(file: Found) -> Kind:
    kind = kind_of(file.name)
    if kind is None:
        raise AssertionError(f"{file.name} was collected although it is not read")
    return kind


def _carries_records(kind: Kind) -> bool:
    return kind in ("jsonl", "parquet")


def whole_file(file: Found, kind: Kind, sequence: int) -> FilePart:
    """The one part of a file that is read as a whole."""
    document_id = None if _carries_records(kind) else file.name
    return FilePart(file.uri, kind, document_id, 0, file.size, file.size, sequence)


@dataclass(frozen=True, slots=True)
class _Planner:
    fields: Fields
    split_bytes: int
    seen: Mapping[str, SeenFile]
    unsettled: frozenset[str]

    def knows(self, file: Found) -> bool:
        return is_as_seen(file, reading_of(_kind(file), self.fields), self.seen.get(file.uri))

    def pieces(self, file: Found) -> Iterator[Piece]:
        """The pieces of a file; the first tells what will have been seen of it."""
        kind = _kind(file)
        reading = reading_of(kind, self.fields)
        part = whole_file(file, kind, sequence_for(file, reading, self.seen.get(file.uri)))
        first, *rest = _pieces(part, self.fields, self.split_bytes) or [Piece(part, part.size)]
        yield replace(first, file=self._seen_as(file, part, reading, (first, *rest)))
        yield from rest

    def _seen_as(self, file: Found, part: FilePart, reading: str, pieces: Sequence[Piece]) -> SeenFile:
        last = max(piece.part.offset + piece.part.length for piece in pieces) if part.document_id is None else 0
        return SeenFile(
            name=file.uri,
            first=part.sequence,
            sequence=part.sequence + min(last, _MOST_RECORDS),
            noted=max(0, file.modified_ns // 1_000_000_000),
            size=file.size,
            modified_ns=0 if file.uri in self.unsettled else file.modified_ns,
            document_id=part.document_id,
            reading=reading,
        )


def _pieces(part: FilePart, fields: Fields, split_bytes: int) -> list[Piece]:
    together = range_bytes(part.size, split_bytes)
    if part.kind == "parquet":
        return list(parquet_pieces(part, fields, together))
    if part.kind == "jsonl":
        return list(_ranges(part, together))
    return [Piece(part, part.size)]


def _ranges(part: FilePart, together: int) -> Iterator[Piece]:
    # A file without bytes, or whose size could not be had, is one range too: reading it tells.
    for offset in range(0, part.size, together) or (0,):
        length = min(together, part.size - offset)
        yield Piece(replace(part, offset=offset, length=length), length)
