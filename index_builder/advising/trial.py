"""What tiers are tried on: rows of a corpus, queries, and the exact answers among these rows."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.collection import Tier
from tierloom.gate import TOP
from tierloom.quantizer import Code, prefix_codes, quantize

_ROWS_AT_ONCE: Final = 8192
# Two computations of one score, in float32 and from float16 products, agree to this.
SAME_SCORE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Trial:
    """`vectors` float16 (n, D) of the rows, `queries` unit float32 (q, D), and `prefix_dimensions`: of how many the
    collection stores the int8 prefix.

    `worst` (q,) is the score of the last of the exact ten: whatever scores as much is as good an answer.
    """

    vectors: NDArray[np.float16]
    queries: NDArray[np.float32]
    prefix_dimensions: int
    worst: NDArray[np.float32]

    @property
    def wanted(self) -> int:
        """How many the exact answers of a query are: `TOP`, or all rows of a smaller corpus."""
        return min(TOP, len(self.vectors))

    def codes(self, tier: Tier) -> Code:
        """Those of all rows: cut from the stored prefix; for a larger tier, from that of a collection made for it."""
        return prefix_codes(quantize(self.vectors, max(tier.dimensions, self.prefix_dimensions)), tier)


def make_trial(vectors: NDArray[np.float16], queries: NDArray[np.float32], prefix_dimensions: int) -> Trial:
    """A trial of unit vectors (n, D), at least one, and unit queries (q, D)."""
    scores = np.concatenate(
        [
            queries @ vectors[start : start + _ROWS_AT_ONCE].astype(np.float32).T
            for start in range(0, len(vectors), _ROWS_AT_ONCE)
        ],
        axis=1,
    )
    wanted = min(TOP, len(vectors))
    worst = np.partition(scores, -wanted, axis=1)[:, -wanted]
    return Trial(vectors, queries, prefix_dimensions, worst)


def held_out(vectors: NDArray[np.float16], queries: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """The rows without some that are taken out as queries; and these, float32 of unit length."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    asked = vectors[order[:queries]].astype(np.float32)
    return vectors[np.sort(order[queries:])], asked / np.linalg.norm(asked, axis=1, keepdims=True)
