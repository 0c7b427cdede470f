"""The rows of all vector shards of one version, taken together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierloom.described_rows import DescribedRows
from tierloom.mapped_rows import MappedRows
from tierloom.shards.columns import ShardColumns
from tierloom.shards.live import LiveShard, at_once


class VersionRows:
    """Rows by their addresses: the position of the vector shard in the manifest, and the row in it."""

    def __init__(self, shards: Sequence[LiveShard], described: DescribedRows | None = None) -> None:
        """`described` keeps what was decoded of their texts for other versions too."""
        self.shards = shards
        self._described = described or DescribedRows()
        self._columns: dict[str, MappedRows] = {}
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
        """These rows of a fixed-width column, in their order, as `ShardColumns.gather` has them; at least one."""
        if (column := self._columns.get(name)) is None:
            opened = at_once(_shard_of, self.shards)
            column = self._columns.setdefault(name, MappedRows(name, opened))
        return column.gather(shards, rows)

    def name(self, shard: int, row: int) -> tuple[str, int]:
        """The document id and the ordinal of a row."""
        return self._described.name(self.shards[shard].shard, row)

    def text(self, shard: int, row: int) -> tuple[str, str, str]:
        """The heading, the text and the metadata (JSON) of a row."""
        return self._described.text(self.shards[shard].shard, row)

    def open(self) -> None:
        """Map every shard, and know which rows live. Raises what is wrong with any of them."""
        at_once(_open, self.shards)


def _shard_of(live: LiveShard) -> ShardColumns:
    return live.shard


def _open(live: LiveShard) -> None:
    _ = live.shard, live.alive, live.keys
