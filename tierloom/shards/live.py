"""A vector shard of a manifest together with which of its rows live."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.columns import ShardColumns
from tierloom.shards.deletion_vector import alive

T = TypeVar("T")

# A shard of a bucket costs some round trips, in which others can be asked.
_AT_ONCE: Final = 8

_KEPT_IDS: Final = 4096


class LiveShard:
    """A vector shard and the mask of its live rows, each fetched when it is first needed.

    Not with `cached_property`: up to Python 3.11 its lock is one for all shards, which would then come one by one.
    """

    def __init__(self, stored: VectorShard, files: ObjectFiles) -> None:
        self.stored = stored
        self._files = files
        self._alive: NDArray[np.bool_] | None = None
        self._keys: NDArray[np.uint64] | None = None
        self._known_ids: tuple[NDArray[np.int64], pa.ChunkedArray] | None = None

    def as_stored(self, stored: VectorShard) -> "LiveShard":
        """The same rows, of which others are dead; what is known of their columns comes along."""
        other = LiveShard(stored, self._files)
        other._keys, other._known_ids = self._keys, self._known_ids
        return other

    def without(self, rows: NDArray[np.int64]) -> "LiveShard":
        """As if these rows were dead too."""
        other = self.as_stored(self.stored)
        other._alive = self.alive.copy()
        other._alive[rows] = False
        return other

    @property
    def is_at_hand(self) -> bool:
        """Whether it is mapped here and was asked before: then threads only take longer."""
        return self._files.store.local and self._keys is not None

    @property
    def shard(self) -> ShardColumns:
        return self._files.shard(self.stored)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """bool (rows,)."""
        if self._alive is None:
            self._alive = alive(self.stored, self._files)
        return self._alive

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The keys of all rows (rows,), ascending: the shard is its own primary-key index."""
        if self._keys is None:
            self._keys = self.shard.column("key")
        return self._keys

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The live rows under any of `keys` (unique), ascending. Keys may collide: compare the ids."""
        begins = np.searchsorted(self.keys, keys, side="left")
        counts = np.searchsorted(self.keys, keys, side="right") - begins
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: NDArray[np.int64] = np.sort(np.repeat(begins, counts) + within)
        return rows[self.alive[rows]]

    def ids(self, rows: NDArray[np.int64]) -> pa.ChunkedArray:
        """The document ids of these rows, which ascend.

        Whoever compares documents asks what who settles them asks again: the last few are kept.
        """
        if (known := self._among_known(rows)) is not None:
            return known
        ids = self.shard.read(("document_id",), rows)["document_id"]
        if len(rows) <= _KEPT_IDS:
            self._known_ids = rows, ids
        return ids

    def _among_known(self, rows: NDArray[np.int64]) -> pa.ChunkedArray | None:
        if self._known_ids is None:
            return None
        known, ids = self._known_ids
        at = np.searchsorted(known, rows)
        if len(rows) and (at[-1] == len(known) or not np.array_equal(known[at], rows)):
            return None
        return ids.take(pa.array(at))


def of_each(work: Callable[..., T], shards: Sequence[LiveShard], *more: Sequence[Any]) -> list[T]:
    """`work` of each shard, and of what goes with it in `more`; the results in order. Several shards that are not at
    hand are waited for together."""
    every = list(zip(shards, *more, strict=True))
    away = [at for at, shard in enumerate(shards) if not shard.is_at_hand]
    opened = at_once(lambda at: work(*every[at]), away)
    under_way = dict(zip(away, opened, strict=True))
    return [under_way[at] if at in under_way else work(*one) for at, one in enumerate(every)]


def at_once(work: Callable[..., T], *arguments: Sequence[Any]) -> list[T]:
    """`work` of the first of all `arguments`, of the second ..., several at a time; the results in order.

    `work` must not call this itself.
    """
    return list(_pool().map(work, *arguments))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Kept: to start the threads takes longer than to ask some mapped shards."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="shards")


# Threads do not come along.
os.register_at_fork(after_in_child=_pool.cache_clear)
