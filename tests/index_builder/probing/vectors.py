"""Unit vectors with and without the mark of a Matryoshka model, made by a seed."""

import numpy as np
from numpy.typing import NDArray

from tierloom.quantizer import to_unit_float16


def spread(count: int, dimensions: int, decay: float, seed: int) -> NDArray[np.float32]:
    """Clustered vectors (count, dimensions) whose component i has a size of about (8 + i) ** -decay: 0 is no order at
    all, 0.5 about that of a Matryoshka model."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((count // 50, dimensions), dtype=np.float32)
    made = draw.standard_normal((count, dimensions), dtype=np.float32) + centres[draw.integers(0, len(centres), count)]
    return made * ((8.0 + np.arange(dimensions)) ** -decay).astype(np.float32)


def turned(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The same vectors under a random rotation: every score is as before, and no prefix means anything."""
    dimensions = vectors.shape[1]
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dimensions, dimensions)))
    return vectors @ rotation.astype(np.float32)


def stored(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """As a vector shard holds them."""
    return to_unit_float16(vectors)
