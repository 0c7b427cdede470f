"""Planning what to read: sources become splits, the same ones for the same input."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tierloom.errors import SourceError
from transforms.reading.listing import Found, find_files, shown_path
from transforms.reading.parquet import parquet_pieces
from transforms.reading.records import Fields
from transforms.reading.splits import ENDINGS, SPLIT_BYTES, FilePart, Kind, Piece, Split, kind_of, pack


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest reads: `files` and `bytes` in all; `passed_over` counts files of endings that are not read."""

    splits: tuple[Split, ...]
    files: int
    bytes: int
    passed_over: int


def plan_splits(sources: Sequence[str], fields: Fields | None = None, split_bytes: int = SPLIT_BYTES) -> Plan:
    """The splits of `sources`: folders (recursively), globs (with `**`), files; local or `gs://`.

    A file reached through several sources is read once. Raises `SourceError` for a source that does not exist
    or matches nothing that is read, for two files that would be one document, and for a Parquet file that is
    corrupt or lacks a named column.
    """
    found: dict[str, Found] = {}
    passed_over: set[str] = set()
    for source in sources:
        _collect(source, found, passed_over)
    files = sorted(found.values(), key=lambda file: file.uri)
    _refuse_shared_ids(files)
    pieces = (piece for file in files for piece in _pieces(file, fields or Fields(), split_bytes))
    return Plan(
        splits=tuple(pack(pieces, split_bytes)),
        files=len(files),
        bytes=sum(file.size for file in files),
        passed_over=len(passed_over),
    )


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


def whole_file(file: Found, kind: Kind) -> FilePart:
    """The one part of a file that is read as a whole."""
    document_id = None if _carries_records(kind) else file.name
    return FilePart(file.uri, kind, document_id, 0, file.size, file.size, file.modified_ns)


def _pieces(file: Found, fields: Fields, split_bytes: int) -> Iterator[Piece]:
    part = whole_file(file, _kind(file))
    if part.kind == "parquet":
        yield from parquet_pieces(part, fields, split_bytes)
    elif part.kind == "jsonl":
        yield from _ranges(part, split_bytes)
    else:
        yield Piece(part, part.size)


def _ranges(part: FilePart, split_bytes: int) -> Iterator[Piece]:
    # A file without bytes, or whose size could not be had, is one range too: reading it tells.
    for offset in range(0, part.size, split_bytes) or (0,):
        length = min(split_bytes, part.size - offset)
        yield Piece(replace(part, offset=offset, length=length), length)
