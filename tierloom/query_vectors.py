"""From questions to unit query vectors: the model is asked for all of them at once."""

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.embedder import Embedder
from tierloom.embedders.opening import embed_queries, open_query_embedder
from tierloom.errors import CheckpointMismatch, EmbedderRefused, QueryError
from tierloom.forking import remake_in_children

_TRIAL: Final = "ready?"

Query = str | Sequence[float] | NDArray[Any]


class QueryVectors:
    """The query vectors of one checkpoint. The model is opened by the first question. Safe to use from several
    threads."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._fingerprint = checkpoint.fingerprint
        self._opening = threading.Lock()
        self._embedder: Embedder | None = None
        # Others may be at work with it: it is closed when the next one is opened.
        self._refused: Embedder | None = None
        remake_in_children(self._remake)

    def of(self, queries: Sequence[Query] | NDArray[Any], checkpoint: str | None = None) -> list[NDArray[np.float32]]:
        """The unit vector (D,) of each question (with the checkpoint's query prompt) or given vector. `checkpoint` is
        what given vectors were made under, if that is known.

        Raises `QueryError`, `CheckpointMismatch`, or what the model raises.
        """
        if checkpoint not in (None, self._fingerprint):
            raise CheckpointMismatch(
                f"the query vector is of checkpoint {checkpoint}, the collection of {self._fingerprint}"
            )
        dimensions = self.checkpoint.space.dimensions
        texts = [query for query in queries if isinstance(query, str)]
        embedded = iter(self._embedded(texts) if texts else ())
        return [_unit(next(embedded) if isinstance(query, str) else _checked(query, dimensions)) for query in queries]

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        embedder = self.embedder()
        try:
            return embed_queries(embedder, self.checkpoint, texts)
        except EmbedderRefused:
            # It refuses for good; a key that was replaced or a quota that was raised takes another one.
            with self._opening:
                if self._embedder is embedder:
                    self._embedder, self._refused = None, embedder
            raise

    def try_out(self) -> None:
        """Ask the model one short question. Raises what stands in the way of all others."""
        self._embedded([_TRIAL])

    def embedder(self) -> Embedder:
        """The model, opened once. Raises `MissingExtra` or `EmbedderRefused`."""
        if (opened := self._embedder) is not None:
            return opened
        with self._opening:
            if self._embedder is None:
                self._close_refused()
                self._embedder = open_query_embedder(self.checkpoint)
            return self._embedder

    def _remake(self) -> None:
        """Connections are the parent's, and its threads did not come along."""
        self._opening = threading.Lock()
        self._embedder = self._refused = None

    def close(self) -> None:
        embedder, self._embedder = self._embedder, None
        if embedder is not None:
            embedder.close()
        self._close_refused()

    def _close_refused(self) -> None:
        refused, self._refused = self._refused, None
        if refused is not None:
            refused.close()


def _checked(query: Sequence[float] | NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    try:
        vector = np.asarray(query)
    except ValueError as error:
        raise QueryError(f"a query vector is {dimensions} numbers: {error}") from error
    if vector.dtype.kind not in "fiu" or vector.shape != (dimensions,):
        raise QueryError(
            f"a query vector of shape {vector.shape} and dtype {vector.dtype}; "
            f"this collection's are ({dimensions},) real numbers"
        )
    return vector.astype(np.float64)


def _unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scaled to unit length; first by the largest component, so that no square overflows or vanishes."""
    largest = float(np.abs(vector).max())
    if not np.isfinite(largest) or largest == 0.0:
        raise QueryError(f"a query vector whose largest component is {largest} points nowhere")
    scaled = vector.astype(np.float64) / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)
