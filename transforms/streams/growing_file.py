"""A JSONL file that grows, as a stream: one change a line, taken when the line is ended."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tierloom.document import Origin
from tierloom.errors import SourceError, SourceLost
from tierloom.seen_files import SeenFile
from transforms.reading.jsonl import Line
from transforms.reading.listing import shown_path
from transforms.reading.records import Fields
from transforms.streams.lines import Lines, line_event
from transforms.streams.stream import Batch, Change

_BLOCK: Final = 1 << 20
_WITNESS: Final = 4096
_LOOK_SECONDS: Final = 0.05
# A file that is replaced by a rename may not be there for a moment.
_ABSENT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Position:
    """Up to byte `offset` the file was taken. `before` is a hash of its first and its last bytes up to there;
    `sequence` the highest that a record without one was given."""

    offset: int = 0
    sequence: int = 0
    before: int = 0


class GrowingFile:
    """The lines of a local file, and those that will be appended.

    A record without a sequence has the time of the file's last change, in nanoseconds since 1970, plus its offset.
    A file that is truncated, or replaced by one that does not begin as it did, is lost: it is never read on as if
    it were the same.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self._path = path
        self._uri = shown_path(path.as_posix())
        self._fields = fields
        self._file = -1
        self._taken = _Position()
        self._read = 0
        self._lines = Lines()
        self._waiting: deque[Line] = deque()
        self._absent_since: float | None = None
        # What is read now came after the last time that nothing was there.
        self._emptied = time.time()

    @property
    def source(self) -> str:
        return self._uri

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        if not self._path.is_file():
            raise SourceError(f"{self._uri} is not a regular file; write a pipe into standard input, and name it -")
        self._taken = _Position(**positions) if positions else _Position()
        self._read = self._taken.offset
        self._lines = Lines(self._read)
        self._emptied = time.time()
        self._file = self._open_again()

    def take(self, limit: int, seconds: float) -> Batch | None:
        until = time.monotonic() + seconds
        while not self._waiting and not self._read_on() and (left := until - time.monotonic()) > 0:
            self._emptied = time.time()
            time.sleep(min(_LOOK_SECONDS, left))
        return self._batch(limit)

    def published(self, batch: Batch) -> None:
        """The file forgets nothing."""

    def behind(self) -> int | None:
        """From the bytes that follow, at the mean length of the lines that wait."""
        unread = max(os.fstat(self._file).st_size - self._read, 0)
        if not self._waiting:
            return int(unread > 0)
        mean = sum(line.length for line in self._waiting) / len(self._waiting)
        return len(self._waiting) + int(unread / mean)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_on(self) -> bool:
        """Read what was appended; whether there was anything."""
        data = os.pread(self._file, _BLOCK, self._read)
        if not data:
            self._look_for_another()
            return False
        self._refuse_other(self._file, self._taken)
        self._read += len(data)
        self._waiting.extend(self._lines.feed(data))
        return True

    def _batch(self, limit: int) -> Batch:
        lines = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        if not lines:
            return Batch(())
        modified_ns = os.fstat(self._file).st_mtime_ns
        changes = tuple(self._change(line, modified_ns) for line in lines if not line.is_blank)
        offset = lines[-1].offset + lines[-1].length
        self._taken = _Position(offset, self._taken.sequence, _witness(self._file, offset))
        return Batch(changes, {name: getattr(self._taken, name) for name in _Position.__slots__})

    def _change(self, line: Line, modified_ns: int) -> Change:
        # Whatever the file's times are: a later line wins.
        sequence = max(modified_ns + line.offset, self._taken.sequence + 1)
        self._taken = _Position(self._taken.offset, sequence, self._taken.before)
        origin = Origin(self._uri, line.offset, line.length)
        return Change(line_event(line, self._fields, origin, sequence, keep=False), self._emptied)

    def _look_for_another(self) -> None:
        """Go on in a file that was put in the place of this one, if it begins as this one did."""
        self._refuse_other(self._file, self._taken)
        try:
            state, own = self._path.stat(), os.fstat(self._file)
        except FileNotFoundError:
            self._wait_for_another()
            return
        self._absent_since = None
        if (state.st_dev, state.st_ino) != (own.st_dev, own.st_ino):
            other = self._open_again()
            self.close()
            self._file = other

    def _wait_for_another(self) -> None:
        self._absent_since = self._absent_since or time.monotonic()
        if time.monotonic() - self._absent_since > _ABSENT_SECONDS:
            raise self._lost("it is no longer there")

    def _open_again(self) -> int:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"{self._uri} cannot be read: {error.strerror}") from error
        try:
            self._refuse_other(file, self._taken)
        except SourceLost:
            os.close(file)
            raise
        return file

    def _refuse_other(self, file: int, position: _Position) -> None:
        """Raise `SourceLost` if `file` is not one of which all up to `position` was taken."""
        size = os.fstat(file).st_size
        if size < self._read:
            raise self._lost(f"it has {size} bytes now")
        if position.offset and _witness(file, position.offset) != position.before:
            raise self._lost("other bytes are there now")

    def _lost(self, found: str) -> SourceLost:
        return SourceLost(
            f"{self._uri} was published up to byte {self._taken.offset}, but {found}: it was truncated or replaced. "
            "What the old one held behind that byte can still be ingested, if there is a copy of it; "
            "--from-beginning takes the file as it is now, from its first line"
        )


def _witness(file: int, offset: int) -> int:
    """A hash of the first and the last bytes before `offset`, in 48 bits."""
    span = min(_WITNESS, offset)
    seen = hashlib.blake2b(os.pread(file, span, 0), digest_size=6)
    seen.update(os.pread(file, span, offset - span))
    return int.from_bytes(seen.digest(), "big")
