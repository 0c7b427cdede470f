"""One request to an OpenAI-compatible `POST /embeddings`: the only module that knows the `openai` client.

What a provider wants beside the model and the texts is data of its checkpoint.

The client brings connections, headers and error types; its own retries are off. The body is encoded and the
answer decoded here: for 2048 inputs the client's own parameter transform costs 50 ms of CPU a request, and its
parser turns each vector into a list of Python floats.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import openai

from tierloom.checkpoint import Checkpoint, Endpoint, Role
from tierloom.embedders.answers import Answer, MalformedAnswer, WrongDimensions, decode_answer, describe_body
from tierloom.embedders.retrying import Fault, RequestFailed, retry_after
from tierloom.errors import EmbedderRefused

# Local servers that need no key still want the header.
NO_KEY: Final = "none"
# 401 and 403: the key; 402: the balance; 404, 405 and redirects: the address or the model.
_JOB_STATUSES: Final = frozenset({401, 402, 403, 404, 405, 410})
_BUSY_STATUSES: Final = frozenset({408, 409, 429})
# https://platform.openai.com/docs/guides/error-codes: a 429 that waiting does not cure.
_QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
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
        self._members = {
            "model": checkpoint.space.model,
            **checkpoint.space.fields(role),
            **checkpoint.endpoint.fields,
        }
        self._key = api_key(checkpoint.endpoint)
        timeout = openai.Timeout(read_seconds, connect=connect_seconds)
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=checkpoint.endpoint.base_url,
            max_retries=0,
            # A redirect would carry the texts to a host that nobody named.
            http_client=openai.DefaultHttpxClient(timeout=timeout, follow_redirects=False),
        )

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
            return self._failed(error)
        self._told(response.response.headers)
        return self._decoded(response, len(inputs))

    def _decoded(self, response: openai.HttpxBinaryResponseContent, inputs: int) -> Answer | RequestFailed:
        try:
            return decode_answer(response.content, inputs, self._dimensions, self._indexed)
        except MalformedAnswer as error:
            came = describe_body(response.response.headers.get("content-type", ""), response.content)
            return RequestFailed(Fault.MALFORMED, self._redacted(f"not a usable answer ({error}): {came}"))
        except WrongDimensions as error:
            return RequestFailed(Fault.WRONG_DIMENSIONS, str(error))

    def _failed(self, error: openai.OpenAIError) -> RequestFailed:
        if isinstance(error, openai.APIStatusError):
            detail = self._redacted(f"HTTP {error.status_code}: {_message(error)}")
            # Behind a 5xx, or a 408, a model may have done its work.
            billed = error.status_code >= 500 or error.status_code in (200, 408)
            return RequestFailed(_fault(error), detail, self._told(error.response.headers), billed)
        cause = error.__cause__ or error
        sent = type(cause).__name__ not in _NOT_SENT
        if isinstance(error, openai.APITimeoutError):
            return RequestFailed(Fault.TIMED_OUT, "no answer in time", billed=sent)
        return RequestFailed(Fault.UNREACHABLE, self._redacted(f"{type(cause).__name__}: {cause}"), billed=sent)

    def _told(self, headers: Mapping[str, str]) -> float | None:
        """The seconds that an answer wants nobody to ask for."""
        seconds = retry_after(headers)
        if self._heed:
            self._heed(headers, seconds)
        return seconds

    def _redacted(self, text: str) -> str:
        return text if self._key == NO_KEY else text.replace(self._key, "[redacted]")


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


def _fault(error: openai.APIStatusError) -> Fault:
    status = error.status_code
    if status < 400 or status in _JOB_STATUSES or {error.code, error.type} & _QUOTA_CODES:
        return Fault.REFUSED_JOB
    if status in _BUSY_STATUSES:
        return Fault.BUSY
    return Fault.FAILING if status >= 500 else Fault.REFUSED_INPUT


def _message(error: openai.APIStatusError) -> str:
    """What the server said: its `message` member if it sent one, else the start of its body."""
    stated = error.body.get("message") if isinstance(error.body, dict) else None
    said = stated if isinstance(stated, str) else error.response.text
    location = error.response.headers.get("location")
    return " ".join(said.split())[:_SHOWN] + (f" (redirected to {location}; name that address)" if location else "")
