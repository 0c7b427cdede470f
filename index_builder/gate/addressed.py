"""What the rows at some addresses hold: their document keys and ordinals, and how well they answer a query."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import split
from tierloom.reranking import exact_scores
from tierloom.shards.live import LiveShard


class AddressedRows:
    """Rows of these vector shards, by address."""

    def __init__(self, shards: Sequence[LiveShard]) -> None:
        self._shards = shards

    def keys(self, addresses: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The keys of the documents of these rows (n,)."""
        positions, rows = split(addresses)
        found = np.empty(len(addresses), np.uint64)
        for position in np.unique(positions):
            here = positions == position
            found[here] = self._shards[position].keys[rows[here]]
        return found

    def ordinals(self, addresses: NDArray[np.int64]) -> NDArray[np.int32]:
        """Where these rows (n,) are in their documents."""
        positions, rows = split(addresses)
        found = np.empty(len(addresses), np.int32)
        for position in np.unique(positions):
            here = positions == position
            found[here] = self._shards[position].shard.gather("ordinal", rows[here])
        return found

    def scores(self, addresses: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float64]:
        """The exact scores (n,) of these rows for a unit query (D,)."""
        positions, rows = split(addresses)
        found = np.empty(len(addresses))
        for position in np.unique(positions):
            here = positions == position
            found[here] = exact_scores(self._shards[position].shard.gather("vector", rows[here]), query)
        return found
