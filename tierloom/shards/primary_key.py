"""Finding documents: the shards are their own primary-key index."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tierloom.shards.live import LiveShard, of_each


class Address(NamedTuple):
    """One live row: position of its shard, row in it, and the sequence of its document."""

    shard: int
    row: int
    sequence: int


def find_documents(shards: Sequence[LiveShard], keys: Mapping[str, int]) -> dict[str, list[Address]]:
    """The live rows of documents, given the key of each `document_id`. Colliding keys are told apart by id."""
    found: dict[str, list[Address]] = {}
    wanted = np.unique(np.fromiter(keys.values(), dtype=np.uint64, count=len(keys)))
    for position, rows in enumerate(of_each(partial(_rows_under, keys=wanted), shards)):
        for document_id, row, sequence in rows:
            if document_id in keys:
                found.setdefault(document_id, []).append(Address(position, row, sequence))
    return found


def _rows_under(shard: LiveShard, keys: NDArray[np.uint64]) -> Iterable[tuple[str, int, int]]:
    """The document, row and sequence of each live row under any of these keys."""
    rows = shard.rows_of(keys)
    if not len(rows):
        return ()
    ids = shard.ids(rows).to_pylist()
    return zip(ids, rows.tolist(), shard.shard.gather("sequence", rows).tolist(), strict=True)
