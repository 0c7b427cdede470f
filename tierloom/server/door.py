"""What every request passes: who may come in, how many at once, and what is noted of it."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tierloom.server.hosts import is_loopback, names_loopback
from tierloom.server.limits import ServerOptions
from tierloom.server.lingering import Exchange
from tierloom.server.metrics import Metrics
from tierloom.server.refusals import Refused, busy, not_ready, unforeseen
from tierloom.server.replies import refusal_response
from tierloom.server.served import STOPPING, Served
from tierloom.server.tracing import REQUEST_ID, request_id_of

_access: Final = logging.getLogger("tierloom.access")
_log: Final = logging.getLogger("tierloom.server")

# The probes of an orchestrator bring no token.
_OPEN: Final = frozenset({"/healthz", "/readyz"})
_PATHS: Final = _OPEN | {"/", "/v1/search", "/v1/compare", "/v1/version", "/metrics", "/openapi.json", "/docs"}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="tierloom", Basic realm="tierloom", charset="UTF-8"'}
_CLIENT_GONE: Final = 499
_SHOWN: Final = 200


class Door:
    """An ASGI application around another. What the inner one did not foresee is answered with 500 and the id that finds
    the traceback in the log; the traceback stays there."""

    def __init__(self, app: ASGIApp, options: ServerOptions, served: Served, metrics: Metrics) -> None:
        self._app = app
        self._served = served
        self._metrics = metrics
        self._requests = options.limits.requests
        self._open_metrics = options.open_metrics
        self._token = None if options.token is None else _digest(options.token.encode())
        self._loopback_names_only = options.token is None and is_loopback(options.host)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, headers = time.perf_counter(), Headers(scope=scope)
        REQUEST_ID.set(request_id_of(headers.get("x-request-id")))
        exchange = Exchange(headers, receive, send, closing=self._served.draining)
        self._count(1)
        try:
            await self._answer(scope, headers, exchange)
        except ClientDisconnect:
            exchange.status = _CLIENT_GONE
        finally:
            self._count(-1)
            self._note(scope, exchange.status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, headers: Headers, exchange: Exchange) -> None:
        added = {**_HEADERS, "X-Request-Id": REQUEST_ID.get() or ""}

        async def send(message: Message) -> None:
            await exchange.send(message, added)

        try:
            self._refuse(scope["path"], headers)
            await self._app(scope, exchange.receive, send)
        except Refused as refused:
            await refusal_response(refused)(scope, exchange.receive, send)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:
            # The grace of a stopping server is over.
            if not exchange.status:
                await refusal_response(not_ready(STOPPING))(scope, exchange.receive, send)
        except Exception:
            _log.exception("a request failed")
            if not exchange.status:
                await refusal_response(unforeseen())(scope, exchange.receive, send)

    def _refuse(self, path: str, headers: Headers) -> None:
        if self._loopback_names_only and not names_loopback(headers.get("host", "")):
            raise Refused(403, "Forbidden", "without a token this server answers to loopback's names: see --token-env")
        if path in _OPEN:
            return
        if self._under_way > self._requests:
            raise busy(f"{self._requests} requests are under way already; try again in a moment")
        if self._token is not None and not (path == "/metrics" and self._open_metrics):
            _refuse_stranger(headers.get("authorization", ""), self._token)

    def _count(self, step: int) -> None:
        self._under_way += step
        self._metrics.in_flight.set(self._under_way)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in _PATHS else "other"
        self._metrics.request(path, status, seconds)
        raw = scope["raw_path"].decode("ascii", "replace")[:_SHOWN]
        line = {"method": scope["method"], "path": raw, "status": status, "ms": round(1000 * seconds, 2)}
        _access.info("%s", json.dumps(line))


def _refuse_stranger(authorization: str, token: bytes) -> None:
    """Digests are compared, and in constant time: the time tells neither the token nor its length."""
    if not hmac.compare_digest(_digest(_given_token(authorization)), token):
        raise Refused(401, "Unauthorized", "send the token of this server: `Authorization: Bearer TOKEN`", _CHALLENGE)


def _given_token(authorization: str) -> bytes:
    """The token of a client, or the password that a browser asked for."""
    scheme, _, given = authorization.partition(" ")
    sent = given.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(sent, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return sent if scheme.lower() == "bearer" else b""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
