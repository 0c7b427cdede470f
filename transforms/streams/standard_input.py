"""Standard input as a stream: one change a line, until it ends."""

import os
import select
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from tierloom.document import Origin
from tierloom.seen_files import SeenFile
from transforms.reading.jsonl import Line
from transforms.reading.records import Fields
from transforms.streams.lines import Lines, line_event
from transforms.streams.stream import Batch, Change

STANDARD_INPUT: Final = "-"
_BLOCK: Final = 1 << 20


class StandardInput:
    """Lines of JSON. There is no position to go on from: what was taken and not published is not read again.

    A record without a sequence has the time at which it was read, in nanoseconds since 1970.
    """

    def __init__(self, fields: Fields, descriptor: int | None = None) -> None:
        self._fields = fields
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._lines = Lines()
        self._waiting: deque[Line] = deque()
        self._ended = False
        self._sequence = 0
        # What is read now came after the last time that nothing was there.
        self._emptied = time.time()

    @property
    def source(self) -> str:
        return STANDARD_INPUT

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        self._emptied = time.time()

    def take(self, limit: int, seconds: float) -> Batch | None:
        until = time.monotonic() + seconds
        while not self._waiting and not self._ended:
            if not self._is_readable(max(until - time.monotonic(), 0)):
                return Batch(())
            self._read()
        if not self._waiting:
            return None
        return Batch(tuple(self._changes(limit)))

    def published(self, batch: Batch) -> None:
        """There is nobody to tell."""

    def behind(self) -> int | None:
        return None

    def close(self) -> None:
        """Standard input belongs to the process."""

    def _is_readable(self, seconds: float) -> bool:
        if not select.select([self._descriptor], [], [], 0)[0]:
            self._emptied = time.time()
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def _read(self) -> None:
        data = os.read(self._descriptor, _BLOCK)
        self._ended = not data
        lines = self._lines.feed(data) if data else self._lines.rest()
        self._waiting.extend(line for line in lines if not line.is_blank)

    def _changes(self, limit: int) -> list[Change]:
        return [self._change(self._waiting.popleft()) for _ in range(min(limit, len(self._waiting)))]

    def _change(self, line: Line) -> Change:
        self._sequence = max(time.time_ns(), self._sequence + 1)
        origin = Origin(STANDARD_INPUT, line.offset, line.length)
        return Change(line_event(line, self._fields, origin, self._sequence, keep=True), self._emptied)
