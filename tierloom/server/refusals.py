"""Requests that get no answer: the status, and what the client is told. Never a traceback, never a secret."""

from collections.abc import Mapping
from typing import Final

from tierloom.errors import CheckpointMismatch, EmbedderUnavailable, InputError, StoreError, TierloomError

_RETRY: Final = {"Retry-After": "1"}


class Refused(Exception):
    """What the server itself refuses: `kind` is a short fixed word."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.headers = dict(headers or {})


def malformed(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def unfit(message: str) -> Refused:
    return Refused(422, "BadRequest", message)


def too_large(limit: int) -> Refused:
    return Refused(413, "TooLarge", f"the body of a request may have {limit:,} bytes; ask for less, or in parts")


def busy(message: str) -> Refused:
    return Refused(429, "Busy", message, _RETRY)


def too_slow(status: int, message: str) -> Refused:
    return Refused(status, "Timeout", message)


def not_ready(reason: str) -> Refused:
    return Refused(503, "NotReady", reason, _RETRY)


def unforeseen() -> Refused:
    return Refused(500, "Internal", "the server failed; its log has the cause under the X-Request-Id of this answer")


def refusal_of(error: TierloomError) -> Refused:
    """An error of ours, in its own words: 422 where the request is at fault, 503 where the collection, its store or its
    model is; with a time to try again where that may help."""
    if isinstance(error, InputError | CheckpointMismatch):
        return Refused(422, type(error).__name__, str(error))
    passing = isinstance(error, EmbedderUnavailable | StoreError)
    return Refused(503, type(error).__name__, str(error), _RETRY if passing else {})
