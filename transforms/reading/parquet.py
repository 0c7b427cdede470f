"""Parquet as input: row groups planned as parts, rows read in batches, one document each."""

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tierloom.dead_letter import UNREADABLE, DeadLetter
from tierloom.document import Deletion, Document, Origin
from tierloom.errors import SourceError
from transforms.reading.filesystems import open_file
from transforms.reading.records import Fields, record_event, record_id
from transforms.reading.refused import Refused, refusal
from transforms.reading.splits import FilePart, Piece

# All rows of a file whose footer could not be read.
WHOLE: Final = 1 << 62
_BATCH_ROWS: Final = 256
_BUFFER: Final = 1 << 20
_UNREADABLE: Final = (OSError, pa.ArrowException)
_NANOSECONDS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def parquet_pieces(part: FilePart, fields: Fields, split_bytes: int) -> Iterator[Piece]:
    """The row groups of a file, joined to pieces of about `split_bytes`.

    Raises `SourceError` for a corrupt file and for one without the named columns. A file that cannot be opened
    is one piece: reading it makes the dead letter.
    """
    try:
        stream = open_file(part.uri)
    except OSError:
        yield Piece(replace(part, length=WHOLE), part.size)
        return
    with stream:
        footer, columns = _footer(stream, part.uri)
        _refuse_missing(columns, fields, part.uri)
        yield from _row_groups(part, footer, split_bytes)


def _footer(stream: pa.NativeFile, uri: str) -> tuple[pq.FileMetaData, list[str]]:
    """What the file says of itself, and the names of its columns."""
    try:
        footer = pq.read_metadata(stream)
        return footer, footer.schema.to_arrow_schema().names
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{uri} is not a readable Parquet file: {error}") from error


def _refuse_missing(columns: list[str], fields: Fields, uri: str) -> None:
    needed = [("--id-field", fields.id), ("--text-field", fields.text)]
    if fields.sequence != Fields().sequence:
        needed.append(("--sequence-field", fields.sequence))
    for option, name in needed:
        if name not in columns:
            raise SourceError(f"{uri} has no column {name!r}; it has {columns}. Name the right one with {option}")


def _row_groups(part: FilePart, footer: pq.FileMetaData, split_bytes: int) -> Iterator[Piece]:
    first = rows = size = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        stored = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        if rows and size + stored > split_bytes:
            yield Piece(replace(part, offset=first, length=rows), size)
            first, rows, size = first + rows, 0, 0
        rows, size = rows + group.num_rows, size + stored
    if rows:
        yield Piece(replace(part, offset=first, length=rows), size)


def read_parquet(part: FilePart, fields: Fields) -> Iterator[Document | Deletion | DeadLetter]:
    """A document, a deletion or a dead letter for each row of the part.

    Where reading fails, one letter stands for the rest of that row group. A letter's offset and length are rows.
    """
    try:
        # A buffer, and no reading ahead: memory stays at a batch, whatever the size of a row group.
        with (
            open_file(part.uri) as stream,
            pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False) as file,
        ):
            for group in _groups(file, part):
                yield from _read_group(file, group, part, fields)
    except _UNREADABLE as error:
        yield _broken(error, Origin(part.uri, part.offset, part.length))


@dataclass(frozen=True, slots=True)
class _Group:
    """Row group `number`, whose first row has the number `start` in the file; of it, the rows [first, end)."""

    number: int
    start: int
    first: int
    end: int


def _groups(file: pq.ParquetFile, part: FilePart) -> Iterator[_Group]:
    """The row groups that hold rows of the part."""
    counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    for number, (start, stop) in enumerate(pairwise(accumulate(counts, initial=0))):
        first, end = max(start, part.offset), min(stop, part.offset + part.length)
        if first < end:
            yield _Group(number, start, first, end)


def _read_group(
    file: pq.ParquetFile, group: _Group, part: FilePart, fields: Fields
) -> Iterator[Document | Deletion | DeadLetter]:
    reached = group.first
    try:
        for start, batch in _batches(file, group):
            for row, record in enumerate(_rows(batch, fields), start):
                yield _event(part, row, record, fields)
                reached = row + 1
    except _UNREADABLE as error:
        yield _broken(error, Origin(part.uri, reached, group.end - reached))


