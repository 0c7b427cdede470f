"""Writing vector shards: sorted rows of a block or of a merge, streamed into one Parquet file."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tierloom.shards.checksums import CHECKSUMMED, CHECKSUMS, checksums
from tierloom.shards.following_digest import FollowingDigest
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE, ShardSchema
from tierloom.stores.file_failures import explained


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of consecutive rows, one entry a row.

    `content_hash` is uint8 (n, 16), `prefix` int8 (n, P), `vector` float16 (n, D).
    """

    document_id: pa.Array
    ordinal: NDArray[np.int32]
    sequence: NDArray[np.int64]
    heading: pa.Array
    text: pa.Array
    metadata: pa.Array
    key: NDArray[np.uint64]
    source: NDArray[np.uint64]
    content_hash: NDArray[np.uint8]
    prefix: NDArray[np.int8]
    vector: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.key)


class ShardWriter:
    """Appends rows in their final order. Make one with `writing`.

    When the shard is finished, `sha256` is the hash of the file's bytes, in hexadecimal.
    """

    sha256: str

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, digest: FollowingDigest) -> None:
        self._writer = writer
        self._schema = schema
        self._digest = digest
        self._checksums: dict[str, list[int]] = {name: [] for name in CHECKSUMMED}

    def append(self, rows: Rows) -> None:
        """Write `rows`, in row groups of `ROW_GROUP_ROWS`; all but the last call must fill theirs."""
        columns = [_arrow_column(getattr(rows, field.name), field.type) for field in self._schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=ROW_GROUP_ROWS)
        self._digest.follow()
        for name, stated in self._checksums.items():
            stated.extend(checksums(getattr(rows, name)))

    def finish(self) -> None:
        """Leave in the footer what is known only now."""
        self._writer.add_key_value_metadata({CHECKSUMS: json.dumps(self._checksums)})
        self._writer.close()
        self.sha256 = self._digest.hexdigest()


@contextmanager
def writing(path: Path, schema: ShardSchema, notes: dict[str, str] | None = None) -> Iterator[ShardWriter]:
    """A writer of a new shard at `path`; `notes` go into the file's metadata.

    Raises `StoreError` when the system refuses to write: the disk is full, say.
    """
    arrow_schema = schema.to_arrow(notes or {})
    with (
        explained(path),
        pq.ParquetWriter(
            path,
            arrow_schema,
            compression={name: "snappy" if name in VARIABLE else "none" for name in arrow_schema.names},
            use_dictionary=["document_id", "heading"],
            # Larger than any row group, so that a row group has one page of each column.
            data_page_size=1 << 30,
            max_rows_per_page=ROW_GROUP_ROWS,
            write_batch_size=ROW_GROUP_ROWS,
            write_statistics=["key", "sequence", "ordinal"],
        ) as parquet,
        FollowingDigest(path) as digest,
    ):
        writer = ShardWriter(parquet, arrow_schema, digest)
        yield writer
        writer.finish()


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arrow_column(column: Any, kind: pa.DataType) -> pa.Array:
    if not isinstance(column, np.ndarray):
        return column
    if column.ndim == 1:
        return pa.array(column, kind)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(column), [None, pa.py_buffer(np.ascontiguousarray(column))])
