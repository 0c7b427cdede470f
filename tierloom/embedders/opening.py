"""From a checkpoint to the embedder that serves it."""

import numpy as np
from numpy.typing import NDArray

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.embedder import Embedder
from tierloom.errors import MissingExtra, QueryError
from tierloom.post_processing import PostProcessed


def open_embedder(checkpoint: Checkpoint, concurrency: int = 8) -> Embedder:
    """The embedder of `checkpoint`; at most `concurrency` requests of it are under way at once.

    Its vectors have been through the declared post-processing, but for the unit norm. Raises `MissingExtra` when its
    library is not installed, `EmbedderRefused` when it cannot serve this checkpoint.
    """
    embedder = open_model(checkpoint, concurrency)
    return PostProcessed(embedder) if "layer-norm" in checkpoint.space.post_processing else embedder


def open_model(checkpoint: Checkpoint, concurrency: int = 8) -> Embedder:
    """As `open_embedder`, with vectors as the model answers them."""
    if checkpoint.space.provider == "wordllama":
        return _open_wordllama(checkpoint)
    return _open_openai(checkpoint, concurrency)


def embed_query(embedder: Embedder, checkpoint: Checkpoint, text: str) -> NDArray[np.float32]:
    """The vector of a question, float32 (native dimensions,), with the query prompt before it; post-processed as
    those of documents are, but not of unit length.

    Raises `QueryError` when the text is empty or the model has no usable vector for it.
    """
    if not text.strip():
        raise QueryError("the query is empty: ask something")
    limits = checkpoint.limits
    # No tokenizer is loaded for one question: its length is left for the model to judge.
    bound = min(limits.tokens_per_input, limits.tokens_per_request)
    embedded = embedder.embed([checkpoint.space.query_prompt + text], [bound])
    if rejection := embedded.rejected.get(0):
        raise QueryError(f"{checkpoint.space.model} has no vector for this query: {rejection.detail}")
    vector: NDArray[np.float32] = embedded.vectors[0]
    return vector


def _open_wordllama(checkpoint: Checkpoint) -> Embedder:
    try:
        # Late: an optional extra, and half a second to import.
        from tierloom.embedders.wordllama import WordLlamaEmbedder
    except ModuleNotFoundError as error:
        raise MissingExtra("local", f"the model {checkpoint.space.model}") from error
    return WordLlamaEmbedder(checkpoint)


def _open_openai(checkpoint: Checkpoint, concurrency: int) -> Embedder:
    try:
        # Late: an optional extra, and half a second to import.
        from tierloom.embedders.openai_compatible import OpenAICompatibleEmbedder
    except ModuleNotFoundError as error:
        raise MissingExtra("openai", f"the model {checkpoint.space.model}") from error
    return OpenAICompatibleEmbedder(checkpoint, concurrency)
