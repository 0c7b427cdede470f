"""Vector shards checked page by page: comparing documents takes a few percent of a shard's bytes.

What decides by such bytes: whether a document is new (`transforms.compare`), whose vector is copied
(`transforms.reuse`), which rows lose (`tierloom.settle`), and the codes that a graph is built from
(`index_builder.build`). To hash whole shards for that would take the longer the larger a collection is, and of a bucket
only ranges are fetched. What is checked instead: the length; the footer, whose sha256 the manifest has, before it is
parsed; that every column lies where the footer says and begins as its page must; and the CRC-32 of each row group of
the columns in `CHECKSUMMED` (the footer holds them). Rows of a page that is not read whole (`vector`, and single rows
of `prefix`) have no checksum: who copies vectors checks them with `tierloom.shards.vector_checks`. Nobody is ever
answered from here: a search verifies whole files, and so do merging and `tierloom verify`.
"""

import mmap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.digest import bytes_digest
from tierloom.errors import Corrupt, Malformed
from tierloom.manifest import VectorShard
from tierloom.shards.checksums import CHECKSUMMED, CHECKSUMS, checksum, stated_checksums
from tierloom.shards.columns import ShardColumns
from tierloom.shards.layout import Spans, joined
from tierloom.shards.schema import VARIABLE

# Fetched by whole pages even for single rows: no page of them is more than 64 KiB.
_NARROW: Final = ("ordinal", "sequence", "key", "content_hash")


class Pages(Protocol):
    """The bytes of an object, of the length that the manifest states."""

    map: mmap.mmap

    def fill(self, spans: Spans) -> None:
        """Have the bytes of these ranges, which lie within the object, in `map`."""


class PagedShard(ShardColumns):
    """A vector shard whose pages are checked when they are first read.

    Raises `NotFound`, `StoreError`, `Corrupt` when a page is not what it should be, or `Malformed`.
    """

    def __init__(self, stored: VectorShard, pages: Pages) -> None:
        self._pages = pages
        _check_footer(pages, stored)
        super().__init__(stored.path, pages.map)
        self._checksums = stated_checksums(self.notes(CHECKSUMS), stored.path, len(self._layout.first_rows) - 1)
        self._verified: set[tuple[str, int]] = set()

    def fill_outside(self, column: str) -> None:
        """Have all of the file but the values of one fixed-width column."""
        self._pages.fill(self._layout.outside(column))

    def check(self) -> None:
        """Check all that there is a checksum of, and that the pages of `vector` lie where they should.

        Memory is that of one row group.
        """
        for group, (begin, end) in enumerate(pairwise(self._layout.first_rows.tolist())):
            for name in self.schema.widths:
                if name in CHECKSUMMED:
                    self._need_pages(name, np.array([group]))
                else:
                    self._check_headers(name, np.array([group]))
            self.read(VARIABLE, np.arange(begin, end))

    def _need_pages(self, name: str, groups: NDArray[np.int64]) -> None:
        self._pages.fill(self._layout.chunks(name).of(groups))
        self._check_headers(name, groups)
        for group in groups.tolist() if name in CHECKSUMMED else ():
            if (name, group) not in self._verified:
                self._verify(name, group, self._segment(name, group))

    def _need_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        groups = np.unique(self._layout.groups_of(rows))
        if name in _NARROW:
            self._need_pages(name, groups)
        else:
            self._pages.fill(joined([self._layout.headers(name, groups), self._layout.rows(name, rows)]))
            self._check_headers(name, groups)

    def _need_chunks(self, columns: Sequence[str], groups: NDArray[np.int64]) -> None:
        self._pages.fill(joined([self._layout.chunks(name).of(groups) for name in columns]))

    def _decode(self, columns: Sequence[str], groups: NDArray[np.int64]) -> pa.Table:
        table = super()._decode(columns, groups)
        try:
            table.validate(full=True)
        except pa.ArrowInvalid as error:
            raise Corrupt(f"{self.name}: columns {', '.join(columns)}: {error}; run `tierloom verify`") from error
        for name in set(columns).intersection(CHECKSUMMED):
            self._verify_decoded(name, table[name], groups)
        return table

    def _verify_decoded(self, name: str, values: pa.ChunkedArray, groups: NDArray[np.int64]) -> None:
        begin = 0
        for group, rows in zip(groups.tolist(), np.diff(self._layout.first_rows)[groups].tolist(), strict=True):
            if (name, group) not in self._verified:
                self._verify(name, group, values[begin : begin + rows])
            begin += rows

    def _verify(self, name: str, group: int, values: NDArray[Any] | pa.ChunkedArray) -> None:
        stated, found = self._checksums[name][group], checksum(values)
        if found != stated:
            raise Corrupt(
                f"{self.name}: column {name!r} of row group {group} has crc32 {found}, but the footer states {stated}; "
                "run `tierloom verify`"
            )
        self._verified.add((name, group))


def _check_footer(pages: Pages, stored: VectorShard) -> None:
    begin = stored.bytes - stored.footer.bytes
    if begin < 0:
        raise Malformed(f"{stored.path}: a footer of {stored.footer.bytes} bytes in a file of {stored.bytes}")
    pages.fill(Spans(np.array([begin]), np.array([stored.bytes])))
    if (found := bytes_digest(pages.map[begin:])) != stored.footer.sha256:
        raise Corrupt(f"{stored.path}: its footer has sha256 {found}, but the manifest states {stored.footer.sha256}")
