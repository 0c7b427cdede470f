"""Tombstones: deletions that are remembered, so that a late, older event cannot bring a document back.

A document is remembered by the 128-bit hash of its id, never by the id: what was deleted is not kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom import names
from tierloom.document import DOCUMENT_HASH_BYTES, document_hash, document_key
from tierloom.ledger import Ledger
from tierloom.manifest import LedgerPart
from tierloom.object_files import ObjectFiles

TOMBSTONES: Final = Ledger(
    pa.schema(
        [
            pa.field("name", pa.binary(DOCUMENT_HASH_BYTES), nullable=False),
            pa.field("sequence", pa.int64(), nullable=False),
            pa.field("noted", pa.int64(), nullable=False),
            # `document_key`, by which the rows of shards are sorted.
            pa.field("key", pa.uint64(), nullable=False),
        ]
    ),
    names.tombstones,
)


class Tombstones:
    """The remembered deletions of one version, read when they are first asked for."""

    def __init__(self, parts: Sequence[LedgerPart] = (), files: ObjectFiles | None = None) -> None:
        self._parts = parts
        self._files = files

    def under(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Those of `keys` that some deleted document has. Keys may collide: ask for the id."""
        return np.intersect1d(keys, self._table["key"].to_numpy())

    def sequence_of(self, document_id: str) -> int | None:
        """The sequence of the document's newest remembered deletion."""
        return self._sequences.get(document_hash(document_id))

    @cached_property
    def _table(self) -> pa.Table:
        if self._files is None:
            return TOMBSTONES.schema.empty_table()
        return TOMBSTONES.read(self._parts, self._files)

    @cached_property
    def _sequences(self) -> Mapping[bytes, int]:
        return dict(zip(self._table["name"].to_pylist(), self._table["sequence"].to_pylist(), strict=True))


def tombstone_entries(deletions: Iterable[tuple[str, int]], noted: int) -> pa.Table:
    """Entries for the deletions of (document_id, sequence), noted now (seconds since 1970)."""
    every = list(deletions)
    columns = {
        "name": [document_hash(document_id) for document_id, _ in every],
        "sequence": [sequence for _, sequence in every],
        "noted": [noted] * len(every),
        "key": [document_key(document_id) for document_id, _ in every],
    }
    return pa.table(columns, schema=TOMBSTONES.schema)
