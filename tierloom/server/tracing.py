"""The id of the request that a line of the log belongs to; it goes with the work into its thread."""

import re
from contextvars import ContextVar
from typing import Final
from uuid import uuid4

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)

_GIVEN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(given: str | None) -> str:
    """The client's own id if it is a harmless one, else a new one."""
    return given if given and _GIVEN.fullmatch(given) else uuid4().hex
