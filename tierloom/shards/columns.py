"""The columns of a vector shard: the fixed-width ones are addressed by arithmetic, never decoded."""

import json
import mmap
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tierloom.errors import Malformed
from tierloom.forking import remake_in_children
from tierloom.shards.layout import ShardLayout
from tierloom.shards.schema import VARIABLE, ShardSchema

_SCALARS = {"ordinal": "<i4", "sequence": "<i8", "key": "<u8", "source": "<u8"}
_ROWS = {"content_hash": "u1", "prefix": "i1", "vector": "<f2"}
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in (_SCALARS | _ROWS).items()}


@dataclass(frozen=True, slots=True)
class ColumnPlace:
    """Where the values of a fixed-width column lie in the memory of this process.

    `payloads` int64 (groups,) are the addresses of the first value of each row group, whose first rows are
    `first_rows` (groups,). All lie from `begin` to `end` (exclusive). A row is `shape` values of `dtype`.
    """

    begin: int
    end: int
    first_rows: NDArray[np.int64]
    payloads: NDArray[np.int64]
    width: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class ShardColumns:
    """A vector shard whose file is mapped, all of it or in parts. Safe to use from several threads.

    What it is, `MappedShard` and `PagedShard` decide: each sees to it that bytes are there, and are what they
    should be, before they are read here. Raises `Malformed` when the file is not laid out as
    `tierloom.shards.schema` says.
    """

    def __init__(self, name: str, data: mmap.mmap) -> None:
        self.name = name
        self._map = data
        self._parquet = self._opened()
        footer = self._parquet.metadata
        self.schema = ShardSchema.from_notes(footer.metadata, name)
        self.rows: int = footer.num_rows
        self._refuse_other_columns()
        self._layout = ShardLayout(footer, self.schema, len(data), name)
        self._first_rows: list[int] = self._layout.first_rows.tolist()
        self._decoding = threading.Lock()
        remake_in_children(self._remake)

    def notes(self, name: str) -> Any:
        """A JSON value that the writer left in the file's metadata; None if there is none. Raises `Malformed`."""
        stored = (self._parquet.metadata.metadata or {}).get(name.encode())
        try:
            return None if stored is None else json.loads(stored)
        except ValueError as error:
            raise Malformed(f"{self.name}: its note {name!r} is not JSON: {error}") from error

    def column(self, name: str) -> NDArray[Any]:
        """A whole fixed-width column: a mapped view of a shard with one row group, else a copy.

        `ordinal`, `sequence`, `key`, `source`: (rows,). `content_hash` uint8 (rows, 16), `prefix` int8 (rows, P).
        """
        groups = np.arange(len(self._layout.first_rows) - 1)
        self._need_pages(name, groups)
        segments = [self._segment(name, group) for group in groups.tolist()]
        return segments[0] if len(segments) == 1 else np.concatenate(segments)

    def gather(self, name: str, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """The given rows of a fixed-width column, as `column` shapes them; `vector` is float16 (n, D).

        Raises `IndexError` for a row that the shard does not have.
        """
        rows, width = self._own_rows(rows), self.schema.widths[name]
        self._need_rows(name, rows)
        # One overlapping element per byte of the file: indexing it is a memcpy a row.
        every_offset = np.ndarray((len(self._map) - width + 1,), f"V{width}", self._map, strides=(1,))
        return self._shaped(name, every_offset[self._layout.rows(name, rows).begins])

    def place_of_column(self, name: str) -> ColumnPlace:
        """The addresses of a fixed-width column, valid for as long as this shard is held."""
        groups = np.arange(len(self._layout.first_rows) - 1)
        self._need_pages(name, groups)
        begin = np.frombuffer(self._map, np.uint8).ctypes.data
        payloads = begin + np.array([self._layout.payload(name, group) for group in groups.tolist()], dtype=np.int64)
        width, dtype = self.schema.widths[name], _DTYPES[name]
        shape = () if name in _SCALARS else (width // dtype.itemsize,)
        return ColumnPlace(begin, begin + len(self._map), self._layout.first_rows[:-1], payloads, width, dtype, shape)

    def read(self, columns: Sequence[str], rows: NDArray[np.integer[Any]]) -> pa.Table:
        """The given rows of variable-width columns (`document_id`, `heading`, `text`, `metadata`), in order.

        Decodes each row group that holds one of them. Raises `IndexError` for a row that the shard does not have.
        """
        rows = self._own_rows(rows)
        group_of_row = self._layout.groups_of(rows)
        groups, position = np.unique(group_of_row, return_inverse=True)
        sizes = np.diff(self._layout.first_rows)[groups]
        begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        table = self._decode(columns, groups)
        return table.take(pa.array(begins[position] + rows - self._layout.first_rows[group_of_row]))

    def place(self, row: int) -> tuple[int, int]:
        """The row group of a row that the shard has, and the row's place in it."""
        group = bisect_right(self._first_rows, row) - 1
        return group, row - self._first_rows[group]

    def page(self, name: str, group: int) -> NDArray[Any]:
        """A fixed-width column of one row group, mapped."""
        self._need_pages(name, np.array([group]))
        return self._segment(name, group)

    def read_group(self, columns: Sequence[str], group: int) -> dict[str, pa.Array]:
        """Variable-width columns of one row group, decoded."""
        table = self._decode(columns, np.array([group]))
        return {name: table[name].combine_chunks() for name in columns}

    def read_all(self, columns: Sequence[str] = VARIABLE) -> pa.Table:
        """Whole variable-width columns, decoded."""
        return self._decode(columns, np.arange(len(self._layout.first_rows) - 1))

    def _opened(self) -> pq.ParquetFile:
        with _malformed(f"{self.name}: not a Parquet file"):
            return pq.ParquetFile(pa.BufferReader(pa.py_buffer(self._map)), pre_buffer=False)

    def _remake(self) -> None:
        if self._decoding.locked():
            # Another thread of the parent was in the middle of it.
            self._parquet = self._opened()
        self._decoding = threading.Lock()

    def _need_pages(self, name: str, groups: NDArray[np.int64]) -> None:
        """Called before the whole pages of a fixed-width column in these row groups are read."""

    def _need_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Called before these rows of a fixed-width column are read."""

    def _need_chunks(self, columns: Sequence[str], groups: NDArray[np.int64]) -> None:
        """Called before variable-width columns are decoded in these row groups."""

    def _check_headers(self, name: str, groups: NDArray[np.int64]) -> None:
        with memoryview(self._map) as data:
            for group in groups.tolist():
                self._layout.check_header(name, group, data)

    def _decode(self, columns: Sequence[str], groups: NDArray[np.int64]) -> pa.Table:
        self._need_chunks(columns, groups)
        with self._decoding, _malformed(f"{self.name}: columns {', '.join(columns)}"):
            return self._parquet.read_row_groups(groups.tolist(), columns=list(columns), use_threads=False)

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
        width, count = self.schema.widths[name], int(np.diff(self._layout.first_rows)[group])
        return self._shaped(name, np.frombuffer(self._map, f"V{width}", count, self._layout.payload(name, group)))

    def _shaped(self, name: str, stored: NDArray[np.void]) -> NDArray[Any]:
        dtype = _DTYPES[name]
        values = stored.view(dtype)
        return values if name in _SCALARS else values.reshape(len(stored), self.schema.widths[name] // dtype.itemsize)


@contextmanager
def _malformed(what: str) -> Iterator[None]:
    """Name the shard in what pyarrow has to say of it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{what}: {error}") from error
