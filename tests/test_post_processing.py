"""Layer norm before the cut: the rule, what it does to documents and to queries, and how it is declared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.embedders.conftest import bounds
from tierloom.checkpoint import Checkpoint
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.embedder import Embedded, Rejection
from tierloom.embedders.opening import embed_queries, open_embedder, open_model
from tierloom.errors import CheckpointError, Malformed
from tierloom.post_processing import PostProcessed, layer_norm
from tierloom.quantizer import to_unit_float16
from tierloom.sealed import seal

WORDLLAMA = declared_checkpoint("wordllama")
NORMED = msgspec.structs.replace(
    WORDLLAMA, space=msgspec.structs.replace(WORDLLAMA.space, post_processing=("layer-norm", "unit-norm"))
)

components = st.floats(-65504, 65504, width=32, allow_subnormal=False)
rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 40)), elements=components)


def by_hand(row: Sequence[float]) -> list[float]:
    """The formula of torch.nn.functional.layer_norm, number by number."""
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / (variance + 1e-5) ** 0.5 for x in row]


@given(rows)
def test_layer_norm_is_that_of_torch(vectors: NDArray[np.float32]) -> None:
    expected = np.array([by_hand(row) for row in vectors.astype(np.float64).tolist()])
    assert np.allclose(layer_norm(vectors), expected, rtol=1e-5, atol=1e-5)


@given(components, st.integers(1, 4096))
def test_equal_components_leave_no_direction(value: float, dimensions: int) -> None:
    assert not layer_norm(np.full((1, dimensions), value, np.float32)).any()


class Answering:
    """An embedder that answers these vectors, of which some are rejected."""

    def __init__(self, vectors: NDArray[np.float32], rejected: dict[int, Rejection]) -> None:
        self._answer = Embedded(vectors, rejected, 7)
        self.closed = False

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        return self._answer

    def close(self) -> None:
        self.closed = True


def test_what_was_rejected_stays_so_and_what_has_no_direction_joins_it() -> None:
    vectors = np.array([[1, 2, 3], [np.nan, np.inf, 0], [4, 4, 4]], np.float32)
    before = Rejection("not-finite", "as the model said")
    embedder = PostProcessed(Answering(vectors, {1: before}))
    embedded = embedder.embed(["a", "b", "c"], [1, 1, 1])
    assert embedded.rejected[1] == before
    assert embedded.rejected[2].reason == "zero-norm"
    assert set(embedded.rejected) == {1, 2}
    assert embedded.tokens == 7
    assert np.allclose(embedded.vectors[0], by_hand([1, 2, 3]), rtol=1e-6)


def test_closing_closes_the_model() -> None:
    model = Answering(np.ones((1, 2), np.float32), {})
    PostProcessed(model).close()
    assert model.closed


def test_documents_and_queries_of_a_declared_layer_norm_are_centred() -> None:
    texts = ["what is a matryoshka?", "a doll within a doll"]
    raw = open_model(NORMED).embed(texts, bounds(texts)).vectors
    embedder = open_embedder(NORMED)
    stored = to_unit_float16(embedder.embed(texts, bounds(texts)).vectors)
    centred = raw - raw.mean(axis=1, keepdims=True)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(stored, expected, atol=1e-3)
    (query,) = embed_queries(embedder, NORMED, texts[:1])
    assert np.allclose(query / np.linalg.norm(query), expected[0], atol=1e-6)


def test_without_a_declaration_vectors_are_as_the_model_answers() -> None:
    texts = ["a doll within a doll"]
    embedded = open_embedder(WORDLLAMA).embed(texts, bounds(texts))
    assert np.array_equal(embedded.vectors, open_model(WORDLLAMA).embed(texts, bounds(texts)).vectors)


DECLARED = 'provider = "openai"\nmodel = "m"\ndimensions = 8\n'


def declare(folder: Path, line: str) -> Checkpoint:
    path = folder / "model.toml"
    path.write_text(DECLARED + line, encoding="utf-8")
    return declared_checkpoint(str(path))


def test_it_is_declared_by_name_and_part_of_the_identity(tmp_path: Path) -> None:
    plain, normed = declare(tmp_path, ""), declare(tmp_path, 'post_processing = ["layer-norm"]\n')
    assert plain.space.post_processing == ("unit-norm",)
    assert normed.space.post_processing == ("layer-norm", "unit-norm")
    assert plain.fingerprint != normed.fingerprint
    assert Checkpoint.from_bytes(normed.to_bytes(), normed.fingerprint) == normed


@pytest.mark.parametrize("steps", ['["whitening"]', '["unit-norm"]', '["layer-norm", "layer-norm"]', '"layer-norm"'])
def test_other_steps_are_refused(tmp_path: Path, steps: str) -> None:
    with pytest.raises(CheckpointError, match="post_processing"):
        declare(tmp_path, f"post_processing = {steps}\n")


@pytest.mark.parametrize("steps", [[], ["layer-norm"], ["unit-norm", "layer-norm"], ["unit-norm", "unit-norm"]])
def test_a_stored_checkpoint_with_other_steps_is_malformed(steps: list[str]) -> None:
    members: Any = msgspec.to_builtins(WORDLLAMA)
    members["space"]["post_processing"] = steps
    with pytest.raises(Malformed, match="post_processing"):
        Checkpoint.from_bytes(seal(members), WORDLLAMA.fingerprint)
