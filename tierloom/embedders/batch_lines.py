"""The lines of a batch's files: one request each on the way there, one answer each on the way back.

Lines come back in any order. A request is known by its `custom_id`, which says which inputs of the batch it holds.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.answers import Answer, MalformedAnswer, WrongDimensions, decode_answer, describe_body
from tierloom.embedders.openai_endpoint import request_members
from tierloom.embedders.retrying import Fault, RequestFailed, fault_of

# https://platform.openai.com/docs/guides/batch: 50,000 requests and as many inputs, in a file of 200 MB. One request
# is kept for the probe.
MAX_INPUTS: Final = 50_000 - 1
MAX_BYTES: Final = 200_000_000
# One plain word beside inputs that had no answer before: if it has none either, the inputs are not to blame.
PROBE_ID: Final = "probe"
ENDPOINT: Final = "/v1/embeddings"

# The inputs of the batch, and which canary goes along with them, if one does.
_RANGE: Final = re.compile(r"([0-9]{1,5})-([0-9]{1,5})(?:-([0-9]{1,2}))?")
_EXPIRED: Final = frozenset({"batch_expired", "batch_cancelled"})
_SHOWN: Final = 500


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class SentCanary:
    """A canary that goes along with a request: its place among the canaries, and what is sent."""

    place: int
    text: str


@dataclass(frozen=True, slots=True)
class AnsweredCanary:
    """What came back for one: float32 (D,)."""

    place: int
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AnsweredLine:
    """A line that came back: which inputs of the batch it is about (None for the probe), what became of them, and of
    the canary that went along."""

    inputs: range | None
    outcome: Answer | RequestFailed
    canary: AnsweredCanary | None = None


def request_line(
    inputs: range | None, checkpoint: Checkpoint, texts: Sequence[str], canary: SentCanary | None = None
) -> bytes:
    """A request for `texts`, which are the inputs of the batch in that range; None says that it is the probe. The
    `canary` goes last."""
    every = [*texts, canary.text] if canary else texts
    body = request_members(checkpoint, "documents") | {checkpoint.endpoint.inputs: every}
    name = PROBE_ID if inputs is None else f"{inputs.start}-{inputs.stop}"
    name += f"-{canary.place}" if canary else ""
    return msgspec.json.encode({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}) + b"\n"


def read_line(line: bytes, inputs: int, checkpoint: Checkpoint) -> AnsweredLine | None:
    """What a line says; None for one that is about none of the `inputs` that the batch has."""
    parsed = _parse(line)
    if parsed is None:
        return None
    if parsed.custom_id == PROBE_ID:
        return AnsweredLine(None, _outcome(parsed, 1, checkpoint))
    if (found := _inputs_and_canary(parsed.custom_id, inputs)) is None:
        return None
    asked, canary = found
    if canary is None:
        return AnsweredLine(asked, _outcome(parsed, len(asked), checkpoint))
    return _with_canary(asked, canary, _outcome(parsed, len(asked) + 1, checkpoint))


def _with_canary(asked: range, place: int, outcome: Answer | RequestFailed) -> AnsweredLine:
    """The answer to some inputs, apart from that to the canary after them."""
    if isinstance(outcome, RequestFailed):
        return AnsweredLine(asked, outcome)
    if (rejection := outcome.rejected.get(len(asked))) is not None:
        return AnsweredLine(
            asked, RequestFailed(Fault.NO_CANARY, f"{rejection.detail}, for the canary that went along")
        )
    rejected = {at: why for at, why in outcome.rejected.items() if at < len(asked)}
    answer = Answer(outcome.vectors[:-1], rejected, outcome.tokens)
    return AnsweredLine(asked, answer, AnsweredCanary(place, outcome.vectors[-1]))


def _parse(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _parse_leniently(line)


def _parse_leniently(line: bytes) -> _Line | None:
    """Servers written in Python write NaN and Infinity as bare words, which JSON does not have."""
    try:
        members = json.loads(line)
        response = members.get("response")
        parsed = msgspec.convert({**members, "response": None}, _Line)
        if response is not None:
            status = msgspec.convert(response["status_code"], int)
            parsed.response = _Response(status, msgspec.Raw(json.dumps(response["body"]).encode()))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, msgspec.MsgspecError):
        return None
    return parsed


def _inputs_and_canary(custom_id: str, inputs: int) -> tuple[range, int | None] | None:
    said = _RANGE.fullmatch(custom_id)
    if said is None or not (asked := range(int(said[1]), int(said[2]))) or asked.stop > inputs:
        return None
    return asked, int(said[3]) if said[3] else None


def _outcome(line: _Line, inputs: int, checkpoint: Checkpoint) -> Answer | RequestFailed:
    if line.response is None or line.error:
        return _unanswered(line.error)
    body, status = bytes(line.response.body), line.response.status_code
    if not 200 <= status < 300:
        return _refused(status, body)
    try:
        return decode_answer(body, inputs, checkpoint.space.dimensions, checkpoint.endpoint.indexed)
    except MalformedAnswer as error:
        came = describe_body("application/json", body)
        return RequestFailed(Fault.MALFORMED, f"not a usable answer ({error}): {came}")
    except WrongDimensions as error:
        return RequestFailed(Fault.WRONG_DIMENSIONS, str(error))


def _unanswered(error: Any) -> RequestFailed:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
    fault = Fault.EXPIRED if code in _EXPIRED else Fault.FAILING
    return RequestFailed(fault, " ".join(f"{code}: {message}".split())[:_SHOWN])


def _refused(status: int, body: bytes) -> RequestFailed:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = None
    error = said.get("error", said) if isinstance(said, dict) else None
    error = error if isinstance(error, dict) else {}
    message = error.get("message")
    shown = message if isinstance(message, str) else body.decode(errors="replace")
    codes = {code for code in (error.get("code"), error.get("type")) if isinstance(code, str)}
    return RequestFailed(fault_of(status, codes), f"HTTP {status}: " + " ".join(shown.split())[:_SHOWN])
