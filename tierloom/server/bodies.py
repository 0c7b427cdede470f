"""Reading the body of a request: refused while it comes, not after."""

import asyncio
from typing import Final

from starlette.requests import Request

from tierloom.server.limits import Limits
from tierloom.server.refusals import Refused, too_large, too_slow

_JSON: Final = "application/json"


async def json_body(request: Request, limits: Limits) -> bytes:
    """The bytes of a JSON body. Raises `Refused`: 413 beyond the limit, 408 when it does not come in time, 415 for
    another content type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise Refused(415, "BadRequest", f"send a body of content type {_JSON}")
    if int(request.headers.get("content-length") or 0) > limits.body_bytes:
        raise too_large(limits.body_bytes)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _gathered(request, limits.body_bytes)
    except TimeoutError as error:
        raise too_slow(408, f"the body did not come within {limits.seconds:g} seconds") from error


async def _gathered(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
    return b"".join(parts)
