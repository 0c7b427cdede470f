"""What a prefix is compared with: as many dimensions that no training has chosen.

A random projection is the first dimensions of a random rotation. A Gaussian one of 3072 dimensions takes seconds to be
orthonormalized; this one has its distances (Ailon and Chazelle, "Approximate nearest neighbors and the fast
Johnson-Lindenstrauss transform", STOC 2006) at the cost of a Fourier transform.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROUNDS: Final = 2
# Rows that are transformed at once.
_ROWS: Final = 512


def rotated(vectors: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """The rows of (n, D) under one random rotation, float32.

    Twice: random signs, a Fourier transform (of real rows, so an orthonormal one), dimensions in random order.
    """
    dimensions = vectors.shape[1]
    steps = [(draw.choice(_SIGNS, dimensions), draw.permutation(dimensions)) for _ in range(_ROUNDS)]
    turned = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        for signs, order in steps:
            rows = _transformed(rows * signs)[:, order]
        turned[start : start + _ROWS] = rows
    return turned


_SIGNS: Final = np.array([-1, 1], np.float32)


def _transformed(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The orthonormal discrete Fourier transform of real rows (n, D), as real rows: cosines, then sines.

    All frequencies but 0 and D/2 stand for two of the full transform, and so are scaled by the root of 2.
    """
    dimensions = rows.shape[1]
    frequencies = np.fft.rfft(rows, axis=1, norm="ortho")
    single = 2 - dimensions % 2  # of the frequencies that have no sine: 0, and D/2 where D is even
    frequencies[:, 1 : frequencies.shape[1] - single + 1] *= np.float32(np.sqrt(2))
    sines = frequencies.imag[:, 1 : frequencies.shape[1] - single + 1]
    return np.concatenate([frequencies.real, sines], axis=1)


def shuffled(vectors: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """The rows of (n, D) with their dimensions in one random order."""
    return np.take(vectors, draw.permutation(vectors.shape[1]), axis=1)
