"""The Parquet schema of a vector shard: the one place that decides its columns.

Fixed-width columns are REQUIRED, PLAIN, uncompressed, without dictionary, one data page a row group. So any
Parquet reader reads the file, and ours addresses a row by arithmetic: in each row group, a column's payload
begins at `data_page_offset + total_compressed_size - rows * width` (parquet-format, data page v1 without
levels). The page's own header must say so: `plain_page_header`. The footer holds checksums for those who read single
columns: `tierloom.shards.checksums`.
"""

from dataclasses import dataclass

import pyarrow as pa

from tierloom.checkpoint import MAX_DIMENSIONS
from tierloom.document import CONTENT_HASH_BYTES
from tierloom.errors import Malformed

FORMAT = 1
ROW_GROUP_ROWS = 2048

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
            "source": 8,
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
            ("source", pa.uint64()),
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
            dimensions, prefix_dimensions = int(stated["dimensions"]), int(stated["prefix_dimensions"])
            if not 1 <= prefix_dimensions <= dimensions <= MAX_DIMENSIONS:
                raise ValueError(f"a prefix of {prefix_dimensions} of {dimensions} dimensions")
            return cls(stated["checkpoint"], dimensions, prefix_dimensions)
        except (KeyError, ValueError) as error:
            raise Malformed(f"{name}: not a vector shard: {error!r}") from error


def plain_page_header(rows: int, width: int) -> bytes:
    """How the header of a page of `rows` plain values begins (parquet.thrift, PageHeader; Thrift compact protocol).

    Type DATA_PAGE, uncompressed and compressed size, number of values, encoding PLAIN. A column of several
    pages, of another encoding or with levels begins otherwise.
    """
    size = _varint(rows * width)
    return b"\x15\x00\x15" + size + b"\x15" + size + b"\x2c\x15" + _varint(rows) + b"\x15\x00"


def _varint(value: int) -> bytes:
    """A Thrift compact i32, not negative: zigzag, seven bits a byte, the lowest first."""
    value *= 2
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


_STATED = ("format", "checkpoint", "dimensions", "prefix_dimensions")
