"""Channels: named pointers to a version, moved by compare-and-swap."""

import re
from typing import Annotated, Final, Literal

import msgspec

from tierloom import names
from tierloom.errors import InputError, Malformed
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Revision, Store

FORMAT: Final = 1

_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
ChannelName = Annotated[str, msgspec.Meta(pattern=_NAME)]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a channel points. `serial` rises with every move, so no two states have equal bytes."""

    name: ChannelName
    version: Count
    serial: Count
    format: Literal[1] = FORMAT


def read_channel(store: Store, name: str) -> tuple[Channel, Revision] | None:
    """A channel and the mark to move it from; None if nobody made it.

    Raises `InputError` for a name that no channel can have, `Malformed` or `Corrupt` for what is not a channel.
    """
    _refuse_odd_name(name)
    if (found := store.read_revision(names.channel(name))) is None:
        return None
    channel = unseal(found[0], Channel, names.channel(name), FORMAT)
    if channel.name != name:
        raise Malformed(f"{names.channel(name)}: holds the channel {channel.name!r}")
    return channel, found[1]


def move_channel(store: Store, name: str, version: int, seen: tuple[Channel, Revision] | None) -> None:
    """Point a channel at `version` if it is still as it was `seen`.

    Raises `RevisionMismatch` when it is not, `InputError` for a name that no channel can have.
    """
    _refuse_odd_name(name)
    serial = seen[0].serial + 1 if seen else 0
    moved = Channel(name=name, version=version, serial=serial)
    store.swap(names.channel(name), seal(moved), seen[1] if seen else None)


def _refuse_odd_name(name: str) -> None:
    if not re.match(_NAME, name):
        raise InputError(f"{name!r} cannot be a channel: lower-case letters, digits and dashes, at most 63")
