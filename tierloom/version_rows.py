"""The rows of all vector shards of one version, taken together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierloom.described_rows import DescribedRows
from tierloom.shards.live import LiveShard, at_once


class VersionRows:
    """Rows by their addresses: the position of the vector shard in the manifest, and the row in it."""

    def __init__(self, shards: Sequence[LiveShard], described: DescribedRows) -> None:
        self.shards = shards
        self._described = described
        self._firsts = np.cumsum([0, *(live.stored.rows for live in shards)], dtype=np.int64)[:-1]
        self._mask: NDArray[np.bool_] | None = None
        self._all_live = not any(live.stored.deletes for live in shards)

    def lives(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which of these rows live, bool (n,); None when every row of the version does."""
        if self._all_live:
            return None
        if self._mask is None:
            self._mask = np.concatenate([live.alive for live in self.shards])
        lives: NDArray[np.bool_] = self._mask[self._firsts[shards] + rows]
        return lives

    def gather(self, name: str, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[Any]:
        """These rows of a fixed-width column, as `ShardColumns.gather` has them; those of one shard lie together."""
        if not len(rows):
            raise ValueError("no rows were asked for")
        begins = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
        parts = [
            self.shards[int(shards[begin])].shard.gather(name, rows[begin:end])
            for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def keys(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The keys of these rows (n,), in any order of shards."""
        keys = np.empty(len(rows), np.uint64)
        for position in np.unique(shards).tolist():
            here = shards == position
            keys[here] = self.shards[position].shard.gather("key", rows[here])
        return keys

    def name(self, shard: int, row: int) -> tuple[str, int]:
        """The document id and the ordinal of a row."""
        return self._described.name(self.shards[shard].shard, row)

    def text(self, shard: int, row: int) -> tuple[str, str, str]:
        """The heading, the text and the metadata (JSON) of a row."""
        return self._described.text(self.shards[shard].shard, row)

    def open(self) -> None:
        """Map every shard, and know which rows live. Raises what is wrong with any of them."""
        at_once(_open, self.shards)


def _open(live: LiveShard) -> None:
    _ = live.shard, live.alive, live.keys
