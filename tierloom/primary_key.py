"""Finding documents: the shards are their own primary-key index."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tierloom.live_shard import LiveShard


class Address(NamedTuple):
    """One live row: position of its shard, row in it, and the sequence of its document."""

    shard: int
    row: int
    sequence: int


def find_documents(shards: Sequence[LiveShard], keys: Mapping[str, int]) -> dict[str, list[Address]]:
    """The live rows of documents, given the key of each `document_id`. Colliding keys are told apart by id."""
    found: dict[str, list[Address]] = {}
    wanted = np.unique(np.fromiter(keys.values(), dtype=np.uint64, count=len(keys)))
    for position, shard in enumerate(shards):
        rows = shard.rows_of(wanted)
        if not len(rows):
            continue
        ids = shard.shard.read(("document_id",), rows)["document_id"].to_pylist()
        sequences = shard.shard.gather("sequence", rows)
        for document_id, row, sequence in zip(ids, rows.tolist(), sequences.tolist(), strict=True):
            if document_id in keys:
                found.setdefault(document_id, []).append(Address(position, row, sequence))
    return found
