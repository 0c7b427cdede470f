"""The CRC-32 of columns, a row group at a time: those who read single columns of a vector shard check them by it."""

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.errors import Malformed
from tierloom.shards.schema import ROW_GROUP_ROWS

# A note of the footer: for each of these columns, the checksum of its values in each row group. Parquet's own page
# checksums would do, but they come for all columns or none, and `vector` needs none: its prefix tells.
CHECKSUMS: Final = "tierloom.crc32"
CHECKSUMMED: Final = (
    *("document_id", "heading", "text", "metadata"),
    *("ordinal", "sequence", "key", "source", "content_hash", "prefix"),
)


def checksum(values: NDArray[Any] | pa.Array | pa.ChunkedArray) -> int:
    """zlib's CRC-32 of the bytes of numbers; or of the lengths of texts (int32, little-endian), then of their UTF-8."""
    if isinstance(values, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(values).data)
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, "<i4", len(values) + 1, 4 * values.offset)
    return zlib.crc32(memoryview(data or b"")[ends[0] : ends[-1]], zlib.crc32(np.diff(ends).data))


def checksums(column: NDArray[Any] | pa.Array | pa.ChunkedArray) -> list[int]:
    """Of each row group of a column."""
    return [checksum(column[start : start + ROW_GROUP_ROWS]) for start in range(0, len(column), ROW_GROUP_ROWS)]


def stated_checksums(note: Any, name: str, groups: int) -> Mapping[str, list[int]]:
    """What the footer of the shard `name` states, for its row groups. Raises `Malformed`."""
    try:
        stated = msgspec.convert(note, dict[str, list[int]], strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: its checksums cannot be read: {error}") from error
    if sorted(stated) != sorted(CHECKSUMMED) or any(len(each) != groups for each in stated.values()):
        raise Malformed(f"{name}: its checksums are not those of {groups} row groups of {', '.join(CHECKSUMMED)}")
    return stated
