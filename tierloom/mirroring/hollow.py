"""Vector shards without their full vectors: all of the file but a hole, so that any Parquet reader reads the rest.

Without the whole file its sha256 tells nothing. What is checked instead: the footer, by the sha256 in the manifest, and
every other column by its checksums in the footer (`tierloom.shards.paged`); the file that comes of it has a sha256 of
its own, which the mirror notes, and whoever opens it checks that.
"""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tierloom.errors import NotPulled
from tierloom.manifest import VectorShard
from tierloom.shards.layout import Spans
from tierloom.shards.mapped import MappedShard, WholeFile
from tierloom.shards.paged import PagedShard

HOLE = "vector"

Read = Callable[[int, int], bytes]


class HollowShard(MappedShard):
    """A vector shard in a local file whose full vectors were not pulled: to ask for them raises `NotPulled`."""

    def __init__(self, path: Path, name: str, refusal: NotPulled) -> None:
        self._refusal = refusal
        super().__init__(path, name)

    def _need_pages(self, name: str, groups: NDArray[np.int64]) -> None:
        self._refuse_hole(name)

    def _need_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        self._refuse_hole(name)

    def _refuse_hole(self, name: str) -> None:
        if name == HOLE:
            raise NotPulled(str(self._refusal))


class _Filling:
    """The pages of a new file: ranges are read with `read(offset, length)`, and written where they belong."""

    def __init__(self, stored: VectorShard, path: Path, read: Read, piece: int) -> None:
        self._path, self._read, self._piece = path, read, piece
        self._filled = False
        with path.open("wb") as file:
            file.truncate(stored.bytes)
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def fill(self, spans: Spans) -> None:
        if self._filled:
            return
        with self._path.open("r+b", buffering=0) as file:
            for begin, end in zip(spans.begins.tolist(), spans.ends.tolist(), strict=True):
                for at in range(begin, end, self._piece):
                    file.seek(at)
                    _write_all(file.write, self._read(at, min(self._piece, end - at)))

    def finish(self) -> None:
        """All that is wanted is there."""
        self._filled = True


def fetch_hollow(stored: VectorShard, path: Path, read: Read, piece: int) -> None:
    """Write the shard to `path`, all but its full vectors, in ranges of at most `piece` bytes, and check it.

    Raises `Corrupt`, `Malformed`, and what `read` does.
    """
    pages = _Filling(stored, path, read, piece)
    shard = PagedShard(stored, pages)
    shard.fill_outside(HOLE)
    pages.finish()
    shard.check()


def check_hollow(stored: VectorShard, path: Path) -> None:
    """Check all of a local file but its full vectors. Raises `Corrupt` or `Malformed`."""
    PagedShard(stored, WholeFile(stored, path)).check()


def hole_bytes(stored: VectorShard, dimensions: int) -> int:
    """How much shorter a hollow shard is to fetch."""
    return min(stored.bytes, stored.rows * 2 * dimensions)


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    """A system call may take only a part."""
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]
