"""Each known checkpoint, with the real client: what arrives is what its provider's page asks for.

The bodies are written out here as those pages have them, not derived from the file.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.embedders.conftest import PLANTED, bounds, expected
from tests.embedders.endpoint import Asked, Endpoint, Reply, vector_of
from tierloom.checkpoint import Checkpoint
from tierloom.declaring import declared_checkpoint, known_names
from tierloom.embedders.opening import embed_queries, open_embedder, open_model, open_query_embedder
from tierloom.errors import EmbedderUnavailable

TEXTS = ["the first chunk", "the second"]
QUESTION = "where is it?"


def voyage(role: str) -> dict[str, Any]:
    return {"input_type": role, "output_dimension": 2048, "encoding_format": "base64", "truncation": False}


def both(**members: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return members, members


# The members beside model and texts, of documents and of queries.
MEMBERS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text-embedding-3-small": both(encoding_format="base64"),
    "text-embedding-3-large": both(encoding_format="base64"),
    "gemini-embedding-001": both(),
    "jina-embeddings-v3": (
        {"task": "retrieval.passage", "embedding_type": "base64"},
        {"task": "retrieval.query", "embedding_type": "base64"},
    ),
    **{
        name: (voyage("document"), voyage("query"))
        for name in ("voyage-4-large", "voyage-4", "voyage-4-lite", "voyage-3-large", "voyage-3.5", "voyage-3.5-lite")
    },
    "embed-v4.0": (
        {
            "input_type": "search_document",
            "output_dimension": 1536,
            "embedding_types": ["float"],
            "truncate": "NONE",
        },
        {"input_type": "search_query", "output_dimension": 1536, "embedding_types": ["float"], "truncate": "NONE"},
    ),
    "nomic-embed-text-v1.5": both(encoding_format="base64"),
    "embeddinggemma-300m": both(encoding_format="base64"),
    "qwen3-embedding-0.6b": both(encoding_format="base64"),
    "qwen3-embedding-4b": both(encoding_format="base64"),
    "qwen3-embedding-8b": both(encoding_format="base64"),
    "mxbai-embed-large-v1": both(encoding_format="base64"),
    "snowflake-arctic-embed-m-v2.0": both(encoding_format="base64"),
    "snowflake-arctic-embed-l-v2.0": both(encoding_format="base64"),
}
# What is before a document, and before a query.
PROMPTS: Mapping[str, tuple[str, str]] = {
    "nomic-embed-text-v1.5": ("search_document: ", "search_query: "),
    "embeddinggemma-300m": ("title: none | text: ", "task: search result | query: "),
    **{
        f"qwen3-embedding-{size}": (
            "",
            "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        )
        for size in ("0.6b", "4b", "8b")
    },
    "mxbai-embed-large-v1": ("", "Represent this sentence for searching relevant passages: "),
    "snowflake-arctic-embed-m-v2.0": ("", "query: "),
    "snowflake-arctic-embed-l-v2.0": ("", "query: "),
}
# Where each provider answers; the others are served by whoever uses them.
ADDRESSES: Mapping[str, tuple[str | None, str]] = {
    "text-embedding": (None, "OPENAI_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "jina": ("https://api.jina.ai/v1", "JINA_API_KEY"),
    "voyage": ("https://api.voyageai.com/v1", "VOYAGE_API_KEY"),
    "embed-v4": ("https://api.cohere.com/v2", "COHERE_API_KEY"),
}
ASKED = tuple(name for name in known_names() if name != "wordllama")


def as_the_provider(asked: Asked, dimensions: int) -> Reply:
    """An answer in the form that the request asks for, out of order where indexes tell it."""
    texts = asked.body.get("input") or asked.body["texts"]
    vectors = [vector_of(text, dimensions) for text in texts]
    if "texts" in asked.body:
        floats = [vector.tolist() for vector in vectors]
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7.0}}
        return Reply(
            body=msgspec.json.encode({"id": "x", "embeddings": {"float": floats}, "texts": texts, "meta": meta})
        )
    if "base64" in asked.body.values():
        written = [b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(written)]
        return Reply(body=msgspec.json.encode({"data": data[::-1], "usage": {"total_tokens": 7}}))
    plain = [{"object": "embedding", "embedding": vector.tolist()} for vector in vectors]
    return Reply(body=msgspec.json.encode({"object": "list", "data": plain, "model": asked.body["model"]}))


def served(name: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The known checkpoint, asked at the loopback endpoint with a key in its own variable."""
    checkpoint = declared_checkpoint(name, endpoint.base_url)
    monkeypatch.setenv(checkpoint.endpoint.api_key_env, PLANTED)
    endpoint.script = lambda asked: as_the_provider(asked, checkpoint.space.dimensions)
    return checkpoint


