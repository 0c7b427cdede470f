"""Names made of inputs: the same inputs always name the same object."""

import hashlib
from typing import Any

import msgspec

from tierloom.sealed import canonical


def digest_of(kind: str, *inputs: Any) -> str:
    """40 hexadecimal digits of the sha256 of JSON-like inputs; `kind` keeps different things apart."""
    return hashlib.sha256(canonical([kind, msgspec.to_builtins(inputs)])).hexdigest()[:40]


def bytes_digest(data: bytes) -> str:
    """The whole sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
