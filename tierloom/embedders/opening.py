"""From a checkpoint to the embedder that serves it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tierloom.canaries import Canaries
from tierloom.checkpoint import Checkpoint, Role
from tierloom.embedders.embedder import Embedder
from tierloom.embedders.metered import Metered
from tierloom.errors import CheckpointError, MissingExtra, QueryError
from tierloom.post_processing import PostProcessed
from tierloom.spending.account import Account
from tierloom.spending.terms import Lane
from tierloom.stores.store import Store

if TYPE_CHECKING:
    from tierloom.embedders.batch_lane import BatchLane
    from tierloom.embedders.submitted_batch import UnderWay

_END_MARKS: Final = 4
# Reads the canaries of a checkpoint, when they are needed.
ReadCanaries = Callable[[], Canaries]

# Those of a server come from all of its threads.
_QUERIES_AT_ONCE: Final = 32


def open_embedder(
    checkpoint: Checkpoint,
    concurrency: int = 8,
    role: Role = "documents",
    account: Account | None = None,
    canaries: ReadCanaries | None = None,
) -> Embedder:
    """The embedder of `checkpoint` in this role; at most `concurrency` requests of it are under way at once, paid from
    `account`.

    Its vectors have been through the declared post-processing, but for the unit norm. `canaries` go along with the
    requests for documents to an endpoint, and are read when the first one is due. A model that runs in this process
    does without: it does not change while it is open. Raises `MissingExtra` when its library is not installed,
    `EmbedderRefused` when it cannot serve this checkpoint.
    """
    return post_processed(open_model(checkpoint, concurrency, role, account, canaries), checkpoint)


def post_processed(embedder: Embedder, checkpoint: Checkpoint) -> Embedder:
    """An embedder whose vectors have been through the declared post-processing, but for the unit norm."""
    return PostProcessed(embedder) if "layer-norm" in checkpoint.space.post_processing else embedder


def open_model(
    checkpoint: Checkpoint,
    concurrency: int = 8,
    role: Role = "documents",
    account: Account | None = None,
    canaries: ReadCanaries | None = None,
) -> Embedder:
    """As `open_embedder`, with vectors as the model answers them."""
    if checkpoint.space.in_process:
        embedder = _open_in_process(checkpoint)
        return Metered(embedder, account) if account else embedder
    return _open_openai(checkpoint, concurrency, role, account=account, canaries=canaries)


def open_batch_lane(
    checkpoint: Checkpoint,
    store: Store,
    at_once: int,
    account: Account,
    retry: bool,
    watch: Callable[["UnderWay"], None],
    canaries: ReadCanaries | None = None,
) -> "BatchLane":
    """The Batch API of `checkpoint`, paid from `account`: see `BatchLane`. Its vectors are as the model answers them.
    Raises as `open_embedder`."""
    try:
        # Late: an optional extra, and half a second to import.
        from tierloom.embedders import batch_lane
    except ModuleNotFoundError as error:
        raise MissingExtra("openai", f"the model {checkpoint.space.model}") from error
    looks = batch_lane.LOOKS
    return batch_lane.BatchLane(checkpoint, store, at_once, account, retry, watch, looks, canaries=canaries)


def why_no_batches(checkpoint: Checkpoint) -> str | None:
    """What is known to keep a model from a Batch API, if anything is."""
    space, price, path = checkpoint.space, checkpoint.price, checkpoint.endpoint.path
    if space.provider != "openai":
        return f"{space.model} of {space.provider} has no Batch API: only provider openai has one"
    if path != "/embeddings":
        return f"{space.model} is asked at {path}, and a Batch API only at /embeddings"
    if price and price.batch_usd_per_million_tokens is None:
        return f"the declared price of {space.model} has no batch_usd_per_million_tokens, so there is no Batch API"
    return None


def lane_of(checkpoint: Checkpoint, lane: Lane) -> Lane:
    """The lane of a run, as this model can have it."""
    return "batch" if lane == "batch" and why_no_batches(checkpoint) is None else "requests"


def refuse_without_batches(checkpoints: Sequence[Checkpoint]) -> None:
    """Raises `CheckpointError` when none of these models can have a Batch API."""
    reasons = [why_no_batches(checkpoint) for checkpoint in checkpoints]
    if None not in reasons:
        raise CheckpointError(f"{'; '.join(map(str, reasons))}; leave out --lane batch")


def open_query_embedder(checkpoint: Checkpoint) -> Embedder:
    """The embedder of questions, which somebody waits for: it gives up within some fifteen seconds, where a pipeline
    goes on for minutes. Raises as `open_embedder`."""
    if checkpoint.space.in_process:
        return open_embedder(checkpoint, role="queries")
    return post_processed(_open_openai(checkpoint, _QUERIES_AT_ONCE, "queries", impatient=True), checkpoint)


def embed_queries(embedder: Embedder, checkpoint: Checkpoint, texts: Sequence[str]) -> NDArray[np.float32]:
    """The vectors of questions, float32 (n, native dimensions), with the query prompt before each; post-processed as
    those of documents are, but not of unit length. They share requests as far as the limits of the checkpoint allow.

    `embedder` was opened for queries. Raises `QueryError` when a text is empty or the model has no usable vector for
    it.
    """
    for text in texts:
        if not text.strip():
            raise QueryError("the query is empty: ask something")
    inputs = [checkpoint.space.query_prompt + text for text in texts]
    embedded = embedder.embed(inputs, [_token_bound(text, checkpoint) for text in inputs])
    for at in sorted(embedded.rejected):
        detail = embedded.rejected[at].detail
        which = "this query" if len(texts) == 1 else f"query {at}"
        raise QueryError(f"{checkpoint.space.model} has no vector for {which}: {detail}")
    return embedded.vectors


def _token_bound(text: str, checkpoint: Checkpoint) -> int:
    """No tokenizer is loaded for questions: a token is at least a byte, and a few mark the ends of the text. What may
    be too long is left for the model to judge."""
    limits = checkpoint.limits
    most = len(text.encode(errors="replace")) + _END_MARKS
    return min(most, limits.tokens_per_input, limits.tokens_per_request)


# The modules of the embedders are imported late: each is an optional extra, and takes half a second or more.


def _open_in_process(checkpoint: Checkpoint) -> Embedder:
    if checkpoint.space.provider == "sentence-transformers":
        return _open_sentence_transformers(checkpoint)
    try:
        from tierloom.embedders.wordllama import WordLlamaEmbedder
    except ModuleNotFoundError as error:
        raise MissingExtra("local", f"the model {checkpoint.space.model}") from error
    return WordLlamaEmbedder(checkpoint)


def _open_sentence_transformers(checkpoint: Checkpoint) -> Embedder:
    try:
        from tierloom.embedders.sentence_transformers import SentenceTransformersEmbedder
    except ModuleNotFoundError as error:
        raise MissingExtra("sentence-transformers", f"the model {checkpoint.space.model}") from error
    return SentenceTransformersEmbedder(checkpoint)


def _open_openai(
    checkpoint: Checkpoint,
    concurrency: int,
    role: Role,
    impatient: bool = False,
    account: Account | None = None,
    canaries: ReadCanaries | None = None,
) -> Embedder:
    try:
        from tierloom.embedders.openai_compatible import OpenAICompatibleEmbedder
        from tierloom.embedders.retrying import Patience
    except ModuleNotFoundError as error:
        raise MissingExtra("openai", f"the model {checkpoint.space.model}") from error
    if not impatient:
        return OpenAICompatibleEmbedder(checkpoint, concurrency, role=role, account=account, canaries=canaries)
    patience = Patience(attempts=3, brief_attempts=2, total_seconds=8.0, first_wait=0.2, longest_wait=2.0)
    return OpenAICompatibleEmbedder(checkpoint, concurrency, patience, connect_seconds=3.0, read_seconds=6.0, role=role)
