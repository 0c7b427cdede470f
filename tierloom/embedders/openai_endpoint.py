"""One request to an OpenAI-compatible `POST /embeddings`, through the `openai` client.

What a provider wants beside the model and the texts is data of its checkpoint.

The client brings connections, headers and error types; its own retries are off. The body is encoded and the
answer decoded here: for 2048 inputs the client's own parameter transform costs 50 ms of CPU a request, and its
parser turns each vector into a list of Python floats.
"""

import functools
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
import msgspec
import openai

from tierloom.checkpoint import Checkpoint, Endpoint, Role
from tierloom.embedders.answers import Answer, MalformedAnswer, WrongDimensions, decode_answer, describe_body
from tierloom.embedders.retrying import Fault, RequestFailed, fault_of, retry_after
from tierloom.errors import EmbedderRefused

# Local servers that need no key still want the header.
NO_KEY: Final = "none"
# httpx's names for a connection that never came about: nothing was sent.
_NOT_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
_SHOWN: Final = 500

# Told of each answer: its headers, and the seconds that it wants nobody to ask for.
Heed = Callable[[Mapping[str, str], float | None], object]


class OpenAIEndpoint:
    """Where one checkpoint is served. Safe to use from several threads; never pickled, for it holds the key."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        concurrency: int,
        connect_seconds: float,
        read_seconds: float,
        role: Role = "documents",
        heed: Heed | None = None,
    ) -> None:
        """At most `concurrency` requests are under way at once. `heed` is told what the answers say of rates.

        Raises `EmbedderRefused` when there is no usable API key in the environment.
        """
        # Held only between sending and the last byte: encoding and decoding keep no request from the endpoint.
        self._slots = threading.BoundedSemaphore(concurrency)
        self._heed = heed
        self._dimensions = checkpoint.space.dimensions
        self._path, self._inputs = checkpoint.endpoint.path, checkpoint.endpoint.inputs
        self._indexed = checkpoint.endpoint.indexed
        self._members = request_members(checkpoint, role)
        self._key = api_key(checkpoint.endpoint)
        self._client = open_client(checkpoint, self._key, connect_seconds, read_seconds)

    def __getstate__(self) -> object:
        raise TypeError("an endpoint holds an API key and is never pickled: open it where it is used")

    def ask(self, inputs: list[str]) -> Answer:
        """The vectors of `inputs` in one request, at the native dimensions. Raises `RequestFailed`."""
        outcome = self._post(inputs)
        if isinstance(outcome, RequestFailed):
            # Raised here, not where the client's error was caught: that one may quote the key, and would be chained.
            raise outcome
        return outcome

    def close(self) -> None:
        self._client.close()

    def _post(self, inputs: list[str]) -> Answer | RequestFailed:
        content = msgspec.json.encode(self._members | {self._inputs: inputs})
        try:
            with self._slots:
                response = self._client.post(self._path, cast_to=openai.HttpxBinaryResponseContent, content=content)
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError):
                self._tell(error.response.headers)
            return failure_of(error, self._key)
        self._tell(response.response.headers)
        return self._decoded(response, len(inputs))

    def _decoded(self, response: openai.HttpxBinaryResponseContent, inputs: int) -> Answer | RequestFailed:
        try:
            return decode_answer(response.content, inputs, self._dimensions, self._indexed)
        except MalformedAnswer as error:
            came = describe_body(response.response.headers.get("content-type", ""), response.content)
            return RequestFailed(Fault.MALFORMED, redacted(f"not a usable answer ({error}): {came}", self._key))
        except WrongDimensions as error:
            return RequestFailed(Fault.WRONG_DIMENSIONS, str(error))

    def _tell(self, headers: Mapping[str, str]) -> None:
        """Tell of an answer, and of the seconds that it wants nobody to ask for."""
        if self._heed:
            self._heed(headers, retry_after(headers))


def request_members(checkpoint: Checkpoint, role: Role) -> dict[str, Any]:
    """The members of every request in this role, but for the texts."""
    return {"model": checkpoint.space.model, **checkpoint.space.fields(role), **checkpoint.endpoint.fields}


def api_key(endpoint: Endpoint) -> str:
    """The key in the environment variable that `endpoint` names.

    Raises `EmbedderRefused` when it is unset and the endpoint is the provider's own, or holds what no header can.
    """
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key and endpoint.base_url is not None:
        return NO_KEY
    if not key:
        raise EmbedderRefused(f"no API key: set the environment variable {endpoint.api_key_env}")
    if not (key.isascii() and key.isprintable()):
        raise EmbedderRefused(f"{endpoint.api_key_env} holds no API key: it has characters that no header can carry")
    return key


def open_client(checkpoint: Checkpoint, key: str, connect_seconds: float, read_seconds: float) -> openai.OpenAI:
    """A client for where `checkpoint` is served, that asks once and follows nobody."""
    timeout = openai.Timeout(read_seconds, connect=connect_seconds)
    return openai.OpenAI(
        api_key=key,
        base_url=checkpoint.endpoint.base_url,
        max_retries=0,
        # A redirect would carry the texts to a host that nobody named.
        http_client=openai.DefaultHttpxClient(timeout=timeout, follow_redirects=False, verify=_trusted()),
    )


@functools.cache
def _trusted() -> ssl.SSLContext:
    """The authorities that are trusted. To read them takes 30 ms, and a run opens many clients."""
    return httpx2.create_ssl_context()


def failure_of(error: openai.OpenAIError, key: str) -> RequestFailed:
    """What the client raised, without the key."""
    if isinstance(error, openai.APIStatusError):
        detail = redacted(f"HTTP {error.status_code}: {_message(error)}", key)
        fault = fault_of(error.status_code, {error.code, error.type})
        # Behind a 5xx, or a 408, a model may have done its work.
        billed = error.status_code >= 500 or error.status_code in (200, 408)
        return RequestFailed(fault, detail, retry_after(error.response.headers), billed)
    cause = error.__cause__ or error
    sent = type(cause).__name__ not in _NOT_SENT
    if isinstance(error, openai.APITimeoutError):
        return RequestFailed(Fault.TIMED_OUT, "no answer in time", billed=sent)
    return RequestFailed(Fault.UNREACHABLE, redacted(f"{type(cause).__name__}: {cause}", key), billed=sent)


def redacted(text: str, key: str) -> str:
    """`text` without the key."""
    return text if key == NO_KEY else text.replace(key, "[redacted]")


def _message(error: openai.APIStatusError) -> str:
    """What the server said: its `message` member if it sent one, else the start of its body."""
    stated = error.body.get("message") if isinstance(error.body, dict) else None
    said = stated if isinstance(stated, str) else error.response.text
    location = error.response.headers.get("location")
    return " ".join(said.split())[:_SHOWN] + (f" (redirected to {location}; name that address)" if location else "")
