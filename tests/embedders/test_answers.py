"""Decoding an answer: every way in which one can be wrong."""

import json
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.embedders.answers import MalformedAnswer, WrongDimensions, decode_answer, describe_body


def encoded(values: list[float]) -> str:
    return b64encode(np.array(values, "<f4").tobytes()).decode()


def body(data: Any, **members: Any) -> bytes:
    return json.dumps({"object": "list", "data": data, **members}).encode()


def item(index: int, values: list[float] | str) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": values}


@given(st.permutations(range(5)), st.lists(st.booleans(), min_size=5, max_size=5))
def test_vectors_are_joined_by_index_whatever_their_order_and_encoding(order: list[int], numbers: list[bool]) -> None:
    vectors = [[float(i + 1), -0.5] for i in range(5)]
    data = [item(i, vectors[i] if numbers[i] else encoded(vectors[i])) for i in order]
    found = decode_answer(body(data, usage={"total_tokens": 7}), 5, 2)
    assert found.vectors.dtype == np.float32
    assert found.vectors.tolist() == vectors
    assert found.rejected == {}
    assert found.tokens == 7


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": None}, {"total_tokens": "9"}, "none", {"total_tokens": -1}]
)
def test_tokens_are_unknown_when_the_server_does_not_say(usage: Any) -> None:
    assert decode_answer(body([item(0, [1.0])], usage=usage), 1, 1).tokens is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([item(0, [1.0])], id="short"),
        pytest.param([item(0, [1.0]), item(1, [1.0]), item(2, [1.0])], id="long"),
        pytest.param([item(0, [1.0]), item(0, [1.0])], id="index twice"),
        pytest.param([item(1, [1.0]), item(2, [1.0])], id="index beyond"),
        pytest.param([item(-1, [1.0]), item(0, [1.0])], id="negative index"),
        pytest.param([{"embedding": [1.0]}, {"embedding": [1.0]}], id="no index"),
        pytest.param([item(0, "AACAPw=="), item(1, "AACAP")], id="base64 cut inside a group"),
        pytest.param([item(0, "AACAPw=="), item(1, "AACA")], id="base64 cut inside a number"),
        pytest.param([item(0, "AACAPw=="), item(1, "A!CAPw==")], id="not base64"),
        pytest.param([item(0, [1.0]), {"index": 1}], id="no embedding"),
        pytest.param({"0": [1.0]}, id="no list"),
        pytest.param(None, id="null"),
    ],
)
def test_what_is_no_answer_is_malformed(data: Any) -> None:
    with pytest.raises(MalformedAnswer):
        decode_answer(body(data), 2, 1)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"error": {"message": "x"}}', b"3"])
def test_what_is_not_json_of_this_kind_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        decode_answer(raw, 1, 1)


def test_one_model_of_other_dimensions_is_named() -> None:
    with pytest.raises(WrongDimensions, match="3 dimensions, not 2"):
        decode_answer(body([item(0, [1.0] * 3), item(1, encoded([1.0] * 3))]), 2, 2)


def test_an_odd_vector_is_rejected_alone() -> None:
    found = decode_answer(body([item(0, [1.0, 2.0]), item(1, [1.0]), item(2, [3.0, 4.0])]), 3, 2)
    assert {i: rejection.reason for i, rejection in found.rejected.items()} == {1: "wrong-dimensions"}
    assert found.vectors[[0, 2]].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ("NaN", "not-finite"),
        ("null", "not-finite"),
        ("Infinity", "not-finite"),
        ("-Infinity", "not-finite"),
        ("1e39", "not-finite"),
        ("1e6", "float16-overflow"),
        ("0", "zero-norm"),
    ],
)
def test_a_value_that_cannot_be_stored_costs_its_own_input_alone(spoilt: str, reason: str) -> None:
    raw = b'{"data": [{"index": 1, "embedding": [1, 0]}, {"index": 0, "embedding": [%s, 0]}]}' % spoilt.encode()
    found = decode_answer(raw, 2, 2)
    assert {i: rejection.reason for i, rejection in found.rejected.items()} == {0: reason}
    assert found.vectors[1].tolist() == [1.0, 0.0]


def test_a_body_is_described_by_size_type_and_start() -> None:
    text = describe_body("text/html", b"<html>\n  <b>Sign in</b>" + b"x" * 1000)
    assert text.startswith("1023 bytes of text/html that begin '<html> <b>Sign in</b>xxx")
    assert len(text) < 200


def cohere(floats: list[list[float]], **members: Any) -> bytes:
    return json.dumps({"id": "x", "embeddings": {"float": floats}, **members}).encode()


@pytest.mark.parametrize(("units", "tokens"), [({"input_tokens": 9}, 9), ({"input_tokens": 9.0}, 9), ({}, None)])
def test_an_answer_as_cohere_writes_it(units: dict[str, float], tokens: int | None) -> None:
    """By order, and with the count in another place: https://docs.cohere.com/reference/embed."""
    found = decode_answer(cohere([[1.0, 2.0], [3.0, 4.0]], meta={"billed_units": units}), 2, 2)
    assert found.vectors.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found.tokens == tokens


@pytest.mark.parametrize(
    "body",
    [cohere([[1.0]]), cohere([[1.0], [1.0], [1.0]]), b'{"embeddings": {"int8": [[1], [1]]}}', b'{"embeddings": null}'],
)
def test_what_is_no_answer_of_cohere_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        decode_answer(body, 2, 1)


def test_order_tells_only_where_indexes_are_known_to_be_left_out() -> None:
    bare = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    assert decode_answer(body(bare), 2, 1, indexed=False).vectors.tolist() == [[1.0], [2.0]]
    # Where some are there all the same, they must fit.
    with pytest.raises(MalformedAnswer):
        decode_answer(body([item(1, [1.0]), bare[1]]), 2, 1, indexed=False)
    assert decode_answer(body([item(1, [1.0]), item(0, [2.0])]), 2, 1, indexed=False).vectors.tolist() == [[2.0], [1.0]]
    with pytest.raises(MalformedAnswer):
        decode_answer(body(bare[:1]), 2, 1, indexed=False)
