"""What a search request says, checked against the limits of the server."""

from typing import Annotated, Final, TypeVar

import msgspec

from tierloom.server.limits import Limits
from tierloom.server.refusals import malformed, unfit

Positive = Annotated[int, msgspec.Meta(ge=1)]
Vector = list[float]


class Question(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"query_class": "class"}, omit_defaults=True
):
    """The body of `POST /v1/search`: one of `query`, `vector` and `queries`, and how it is to be searched.

    `class` or `profile` chooses what the collection declares; `tier`, `shortlist`, `rerank` and `top` win over it.
    `documents` keeps the hits to these document ids, `by_document` to the best chunk of each document. Without `text`
    the hits have no heading, text and metadata. `checkpoint` is the fingerprint of what made a vector, if it is known:
    one of another embedding space is refused.
    """

    query: str | None = None
    vector: Vector | None = None
    queries: list[str | Vector] | None = None
    query_class: str | None = None
    profile: str | None = None
    tier: int | str | None = None
    shortlist: Positive | None = None
    rerank: bool | None = None
    top: Positive | None = None
    documents: list[str] | None = None
    by_document: bool = False
    text: bool = True
    checkpoint: str | None = None

    @property
    def asked(self) -> list[str | Vector]:
        """Every query, in order."""
        if self.queries is not None:
            return self.queries
        return [query for query in (self.query, self.vector) if query is not None]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/compare`: a question for every tier at once."""

    query: str
    top: Positive = 10


Read = TypeVar("Read", Question, Comparison)

_NAME: Final = 200


def question_of(body: bytes, limits: Limits) -> Question:
    """Raises `Refused`: 400 for what is not JSON, 422 for what it may not say."""
    question = _decoded(body, Question)
    given = [name for name in ("query", "vector", "queries") if getattr(question, name) is not None]
    if len(given) != 1:
        raise unfit(f"give one of `query`, `vector` and `queries`, not {' and '.join(given) or 'none'}")
    _refuse_many("queries", len(question.asked), limits.batch)
    _refuse_many("documents", len(question.documents or ()), limits.documents)
    _refuse_many("top", question.top or 0, limits.top)
    _refuse_many("shortlist", question.shortlist or 0, limits.shortlist)
    for query in question.asked:
        _refuse_long(query, limits)
    for name in (question.query_class, question.profile, question.tier, question.checkpoint):
        _refuse_odd_name(name)
    return question


def comparison_of(body: bytes, limits: Limits) -> Comparison:
    """Raises `Refused`, as `question_of`."""
    comparison = _decoded(body, Comparison)
    _refuse_many("top", comparison.top, limits.top)
    _refuse_long(comparison.query, limits)
    return comparison


def _decoded(body: bytes, kind: type[Read]) -> Read:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise unfit(f"the request cannot be used: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"the body is not JSON in UTF-8: {error}") from error


def _refuse_many(name: str, count: int, most: int) -> None:
    if count > most:
        raise unfit(f"`{name}`: this server allows {most:,}, not {min(count, 1 << 63):,}")


def _refuse_long(query: str | Vector, limits: Limits) -> None:
    if isinstance(query, str) and len(query) > limits.query_characters:
        raise unfit(f"a query of {len(query):,} characters; this server allows {limits.query_characters:,}")


def _refuse_odd_name(name: str | int | None) -> None:
    """Names come back in messages: long ones are not repeated."""
    if isinstance(name, str) and len(name) > _NAME:
        raise unfit(f"a name of {len(name):,} characters; none has more than {_NAME}")
    if isinstance(name, int) and not 0 < name < 1 << 31:
        raise unfit("`tier`: no tier has so many dimensions")
