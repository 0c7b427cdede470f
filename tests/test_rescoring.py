import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tierloom.quantizer import quantize, to_unit_float16
from tierloom.rescoring import prefix_scores


def unit(query: NDArray[np.float64]) -> NDArray[np.float32]:
    return (query / np.linalg.norm(query)).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(0, 30), st.integers(0, 2**32 - 1), st.data())
def test_scores_are_the_cosines_of_the_codes(prefix: int, count: int, seed: int, data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, prefix))
    draw = np.random.default_rng(seed)
    rows = draw.integers(-127, 128, (count, prefix)).astype(np.int8)
    query = unit(draw.standard_normal(prefix + 5))
    head = query[:dimensions].astype(np.float64)
    code = np.rint(head / np.abs(head).max() * 127)
    codes = rows[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(codes, axis=1) * np.linalg.norm(code)
    exact = np.divide(codes @ code, lengths, out=np.zeros(count), where=lengths > 0)
    scores = prefix_scores(rows, query, dimensions)
    assert (str(scores.dtype), scores.shape) == ("float64", (count,))
    assert np.abs(scores - exact).max(initial=0) < 1e-6
    assert prefix_scores(rows[::2], query, dimensions).tolist() == scores[::2].tolist()


@pytest.mark.parametrize("dimensions", [8, 64, 200])
def test_they_estimate_the_cosine_of_the_vectors(dimensions: int) -> None:
    draw = np.random.default_rng(2)
    query = unit(draw.standard_normal(256))
    vectors = to_unit_float16(
        (query + draw.random((500, 1)) * 0.1 * draw.standard_normal((500, 256))).astype(np.float32)
    )
    head = vectors[:, :dimensions].astype(np.float64)
    exact = head @ query[:dimensions] / np.linalg.norm(head, axis=1) / np.linalg.norm(query[:dimensions])
    assert np.abs(prefix_scores(quantize(vectors, 200), query, dimensions) - exact).max() < 0.01


def test_a_prefix_of_zeros_points_nowhere() -> None:
    rows = np.array([[0, 0, 1], [1, 0, 1]], dtype=np.int8)
    assert prefix_scores(rows, np.array([1, 0, 0], dtype=np.float32), 2).tolist() == pytest.approx([0, 1], abs=1e-6)
    assert prefix_scores(rows, np.array([0, 0, 1], dtype=np.float32), 2).tolist() == [1, 0]
