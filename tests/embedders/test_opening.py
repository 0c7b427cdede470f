"""From a checkpoint to its embedder, and the vector of a question."""

import subprocess
import sys

import numpy as np
import pytest

from tests.embedders.conftest import Opener, bounds, checkpoint_at, expected
from tests.embedders.endpoint import Endpoint, error
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import embed_queries, open_embedder
from tierloom.errors import QueryError


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
