"""Channels: named pointers to a version, moved by compare-and-swap."""

from typing import Annotated, Final, Literal

import msgspec

from tierloom import names
from tierloom.manifest import Count
from tierloom.sealed import seal, unseal
from tierloom.stores.store import Revision, Store

FORMAT: Final = 1

ChannelName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a channel points. `serial` rises with every move, so no two states have equal bytes."""

    name: ChannelName
    version: Count
    serial: Count
    format: Literal[1] = FORMAT


def read_channel(store: Store, name: str) -> tuple[Channel, Revision] | None:
    """A channel and the mark to move it from; None if nobody made it."""
    found = store.read_revision(names.channel(name))
    return None if found is None else (unseal(found[0], Channel, names.channel(name), FORMAT), found[1])


def move_channel(store: Store, name: str, version: int, seen: tuple[Channel, Revision] | None) -> None:
    """Point a channel at `version` if it is still as it was `seen`. Raises `RevisionMismatch`."""
    serial = seen[0].serial + 1 if seen else 0
    moved = Channel(name=name, version=version, serial=serial)
    store.swap(names.channel(name), seal(moved), seen[1] if seen else None)
