import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tierloom.collection import Tier
from tierloom.quantizer import (
    MAX_CODE,
    binary_codes,
    estimated_cosine,
    prefix_codes,
    quantize,
    quantize_query,
    query_code,
    to_unit_float16,
)

_SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
# Every finite float16: subnormals (6e-8) and the largest (65504) too.
_HALVES = hnp.arrays(np.float16, _SHAPES, elements=st.floats(width=16, allow_nan=False, allow_infinity=False))
_SINGLES = hnp.arrays(
    np.float32, _SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False), fill=st.nothing()
)


def oracle(vectors: NDArray[np.float16], prefix_dimensions: int) -> NDArray[np.float64]:
    """The codes before rounding, in float64."""
    prefix = vectors[:, :prefix_dimensions].astype(np.float64)
    largest = np.abs(prefix).max(axis=1, keepdims=True)
    return prefix / np.where(largest > 0, largest, 1.0) * MAX_CODE


@given(_HALVES, st.data())
def test_codes_are_those_of_a_float64_oracle(vectors: NDArray[np.float16], data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, vectors.shape[1]))
    exact = oracle(vectors, dimensions)
    codes = quantize(vectors, dimensions)
    assert codes.dtype == np.int8
    assert codes.shape == exact.shape
    assert np.abs(codes - exact).max() <= 0.5 + 1e-4
    clear = np.abs(np.abs(exact - np.floor(exact)) - 0.5) > 1e-4
    assert np.array_equal(codes[clear], np.rint(exact)[clear])


@given(_HALVES)
def test_the_largest_component_has_code_127_and_none_wraps(vectors: NDArray[np.float16]) -> None:
    codes = quantize(vectors, vectors.shape[1]).astype(np.int64)
    zero = ~vectors.any(axis=1)
    assert (np.abs(codes).max(axis=1) == np.where(zero, 0, MAX_CODE)).all()
    assert (codes * np.sign(vectors).astype(np.int64) >= 0).all()


def test_extremes_of_float16_neither_wrap_nor_vanish() -> None:
    smallest, largest = np.float16(2**-24), np.float16(65504)
    vectors = np.array([[smallest, -smallest], [largest, -largest], [largest, smallest], [0, 0]], dtype=np.float16)
    assert quantize(vectors, 2).tolist() == [[127, -127], [127, -127], [127, 0], [0, 0]]


@pytest.mark.parametrize(("numerator", "code"), [(0.5, 0), (1.5, 2), (2.5, 2), (-2.5, -2), (126.5, 126)])
def test_exact_halves_go_to_the_even_code(numerator: float, code: int) -> None:
    assert quantize(np.array([[127, numerator]], dtype=np.float16), 2).tolist() == [[127, code]]


@given(_HALVES, st.data())
def test_a_slice_of_the_nested_code_points_where_the_tier_of_its_own_points(
    vectors: NDArray[np.float16], data: st.DataObject
) -> None:
    dimensions = data.draw(st.integers(1, vectors.shape[1]))
    nested = quantize(vectors, vectors.shape[1])[:, :dimensions].astype(np.float64)
    apart = oracle(vectors, dimensions)
    # The nested code has the scale of the longer prefix: the same direction in coarser steps.
    shrink = np.abs(nested).max(axis=1, keepdims=True) / MAX_CODE
    assert (np.abs(nested - apart * shrink) <= 1.0 + 1e-4).all()


@given(_HALVES)
def test_a_prefix_is_quantized_as_if_nothing_followed_it(vectors: NDArray[np.float16]) -> None:
    padded = np.concatenate([vectors, np.full_like(vectors, 65504)], axis=1)
    assert np.array_equal(quantize(padded, vectors.shape[1]), quantize(vectors, vectors.shape[1]))


@given(_HALVES)
def test_a_query_is_coded_like_a_stored_row(vectors: NDArray[np.float16]) -> None:
    exact = oracle(vectors, vectors.shape[1])
    for row, wanted in zip(vectors, exact, strict=True):
        code = quantize_query(row.astype(np.float32), len(row))
        assert code.dtype == np.int8
        assert np.abs(code - wanted).max() <= 0.5 + 1e-9


