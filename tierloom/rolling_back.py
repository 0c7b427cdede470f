"""Rollbacks: a channel returns to what it served before; where that is another generation that was kept current, to
that as it is now."""

from dataclasses import dataclass

from tierloom import names
from tierloom.channel import Channel, Served, read_channel, read_channels
from tierloom.errors import ChannelMoved, InputError
from tierloom.generations import told_served
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import refuse_mirror
from tierloom.moving import Decision, Moved, move_to, moved, refuse_unfit
from tierloom.promotion_checks import floor_of, reasons_against
from tierloom.stores.store import Store
from tierloom.versions import read_manifest, spans, stored_versions


def rollback(store: Store, channel: str, message: str = "", to: int | None = None, serving: int | None = None) -> Moved:
    """Point `channel` at what it served before the current one, or at the version `to`, which it served before that.

    Where that was another generation it is returned to as it is now: in the version that the channel serves, if that
    has it still, complete and measured to be good. What was rolled back is not gone back to by the next rollback: that
    goes further back. With `serving`, only if that is the version that it serves now.

    Raises:
        ChannelMoved: somebody else moved it in the meantime, or it does not serve `serving`.
        InputError: there is no such channel, it served no such version before, or that was retired; the store is a
            mirror.
        Corrupt: an object of the generation is gone.
    """
    refuse_mirror(store)
    refuse_unfit(channel, message)
    begun = _existing(store, channel)
    if serving not in (None, begun.version):
        raise _moved_by_others(begun, store.url)
    back = _before(store, begun, to)

    def decide(seen: Channel | None) -> Decision:
        if seen is None or seen.serial != begun.serial:
            raise _moved_by_others(seen or _existing(store, channel), store.url)
        return Decision(back.manifest, move_to("rollback", back.manifest, seen, message), back.doubts)

    return moved(store, channel, back.manifest.version, decide)


@dataclass(frozen=True, slots=True)
class _Back:
    """What is rolled back to, and what should be known about that."""

    manifest: Manifest
    doubts: tuple[str, ...] = ()


def _existing(store: Store, name: str) -> Channel:
    if (seen := read_channel(store, name)) is not None:
        return seen[0]
    known = ", ".join(channel.name for channel in read_channels(store) if channel.name != names.LATEST)
    there = f"there are {known}" if known else "nobody promoted anything yet"
    make = f"tierloom promote {store.url} VERSION --channel {name}"
    raise InputError(f"{store.url} has no channel {name!r}; {there}. Make one with: {make}")


def _before(store: Store, channel: Channel, to: int | None) -> _Back:
    """What to roll back to. Raises `InputError`."""
    before = channel.served[:-1]
    anew = f"promote what it should serve: tierloom promote {store.url} VERSION --channel {channel.name}"
    if not before:
        raise InputError(
            f"{channel.name} serves version {channel.version}, and its history knows of none before; {anew}"
        )
    if to is None:
        return _as_it_is_now(store, channel, before[-1]) or _as_it_was(store, channel, before[-1])
    named = [one for one in before if one.version == to and one != channel.serves]
    if to == channel.version and not named:
        raise InputError(f"{channel.name} serves version {to} already; name one that it served before")
    if not named:
        known = ", ".join(str(version) for version in dict.fromkeys(one.version for one in reversed(before)))
        raise InputError(f"{channel.name} did not serve version {to} before {channel.version}, but {known}; {anew}")
    return _as_it_was(store, channel, named[-1])


def _as_it_is_now(store: Store, channel: Channel, before: Served) -> _Back | None:
    """The other generation that was served before, in the version that is served now; None where it was the same one,
    or is not good there."""
    if before.checkpoint in (None, channel.checkpoint):
        return None
    current = read_manifest(store, channel.version)
    if before.checkpoint not in current.checkpoints:
        return None
    kept = current.of(before.checkpoint)
    fit = kept.is_complete and not reasons_against(kept, floor_of(kept, store), store.url)
    return _Back(kept) if fit else None


def _as_it_was(store: Store, channel: Channel, served: Served) -> _Back:
    """Exactly what was served before. Raises `InputError` when it was retired."""
    if store.size(names.manifest(served.version)) is None:
        raise _retired(store, channel, served)
    manifest = read_manifest(store, served.version).of(served.checkpoint)
    if served.checkpoint in (None, channel.checkpoint):
        return _Back(manifest)
    stale = f"{told_served(manifest, store)} is served as it was then: documents that changed since are not in it"
    return _Back(manifest, (stale,))


def _retired(store: Store, channel: Channel, served: Served) -> InputError:
    kept = stored_versions(store)
    others = dict.fromkeys(one.version for one in reversed(channel.served[:-1]) if one.version in kept)
    anew = f"promote what it should serve: tierloom promote {store.url} VERSION --channel {channel.name}"
    further = f"go further back (--to {' or '.join(map(str, others))})" if others else anew
    other = served.checkpoint not in (None, channel.checkpoint)
    lost = f", and version {channel.version} has nothing of its checkpoint {served.checkpoint} that is good"
    return InputError(
        f"version {served.version}, which {channel.name} served before {channel.version}, was retired"
        f"{lost if other else ''}; there still are {spans(kept)}; {further}"
    )


def _moved_by_others(channel: Channel, url: str) -> ChannelMoved:
    last = channel.moves[-1] if channel.moves else None
    how = f" ({last.action} by {last.by} at {last.at}{': ' if last.message else ''}{last.message})" if last else ""
    return ChannelMoved(
        f"{channel.name} serves version {channel.version} now{how}; nothing was rolled back. "
        f"Look at it (tierloom channels {url} --channel {channel.name}) and decide anew"
    )
