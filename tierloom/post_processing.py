"""What happens to a model's answer before it is cut into prefixes: the steps that a checkpoint declares.

`layer-norm` is that of torch: each vector is centred and divided by its deviation, over the native dimensions. Nomic
Embed v1.5 asks for it before the cut (https://huggingface.co/nomic-ai/nomic-embed-text-v1.5). `unit-norm` is always
the last step, of documents where they are stored (`tierloom.quantizer`), of queries where they are asked.

A query *vector* that a caller brings is scaled to unit length, and nothing else is done to it: whoever embeds by
himself applies the declared steps by himself.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.embedders.checking import check_vectors
from tierloom.embedders.embedder import Embedded, Embedder, PaidInPart

# As torch.nn.functional.layer_norm has it.
_EPSILON: Final = 1e-5


class PostProcessed:
    """An embedder whose vectors have been through the declared steps, all but the last: they are not of unit length.

    A vector that has no direction left, because all its components were equal, is rejected.
    """

    def __init__(self, embedder: Embedder) -> None:
        """`embedder` answers vectors that need a layer norm."""
        self._embedder = embedder

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`."""
        try:
            return _processed(self._embedder.embed(inputs, token_bounds), frozenset())
        except PaidInPart as paid:
            raise PaidInPart(_processed(paid.embedded, paid.unpaid), paid.unpaid) from None

    def close(self) -> None:
        self._embedder.close()


def _processed(answer: Embedded, unpaid: frozenset[int]) -> Embedded:
    kept = [row for row in range(len(answer.vectors)) if row not in answer.rejected and row not in unpaid]
    vectors = np.zeros_like(answer.vectors)
    vectors[kept] = layer_norm(answer.vectors[kept])
    flat = {kept[place]: rejection for place, rejection in check_vectors(vectors[kept]).items()}
    return Embedded(vectors, {**answer.rejected, **flat}, answer.tokens)


def layer_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Finite float32 rows (n, D), each centred and divided by the root of its variance and 1e-5.

    Computed in float64, so that a row whose components are equal becomes exactly zero.
    """
    centred = vectors - vectors.mean(axis=1, dtype=np.float64, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + _EPSILON)
    normed: NDArray[np.float32] = (centred / deviation).astype(np.float32)
    return normed
