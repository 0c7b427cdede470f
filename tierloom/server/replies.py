"""What the server answers, as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from tierloom.answer import Answer, Hit
from tierloom.server.refusals import Refused


class HitReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chunk. `score` is a cosine: exact after reranking, else the tier's estimate. Without `text` in the request
    there are no `heading`, `text` and `metadata`."""

    document_id: str
    ordinal: int
    score: float
    heading: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class AnswerReply(msgspec.Struct, frozen=True, rename={"query_class": "class"}):
    """The hits, best first, and what served them. `milliseconds` is the time of each step."""

    hits: list[HitReply]
    query_class: str | None
    profile: str
    tier: str
    dimensions: int
    version: int
    checkpoint: str
    shortlist: int
    candidates: int
    reranked: bool
    milliseconds: dict[str, float]


class BatchReply(msgspec.Struct, frozen=True):
    """The answers to `queries`, in their order, all of one version."""

    answers: list[AnswerReply]


class Failure(msgspec.Struct, frozen=True):
    type: str
    message: str


class ErrorReply(msgspec.Struct, frozen=True):
    """Why there is no answer: `type` is a fixed word, `message` names the value at fault and the cure."""

    error: Failure


def json_response(reply: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return encoded_response(msgspec.json.encode(reply), status, headers)


def encoded_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A body that is JSON already."""
    return Response(body, status, headers, media_type="application/json")


def refusal_response(refused: Refused) -> Response:
    return json_response(ErrorReply(Failure(refused.kind, refused.message)), refused.status, refused.headers)


def answer_reply(answer: Answer, text: bool) -> AnswerReply:
    return AnswerReply(
        hits=[hit_reply(hit, text) for hit in answer.hits],
        query_class=answer.query_class,
        profile=answer.profile,
        tier=answer.tier,
        dimensions=answer.dimensions,
        version=answer.version,
        checkpoint=answer.checkpoint,
        shortlist=answer.shortlist,
        candidates=answer.candidates,
        reranked=answer.reranked,
        milliseconds=milliseconds(answer.seconds),
    )


def batch_reply(answers: Sequence[Answer], text: bool) -> BatchReply:
    return BatchReply([answer_reply(answer, text) for answer in answers])


def hit_reply(hit: Hit, text: bool) -> HitReply:
    if not text:
        return HitReply(hit.document_id, hit.ordinal, hit.score)
    return HitReply(hit.document_id, hit.ordinal, hit.score, hit.heading, hit.text, dict(hit.metadata))


def milliseconds(seconds: Mapping[str, float]) -> dict[str, float]:
    return {step: round(1000 * took, 3) for step, took in seconds.items()}
