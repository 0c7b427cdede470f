"""Lines of a batch's files: what is written can be read by anyone, and what comes back is believed only as far as it
makes sense."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embedders.conftest import checkpoint_at, expected
from tests.embedders.endpoint import items
from tierloom.embedders.answers import Answer
from tierloom.embedders.batch_lines import AnsweredLine, read_line, request_line
from tierloom.embedders.retrying import Fault, RequestFailed

CHECKPOINT = checkpoint_at(None)


def line(custom_id: object = "2-4", status: int = 200, body: object = None, error: object = None) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": custom_id, "response": response, "error": error}).encode()


def answer(texts: list[str]) -> dict[str, object]:
    return {"data": items(texts, 16), "usage": {"total_tokens": 7}}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5), st.integers(0, 49_000))
def test_a_request_is_one_line_of_json(texts: list[str], start: int) -> None:
    written = request_line(range(start, start + len(texts)), CHECKPOINT, texts)
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    assert json.loads(written) == {
        "custom_id": f"{start}-{start + len(texts)}",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "test-model", "input": texts, "encoding_format": "base64"},
    }


def test_further_members_of_a_checkpoint_go_along() -> None:
    space = msgspec.structs.replace(CHECKPOINT.space, document_fields={"task": "retrieval.passage"})
    endpoint = msgspec.structs.replace(CHECKPOINT.endpoint, inputs="texts", fields={"precision": "float"})
    declared = msgspec.structs.replace(CHECKPOINT, space=space, endpoint=endpoint)
    body = {"model": "test-model", "task": "retrieval.passage", "precision": "float", "texts": ["hello"]}
    assert json.loads(request_line(None, declared, ["hello"]))["body"] == body


def test_an_answer_says_which_inputs_it_is_about() -> None:
    read = read_line(line(body=answer(["a", "b"])), 4, CHECKPOINT)
    assert read is not None
    assert read.inputs == range(2, 4)
    assert isinstance(read.outcome, Answer)
    assert np.array_equal(read.outcome.vectors, expected(["a", "b"]))
    assert read.outcome.tokens == 7


@pytest.mark.parametrize("custom_id", ["2-5", "4-4", "4-2", "a", "", "0-2 ", "-1-2", "٣-4", 7])
def test_answers_to_what_nobody_asked_are_no_answers(custom_id: object) -> None:
    assert read_line(line(custom_id, body=answer(["a", "b"])), 4, CHECKPOINT) is None


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    assert read_line(data, 4, CHECKPOINT) is None


def failure(read: AnsweredLine | None) -> RequestFailed:
    assert read is not None
    assert isinstance(read.outcome, RequestFailed)
    return read.outcome


@pytest.mark.parametrize(
    ("said", "fault", "detail"),
    [
        (line(body=answer(["a"])), Fault.MALFORMED, "not a usable answer"),
        (line(body="what?"), Fault.MALFORMED, "not a usable answer"),
        (line(body={"data": items(["a", "b"], 8)}), Fault.WRONG_DIMENSIONS, "vectors of 8 dimensions"),
        (line(status=400, body={"error": {"message": "too\nlong"}}), Fault.REFUSED_INPUT, "HTTP 400: too long"),
        (line(status=400, body={"message": "too long"}), Fault.REFUSED_INPUT, "HTTP 400: too long"),
        (line(status=400, body=[1]), Fault.REFUSED_INPUT, "HTTP 400: [1]"),
        (line(status=500, body=None), Fault.FAILING, "HTTP 500: null"),
        (line(status=429, body={"error": {"message": "slow down"}}), Fault.BUSY, "HTTP 429: slow down"),
        (line(status=429, body={"error": {"code": "insufficient_quota"}}), Fault.REFUSED_JOB, "HTTP 429"),
        (line(error={"code": "batch_expired", "message": "late"}), Fault.EXPIRED, "batch_expired: late"),
        (line(error={"code": "batch_cancelled", "message": "no"}), Fault.EXPIRED, "batch_cancelled: no"),
        (line(error={"code": "odd", "message": "no"}), Fault.FAILING, "odd: no"),
        (b'{"custom_id":"2-4"}', Fault.FAILING, "None: None"),
    ],
)
def test_failures_are_told_apart(said: bytes, fault: Fault, detail: str) -> None:
    told = failure(read_line(said, 4, CHECKPOINT))
    assert told.fault is fault
    assert detail in told.detail


def test_bare_nan_is_read() -> None:
    data = [{"index": 0, "embedding": [float("nan")] * 16}, {"index": 1, "embedding": [1.0] * 16}]
    read = read_line(line(body={"data": data}), 4, CHECKPOINT)
    assert read is not None
    assert isinstance(read.outcome, Answer)
    assert {at: rejection.reason for at, rejection in read.outcome.rejected.items()} == {0: "not-finite"}
