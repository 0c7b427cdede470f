"""A network that fails on purpose, between Google's client and its server."""

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import requests
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

Answer = Callable[[PreparedRequest], Response]
Fault = Callable[[PreparedRequest, Answer], Response]


def none(request: PreparedRequest, answer: Answer) -> Response:
    return answer(request)


def lose_answer(request: PreparedRequest, answer: Answer) -> Response:
    assert answer(request).content is not None
    raise requests.ConnectionError("the answer was lost")


def lose_request(request: PreparedRequest, answer: Answer) -> Response:
    """Nobody answers in time."""
    raise requests.ReadTimeout("no answer")


def answer_with(status: int) -> Fault:
    def fault(request: PreparedRequest, answer: Answer) -> Response:
        response = Response()
        response.status_code, response.request, response.url = status, request, request.url or ""
        response._content = b'{"error": {"message": "said the server"}}'
        return response

    return fault


def cut_answer(request: PreparedRequest, answer: Answer) -> Response:
    """The connection ends in the middle."""
    response = answer(request)
    return with_body(response, response.content[: len(response.content) // 2])


def with_body(response: Response, body: bytes) -> Response:
    response.raw = HTTPResponse(io.BytesIO(body), headers=dict(response.headers), preload_content=False)
    response._content, response._content_consumed = False, False
    return response


@dataclass(frozen=True, slots=True)
class Weather:
    """A share of all requests is refused, timed out, or answered and the answer lost or cut, as a seed draws it."""

    seed: int
    share: float


FAULTS: Final[tuple[Fault, ...]] = (answer_with(429), answer_with(503), answer_with(500), lose_request, lose_answer)


class StormyNetwork(HTTPAdapter):
    """Every request may meet a fault."""

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self._draw = random.Random(weather.seed)
        self._share = weather.share

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        answer: Answer = lambda request: super(StormyNetwork, self).send(request, *arguments, **options)  # noqa: E731
        if self._draw.random() >= self._share:
            return answer(request)
        # Only a download knows how long its body is to be.
        faults = (*FAULTS, cut_answer) if "alt=media" in (request.url or "") else FAULTS
        return self._draw.choice(faults)(request, answer)
