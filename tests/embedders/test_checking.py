"""What may be sent and what may be stored."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.embedders.checking import check_inputs, check_vectors

float32s = st.floats(width=32, allow_nan=True, allow_infinity=True)
components = st.one_of(st.just(0.0), st.floats(-2, 2, width=32), float32s)


def expected_reason(vector: list[float]) -> str | None:
    if any(not math.isfinite(x) for x in vector):
        return "not-finite"
    if any(abs(x) > 65504 for x in vector):
        return "float16-overflow"
    # Squares in float64 are exact enough here: the norm must survive as a normal float32.
    return "zero-norm" if max(x * x for x in vector) < 2.0**-126 else None


@given(st.lists(st.lists(components, min_size=3, max_size=3), min_size=1, max_size=6))
def test_vectors_are_judged_one_by_one(rows: list[list[float]]) -> None:
    found = check_vectors(np.array(rows, np.float32))
    expected = {i: reason for i, row in enumerate(rows) if (reason := expected_reason(row))}
    assert {i: rejection.reason for i, rejection in found.items()} == expected


@pytest.mark.parametrize("value", [65504.0, -65504.0, 2.0**-63])
def test_the_last_storable_values_pass(value: float) -> None:
    vectors = np.array([[value, 0.0]], np.float32)
    assert check_vectors(vectors) == {}
    assert np.isfinite(vectors.astype(np.float16)).all()


def test_the_detail_carries_the_value() -> None:
    found = check_vectors(np.array([[1e6, 0], [0, 0]], np.float32))
    assert "1e+06" in found[0].detail
    assert "65504" in found[0].detail
    assert "is 0" in found[1].detail


def test_no_vectors_no_rejections() -> None:
    assert check_vectors(np.zeros((0, 4), np.float32)) == {}


def test_inputs_that_cannot_be_sent_are_named() -> None:
    found = check_inputs(["fine", "", "long", "a\ud800b"], [1, 0, 11, 3], 10)
    assert {i: rejection.reason for i, rejection in found.items()} == {
        1: "empty-input",
        2: "too-many-tokens",
        3: "invalid-unicode",
    }
    assert "11" in found[2].detail
    assert "10" in found[2].detail
    assert "character 1" in found[3].detail
