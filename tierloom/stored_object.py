"""What is known of an object of a store before it is opened."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

# No object of a bucket can be longer: 5 TiB (https://cloud.google.com/storage/quotas#objects).
Length = Annotated[int, msgspec.Meta(ge=0, le=5 << 40)]


class StoredObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An object's name, length in bytes, and hash. The collector of circular garbage is told that there is none in it:
    a manifest may name tens of thousands."""

    path: str
    bytes: Length
    sha256: Sha256
