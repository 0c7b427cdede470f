"""What names a document: rows, dead letters and entries of ledgers that are about one of some ids."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tierloom.dead_letter import DeadLetter
from tierloom.shards.columns import ShardColumns

# Under this note the shard of a block keeps the letters of its chunks that have no row.
BLOCK_NOTES: Final = "tierloom.block"
# Shorter ids are part of too much that is not about them.
_TELLING_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class Ids:
    """Documents that are to be erased, and how to find what is about them."""

    every: frozenset[str]
    _array: pa.Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_array", pa.array(sorted(self.every), pa.string()))

    def rows_of(self, shard: ShardColumns) -> NDArray[np.int64]:
        """The rows of these documents, dead ones too, ascending. Every id of the shard is looked at."""
        return np.flatnonzero(self.among(shard.read_all(("document_id",))["document_id"]))

    def among(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which entries of a column of strings are one of the ids: bool (n,)."""
        found: NDArray[np.bool_] = pc.is_in(column, value_set=self._array).to_numpy()
        return found

    def in_entries(self, files: pa.Table) -> NDArray[np.bool_]:
        """Which entries of the ledger of files are of one of these documents: bool (n,)."""
        return self.among(files["name"]) | self.among(files["document_id"])

    def letters_in_notes(self, shard: ShardColumns) -> list[DeadLetter]:
        """The letters about these documents that a block's shard carries. Raises `msgspec.ValidationError`."""
        notes = shard.notes(BLOCK_NOTES) or {}
        return [
            letter for letter in msgspec.convert(notes.get("letters", []), list[DeadLetter]) if self.in_letter(letter)
        ]

    def in_letter(self, letter: DeadLetter) -> frozenset[str]:
        """The ids that a letter is about, or that are in the record which it holds."""
        said = {letter.document_id, letter.source}
        if (record := letter.record) is not None:
            text = base64.b64decode(record.data).decode(errors="replace") if record.base64 else record.data
            said |= {record.key, *self._in_record(text)}
        return self.every.intersection(id_ for id_ in said if id_ is not None)

    def said_in(self, data: bytes) -> bool:
        """Whether the characters of an id that is long enough to tell are anywhere in some JSON."""
        telling = [id_ for id_ in self.every if len(id_.encode()) >= _TELLING_BYTES]
        return any(spelled in data for id_ in telling for spelled in _spellings(id_))

    def _in_record(self, record: str) -> frozenset[str]:
        """The ids that a record has as values, or, where it is not JSON, in quotation marks."""
        try:
            return self.every.intersection(_values(json.loads(record)))
        except (ValueError, RecursionError):
            return frozenset(id_ for id_ in self.every if f'"{id_}"' in record or json.dumps(id_) in record)


def _spellings(document_id: str) -> set[bytes]:
    """An id as JSON may spell it, without quotation marks."""
    return {json.dumps(document_id, ensure_ascii=ascii_only)[1:-1].encode() for ascii_only in (True, False)}


def _values(value: Any) -> Iterator[str]:
    """Every string in a JSON value, and every integer as an id would spell it."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _values(member)
    elif isinstance(value, list):
        for member in value:
            yield from _values(member)
    elif isinstance(value, str | int):
        yield str(value)
