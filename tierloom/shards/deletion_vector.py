"""Dead rows of one vector shard, as a roaring bitmap of row numbers.

Serialized in the portable 32-bit format (RoaringFormatSpec), which every language's library reads.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from tierloom.errors import Malformed
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles


def to_bytes(rows: Iterable[int]) -> bytes:
    """The bitmap of these row numbers, serialized."""
    bitmap = BitMap(rows)
    bitmap.run_optimize()
    return bitmap.serialize()


def from_bytes(data: bytes, name: str) -> NDArray[np.uint32]:
    """The row numbers in a serialized bitmap, ascending. Raises `Malformed`."""
    try:
        return np.array(BitMap.deserialize(data).to_array(), dtype=np.uint32)
    except (ValueError, RuntimeError, IndexError) as error:
        raise Malformed(f"{name}: not a roaring bitmap: {error}") from error


def dead_rows(shard: VectorShard, files: ObjectFiles) -> NDArray[np.uint32]:
    """The dead rows of a vector shard of a manifest, ascending; empty if all live.

    Raises `Malformed` when the bitmap does not fit the shard.
    """
    if shard.deletes is None:
        return np.empty(0, dtype=np.uint32)
    rows = from_bytes(files.path(shard.deletes).read_bytes(), shard.deletes.path)
    if len(rows) != shard.deletes.rows or (len(rows) and rows.max() >= shard.rows):
        raise Malformed(f"{shard.deletes.path}: its {len(rows)} rows are not the {shard.deletes.rows} of {shard.path}")
    return rows


def alive(shard: VectorShard, files: ObjectFiles) -> NDArray[np.bool_]:
    """Which rows live: bool (rows,)."""
    mask = np.ones(shard.rows, dtype=np.bool_)
    mask[dead_rows(shard, files)] = False
    return mask
