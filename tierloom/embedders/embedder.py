"""The contract of an embedder: texts in, full-dimension vectors out, the hopeless ones named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tierloom.errors import CapReached


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one input has no vector: `reason` a short fixed word, `detail` a sentence with the values."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of a list of inputs.

    `vectors` is float32 (inputs, native dimensions), not of unit length; the rows of `rejected` (by
    position) hold nothing of meaning. `tokens` were billed by the model.
    """

    vectors: NDArray[np.float32]
    rejected: Mapping[int, Rejection]
    tokens: int


class PaidInPart(CapReached):
    """Of some inputs the vectors are there, and paid for; those of the `unpaid` ones (by position) would have cost more
    than the run may spend. The rows of those hold nothing of meaning."""

    def __init__(self, embedded: Embedded, unpaid: frozenset[int]) -> None:
        super().__init__(f"the cap leaves {len(unpaid)} of {len(embedded.vectors)} inputs without a vector")
        self.embedded = embedded
        self.unpaid = unpaid


class Embedder(Protocol):
    """A model that can be asked. Made in a worker, never pickled; safe to use from several threads."""

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """Vectors of `inputs`, in their order. Prompts are part of the inputs already.

        `token_bounds` are upper bounds of the tokens of each input: what requests are packed by.
        One bad input never costs its neighbours their vectors. Raises `EmbedderRefused` when the endpoint
        will not serve this job at all, `EmbedderUnavailable` when retries are used up.
        """

    def close(self) -> None:
        """Let go of connections and threads."""
