"""Scores of a shortlist from the stored int8 prefixes: more than a small tier knows, for fewer bytes than the full
vectors."""

import numpy as np
from numpy.typing import NDArray

from tierloom.quantizer import quantize_query


def prefix_scores(prefixes: NDArray[np.int8], query: NDArray[np.float32], dimensions: int) -> NDArray[np.float64]:
    """Estimated cosines (n,) by the first `dimensions` int8 components of rows (n, P) of the `prefix` column, with a
    unit query (D,)."""
    rows = prefixes[:, :dimensions].astype(np.float64)
    code = quantize_query(query, dimensions).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(code)
    scores: NDArray[np.float64] = np.zeros(len(rows))
    np.divide(rows @ code, lengths, out=scores, where=lengths > 0)
    return scores
