"""JSONL: one line, one document, in byte ranges of a file."""

import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tierloom.dead_letter import UNREADABLE, DeadLetter
from tierloom.document import Deletion, Document, Origin
from transforms.reading.filesystems import open_file
from transforms.reading.records import Fields, record_event, record_id
from transforms.reading.refused import Refused, refusal, shown
from transforms.reading.splits import FilePart
from transforms.reading.text_files import LARGEST_DOCUMENT

_BLOCK: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line at byte `offset`, `length` bytes with its end; `data` is None if it is too large to be held.

    `number` counts from 0 at the first line of the part.
    """

    offset: int
    length: int
    data: bytes | None
    number: int

    @property
    def is_blank(self) -> bool:
        return self.data is not None and not self.data.strip()


def read_jsonl(part: FilePart, fields: Fields) -> Iterator[Document | Deletion | DeadLetter]:
    """A document, a deletion or a dead letter for each line that starts in the part and is not blank.

    Where reading fails, one letter stands for the rest of the part.
    """
    reached = part.offset
    numbers = _LineNumbers(part)
    try:
        for line in _lines(part):
            reached = line.offset + line.length
            if not line.is_blank:
                yield _event(part, line, fields, numbers)
    except OSError as error:
        rest = Origin(part.uri, reached, max(part.offset + part.length - reached, 0))
        yield refusal(Refused(UNREADABLE, str(error)), rest)


def _event(part: FilePart, line: Line, fields: Fields, numbers: "_LineNumbers") -> Document | Deletion | DeadLetter:
    origin = Origin(part.uri, line.offset, line.length)
    record: dict[str, Any] = {}
    try:
        record = _parsed(line)
        return record_event(record, fields, origin, part.sequence + line.offset)
    except Refused as refused:
        return refusal(refused, origin, numbers.of(line), _id_if_any(record, fields))


def _id_if_any(record: dict[str, Any], fields: Fields) -> str | None:
    try:
        return record_id(record, fields)
    except Refused:
        return None


def _parsed(line: Line) -> dict[str, Any]:
    if line.data is None:
        raise Refused("too-large", f"a line of {line.length} bytes, more than the {LARGEST_DOCUMENT} of a document")
    # RFC 8259 lets a parser ignore a byte order mark; only the first line of a file can have one.
    return parsed_record(line.data if line.offset else line.data.removeprefix(_BOM))


def parsed_record(data: bytes) -> dict[str, Any]:
    """The JSON object in a line or a message. Raises `Refused` (`invalid-utf8`, `invalid-json`, `not-an-object`)."""
    try:
        # Five times as fast; and what it takes, it reads as the other does.
        record = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        record = _read_leniently(data)
    if not isinstance(record, dict):
        raise Refused("not-an-object", f"a JSON object was expected, found {shown(record)}")
    return record


def _read_leniently(data: bytes) -> Any:
    """Any JSON, and what others write as such. Raises `Refused`."""
    try:
        return _decode(_decoded(data))
    except (ValueError, RecursionError) as error:
        raise Refused("invalid-json", f"not valid JSON: {error}") from error


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        found = shown(data[error.start : error.end])
        raise Refused("invalid-utf8", f"{found} at byte {error.start} of the line: {error.reason}") from error


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _no_number(_constant: str) -> None:
    """NaN and Infinity, which pandas and Python write, become null: JSON has no such numbers."""


_decode: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number).decode


def _lines(part: FilePart) -> Iterator[Line]:
    """The lines that start in [offset, offset + length), each read to its end."""
    end = part.offset + part.length
    with io.BufferedReader(open_file(part.uri), _BLOCK) as stream:
        offset = _first_line(stream, part.offset, end)
        number = 0
        while offset < end and (line := _next_line(stream, offset, number)):
            yield line
            offset += line.length
            number += 1


def _first_line(stream: io.BufferedReader, offset: int, end: int) -> int:
    """Move to the first line that starts in [offset, end); where that is. At or behind `end` if there is none."""
    if not offset:
        return 0
    stream.seek(offset - 1)
    # Not to the end of a line that began before: each range inside one huge line would read it all.
    return offset - 1 + _skip_line(stream, end - offset + 1)


def _next_line(stream: io.BufferedReader, offset: int, number: int) -> Line | None:
    data = stream.readline(LARGEST_DOCUMENT + 1)
    if len(data) <= LARGEST_DOCUMENT or data.endswith(b"\n"):
        return Line(offset, len(data), data, number) if data else None
    length = len(data) + _skip_line(stream)
    return Line(offset, length, None, number)


def _skip_line(stream: io.BufferedReader, limit: int = sys.maxsize) -> int:
    """Read past the end of the line without holding it, or past `limit` bytes; the bytes passed."""
    passed = 0
    while passed < limit and (data := stream.readline(_BLOCK)):
        passed += len(data)
        if data.endswith(b"\n"):
            break
    return passed


class _LineNumbers:
    """Line numbers in the file, from 1. What lies before the part is read only when a letter asks for one."""

    def __init__(self, part: FilePart) -> None:
        self._part = part
        self._before: int | None = None

    def of(self, line: Line) -> int | None:
        """The number of `line`; None if the file can no longer be read."""
        if self._before is None:
            try:
                self._before = _count_lines(self._part.uri, line.offset) - line.number
            except OSError:
                return None
        return self._before + line.number + 1


def _count_lines(uri: str, end: int) -> int:
    count = 0
    with open_file(uri) as stream:
        while end > 0 and (block := stream.read(min(_BLOCK, end))):
            count += block.count(b"\n")
            end -= len(block)
    return count
