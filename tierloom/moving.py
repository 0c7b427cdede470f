"""Moving a channel, by compare-and-swap, to a generation of a version: what promotions and rollbacks share.

The version is on lease (`tierloom.lease`) from before it is looked at until its channel names it: so no garbage
collection beside it retires what is just being promoted.
"""

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from tierloom import names
from tierloom.channel import LONGEST_MESSAGE, Channel, Move, move_channel, read_channel
from tierloom.commit import MAX_RACES
from tierloom.errors import CommitConflict, InputError, RevisionMismatch
from tierloom.lease import Lease
from tierloom.manifest import Manifest
from tierloom.promotion_checks import doubts, refuse_missing_objects
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store

_HELD: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel as it is now, and the move that made it so: None where it pointed there already. `doubts` are no reason
    against what it serves, and should be looked at."""

    channel: Channel
    move: Move | None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a channel is to serve, in front of its version, and the move to it; None where it serves that already."""

    manifest: Manifest
    move: Move | None = None
    doubts: tuple[str, ...] = ()


def moved(store: Store, name: str, version: int, decide: Callable[[Channel | None], Decision]) -> Moved:
    """The channel after the move that `decide` makes of what it is; asked again, with what it is then, after each lost
    race."""
    seen = read_channel(store, name)
    if (decision := decide(seen[0] if seen else None)).move is None and seen:
        return Moved(seen[0], None, doubts(decision.manifest))
    probe_preconditions(store)
    with Lease(store, version, _HELD):
        channel, decision = _swapped(store, name, decide)
        # Who slept for longer than its lease and every retention may find that it is gone.
        if not store.renew(names.manifest(version)):
            raise InputError(f"version {version} was retired while {name} was moved to it; promote another one")
    return Moved(channel, decision.move, (*decision.doubts, *doubts(decision.manifest)))


def _swapped(store: Store, name: str, decide: Callable[[Channel | None], Decision]) -> tuple[Channel, Decision]:
    looked_for: str | None = None
    for _ in range(MAX_RACES):
        seen = read_channel(store, name)
        decision = decide(seen[0] if seen else None)
        manifest, move = decision.manifest, decision.move
        if move is None and seen:
            return seen[0], decision
        if looked_for != manifest.checkpoint:
            refuse_missing_objects(manifest, store)
            looked_for = manifest.checkpoint
        try:
            return move_channel(store, name, manifest.version, seen, move), decision
        except RevisionMismatch:
            # A bucket may say so of a swap that held, where its answer was lost and others went on from there.
            serial = seen[0].serial + 1 if seen else 0
            if (found := read_channel(store, name)) and found[0].move_of(serial) == move:
                return found[0], decision
    raise CommitConflict(f"{store.url}: lost {MAX_RACES} races for the channel {name}; fewer movers would help")


def move_to(
    action: Literal["promote", "rollback"],
    manifest: Manifest,
    seen: Channel | None,
    message: str,
    against: tuple[str, ...] = (),
) -> Move:
    return Move(
        version=manifest.version,
        checkpoint=manifest.checkpoint,
        previous=seen.version if seen else None,
        previous_checkpoint=seen.checkpoint if seen else None,
        action=action,
        at=_moment(),
        by=mover(),
        message=message,
        forced=bool(against),
        refused_because="; ".join(against) or None,
    )


def _moment() -> str:
    """Now, to the microsecond: by it a mover knows its own move again."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def refuse_unfit(channel: str, message: str) -> None:
    if channel == names.LATEST:
        raise InputError("latest follows every publish by itself and is not moved by hand; name another channel")
    if len(message) > LONGEST_MESSAGE:
        raise InputError(f"a message of {len(message):,} characters is too long; the longest has {LONGEST_MESSAGE}")
    if not message.isprintable():
        raise InputError(f"the message {message!r} holds what cannot be printed on a line; write it in one")


def mover() -> str:
    """How whoever moves a channel is named: user and host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}".encode(errors="replace").decode()
