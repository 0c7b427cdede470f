"""Whether bytes are those of an object in a bucket, by the checksums that Google keeps of it."""

import base64
import hashlib
import os
from typing import Any, BinaryIO, Final

import google_crc32c

_READ_BYTES: Final = 1 << 20


def holds(found: Any, stream: BinaryIO) -> bool:
    """Whether an object has these bytes: by length, crc32c and, unless it was composed of others, md5."""
    if (found.size, found.crc32c) != (stream.seek(0, os.SEEK_END), crc32c(stream)):
        return False
    return found.md5_hash is None or found.md5_hash == _digest(stream, hashlib.md5(usedforsecurity=False))


def crc32c(stream: BinaryIO) -> str:
    """Of the whole stream, as Google spells it."""
    checksum: Any = google_crc32c.Checksum
    return _digest(stream, checksum())


def _digest(stream: BinaryIO, digest: Any) -> str:
    """Of the whole stream, as Google spells it: base64."""
    stream.seek(0)
    while block := stream.read(_READ_BYTES):
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()
