"""Rows of one fixed-width column in many mapped shards, gathered at once.

A shortlist is spread over all vector shards of a version. To gather from one after the other costs more, from a dozen
on, than the search that found it. So one array is laid over the memory that the shards are mapped in: an overlapping
element for each byte from the first shard's first to the last one's last. Gathering is indexing it once, whatever the
number of shards. Between the shards lies other memory: only addresses that come from the shards' own layouts are
ever used, and every row is checked against the number of rows of its shard.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierloom.shards.columns import ColumnPlace, ShardColumns


class _Memory:
    """Elements of `width` bytes at every address from `begin` to `end` (exclusive). Holds what is mapped there."""

    def __init__(self, shards: Sequence[ShardColumns], begin: int, end: int, width: int) -> None:
        self._shards = tuple(shards)
        self.__array_interface__ = {
            "data": (begin, True),
            "shape": (end - begin - width + 1,),
            "typestr": f"|V{width}",
            "strides": (1,),
            "version": 3,
        }


class MappedRows:
    """One column of some shards (at least one), by shard and row."""

    def __init__(self, name: str, shards: Sequence[ShardColumns]) -> None:
        places = [shard.place_of_column(name) for shard in shards]
        self._dtype, self._shape = places[0].dtype, places[0].shape
        self._width = places[0].width
        self._begin = min(place.begin for place in places)
        self._memory = np.asarray(_Memory(shards, self._begin, max(place.end for place in places), self._width))
        self._rows = np.array([shard.rows for shard in shards], dtype=np.int64)
        self._firsts = np.concatenate([[0], np.cumsum(self._rows)[:-1]])
        # A row group's payload begins at `offsets[group] + width * first row`, rows counted over all shards.
        self._first_rows, self._offsets = _by_group(places, self._firsts, self._width, self._begin)

    def gather(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows (n, ...) at these places, in their order. Raises `IndexError` for a row that is not there."""
        if len(rows) and ((rows >= self._rows[shards]) | (rows < 0)).any():
            raise IndexError("a row was asked for that its vector shard does not have")
        counted = self._firsts[shards] + rows
        groups = np.searchsorted(self._first_rows, counted, side="right") - 1
        stored = self._memory[self._offsets[groups] + counted * self._width]
        gathered: NDArray[Any] = stored.view(self._dtype).reshape(len(rows), *self._shape)
        return gathered


def _by_group(
    places: Sequence[ColumnPlace], firsts: NDArray[np.int64], width: int, begin: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first_rows = [first + place.first_rows for place, first in zip(places, firsts, strict=True)]
    payloads = [place.payloads - begin for place in places]
    counted: NDArray[np.int64] = np.concatenate(first_rows)
    offsets: NDArray[np.int64] = np.concatenate(payloads) - counted * width
    return counted, offsets
