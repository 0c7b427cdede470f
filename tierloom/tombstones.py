"""Tombstones: deletions that are remembered, so that a late, older event cannot bring a document back.

A document is remembered by the 128-bit hash of its id, never by the id: what was deleted is not kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

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


@dataclass(frozen=True, slots=True)
class _Part:
    """The columns of one part (n,), sorted by key; `names` as opaque bytes."""

    keys: NDArray[np.uint64]
    names: NDArray[np.void]
    sequences: NDArray[np.int64]

    def under(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the keys some deletion of this part has."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found: NDArray[np.bool_] = self.keys[at] == keys
        return found

    def sequence_of(self, key: int, name: bytes) -> int | None:
        first, last = (
            np.searchsorted(self.keys, np.uint64(key), "left"),
            np.searchsorted(self.keys, np.uint64(key), "right"),
        )
        found = [int(self.sequences[at]) for at in range(first, last) if self.names[at].tobytes() == name]
        return max(found, default=None)


class Tombstones:
    """The remembered deletions of one version, read when they are first asked for.

    A part that several versions have is read once: asking takes the logarithm of what is remembered.
    """

    def __init__(self, parts: Sequence[LedgerPart] = (), files: ObjectFiles | None = None) -> None:
        self._parts = parts
        self._files = files

    def under(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Those of `keys` that some deleted document has. Keys may collide: ask for the id."""
        found = np.zeros(len(keys), dtype=np.bool_)
        for part in self._opened():
            found |= part.under(keys)
        return keys[found]

    def sequence_of(self, document_id: str) -> int | None:
        """The sequence of the document's newest remembered deletion."""
        if not self._parts:
            return None
        key, name = document_key(document_id), document_hash(document_id)
        found = (part.sequence_of(key, name) for part in self._opened())
        return max((sequence for sequence in found if sequence is not None), default=None)

    def _opened(self) -> list[_Part]:
        return [_open_part(part, self._files) for part in self._parts] if self._files else []


# More parts than a ledger of any size has.
@lru_cache(maxsize=64)
def _open_part(part: LedgerPart, files: ObjectFiles) -> _Part:
    table = TOMBSTONES.read([part], files)
    keys = table["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    return _Part(keys[order], _fixed_width(table["name"])[order], table["sequence"].to_numpy()[order])


def _fixed_width(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    return np.frombuffer(
        values.buffers()[1], f"V{DOCUMENT_HASH_BYTES}", len(values), values.offset * DOCUMENT_HASH_BYTES
    )


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
