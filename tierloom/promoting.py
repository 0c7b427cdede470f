"""Moving channels: a promotion points one at a version that is fit for it, a rollback at what it served before.

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
from tierloom.channel import LONGEST_MESSAGE, Channel, Move, move_channel, read_channel, read_channels
from tierloom.commit import MAX_RACES
from tierloom.errors import ChannelMoved, CommitConflict, InputError, PromotionRefused, RevisionMismatch
from tierloom.lease import Lease
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import refuse_mirror
from tierloom.promotion_checks import doubts, reasons_against, refuse_missing_objects
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_head, read_manifest, spans, stored_versions

_HELD: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Moved:
    """A channel as it is now, and the move that made it so: None where it pointed there already. `doubts` are no reason
    against the version, and should be looked at."""

    channel: Channel
    move: Move | None
    doubts: tuple[str, ...] = ()


def promote(
    store: Store, version: int | Literal["latest"], channel: str, message: str = "", force: bool = False
) -> Moved:
    """Point `channel` at a version, once its tiers are known to reach the recall floor and its objects to be there.

    `force` makes it go where it is refused for what was measured; the history then says so, and why. Who loses a race
    checks anew, and moves on from where the other has put it.

    Raises:
        PromotionRefused: a tier misses the floor, or was not measured; or nothing is live.
        InputError: there is no such version (any more); `channel` cannot be moved by hand; the store is a mirror.
        Corrupt: an object that the version names is gone.
    """
    refuse_mirror(store)
    _refuse_unfit(channel, message)
    manifest = read_manifest(store, head_version(store) if isinstance(version, str) else version)

    def decide(seen: Channel | None) -> Move | None:
        if seen and seen.version == manifest.version:
            return None
        against = reasons_against(manifest, read_head(store).collection.recall_floor, store.url)
        if against and not force:
            raise PromotionRefused(
                f"version {manifest.version} is not promoted to {channel}: {'; '.join(against)}. "
                "--force promotes it all the same, and the channel's history will say so"
            )
        return _move("promote", manifest, seen, message, against)

    return _moved(store, channel, manifest, decide)


def rollback(store: Store, channel: str, message: str = "", to: int | None = None, serving: int | None = None) -> Moved:
    """Point `channel` at the version that it served before the current one, or at `to`, which it served before that.

    What was rolled back is not gone back to by the next rollback: that goes further back. With `serving`, only if that
    is the version that it serves now.

    Raises:
        ChannelMoved: somebody else moved it in the meantime, or it does not serve `serving`.
        InputError: there is no such channel, it served no such version before, or that was retired; the store is a
            mirror.
        Corrupt: an object that the version names is gone.
    """
    refuse_mirror(store)
    _refuse_unfit(channel, message)
    begun = _existing(store, channel)
    if serving not in (None, begun.version):
        raise _moved_by_others(begun, store.url)
    manifest = _before(store, begun, to)

    def decide(seen: Channel | None) -> Move:
        if seen is None or seen.serial != begun.serial:
            raise _moved_by_others(seen or _existing(store, channel), store.url)
        return _move("rollback", manifest, seen, message)

    return _moved(store, channel, manifest, decide)


def mover() -> str:
    """How whoever moves a channel is named: user and host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}".encode(errors="replace").decode()


def _moved(store: Store, name: str, manifest: Manifest, decide: Callable[[Channel | None], Move | None]) -> Moved:
    """The channel after the move that `decide` makes of what it is; asked again, with what it is then, after each lost
    race."""
    seen = read_channel(store, name)
    if (move := decide(seen[0] if seen else None)) is None and seen:
        return Moved(seen[0], None, doubts(manifest))
    probe_preconditions(store)
    with Lease(store, manifest.version, _HELD):
        refuse_missing_objects(manifest, store)
        channel, move = _swapped(store, name, manifest.version, decide)
        # Who slept for longer than its lease and every retention may find that it is gone.
        if not store.renew(names.manifest(manifest.version)):
            raise InputError(
                f"version {manifest.version} was retired while {name} was moved to it; promote another one"
            )
    return Moved(channel, move, doubts(manifest))


def _swapped(
    store: Store, name: str, version: int, decide: Callable[[Channel | None], Move | None]
) -> tuple[Channel, Move | None]:
    for _ in range(MAX_RACES):
        seen = read_channel(store, name)
        if (move := decide(seen[0] if seen else None)) is None and seen:
            return seen[0], None
        try:
            return move_channel(store, name, version, seen, move), move
        except RevisionMismatch:
            # A bucket may say so of a swap that held, where its answer was lost and others went on from there.
            serial = seen[0].serial + 1 if seen else 0
            if (found := read_channel(store, name)) and found[0].move_of(serial) == move:
                return found[0], move
    raise CommitConflict(f"{store.url}: lost {MAX_RACES} races for the channel {name}; fewer movers would help")


def _move(
    action: Literal["promote", "rollback"],
    manifest: Manifest,
    seen: Channel | None,
    message: str,
    against: tuple[str, ...] = (),
) -> Move:
    return Move(
        version=manifest.version,
        previous=seen.version if seen else None,
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


def _refuse_unfit(channel: str, message: str) -> None:
    if channel == names.LATEST:
        raise InputError("latest follows every publish by itself and is not moved by hand; name another channel")
    if len(message) > LONGEST_MESSAGE:
        raise InputError(f"a message of {len(message):,} characters is too long; the longest has {LONGEST_MESSAGE}")
    if not message.isprintable():
        raise InputError(f"the message {message!r} holds what cannot be printed on a line; write it in one")


def _existing(store: Store, name: str) -> Channel:
    if (seen := read_channel(store, name)) is not None:
        return seen[0]
    known = ", ".join(channel.name for channel in read_channels(store) if channel.name != names.LATEST)
    there = f"there are {known}" if known else "nobody promoted anything yet"
    make = f"tierloom promote {store.url} VERSION --channel {name}"
    raise InputError(f"{store.url} has no channel {name!r}; {there}. Make one with: {make}")


def _before(store: Store, channel: Channel, to: int | None) -> Manifest:
    """The version to roll back to. Raises `InputError`."""
    before = channel.served[:-1]
    anew = f"promote what it should serve: tierloom promote {store.url} VERSION --channel {channel.name}"
    if not before:
        raise InputError(
            f"{channel.name} serves version {channel.version}, and its history knows of none before; {anew}"
        )
    if to == channel.version:
        raise InputError(f"{channel.name} serves version {to} already; name one that it served before")
    if to is not None and to not in before:
        known = ", ".join(map(str, dict.fromkeys(reversed(before))))
        raise InputError(f"{channel.name} did not serve version {to} before {channel.version}, but {known}; {anew}")
    version = before[-1] if to is None else to
    if store.size(names.manifest(version)) is None:
        kept = stored_versions(store)
        back = [str(other) for other in dict.fromkeys(reversed(before)) if other in kept]
        further = f"go further back (--to {' or '.join(back)})" if back else anew
        raise InputError(
            f"version {version}, which {channel.name} served before {channel.version}, was retired; "
            f"there still are {spans(kept)}; {further}"
        )
    return read_manifest(store, version)


def _moved_by_others(channel: Channel, url: str) -> ChannelMoved:
    last = channel.moves[-1] if channel.moves else None
    how = f" ({last.action} by {last.by} at {last.at}{': ' if last.message else ''}{last.message})" if last else ""
    return ChannelMoved(
        f"{channel.name} serves version {channel.version} now{how}; nothing was rolled back. "
        f"Look at it (tierloom channels {url} --channel {channel.name}) and decide anew"
    )
