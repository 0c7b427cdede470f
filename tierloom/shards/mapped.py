"""Vector shards in local files, mapped whole."""

import mmap
from pathlib import Path

import numpy as np

from tierloom.errors import Corrupt, Malformed
from tierloom.shards.columns import ShardColumns
from tierloom.shards.layout import Spans
from tierloom.stored_object import StoredObject


class MappedShard(ShardColumns):
    """A vector shard in a local file.

    Raises `Malformed` when the file is not laid out as `tierloom.shards.schema` says. Its bytes are trusted:
    check length and sha256 against the manifest first.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        super().__init__(name or path.name, _map(path, name or path.name))
        for column in self.schema.widths:
            self._check_headers(column, np.arange(len(self._layout.first_rows) - 1))


class WholeFile:
    """The bytes of an object that is here whole: nothing needs to be fetched. Raises `Corrupt` when it has not the
    length that the manifest states."""

    def __init__(self, stored: StoredObject, path: Path) -> None:
        if (length := path.stat().st_size) != stored.bytes:
            raise Corrupt(f"{stored.path}: {length} bytes, but the manifest states {stored.bytes}")
        self.map = _map(path, stored.path)

    def fill(self, spans: Spans) -> None:
        """Every byte is there."""


def _map(path: Path, name: str) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise Malformed(f"{name}: not a Parquet file: it is empty") from None
