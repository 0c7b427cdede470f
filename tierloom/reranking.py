"""Exact scores of a shortlist from the stored float16 vectors."""

from typing import Final

import numkong
import numpy as np
from numpy.typing import NDArray

# One more than the 10 bits of a float16 fraction: what rounding to float16 leaves is smaller than that share.
_SCALE: Final = np.float32(2**11)


def exact_scores(rows: NDArray[np.float16], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Dot products (n,) of float16 rows (n, D) with a unit float32 query (D,).

    numkong multiplies float16 with float16 at about a tenth of numpy's cost (which converts the rows first).
    The query is given as the sum of two float16 vectors, so that its own rounding is not felt. The second is scaled
    up: numbers too small for a normal float16 are less precise, and numpy takes twenty times as long to make them.
    """
    if not len(rows):
        return np.empty(0)
    high = query.astype(np.float16)
    low = ((query - high.astype(np.float32)) * _SCALE).astype(np.float16)
    parts = np.asarray(numkong.cdist(np.ascontiguousarray(rows), np.stack([high, low]), metric="dot"), dtype=np.float64)
    return parts[:, 0] + parts[:, 1] / _SCALE
