"""A vector shard of a manifest together with which of its rows live."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tierloom.deletion_vector import alive
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shard_columns import ShardColumns


class LiveShard:
    """A vector shard and the mask of its live rows, each fetched when it is first needed."""

    def __init__(self, stored: VectorShard, files: ObjectFiles) -> None:
        self.stored = stored
        self._files = files

    @cached_property
    def shard(self) -> ShardColumns:
        return self._files.shard(self.stored)

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """bool (rows,)."""
        return alive(self.stored, self._files)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """The keys of all rows (rows,), ascending: the shard is its own primary-key index."""
        return self.shard.column("key")

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The live rows under any of `keys` (unique), ascending. Keys may collide: compare the ids."""
        begins = np.searchsorted(self.keys, keys, side="left")
        counts = np.searchsorted(self.keys, keys, side="right") - begins
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: NDArray[np.int64] = np.sort(np.repeat(begins, counts) + within)
        return rows[self.alive[rows]]
