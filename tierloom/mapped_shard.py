"""Reading vector shards: the fixed-width columns are mapped and addressed by arithmetic, never decoded."""

import json
import mmap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tierloom.errors import Malformed
from tierloom.shard_schema import VARIABLE, ShardSchema, plain_page_header

_SCALARS = {"ordinal": "<i4", "sequence": "<i8", "key": "<u8"}
_ROWS = {"content_hash": "u1", "prefix": "i1", "vector": "<f2"}
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in (_SCALARS | _ROWS).items()}


class MappedShard:
    """A vector shard in a local file. Safe to use from several threads.

    Raises `Malformed` when the file is not laid out as `tierloom.shard_schema` says. Its bytes are trusted:
    check length and sha256 against the manifest first.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or path.name
        try:
            self._parquet = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise Malformed(f"{self.name}: not a Parquet file: {error}") from error
        self._footer = self._parquet.metadata
        self.schema = ShardSchema.from_notes(self._footer.metadata, self.name)
        self.rows: int = self._footer.num_rows
        self._refuse_other_columns()
        self._map = _map(path)
        group_rows = [self._footer.row_group(group).num_rows for group in range(self._footer.num_row_groups)]
        self._first_rows = np.concatenate([[0], np.cumsum(group_rows, dtype=np.int64)])
        self._payloads = {name: self._locate(name, width) for name, width in self.schema.widths.items()}
        self._decoding = threading.Lock()

    def notes(self, name: str) -> Any:
        """A JSON value that the writer left in the file's metadata; None if there is none. Raises `Malformed`."""
        stored = (self._footer.metadata or {}).get(name.encode())
        try:
            return None if stored is None else json.loads(stored)
        except ValueError as error:
            raise Malformed(f"{self.name}: its note {name!r} is not JSON: {error}") from error

    def column(self, name: str) -> NDArray[Any]:
        """A whole fixed-width column: a mapped view of a shard with one row group, else a copy.

        `ordinal`, `sequence`, `key`: (rows,). `content_hash` uint8 (rows, 16), `prefix` int8 (rows, P).
        """
        groups = [self._segment(name, group) for group in range(len(self._first_rows) - 1)]
        return groups[0] if len(groups) == 1 else np.concatenate(groups)

    def gather(self, name: str, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The given rows of a fixed-width column, as `column` shapes them; `vector` is float16 (n, D).

        Raises `IndexError` for a row that the shard does not have.
        """
        rows = self._own_rows(rows)
        width = self.schema.widths[name]
        group = np.searchsorted(self._first_rows, rows, side="right") - 1
        addresses = self._payloads[name][group] + (rows - self._first_rows[group]) * width
        # One overlapping element per byte of the file: indexing it is a memcpy a row.
        every_offset = np.ndarray((len(self._map) - width + 1,), f"V{width}", self._map, strides=(1,))
        return self._shaped(name, every_offset[addresses])

    def read(self, columns: Sequence[str], rows: NDArray[np.integer[Any]]) -> pa.Table:
        """The given rows of variable-width columns (`document_id`, `heading`, `text`, `metadata`), in order.

        Decodes each row group that holds one of them. Raises `IndexError` for a row that the shard does not have.
        """
        rows = self._own_rows(rows)
        group_of_row = np.searchsorted(self._first_rows, rows, side="right") - 1
        groups, position = np.unique(group_of_row, return_inverse=True)
        sizes = np.diff(self._first_rows)[groups]
        begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        with self._decoding:
            table = self._parquet.read_row_groups(groups.tolist(), columns=list(columns), use_threads=False)
        return table.take(pa.array(begins[position] + rows - self._first_rows[group_of_row]))

    def read_all(self, columns: Sequence[str] = VARIABLE) -> pa.Table:
        """Whole variable-width columns, decoded."""
        with self._decoding:
            return self._parquet.read(columns=list(columns), use_threads=False)

    def _own_rows(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.rows):
            raise IndexError(f"{self.name}: rows {rows.min()}..{rows.max()} asked of {self.rows}")
        return rows.astype(np.int64, copy=False)

    def _refuse_other_columns(self) -> None:
        expected, found = self.schema.to_arrow({}), self._parquet.schema_arrow
        if not self.rows or not found.equals(expected):
            odd = [field.name for field in expected if field not in list(found)] or found.names
            raise Malformed(f"{self.name}: {self.rows} rows whose columns are not those of a vector shard: {odd}")

    def _segment(self, name: str, group: int) -> NDArray[Any]:
        width, count = self.schema.widths[name], int(self._first_rows[group + 1] - self._first_rows[group])
        stored = np.frombuffer(self._map, f"V{width}", count, int(self._payloads[name][group]))
        return self._shaped(name, stored)

    def _shaped(self, name: str, stored: NDArray[np.void]) -> NDArray[Any]:
        dtype = _DTYPES[name]
        values = stored.view(dtype)
        return values if name in _SCALARS else values.reshape(len(stored), self.schema.widths[name] // dtype.itemsize)

    def _locate(self, name: str, width: int) -> NDArray[np.int64]:
        """Where the payload of this column begins in each row group."""
        index = self._parquet.schema_arrow.get_field_index(name)
        groups = range(self._footer.num_row_groups)
        return np.array([self._payload_offset(name, index, group, width) for group in groups], dtype=np.int64)

    def _payload_offset(self, name: str, index: int, group: int, width: int) -> int:
        rows = self._footer.row_group(group).num_rows
        column = self._footer.row_group(group).column(index)
        begin, end = column.data_page_offset, column.data_page_offset + column.total_compressed_size
        start = end - rows * width
        header = plain_page_header(rows, width)
        fits = begin > 0 and begin + len(header) <= start and end <= len(self._map)
        if column.compression != "UNCOMPRESSED" or not fits or self._map[begin : begin + len(header)] != header:
            raise Malformed(f"{self.name}: column {name!r} of row group {group} is not one plain, uncompressed page")
        return int(start)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
