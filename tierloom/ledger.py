"""Ledgers: what is remembered by name, in immutable Parquet parts; of several entries the highest sequence holds.

A manifest names the parts of a ledger in order. New entries make a new part; parts that are not larger than what
comes in are merged into it, so their number stays logarithmic, and an entry is written a logarithmic number of
times (O'Neil et al., The Log-Structured Merge-Tree, 1996). Of equal sequences the earlier entry holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tierloom.digest import bytes_digest
from tierloom.errors import Malformed
from tierloom.manifest import LedgerPart
from tierloom.object_files import ObjectFiles
from tierloom.stores.store import Store

_GROWTH: Final = 2


@dataclass(frozen=True, slots=True)
class Ledger:
    """One kind of ledger: its columns, and what its parts are called by their digest.

    Every ledger has `name` (what an entry is remembered by), `sequence` (int64) and `noted` (int64: when it was
    noted, in seconds since 1970).
    """

    schema: pa.Schema
    path_of: Callable[[str], str]

    def read(self, parts: Sequence[LedgerPart], files: ObjectFiles) -> pa.Table:
        """The entries that hold, in no order. Raises `Corrupt` or `Malformed`."""
        return self._holding([self._read_part(part, files) for part in parts])

    def add(
        self, parts: Sequence[LedgerPart], entries: pa.Table, store: Store, files: ObjectFiles, forget_before: int = 0
    ) -> tuple[LedgerPart, ...]:
        """The parts with these entries added, and stored. Idempotent: parts are named by their content.

        A part whose every entry was noted before `forget_before` (seconds since 1970) is left out, as are such
        entries wherever parts are merged.
        """
        kept = [part for part in parts if part.noted_until >= forget_before]
        if not len(entries):
            return tuple(kept)
        merged = [entries]
        while kept and kept[-1].entries <= _GROWTH * sum(map(len, merged)):
            merged.insert(0, self._read_part(kept.pop(), files))
        held = self._holding(merged)
        held = held.filter(pc.greater_equal(held["noted"], forget_before))
        return (*kept, self.store_part(held, store)) if len(held) else tuple(kept)

    def store_part(self, entries: pa.Table, store: Store) -> LedgerPart:
        """Store entries (at least one) as a part."""
        sink = pa.BufferOutputStream()
        pq.write_table(entries.cast(self.schema), sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        sha256 = bytes_digest(data)
        store.create(self.path_of(sha256[:40]), data)
        return LedgerPart(
            path=self.path_of(sha256[:40]),
            bytes=len(data),
            sha256=sha256,
            entries=len(entries),
            noted_until=max(0, pc.max(entries["noted"]).as_py()),
        )

    def _read_part(self, part: LedgerPart, files: ObjectFiles) -> pa.Table:
        return read_part(files.path(part), part.path, self.schema)

    def _holding(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Of each name the entry of the highest sequence, the first of equal ones."""
        every = pa.concat_tables([self.schema.empty_table(), *tables]).combine_chunks()
        if not len(every):
            return every
        # As numbers, which sort ten times as fast as the names.
        name = every["name"].combine_chunks().dictionary_encode().indices.to_numpy()
        age, falling = np.arange(len(every)), ~every["sequence"].to_numpy()
        order = np.lexsort((age, falling, name))
        first = np.flatnonzero(np.diff(name[order], prepend=-1))
        return every.take(pa.array(np.sort(order[first])))


def read_part(path: Path, name: str, schema: pa.Schema) -> pa.Table:
    """The entries of a part whose bytes were verified. Raises `Malformed`."""
    try:
        table = pq.read_table(path, memory_map=True, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise Malformed(f"{name}: not a Parquet file: {error}") from error
    if not table.schema.equals(schema):
        raise Malformed(f"{name}: its columns are not those of this ledger: {table.schema.names}")
    return table