def test_every_known_checkpoint_is_tried_here() -> None:
    assert set(MEMBERS) == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_documents_are_asked_for_as_the_provider_wants_it(
    name: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = served(name, endpoint, monkeypatch)
    embedder = open_model(checkpoint)
    inputs = [checkpoint.space.document_prompt + text for text in TEXTS]
    embedded = embedder.embed(inputs, bounds(inputs))
    embedder.close()
    (asked,) = endpoint.asked
    assert asked.path == ("/v1/embed" if name == "embed-v4.0" else "/v1/embeddings")
    assert asked.headers["authorization"] == f"Bearer {PLANTED}"
    texts = "texts" if name == "embed-v4.0" else "input"
    prompt = PROMPTS.get(name, ("", ""))[0]
    assert asked.body == {"model": checkpoint.space.model, texts: [prompt + text for text in TEXTS], **MEMBERS[name][0]}
    assert embedded.rejected == {}
    assert np.array_equal(embedded.vectors, expected(inputs, checkpoint.space.dimensions))
    # Google says nothing of tokens: what is counted then is the bound.
    assert embedded.tokens == (sum(bounds(inputs)) if name == "gemini-embedding-001" else 7)


@pytest.mark.parametrize("name", ASKED)
def test_queries_are_asked_for_as_the_provider_wants_it(
    name: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = served(name, endpoint, monkeypatch)
    embedder = open_query_embedder(checkpoint)
    vectors = embed_queries(embedder, checkpoint, [QUESTION])
    embedder.close()
    (asked,) = endpoint.asked
    prompt = PROMPTS.get(name, ("", ""))[1]
    texts = "texts" if name == "embed-v4.0" else "input"
    assert asked.body == {"model": checkpoint.space.model, texts: [prompt + QUESTION], **MEMBERS[name][1]}
    assert vectors.shape == (1, checkpoint.space.dimensions)


@pytest.mark.parametrize("name", ASKED)
def test_each_is_where_its_provider_is(name: str) -> None:
    endpoint = declared_checkpoint(name).endpoint
    known = next((held for start, held in ADDRESSES.items() if name.startswith(start)), None)
    assert (endpoint.base_url, endpoint.api_key_env) == (known or ("http://127.0.0.1:8000/v1", "VLLM_API_KEY"))


def test_questions_go_through_the_declared_layer_norm(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = served("nomic-embed-text-v1.5", endpoint, monkeypatch)
    asking, storing = open_query_embedder(checkpoint), open_embedder(checkpoint)
    vectors = embed_queries(asking, checkpoint, [QUESTION])
    text = "search_query: " + QUESTION
    stored = storing.embed([text], bounds([text])).vectors
    asking.close()
    storing.close()
    assert np.array_equal(vectors, stored)
    assert abs(float(vectors.mean())) < 1e-6


def test_an_endpoint_that_should_write_indexes_must(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order it answers, no vector is stored for another text."""
    checkpoint = served("gemini-embedding-001", endpoint, monkeypatch)
    strict = msgspec.structs.replace(checkpoint, endpoint=msgspec.structs.replace(checkpoint.endpoint, indexed=True))
    embedder = open_model(strict)
    with pytest.raises(EmbedderUnavailable, match="indexes are not 0 to"):
        embedder.embed(TEXTS, bounds(TEXTS))
    embedder.close()


@pytest.mark.parametrize("name", known_names())
def test_its_numbers_fit_together(name: str) -> None:
    checkpoint = declared_checkpoint(name)
    space, limits = checkpoint.space, checkpoint.limits
    assert space.trained_prefixes[-1] == space.dimensions
    assert list(space.trained_prefixes) == sorted(set(space.trained_prefixes))
    assert limits.tokens_per_input <= limits.tokens_per_request
    asked = {space.fields(role).get("output_dimension", space.dimensions) for role in ("documents", "queries")}
    assert asked == {space.dimensions}
    if checkpoint.price is not None:
        batch = checkpoint.price.batch_usd_per_million_tokens
        assert batch is None or batch < checkpoint.price.usd_per_million_tokens
        assert checkpoint.price.page.startswith("https://")
