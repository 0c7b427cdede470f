"""Vectors that are copied or audited are what their prefixes were made from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierloom.errors import Malformed
from tierloom.quantizer import quantize
from tierloom.shards.columns import ShardColumns

# Half a unit in the last place of the largest float16 component, summed over the longest vectors there are.
_NORM_TOLERANCE = 5e-3


def checked_vectors(shard: ShardColumns, rows: NDArray[np.integer[Any]]) -> NDArray[np.float16]:
    """Full vectors (n, D) of these rows.

    Raises `Malformed` unless each is finite, of unit length, and quantizes to its stored prefix.
    """
    vectors: NDArray[np.float16] = shard.gather("vector", rows)
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    if (odd := rows[~(np.abs(norms - 1) < _NORM_TOLERANCE)]).size:
        raise Malformed(f"{shard.name}: vectors that are not of unit length, in rows {odd.min()}..{odd.max()}")
    agree = (quantize(vectors, shard.schema.prefix_dimensions) == shard.gather("prefix", rows)).all(axis=1)
    if (odd := rows[~agree]).size:
        raise Malformed(f"{shard.name}: prefixes that are not those of the vectors, in rows {odd.min()}..{odd.max()}")
    return vectors
