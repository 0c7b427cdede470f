"""Binding, serving, and stopping without losing a request."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tierloom.errors import InputError
from tierloom.server.app import Application, make_application
from tierloom.server.limits import ServerOptions
from tierloom.server.served import Served

_log: Final = logging.getLogger("tierloom.server")

_KEEP_ALIVE_SECONDS: Final = 30
# Of the request line and headers together.
_HEAD_BYTES: Final = 32 << 10
_BACKLOG: Final = 2048
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_server(options: ServerOptions, listening: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `listening` is told the URL once requests are accepted.

    Raises `InputError` for an address that cannot be bound, and what opening the collection raises.
    """
    bound = _bind(options.host, options.port)
    stop: list[Callable[[], None]] = []
    application = make_application(options, failed=lambda: stop[0]())
    server = _Server(_config(application, options), application.served, options.drain)
    stop.append(server.stop_now)
    listening(_url(options.host, bound))
    server.run(sockets=[bound])
    _end(application)


def _end(application: Application) -> None:
    if application.served.failure is not None:
        raise application.served.failure
    if application.workers.held:
        # A thread cannot be stopped, and Python would wait for it. Nobody waits for its answer any more.
        _log.warning("stopped with %d searches unfinished", application.workers.held)
        sys.stdout.flush()
        os._exit(0)
    application.served.close()


def _config(application: Application, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        application.asgi,
        http=_protocol_of(options.limits.seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(options.grace),
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )


def _bind(host: str, port: int) -> socket.socket:
    """A socket that listens, with its protocol named: asyncio sends at once (TCP_NODELAY) only where it reads that a
    socket is of TCP. Else an answer, whose head and body are written apart, waits 40 ms for a delayed acknowledgement.
    """
    with contextlib.ExitStack() as undone:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = undone.enter_context(socket.socket(family, kind, socket.IPPROTO_TCP))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(_BACKLOG)
        except OSError as error:
            said = f"cannot listen on {host} port {port}: {error.strerror or error}; see --host and --port"
            raise InputError(said) from error
        undone.pop_all()
    return bound


def _url(host: str, bound: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound.getsockname()[1]}"


class _Server(uvicorn.Server):
    """After the first signal requests are still taken for `drain` seconds, while `/readyz` says that no more should
    come; after the second it stops at once. A signal is how a server ends: its exit status is 0."""

    def __init__(self, config: uvicorn.Config, served: Served, drain: float) -> None:
        super().__init__(config)
        self._served = served
        self._drain = drain
        self._ends_at: float | None = None

    def stop_now(self) -> None:
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._ends_at is not None:
            self.force_exit = self.should_exit = True
        else:
            self._served.draining = True
            self._ends_at = time.monotonic() + self._drain

    async def on_tick(self, counter: int) -> bool:
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn does, which then raises the signal again: the process would end by it."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in _SIGNALS}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


class _Protocol(H11Protocol):
    """uvicorn waits for the head of a request as long as a byte of it comes now and then (slowloris); here it has
    `head_seconds` from the first one."""

    head_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        # uvicorn types it as always there, and sets it to None before the first request.
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._forget_head()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)

    def _forget_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _protocol_of(seconds: float) -> type[_Protocol]:
    class Limited(_Protocol):
        head_seconds = seconds

    return Limited
