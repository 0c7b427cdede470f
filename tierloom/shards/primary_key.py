"""Finding documents: the shards are their own primary-key index."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    for position, rows in enumerate(of_each(partial(_rows_under, keys=_wanted(keys)), shards)):
        for document_id, row, sequence in rows:
            if document_id in keys:
                found.setdefault(document_id, []).append(Address(position, row, sequence))
    return found


def live_sequences(shards: Sequence[LiveShard], keys: Mapping[str, int]) -> dict[str, int]:
    """The highest sequence at which each of these documents lives, given their keys; nothing of those that do not."""
    newest: dict[str, int] = {}
    for events in of_each(partial(_events_under, keys=_wanted(keys)), shards):
        for document_id, sequence in events:
            if document_id in keys:
                newest[document_id] = max(sequence, newest.get(document_id, sequence))
    return newest


def _wanted(keys: Mapping[str, int]) -> NDArray[np.uint64]:
    return np.unique(np.fromiter(keys.values(), dtype=np.uint64, count=len(keys)))


def _events_under(shard: LiveShard, keys: NDArray[np.uint64]) -> Iterable[tuple[str, int]]:
    """Every document with live rows under any of these keys, and a sequence of its; more than once where keys meet.

    The rows of a document lie together: one of them is looked at, not each.
    """
    rows = shard.rows_of(keys)
    if not len(rows):
        return ()
    ids = pa.concat_arrays(shard.ids(rows).chunks)
    others = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    first = np.concatenate([[0], np.flatnonzero(others) + 1])
    sequences = np.maximum.reduceat(shard.shard.gather("sequence", rows), first)
    return zip(ids.take(pa.array(first)).to_pylist(), sequences.tolist(), strict=True)


def _rows_under(shard: LiveShard, keys: NDArray[np.uint64]) -> Iterable[tuple[str, int, int]]:
    """The document, row and sequence of each live row under any of these keys."""
    rows = shard.rows_of(keys)
    if not len(rows):
        return ()
    ids = shard.ids(rows).to_pylist()
    return zip(ids, rows.tolist(), shard.shard.gather("sequence", rows).tolist(), strict=True)
