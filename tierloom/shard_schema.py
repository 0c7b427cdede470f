"""The Parquet schema of a vector shard: the one place that decides its columns.

Fixed-width columns are REQUIRED, PLAIN, uncompressed, without dictionary, one data page a row group. So any
Parquet reader reads the file, and ours addresses a row by arithmetic: in each row group, a column's payload
begins at `data_page_offset + total_compressed_size - rows * width` (parquet-format, data page v1 without
levels).
"""

from dataclasses import dataclass

import pyarrow as pa

from tierloom.document import CONTENT_HASH_BYTES
from tierloom.errors import Malformed

FORMAT = 1
ROW_GROUP_ROWS = 4096

VARIABLE = ("document_id", "heading", "text", "metadata")


@dataclass(frozen=True, slots=True)
class ShardSchema:
    """The shape of one collection's vector shards; `checkpoint` is its fingerprint."""

    checkpoint: str
    dimensions: int
    prefix_dimensions: int

    @property
    def widths(self) -> dict[str, int]:
        """Bytes of a row in each fixed-width column."""
        return {
            "ordinal": 4,
            "sequence": 8,
            "key": 8,
            "content_hash": CONTENT_HASH_BYTES,
            "prefix": self.prefix_dimensions,
            "vector": 2 * self.dimensions,
        }

    def to_arrow(self, notes: dict[str, str]) -> pa.Schema:
        """The Arrow schema; `notes` are added to the file's metadata."""
        fields = [
            ("document_id", pa.string()),
            ("ordinal", pa.int32()),
            ("sequence", pa.int64()),
            ("heading", pa.string()),
            ("text", pa.string()),
            ("metadata", pa.string()),
            ("key", pa.uint64()),
            ("content_hash", pa.binary(CONTENT_HASH_BYTES)),
            ("prefix", pa.binary(self.prefix_dimensions)),
            ("vector", pa.binary(2 * self.dimensions)),
        ]
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields], self._notes() | notes)

    def _notes(self) -> dict[str, str]:
        return {
            "tierloom.format": str(FORMAT),
            "tierloom.checkpoint": self.checkpoint,
            "tierloom.dimensions": str(self.dimensions),
            "tierloom.prefix_dimensions": str(self.prefix_dimensions),
        }

    @classmethod
    def from_notes(cls, notes: dict[bytes, bytes] | None, name: str) -> "ShardSchema":
        """The schema that a file's metadata states. Raises `Malformed`."""
        try:
            stated = {key: (notes or {})[f"tierloom.{key}".encode()].decode() for key in _STATED}
            if int(stated["format"]) != FORMAT:
                raise ValueError(f"format {stated['format']}, not {FORMAT}")
            return cls(stated["checkpoint"], int(stated["dimensions"]), int(stated["prefix_dimensions"]))
        except (KeyError, ValueError) as error:
            raise Malformed(f"{name}: not a vector shard: {error!r}") from error


_STATED = ("format", "checkpoint", "dimensions", "prefix_dimensions")
