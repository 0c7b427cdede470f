"""A local copy of a remote object that holds only what was asked of it."""

import mmap
import os
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.errors import Corrupt, NotFound
from tierloom.shards.layout import Spans
from tierloom.stored_object import StoredObject
from tierloom.stores.file_failures import explained
from tierloom.stores.store import Store

# What is fetched is remembered by blocks of this size: a full vector is less than one.
BLOCK: Final = 4096
# A request to a bucket takes 30 to 100 ms, in which a worker receives some megabytes: what lies between two wanted
# ranges is fetched along with them when it is shorter than this, and a longer range than `_PIECE` is cut.
_GAP: Final = 128 << 10
_PIECE: Final = 4 << 20
_REQUESTS: Final = 8


class PartialCopy:
    """A sparse file in `folder` as long as the object. Safe to use from several threads.

    `map` shows its bytes; those that were never asked for read as zeros. The file has no name: it goes with its
    process. Raises `NotFound`, `StoreError`, or `Corrupt` when the object has not the length that the manifest
    states. A part of an object cannot be checked against the sha256 of the whole.
    """

    def __init__(self, stored: StoredObject, store: Store, folder: Path) -> None:
        self._stored, self._store, self._folder = stored, store, folder
        _check_length(stored, store)
        with explained(folder):
            self._descriptor, self.map = _nameless(folder, stored.bytes)
        weakref.finalize(self, os.close, self._descriptor)
        self._present = np.zeros(-(-stored.bytes // BLOCK), dtype=np.bool_)
        self._fetching = threading.Lock()

    def fill(self, spans: Spans) -> None:
        """Have the bytes of these ranges, which lie within the object, in `map`: in few requests, many at a time."""
        with self._fetching:
            missing = _blocks_of(spans, len(self._present)) & ~self._present
            if not missing.any():
                return
            begins, ends = _requests(missing)
            with ThreadPoolExecutor(min(_REQUESTS, len(begins)), thread_name_prefix="ranges") as pool:
                for _ in pool.map(self._fetch, begins.tolist(), ends.tolist()):
                    pass

    def _fetch(self, begin: int, end: int) -> None:
        """The blocks from `begin` up to `end`."""
        offset = begin * BLOCK
        data = self._store.read_range(self._stored.path, offset, min(end * BLOCK, self._stored.bytes) - offset)
        with explained(self._folder):
            _write_at(self._descriptor, offset, data)
        self._present[begin:end] = True


def _check_length(stored: StoredObject, store: Store) -> None:
    length = store.size(stored.path)
    if length is None:
        raise NotFound(f"no object {stored.path} in {store.url}")
    if length != stored.bytes:
        raise Corrupt(f"{stored.path}: {length} bytes, but the manifest states {stored.bytes}")


def _nameless(folder: Path, length: int) -> tuple[int, mmap.mmap]:
    """A file of zeros that takes no room yet, and the view of it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(length)
        return os.dup(file.fileno()), mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)


def _blocks_of(spans: Spans, blocks: int) -> NDArray[np.bool_]:
    """Which blocks any of the ranges touches."""
    depth = np.zeros(blocks + 1, dtype=np.int64)
    np.add.at(depth, spans.begins // BLOCK, 1)
    np.add.at(depth, -(-spans.ends // BLOCK), -1)
    return np.cumsum(depth)[:-1] > 0


def _requests(missing: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of blocks to ask for: the missing ones (at least one), with short gaps between them, in pieces."""
    blocks = np.flatnonzero(missing)
    far = np.diff(blocks) > _GAP // BLOCK
    begins, ends = blocks[np.insert(far, 0, True)], blocks[np.append(far, True)] + 1
    pieces = -(-(ends - begins) * BLOCK // _PIECE)
    part = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(begins, pieces) + part * (_PIECE // BLOCK)
    return starts, np.minimum(starts + _PIECE // BLOCK, np.repeat(ends, pieces))


def _write_at(descriptor: int, offset: int, data: bytes) -> None:
    """Write it all: a system call may take only a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