@given(_SINGLES)
def test_unit_vectors_have_unit_length_and_the_same_direction(vectors: NDArray[np.float32]) -> None:
    vectors = vectors[vectors.any(axis=1)]
    unit = to_unit_float16(vectors)
    assert unit.dtype == np.float16
    wide = vectors.astype(np.float64)
    wide /= np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    # Half a step of float16 (relative 2^-11; absolute 2^-25 where it is subnormal), and float32's error.
    assert (np.abs(unit - wide) <= np.abs(wide) * 2**-11 + 2**-25 + 1e-6).all()


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1.0, 1e19, 3.4e38])
def test_no_scale_of_float32_overflows_or_vanishes(size: float) -> None:
    unit = to_unit_float16(np.full((1, 1536), size, dtype=np.float32))
    assert np.allclose(unit, 1536**-0.5, rtol=2**-10)
    assert abs(float(np.linalg.norm(unit.astype(np.float64))) - 1) < 1e-3


def test_quantizing_leaves_its_input_alone() -> None:
    vectors = np.array([[1.0, -0.25]], dtype=np.float16)
    quantize(vectors, 2)
    to_unit_float16(vectors.astype(np.float32))
    assert vectors.tolist() == [[1.0, -0.25]]


def signs(numbers: NDArray[np.generic]) -> int:
    """The packed code of one row as a number, bit by bit."""
    return int("".join("1" if number > 0 else "0" for number in numbers.tolist()), 2)


@given(hnp.arrays(np.int8, st.tuples(st.integers(0, 9), st.integers(8, 90))), st.data())
def test_binary_codes_are_the_signs_in_order(prefixes: NDArray[np.int8], data: st.DataObject) -> None:
    dimensions = 8 * data.draw(st.integers(1, prefixes.shape[1] // 8))
    codes = binary_codes(prefixes, dimensions)
    assert (str(codes.dtype), codes.shape) == ("uint8", (len(prefixes), dimensions // 8))
    for code, prefix in zip(codes, prefixes, strict=True):
        assert int.from_bytes(code.tobytes(), "big") == signs(prefix[:dimensions])
    assert np.array_equal(codes, prefix_codes(prefixes, Tier("x", dimensions, "binary")))
    assert np.array_equal(prefixes[:, :dimensions], prefix_codes(prefixes, Tier("x", dimensions)))


@given(hnp.arrays(np.float32, st.integers(8, 90), elements=st.floats(-1, 1, width=32)), st.data())
def test_a_query_has_a_code_of_either_kind(query: NDArray[np.float32], data: st.DataObject) -> None:
    dimensions = 8 * data.draw(st.integers(1, len(query) // 8))
    code = query_code(query, Tier("x", dimensions, "binary"))
    assert (str(code.dtype), code.shape) == ("uint8", (dimensions // 8,))
    assert int.from_bytes(code.tobytes(), "big") == signs(query[:dimensions])
    assert np.array_equal(query_code(query, Tier("x", dimensions)), quantize_query(query, dimensions))


def test_the_share_of_differing_signs_estimates_the_angle() -> None:
    distances = np.array([0, 64, 128], dtype=np.float32)
    assert np.allclose(estimated_cosine(distances, "hamming", 128), [1, 0, -1])
    assert estimated_cosine(np.array([0.25], np.float32), "cos", 128).tolist() == [0.75]
    draw = np.random.default_rng(5)
    first, noise = draw.standard_normal((2, 200, 4096)).astype(np.float32)
    for share in (0.0, 0.3, 1.0, 3.0):
        second = first + share * noise
        differ = np.count_nonzero((first > 0) != (second > 0), axis=1).astype(np.float32)
        assert abs(estimated_cosine(differ, "hamming", 4096).mean() - 1 / np.hypot(1, share)) < 0.01
