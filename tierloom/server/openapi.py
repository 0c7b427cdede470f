"""The description of the API, in OpenAPI 3.0: the version that the bundled Swagger UI reads."""

from typing import Any, Final

import msgspec
from fastapi import FastAPI

from tierloom.server.comparing import ComparisonReply
from tierloom.server.questions import Comparison, Question
from tierloom.server.replies import AnswerReply, BatchReply, ErrorReply
from tierloom.server.status_api import Health, VersionReply

VERSION: Final = "3.0.3"

_REF: Final = "#/components/schemas/{name}"
_KINDS: Final = (Question, Comparison, AnswerReply, BatchReply, ErrorReply, ComparisonReply, VersionReply, Health)
_REFUSALS: Final = {
    400: "The body is not JSON in UTF-8",
    401: "No token, or a wrong one",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is not of content type application/json",
    422: "The request cannot be answered as it is: its error says why",
    429: "Too many requests are under way or waiting",
    503: "Nothing is open yet, the server is stopping, or the store or the model cannot be reached",
    504: "Not answered in time",
}
_EXAMPLE: Final = {"query": "how do I read a file line by line?", "top": 5}


def operation(replies: tuple[str, ...], refusals: tuple[int, ...], body: str | None = None) -> dict[str, Any]:
    """An operation: the names of the schemas of its body and of its answers, and the statuses of what it refuses."""
    refused = {str(status): {"description": _REFUSALS[status], **_content("ErrorReply")} for status in refusals}
    answered = {"200": {"description": "The answer", **(_content(*replies) if replies else {})}}
    described: dict[str, Any] = {"responses": {**answered, **refused}}
    if body is not None:
        content = _content(body)
        if body == "Question":
            content["content"]["application/json"]["example"] = _EXAMPLE
        described["requestBody"] = {"required": True, **content}
    return described


def describe(app: FastAPI, with_token: bool) -> None:
    """Let the app's own description have every schema, and the token if one is asked for."""
    app.openapi_version = VERSION
    description = app.openapi()
    components = description.setdefault("components", {})
    components["schemas"] = _schemas()
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}]


def _schemas() -> dict[str, Any]:
    """Every value that is sent or answered."""
    found = msgspec.json.schema_components(_KINDS, ref_template=_REF)[1]
    return {name: _in_openapi_3_0(schema) for name, schema in found.items()}


def _content(*names: str) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(name=name)} for name in names]
    return {"content": {"application/json": {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}}}


def _in_openapi_3_0(schema: Any) -> Any:
    """`null` as one of several types is a word of its own in OpenAPI 3.0."""
    if isinstance(schema, list):
        return [_in_openapi_3_0(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _in_openapi_3_0(value) for key, value in schema.items()}
    if {"type": "null"} not in (choices := rest.get("anyOf", [])):
        return rest
    others = [choice for choice in choices if choice != {"type": "null"}]
    return {**rest, "anyOf": others, "nullable": True}
