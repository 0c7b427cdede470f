"""An answer that is sent before the request was read to its end.

A connection that is closed with bytes unread is reset, and the reset may overtake the answer (RFC 9112, section 9.6):
so what still comes is thrown away for a moment before the connection is closed.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Send

_SECONDS: Final = 2.0
_BYTES: Final = 16 << 20


class Exchange:
    """One request and its answer. `status` is 0 until the answer begins; `closing` asks for the connection's end."""

    def __init__(self, headers: Headers, receive: Receive, send: Send, closing: bool) -> None:
        self.status = 0
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._closing = closing
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message, added: dict[str, str]) -> None:
        """Pass on a part of the answer, whose head gets the headers `added` that it does not have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                headers.setdefault(name, value)
            if self._closing or self._unread:
                headers["Connection"] = "close"
        elif self._unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _discard(self) -> None:
        left = _BYTES
        try:
            async with asyncio.timeout(_SECONDS):
                while self._unread and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
