"""What is known of an object of a store before it is opened."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class StoredObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object's name, length in bytes, and hash."""

    path: str
    bytes: Count
    sha256: Sha256
