"""Vector shards of a remote store, read by ranges: comparing documents takes a few percent of a shard's bytes.

What decides by such bytes: whether a document is new (`transforms.compare`), whose vector is copied
(`transforms.reuse`), which rows lose (`tierloom.settle`), and the codes that a graph is built from
(`index_builder.build`). A range cannot be checked against the sha256 of the whole. What is checked instead: the
length; the footer, whose sha256 the manifest has, before it is parsed; that every column lies where the footer says
and begins as its page must; and the CRC-32 of each page of `key`, `sequence`, `ordinal`, `content_hash` and
`prefix` that is read whole (the footer holds them). Rows of a page that is not read whole (`vector`, and single
rows of `prefix`) have no checksum: who copies vectors checks them with `tierloom.shards.vector_checks`. Nor have the
compressed pages of `document_id`: they must decode to valid text, and an id counts only under its key. Nobody is
ever answered from here: a search verifies whole files, and so do merging and `tierloom verify`.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.digest import bytes_digest
from tierloom.errors import Corrupt, Malformed
from tierloom.manifest import VectorShard
from tierloom.shards.columns import ShardColumns
from tierloom.shards.layout import Spans, joined
from tierloom.shards.partial_copy import PartialCopy
from tierloom.shards.schema import CHECKSUMMED, CHECKSUMS
from tierloom.stores.store import Store

# Fetched by whole pages even for single rows: no page of them is more than 64 KiB.
_NARROW: Final = ("ordinal", "sequence", "key", "content_hash")


class RangedShard(ShardColumns):
    """A vector shard of a remote store; what is fetched of it lies in `folder` until this goes.

    Raises `NotFound`, `StoreError`, `Corrupt` when its length or a page is not what it should be, or `Malformed`.
    """

    def __init__(self, stored: VectorShard, store: Store, folder: Path) -> None:
        self._copy = PartialCopy(stored, store, folder)
        _fetch_footer(self._copy, stored)
        super().__init__(stored.path, self._copy.map)
        self._checksums = _checksums(self.notes(CHECKSUMS), stored.path, len(self._layout.first_rows) - 1)
        self._verified: set[tuple[str, int]] = set()

    def _need_pages(self, name: str, groups: NDArray[np.int64]) -> None:
        self._copy.fill(self._layout.chunks(name).of(groups))
        self._check_headers(name, groups)
        for group in groups.tolist():
            if (name, group) not in self._verified:
                self._verify_page(name, group)
                self._verified.add((name, group))

    def _need_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        groups = np.unique(self._layout.groups_of(rows))
        if name in _NARROW:
            self._need_pages(name, groups)
        else:
            self._copy.fill(joined([self._layout.headers(name, groups), self._layout.rows(name, rows)]))
            self._check_headers(name, groups)

    def _need_chunks(self, columns: Sequence[str], groups: NDArray[np.int64]) -> None:
        self._copy.fill(joined([self._layout.chunks(name).of(groups) for name in columns]))

    def _decode(self, columns: Sequence[str], groups: NDArray[np.int64]) -> pa.Table:
        table = super()._decode(columns, groups)
        try:
            table.validate(full=True)
        except pa.ArrowInvalid as error:
            raise Corrupt(f"{self.name}: columns {', '.join(columns)}: {error}; run `tierloom verify`") from error
        return table

    def _verify_page(self, name: str, group: int) -> None:
        if name not in self._checksums:
            return
        stated, found = self._checksums[name][group], zlib.crc32(self._segment(name, group).data)
        if found != stated:
            raise Corrupt(
                f"{self.name}: column {name!r} of row group {group} has crc32 {found}, but the footer states {stated}; "
                "run `tierloom verify`"
            )


def _fetch_footer(copy: PartialCopy, stored: VectorShard) -> None:
    begin = stored.bytes - stored.footer.bytes
    if begin < 0:
        raise Malformed(f"{stored.path}: a footer of {stored.footer.bytes} bytes in a file of {stored.bytes}")
    copy.fill(Spans(np.array([begin]), np.array([stored.bytes])))
    if (found := bytes_digest(copy.map[begin:])) != stored.footer.sha256:
        raise Corrupt(f"{stored.path}: its footer has sha256 {found}, but the manifest states {stored.footer.sha256}")


def _checksums(note: Any, name: str, groups: int) -> dict[str, list[int]]:
    try:
        checksums = msgspec.convert(note, dict[str, list[int]], strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: its checksums cannot be read: {error}") from error
    if sorted(checksums) != sorted(CHECKSUMMED) or any(len(each) != groups for each in checksums.values()):
        raise Malformed(f"{name}: its checksums are not those of {groups} row groups of {', '.join(CHECKSUMMED)}")
    return checksums
