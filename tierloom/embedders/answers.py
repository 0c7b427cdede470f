"""Decoding an answer of an OpenAI-compatible `POST /embeddings` or of Cohere's own, and checking all that it states."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom.embedders.checking import check_vectors
from tierloom.embedders.embedder import Rejection

_SHOWN: Final = 120


class MalformedAnswer(Exception):
    """The body is not an answer to what was asked."""


class WrongDimensions(Exception):
    """Every vector of the answer has the same, wrong number of dimensions."""

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(f"the endpoint answered vectors of {found} dimensions, not {expected}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors of one request: float32 (inputs, dimensions), those not to be stored, and the tokens billed.

    `tokens` is None when the endpoint does not say. `unpaid` are those that were not asked for, by position.
    """

    vectors: NDArray[np.float32]
    rejected: Mapping[int, Rejection]
    tokens: int | None
    unpaid: frozenset[int] = frozenset()


class _Item(msgspec.Struct):
    # Base64 in answer to `encoding_format: base64`; a server that does not know that sends numbers, and some
    # send null for NaN.
    embedding: bytes | list[float | None]
    index: int | None = None


class _ByType(msgspec.Struct, rename={"floats": "float"}):
    floats: list[list[float | None]]


class _Body(msgspec.Struct):
    # Of Cohere's (https://docs.cohere.com/reference/embed) `embeddings`, in the order of the inputs, and `meta`.
    data: list[_Item] | None = None
    usage: Any = None
    embeddings: _ByType | None = None
    meta: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def decode_answer(body: bytes, inputs: int, dimensions: int, indexed: bool = True) -> Answer:
    """The vectors in `body`, joined to the inputs by `index`; by their order where the endpoint is known not to write
    indexes, so not `indexed`.

    Raises:
        MalformedAnswer: not JSON, not of this form, or not one vector for each input.
        WrongDimensions: all vectors agree on other dimensions. A single odd one is only rejected.
    """
    parsed = _parse(body)
    rows = _by_index(_items(parsed, indexed), inputs)
    found = {len(row) for row in rows}
    if len(found) == 1 and found != {dimensions}:
        raise WrongDimensions(found.pop(), dimensions)
    odd = {i: _wrong_dimensions(len(row), dimensions) for i, row in enumerate(rows) if len(row) != dimensions}
    vectors = np.stack([np.zeros(dimensions, np.float32) if i in odd else row for i, row in enumerate(rows)])
    return Answer(vectors, check_vectors(vectors) | odd, _billed(parsed))


def describe_body(content_type: str, body: bytes) -> str:
    """What came instead of an answer, in a few words."""
    start = " ".join(body[: 4 * _SHOWN].decode(errors="replace").split())[:_SHOWN]
    return f"{len(body)} bytes of {content_type or 'no stated type'} that begin {start!r}"


def _parse(body: bytes) -> _Body:
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_leniently(body)


def _parse_leniently(body: bytes) -> _Body:
    """Servers written in Python write NaN and Infinity as bare words, which JSON does not have."""
    try:
        return msgspec.convert(json.loads(body), _Body)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise MalformedAnswer(str(error)) from error


def _items(parsed: _Body, indexed: bool) -> list[_Item]:
    if parsed.embeddings is not None and parsed.data is None:
        return [_Item(floats, index) for index, floats in enumerate(parsed.embeddings.floats)]
    items = parsed.data or []
    if not indexed and all(item.index is None for item in items):
        return [_Item(item.embedding, index) for index, item in enumerate(items)]
    return items


def _by_index(items: list[_Item], inputs: int) -> list[NDArray[np.float32]]:
    places = [-1 if item.index is None else item.index for item in items]
    if sorted(places) != list(range(inputs)):
        raise MalformedAnswer(f"{len(items)} vectors whose indexes are not 0 to {inputs - 1}, each once")
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * inputs
    for place, item in zip(places, items, strict=True):
        rows[place] = _row(item.embedding)
    return rows


def _row(embedding: bytes | list[float | None]) -> NDArray[np.float32]:
    if isinstance(embedding, bytes):
        if len(embedding) % 4:
            raise MalformedAnswer(f"base64 of {len(embedding)} bytes, which is no whole number of float32")
        return np.frombuffer(embedding, "<f4")
    # A number beyond float32 becomes an infinity, which check_vectors names.
    with np.errstate(over="ignore"):
        return np.array(embedding, np.float64).astype(np.float32)


def _wrong_dimensions(found: int, expected: int) -> Rejection:
    return Rejection("wrong-dimensions", f"a vector of {found} dimensions, not {expected}")


def _billed(parsed: _Body) -> int | None:
    """Cohere writes its count as a float."""
    total = _member(parsed.usage, "total_tokens")
    counted = _member(_member(parsed.meta, "billed_units"), "input_tokens") if total is None else total
    if isinstance(counted, float) and counted.is_integer():
        counted = int(counted)
    return counted if isinstance(counted, int) and counted >= 0 else None


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