def _batches(file: pq.ParquetFile, group: _Group) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of the group in batches, each with the number of its first row in the file."""
    start = group.start
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group.number], use_threads=False):
        skip, stop = max(group.first - start, 0), min(group.end - start, batch.num_rows)
        if skip < stop:
            yield start + skip, batch.slice(skip, stop - skip)
        start += batch.num_rows


def _broken(error: Exception, origin: Origin) -> DeadLetter:
    # Arrow raises OSError for broken bytes too, but without an errno.
    readable = getattr(error, "errno", None) is None
    return refusal(Refused("corrupt-parquet" if readable else UNREADABLE, str(error)), origin)


def _event(
    part: FilePart, row: int, record: Mapping[str, Any] | Refused, fields: Fields
) -> Document | Deletion | DeadLetter:
    origin = Origin(part.uri, row, 1)
    if isinstance(record, Refused):
        return refusal(record, origin)
    try:
        return record_event(record, fields, origin, part.sequence + row)
    except Refused as refused:
        return refusal(refused, origin, document_id=_id_if_any(record, fields))


def _id_if_any(record: Mapping[str, Any], fields: Fields) -> str | None:
    try:
        return record_id(record, fields)
    except Refused:
        return None


def _rows(batch: pa.RecordBatch, fields: Fields) -> Iterator[Mapping[str, Any] | Refused]:
    ticks = _ticks(batch, fields)
    batch = _plain(batch, fields)
    try:
        rows = batch.to_pylist()
    except ValueError:
        # One bad value fails the whole batch: find it row by row. (A UnicodeDecodeError is a ValueError.)
        yield from (_row(batch.slice(row, 1), fields, ticks) for row in range(batch.num_rows))
        return
    yield from (_json_object(row, fields, ticks) for row in rows)


def _row(batch: pa.RecordBatch, fields: Fields, ticks: int) -> Mapping[str, Any] | Refused:
    try:
        return _json_object(batch.to_pylist()[0], fields, ticks)
    except UnicodeDecodeError as error:
        return Refused("invalid-utf8", f"a string of the row is not UTF-8: {error.reason} at its byte {error.start}")
    except ValueError as error:
        return Refused("invalid-value", f"a value of the row cannot be read: {error}")


def _ticks(batch: pa.RecordBatch, fields: Fields) -> int:
    """Nanoseconds of one unit of the sequence column: 1 unless it holds times."""
    position = batch.schema.get_field_index(fields.sequence)
    kind = batch.schema.types[position] if position >= 0 else pa.null()
    return _NANOSECONDS[kind.unit] if pa.types.is_timestamp(kind) else 1


def _plain(batch: pa.RecordBatch, fields: Fields) -> pa.RecordBatch:
    """The batch in types that Python can hold: times are text to the nanosecond, those of the sequence integers."""
    columns = [_plain_column(name, column, fields) for name, column in zip(batch.schema.names, batch, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _plain_column(name: str, column: pa.Array, fields: Fields) -> pa.Array:
    if name == fields.sequence and pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if name in (fields.id, fields.text) and pa.types.is_binary(column.type):
        # A string without its annotation, as old writers leave it. Bytes that are not UTF-8 show in `to_pylist`.
        return column.cast(pa.string(), safe=False)
    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column


def _json_object(row: Mapping[str, Any], fields: Fields, ticks: int) -> Mapping[str, Any]:
    record = {name: json_value(value) for name, value in row.items()}
    if ticks != 1 and record[fields.sequence] is not None:
        record[fields.sequence] *= ticks
    return record


def json_value(value: Any) -> Any:
    """A value of Arrow as one of JSON: NaN and infinities as null, bytes as text or else base64, others as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return _bytes_as_text(value)
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(name): json_value(item) for name, item in value.items()}
    return str(value)


def _bytes_as_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
