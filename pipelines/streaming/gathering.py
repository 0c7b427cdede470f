"""Gathering micro-batches: as many changes as have come, within bounds.

Nothing is taken while a batch is worked on: what comes meanwhile waits in its source, and makes the next one larger.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tierloom.collection import Collection
from tierloom.document import Document
from tierloom.seen_files import SeenFile
from transforms.streams.stream import Batch, Change, ChangeStream

# Taken at a time: by so much a batch may exceed its bytes.
_SLICE: Final = 256
# An upper bound of what an idle stream takes to notice that it is to stop.
IDLE_SECONDS: Final = 0.5
_BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most `changes` and about the most `bytes` of text of a batch; the fewest `seconds` between two of them."""

    changes: int
    bytes: int
    seconds: float


def bounds_of(collection: Collection, changes: int, seconds: float) -> Bounds:
    """Bounds that keep a batch to about one block: a stream that is killed pays for one batch again."""
    block, tokens = collection.sizes.block_chunks, collection.chunking.max_tokens
    return Bounds(min(changes, block), block * tokens * _BYTES_PER_TOKEN, seconds)


@dataclass(frozen=True, slots=True)
class Gathered:
    """A batch, and whether its source has ended with it."""

    batch: Batch
    ended: bool = False


class Gatherer:
    """Takes batches from one stream."""

    def __init__(self, stream: ChangeStream, bounds: Bounds, stopping: Callable[[], bool]) -> None:
        self._stream = stream
        self._bounds = bounds
        self._stopping = stopping
        self._due = 0.0

    def next(self) -> Gathered:
        """The next batch; empty when nothing came for a while, or the stream is to stop."""
        parts = _Parts()
        while not (self._is_full(parts) or self._stopping()):
            asked = min(_SLICE, self._bounds.changes - parts.count)
            taken = self._stream.take(asked, self._patience(parts))
            if taken is None:
                return Gathered(parts.joined(), ended=True)
            parts.add(taken)
            if not parts.count or (len(taken.changes) < asked and time.monotonic() >= self._due):
                break
        if parts.count:
            self._due = time.monotonic() + self._bounds.seconds
        return Gathered(parts.joined())

    def _patience(self, parts: "_Parts") -> float:
        """Seconds to wait for more."""
        return max(0.0, min(IDLE_SECONDS, self._due - time.monotonic())) if parts.count else IDLE_SECONDS

    def _is_full(self, parts: "_Parts") -> bool:
        return parts.count >= self._bounds.changes or parts.bytes >= self._bounds.bytes


class _Parts:
    """Consecutive batches that are to be one."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._files: list[SeenFile] = []
        self._positions: Mapping[str, int] | None = None
        self.bytes = 0

    @property
    def count(self) -> int:
        return len(self._changes)

    def add(self, taken: Batch) -> None:
        self._changes += taken.changes
        self._files += taken.files
        self._positions = self._positions if taken.positions is None else taken.positions
        self.bytes += sum(len(change.event.text) for change in taken.changes if isinstance(change.event, Document))

    def joined(self) -> Batch:
        return Batch(tuple(self._changes), self._positions, tuple(self._files))
