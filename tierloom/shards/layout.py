"""Where the columns of a vector shard lie in its file: arithmetic on the footer alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tierloom.errors import Malformed
from tierloom.shards.schema import ShardSchema, plain_page_header


@dataclass(frozen=True, slots=True)
class Spans:
    """Byte ranges of a file: `begins` and `ends` (exclusive) int64 (n,)."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def of(self, chosen: NDArray[np.int64]) -> "Spans":
        return Spans(self.begins[chosen], self.ends[chosen])


def joined(parts: list[Spans]) -> Spans:
    """All these ranges in one."""
    return Spans(np.concatenate([part.begins for part in parts]), np.concatenate([part.ends for part in parts]))


class ShardLayout:
    """The row groups of a shard's footer, and the bytes of each column in them.

    `first_rows` int64 (groups + 1,): the row that each group begins with, and the number of rows.
    Raises `Malformed` when a column lies outside the `length` bytes of the file, or cannot be addressed.
    """

    def __init__(self, footer: pq.FileMetaData, schema: ShardSchema, length: int, name: str) -> None:
        self._footer, self._length, self._name = footer, length, name
        self._widths = schema.widths
        counts = np.array([footer.row_group(group).num_rows for group in self._groups()], dtype=np.int64)
        if not len(counts) or counts.min() < 1 or counts.sum() != footer.num_rows:
            raise Malformed(f"{name}: row groups of {counts.tolist()} rows, but {footer.num_rows} rows in all")
        self.first_rows: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])
        names = [footer.schema.column(index).path for index in range(footer.num_columns)]
        self._chunks = {column: self._locate(index) for index, column in enumerate(names)}
        self._payloads = {column: self._locate_payload(column, names.index(column)) for column in self._widths}

    def groups_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row group of each row (n,)."""
        groups: NDArray[np.int64] = np.searchsorted(self.first_rows, rows, side="right") - 1
        return groups

    def chunks(self, column: str) -> Spans:
        """All that a column has in each row group: pages with their headers."""
        return self._chunks[column]

    def payload(self, column: str, group: int) -> int:
        """Where the values of a fixed-width column begin in a row group."""
        return int(self._payloads[column][group])

    def rows(self, column: str, rows: NDArray[np.int64]) -> Spans:
        """The bytes of each row (n,) of a fixed-width column."""
        group, width = self.groups_of(rows), self._widths[column]
        begins = self._payloads[column][group] + (rows - self.first_rows[group]) * width
        return Spans(begins, begins + width)

    def outside(self, column: str) -> Spans:
        """All of the file but the values of one fixed-width column; what stands before and behind them is included."""
        begins = self._payloads[column]
        ends = begins + np.diff(self.first_rows) * self._widths[column]
        order = np.argsort(begins)
        spans = Spans(np.insert(ends[order], 0, 0), np.append(begins[order], self._length))
        return spans.of(np.flatnonzero(spans.begins < spans.ends))

    def headers(self, column: str, groups: NDArray[np.int64]) -> Spans:
        """The bytes that tell a fixed-width column's page from any other, one range for each group."""
        begins = self._chunks[column].begins[groups]
        lengths = [len(self._header(column, group)) for group in groups.tolist()]
        return Spans(begins, begins + np.array(lengths, dtype=np.int64))

    def check_header(self, column: str, group: int, data: memoryview) -> None:
        """Raise `Malformed` unless the file `data` holds the one plain page of this column and group."""
        header, begin = self._header(column, group), int(self._chunks[column].begins[group])
        if data[begin : begin + len(header)] != header:
            raise self._not_plain(column, group)

    def _groups(self) -> Iterator[int]:
        return iter(range(self._footer.num_row_groups))

    def _header(self, column: str, group: int) -> bytes:
        return plain_page_header(int(self.first_rows[group + 1] - self.first_rows[group]), self._widths[column])

    def _locate(self, index: int) -> Spans:
        chunks = [self._footer.row_group(group).column(index) for group in self._groups()]
        begins = [
            min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset) for chunk in chunks
        ]
        ends = [begin + chunk.total_compressed_size for begin, chunk in zip(begins, chunks, strict=True)]
        for group, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            if not 0 < begin < end <= self._length:
                raise Malformed(
                    f"{self._name}: column {chunks[group].path_in_schema!r} of row group {group} is said to lie at "
                    f"bytes {begin}..{end} of {self._length}"
                )
        return Spans(np.array(begins, dtype=np.int64), np.array(ends, dtype=np.int64))

    def _locate_payload(self, column: str, index: int) -> NDArray[np.int64]:
        spans, width = self._chunks[column], self._widths[column]
        starts: NDArray[np.int64] = spans.ends - np.diff(self.first_rows) * width
        for group in self._groups():
            compression = self._footer.row_group(group).column(index).compression
            fits = spans.begins[group] + len(self._header(column, group)) <= starts[group]
            if compression != "UNCOMPRESSED" or not fits:
                raise self._not_plain(column, group)
        return starts

    def _not_plain(self, column: str, group: int) -> Malformed:
        return Malformed(f"{self._name}: column {column!r} of row group {group} is not one plain, uncompressed page")
