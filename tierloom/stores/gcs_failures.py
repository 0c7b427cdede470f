"""Why Google Cloud Storage did not do what it was asked, and what helps.

The client's own messages are never repeated: they quote URLs, and the URL of an upload session is a key to it.
"""

import contextlib
from collections.abc import Iterator
from http import HTTPStatus
from http.client import responses
from typing import Final

from google.api_core.exceptions import GoogleAPIError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests import RequestException

from tierloom.errors import StoreError, StoreUnavailable
from tierloom.stores import file_failures

TRY_AGAIN: Final = "see that the network is up, and try again"
_SIGN_IN: Final = "give this process credentials: gcloud auth application-default login, or a service account"
# What it refuses for good.
_LASTING: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_CURES: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: _SIGN_IN,
    HTTPStatus.FORBIDDEN: "grant it Storage Object User (roles/storage.objectUser) on the bucket",
    HTTPStatus.NOT_FOUND: "create the bucket, or correct its name",
}
_FAILED: Final = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, RequestException, OSError)


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what the client raises into a `StoreError`. Its own error is left out of the traceback too."""
    try:
        yield
    except _FAILED as error:
        raise (StoreUnavailable if may_pass(error) else StoreError)(f"{where}: {describe(error)}") from None


def describe(error: Exception) -> str:
    """The reason and the cure, in one line."""
    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        return f"kept failing until the retries were used up: {describe(error.cause)}"
    if isinstance(error, OSError) and error.errno:
        return file_failures.describe(error)
    return f"{_reason(error)}; {_cure(error)}"


def may_pass(error: Exception) -> bool:
    """Whether it may do what it was asked later, with nothing changed."""
    if isinstance(error, RetryError):
        return not isinstance(error.cause, Exception) or may_pass(error.cause)
    if isinstance(error, OSError) and error.errno:
        return file_failures.may_pass(error)
    return _cure(error) == TRY_AGAIN and (status(error) or 0) not in _LASTING


def status(error: Exception) -> int | None:
    """The HTTP status of the answer; None if none came, or one of success that was corrupt."""
    answer = getattr(error, "response", None)
    code = getattr(answer, "status_code", None) or getattr(error, "code", None)
    return int(code) if isinstance(code, int) and code >= HTTPStatus.BAD_REQUEST else None


def _reason(error: Exception) -> str:
    if code := status(error):
        return f"{code} {responses.get(code, 'status')}{_server_words(error)}"
    if isinstance(error, DefaultCredentialsError):
        return str(error)
    return getattr(error, "strerror", None) or type(error).__name__


def _server_words(error: Exception) -> str:
    """What the server said, if it said it in JSON. An answer that cannot be read must not hide the failure itself."""
    try:
        return f" ({error.response.json()['error']['message']})"  # type: ignore[attr-defined]
    except Exception:
        return ""


def _cure(error: Exception) -> str:
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return _SIGN_IN
    return _CURES.get(status(error) or 0, TRY_AGAIN)
