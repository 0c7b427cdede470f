"""Reading the texts of a shard from its first row to its last: no row group is decoded twice, and one is held."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.shards.columns import ShardColumns
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE


class TextGroups:
    """The variable-width columns of a shard."""

    def __init__(self, shard: ShardColumns) -> None:
        self._shard = shard
        self._number = -1
        self._table = pa.table({})

    def read(self, rows: NDArray[np.int64]) -> pa.Table:
        """Those rows (ascending, at least one)."""
        groups = rows // ROW_GROUP_ROWS
        return pa.concat_tables([self._taken(number, rows[groups == number]) for number in np.unique(groups).tolist()])

    def _taken(self, number: int, rows: NDArray[np.int64]) -> pa.Table:
        begin = number * ROW_GROUP_ROWS
        if number != self._number:
            end = min(begin + ROW_GROUP_ROWS, self._shard.rows)
            self._number, self._table = number, self._shard.read(VARIABLE, np.arange(begin, end))
        return self._table.take(pa.array(rows - begin))
