import msgspec
import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.small_shards import CHECKPOINT
from tierloom import checkpoint
from tierloom.errors import EmbedderRefused
from tierloom.query_vectors import QueryVectors


def test_a_model_that_refused_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server must not need a restart because its key had run out."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    mended = False

    def script(asked: Asked) -> Reply | None:
        return None if mended else error(401, "no such key")

    with Endpoint(dimensions=32, script=script) as endpoint:
        reached = checkpoint.Endpoint(base_url=endpoint.base_url)
        vectors = QueryVectors(msgspec.structs.replace(CHECKPOINT, endpoint=reached))
        for _ in range(2):
            with pytest.raises(EmbedderRefused, match="no such key"):
                vectors.of(["a question"])
        mended = True
        (vector,) = vectors.of(["a question"])
        assert vector.shape == (32,)
        vectors.close()
