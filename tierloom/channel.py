"""Channels: named pointers to a generation of a version, moved by compare-and-swap, with the history of their moves.

Pointer and history are one object, so that no move is without its record, and none is recorded that was not made.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from tierloom import names
from tierloom.collection import Fingerprint
from tierloom.errors import Corrupt, InputError, Malformed
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Revision, Store

FORMAT: Final = 1
# Older ones are forgotten: who follows a channel reads it every few seconds.
KEPT_MOVES: Final = 200
LONGEST_MESSAGE: Final = 500

_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
_OBJECT: Final = re.compile(r"channels/([a-z0-9][a-z0-9-]{0,62})\.json")
ChannelName = Annotated[str, msgspec.Meta(pattern=_NAME)]
Message = Annotated[str, msgspec.Meta(max_length=LONGEST_MESSAGE)]


class Served(NamedTuple):
    """What is served: the generation of `checkpoint` in `version`; None is the one in its front."""

    version: int
    checkpoint: str | None = None


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who pointed a channel at the generation of `checkpoint` in `version`, when (RFC 3339, UTC), and why; `previous`
    and `previous_checkpoint` are what it served before, None for the first move. A generation of None is that in front.

    `erase` is a move away from a version that held what was erased. `forced` moves were refused, for the reason in
    `refused_because`, and made all the same.
    """

    version: Count
    previous: Count | None
    action: Literal["promote", "rollback", "erase"]
    at: str
    by: str
    message: Message = ""
    forced: bool = False
    refused_because: str | None = None
    checkpoint: Fingerprint | None = None
    previous_checkpoint: Fingerprint | None = None

    @property
    def serves(self) -> Served:
        return Served(self.version, self.checkpoint)

    @property
    def before(self) -> Served | None:
        """What it served before; None for the first move."""
        return None if self.previous is None else Served(self.previous, self.previous_checkpoint)


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a channel points: to the generation of `checkpoint` in `version`, or to that in its front (None), as
    `latest` does. `serial` rises with every move, so no two states have equal bytes.

    `moves` are the newest 200, the last one last; `latest`, which follows every publish by itself, has none.
    """

    name: ChannelName
    version: Count
    serial: Count
    checkpoint: Fingerprint | None = None
    moves: Annotated[tuple[Move, ...], msgspec.Meta(max_length=KEPT_MOVES)] = ()
    format: Literal[1] = FORMAT

    @property
    def serves(self) -> Served:
        return Served(self.version, self.checkpoint)

    @property
    def served(self) -> tuple[Served, ...]:
        """What a rollback can return to, and the current one, last: a promotion puts what it serves on top, a rollback
        takes off all that is above what it returns to."""
        stack = [before for move in self.moves[:1] if (before := move.before)]
        for move in self.moves:
            if move.action == "rollback":
                stack = [*stack[: _place(stack[:-1], move.serves)], move.serves]
            elif stack[-1:] != [move.serves]:
                stack.append(move.serves)
        return tuple(stack) or (self.serves,)

    def move_of(self, serial: int) -> Move | None:
        """The move that made it what it was at `serial`; None where that is not known (any more)."""
        after = self.serial - serial
        return self.moves[-1 - after] if 0 <= after < len(self.moves) else None


def read_channel(store: Store, name: str) -> tuple[Channel, Revision] | None:
    """A channel and the mark to move it from; None if nobody made it.

    Raises `InputError` for a name that no channel can have, `Malformed` or `Corrupt` for what is not a channel.
    """
    _refuse_odd_name(name)
    if (found := store.read_revision(names.channel(name))) is None:
        return None
    try:
        return _checked(found[0], name), found[1]
    except (Corrupt, Malformed) as error:
        if name == names.LATEST:
            raise
        cure = f"put it back as it was, or remove {names.channel(name)} from {store.url} and promote a version anew"
        raise type(error)(f"{error}; {cure}") from error


def read_channels(store: Store) -> Iterator[Channel]:
    """Every channel that there is, by name. Raises `Malformed` or `Corrupt`."""
    matches = (_OBJECT.fullmatch(listed.name) for listed in store.list(names.CHANNELS))
    for name in sorted(match[1] for match in matches if match):
        if (found := read_channel(store, name)) is not None:
            yield found[0]


def move_channel(
    store: Store,
    name: str,
    version: int,
    seen: tuple[Channel, Revision] | None,
    move: Move | None = None,
    checkpoint: str | None = None,
) -> Channel:
    """Point a channel at the generation of `checkpoint` in `version` if it is still as it was `seen`; what it is now.

    `move`, which says the same, joins its history; without one there is no history from here on. Raises
    `RevisionMismatch` when it is not as it was seen, `InputError` for a name that no channel can have.
    """
    _refuse_odd_name(name)
    past = seen[0].moves if seen else ()
    moved = Channel(
        name=name,
        version=version,
        checkpoint=move.checkpoint if move else checkpoint,
        serial=seen[0].serial + 1 if seen else 0,
        moves=(*past, move)[-KEPT_MOVES:] if move else (),
    )
    store.swap(names.channel(name), seal(moved), seen[1] if seen else None)
    return moved


def _place(stack: list[Served], to: Served) -> int:
    """Where in the stack a rollback returned to: to this, or to the same checkpoint in an older version, which was kept
    current since; to the bottom where that is not known any more."""
    alike = [at for at, served in enumerate(stack) if served.checkpoint == to.checkpoint]
    return max((at for at in alike if stack[at] == to), default=max(alike, default=0))


def _checked(data: bytes, name: str) -> Channel:
    channel = unseal(data, Channel, names.channel(name), FORMAT)
    if channel.name != name:
        raise Malformed(f"{names.channel(name)}: holds the channel {channel.name!r}")
    if channel.moves and channel.moves[-1].serves != channel.serves:
        points, last = _told(channel.serves), _told(channel.moves[-1].serves)
        raise Malformed(f"{names.channel(name)}: points to {points}, its last move to {last}")
    return channel


def _refuse_odd_name(name: str) -> None:
    if not re.match(_NAME, name):
        raise InputError(f"{name!r} cannot be a channel: lower-case letters, digits and dashes, at most 63")


def _told(served: Served) -> str:
    return f"version {served.version}" + (f" of checkpoint {served.checkpoint}" if served.checkpoint else "")
