"""From a checkpoint to its embedder, and the vector of a question."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from tests.embedders.conftest import Opener, bounds, checkpoint_at, expected
from tests.embedders.endpoint import Endpoint, error
from tierloom.checkpoint import Endpoint as Address
from tierloom.checkpoint import Price
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import embed_queries, open_embedder, refuse_without_batches
from tierloom.errors import CheckpointError, QueryError


def test_wordllama_opens_and_answers() -> None:
    checkpoint = declared_checkpoint("wordllama")
    embedder = open_embedder(checkpoint)
    vectors = embed_queries(embedder, checkpoint, ["what is a matryoshka?"])
    assert vectors.shape == (1, 256)
    assert vectors.dtype == np.float32
    embedder.close()


def test_an_endpoint_opens_with_its_concurrency(endpoint: Endpoint) -> None:
    endpoint.delay_seconds = 0.02
    embedder = open_embedder(checkpoint_at(endpoint.base_url), concurrency=2)
    texts = ["a" * 8000 + str(i) for i in range(200)]
    assert embedder.embed(texts, bounds(texts)).rejected == {}
    embedder.close()
    assert endpoint.requests >= 6
    assert endpoint.most_under_way == 2


def test_queries_share_a_request_and_have_their_prompt(endpoint: Endpoint, open_at: Opener) -> None:
    asked = [f"where is {at}?" for at in range(20)]
    vectors = embed_queries(open_at(endpoint), checkpoint_at(endpoint.base_url), asked)
    prompted = [f"query: {text}" for text in asked]
    assert [request.inputs for request in endpoint.asked] == [prompted]
    assert np.array_equal(vectors, expected(prompted))


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_query_is_refused_unsent(endpoint: Endpoint, open_at: Opener, text: str) -> None:
    with pytest.raises(QueryError, match="empty"):
        embed_queries(open_at(endpoint), checkpoint_at(endpoint.base_url), [text])
    assert endpoint.requests == 0


def test_a_rejected_query_says_why(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(400, "too long") if "essay" in asked.inputs[0] else None
    with pytest.raises(QueryError, match=r"test-model.*HTTP 400: too long"):
        embed_queries(open_at(endpoint), checkpoint_at(endpoint.base_url), ["essay"])


@pytest.mark.parametrize(
    ("model", "package", "extra"), [("wordllama", "wordllama", "local"), ("text-embedding-3-small", "openai", "openai")]
)
def test_an_absent_library_is_named_by_its_extra(model: str, package: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from tierloom.declaring import declared_checkpoint\n"
        "from tierloom.embedders.opening import open_embedder\n"
        "from tierloom.errors import MissingExtra\n"
        "try: open_embedder(declared_checkpoint(" + repr(model) + "))\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert f"tierloom[{extra}]" in done.stdout
    assert model in done.stdout or "l2_supercat" in done.stdout


def test_a_model_without_a_batch_api_is_refused_for_batches() -> None:
    with pytest.raises(CheckpointError, match="of wordllama has no Batch API"):
        refuse_without_batches([declared_checkpoint("wordllama")])
    priced = msgspec.structs.replace(checkpoint_at("http://127.0.0.1:9/v1"), price=Price(0.02, "2026-01-01", "page"))
    with pytest.raises(CheckpointError, match="the declared price of test-model has no batch_usd_per_million_tokens"):
        refuse_without_batches([priced])
    elsewhere = msgspec.structs.replace(priced, endpoint=Address(path="/embed"), price=None)
    with pytest.raises(CheckpointError, match="is asked at /embed"):
        refuse_without_batches([elsewhere])
    cheaper = msgspec.structs.replace(priced, price=Price(0.02, "2026-01-01", "page", 0.01))
    for fine in (cheaper, checkpoint_at("http://127.0.0.1:9/v1")):
        refuse_without_batches([priced, fine])
