"""Decoding an answer of an OpenAI-compatible `POST /embeddings`, and checking all that it states."""

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

    `tokens` is None when the endpoint does not say.
    """

    vectors: NDArray[np.float32]
    rejected: Mapping[int, Rejection]
    tokens: int | None


class _Item(msgspec.Struct):
    # Base64 in answer to `encoding_format: base64`; a server that does not know that sends numbers, and some
    # send null for NaN.
    index: int
    embedding: bytes | list[float | None]


class _Body(msgspec.Struct):
    data: list[_Item]
    usage: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def decode_answer(body: bytes, inputs: int, dimensions: int) -> Answer:
    """The vectors in `body`, joined to the inputs by `index`.

    Raises:
        MalformedAnswer: not JSON, not of this form, or not one vector for each input.
        WrongDimensions: all vectors agree on other dimensions. A single odd one is only rejected.
    """
    parsed = _parse(body)
    rows = _by_index(parsed.data, inputs)
    found = {len(row) for row in rows}
    if len(found) == 1 and found != {dimensions}:
        raise WrongDimensions(found.pop(), dimensions)
    odd = {i: _wrong_dimensions(len(row), dimensions) for i, row in enumerate(rows) if len(row) != dimensions}
    vectors = np.stack([np.zeros(dimensions, np.float32) if i in odd else row for i, row in enumerate(rows)])
    return Answer(vectors, check_vectors(vectors) | odd, _billed(parsed.usage))


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


def _by_index(items: list[_Item], inputs: int) -> list[NDArray[np.float32]]:
    if sorted(item.index for item in items) != list(range(inputs)):
        raise MalformedAnswer(f"{len(items)} vectors whose indexes are not 0 to {inputs - 1}, each once")
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * inputs
    for item in items:
        rows[item.index] = _row(item.embedding)
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


def _billed(usage: Any) -> int | None:
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total >= 0 else None
