"""What may be sent to a model, and which of its vectors may be stored. Pure functions, shared by every embedder."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.embedders.embedder import Rejection

# The largest finite float16 (IEEE 754 binary16): full vectors are stored as float16.
FLOAT16_MAX: Final = 65504.0
# Its square, 2**-126, is the smallest normal float32: below it a vector cannot be brought to unit norm.
SMALLEST_PEAK: Final = 2.0**-63


def check_inputs(inputs: Sequence[str], token_bounds: Sequence[int], tokens_per_input: int) -> dict[int, Rejection]:
    """The inputs that no model may be sent, by position: empty, not encodable as UTF-8, or beyond the token limit."""
    found: dict[int, Rejection] = {}
    for position, (text, tokens) in enumerate(zip(inputs, token_bounds, strict=True)):
        if (rejection := _check_input(text, tokens, tokens_per_input)) is not None:
            found[position] = rejection
    return found


def _check_input(text: str, tokens: int, tokens_per_input: int) -> Rejection | None:
    if not text:
        return Rejection("empty-input", "the input is an empty text")
    if tokens > tokens_per_input:
        return Rejection("too-many-tokens", f"up to {tokens} tokens; the model takes {tokens_per_input} per input")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Rejection("invalid-unicode", f"{error.reason} at character {error.start}")
    return None


def check_vectors(vectors: NDArray[np.float32]) -> dict[int, Rejection]:
    """The rows of float32 (n, D) that may not be stored, by position.

    Reasons: `not-finite` (a NaN or an infinity), `float16-overflow` (a component beyond +-65504), `zero-norm`
    (no component large enough for a direction).
    """
    if vectors.size == 0:
        return {row: Rejection("zero-norm", "the vector has no components") for row in range(len(vectors))}
    # Not np.abs: that would copy the whole block. NaN passes through both reductions.
    peaks = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    suspect = np.flatnonzero(~((peaks <= FLOAT16_MAX) & (peaks >= SMALLEST_PEAK)))
    return {int(row): _explain(float(peaks[row])) for row in suspect}


def _explain(peak: float) -> Rejection:
    if not np.isfinite(peak):
        return Rejection("not-finite", "the vector holds NaN or an infinity")
    if peak > FLOAT16_MAX:
        return Rejection("float16-overflow", f"a component of size {peak:g}; float16 ends at {FLOAT16_MAX:g}")
    return Rejection("zero-norm", f"the largest component is {abs(peak):g}: the vector has no direction")
