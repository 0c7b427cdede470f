"""Mirroring a generation of a version for a fleet: what is missing is fetched, every byte is checked, and then one file
is replaced.

The order of writing makes any crash harmless: objects, the manifest, what the mirror says of itself, and last the
channel, which alone decides what is served. What neither that nor what was served before needs goes only then.
A reader that has mapped a file keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tierloom import names
from tierloom.channel import Served, read_channel
from tierloom.errors import Corrupt, InputError, Malformed, NotFound, NotPulled
from tierloom.generations import find_generation
from tierloom.lease import leases
from tierloom.manifest import Manifest
from tierloom.mirroring.bringing import Brought, bring
from tierloom.mirroring.fetching import PART, OnProgress, part_name
from tierloom.mirroring.holding import holding
from tierloom.mirroring.mirror import Held, Hollow, Mirror, read_mirror, write_mirror
from tierloom.mirroring.serving_version import is_here, mirror_serves, names_held, replace_object, serve
from tierloom.mirroring.wanted import wanted
from tierloom.stored_object import StoredObject
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from tierloom.versions import channel_serves, read_checkpoint, read_manifest

PLACES: Final = (names.MANIFESTS, names.CHECKPOINTS, names.VECTOR_SHARDS, names.DELETES, names.INDEXES)


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did. `previous` is the version that `roll_back` goes back to, of `previous_checkpoint`; None if there
    is none. Objects are `fetched` or `kept` as they were; their bytes are those that came, and those that did not have
    to."""

    version: int
    checkpoint: str
    model: str
    previous: int | None
    previous_checkpoint: str | None
    tiers: tuple[str, ...]
    vectors: bool
    fetched_objects: int
    fetched_bytes: int
    kept_objects: int
    kept_bytes: int
    removed_objects: int


def pull(
    store: Store,
    folder: str | Path,
    channel: str = names.LATEST,
    *,
    version: int | None = None,
    checkpoint: str | None = None,
    tiers: Sequence[int | str] | None = None,
    vectors: bool = True,
    on_progress: OnProgress | None = None,
) -> PullReport:
    """Mirror what `channel` names, or another `version`, into `folder`, and let `channel` name it there.

    Of a version with two generations one is mirrored: that of `checkpoint` (a model, or the begin of a fingerprint),
    else the one that `channel` serves, else the one in front. `tiers` are those to have (default: all); without
    `vectors`, the full vectors are left out, and with them most of the bytes: such a mirror answers by tiers and
    prefixes alone.

    Raises:
        InputError: no such channel, version or tier; `folder` is no mirror of this store and channel.
        PullUnderWay: another process pulls into `folder`.
        Corrupt, Malformed, NotFound: the store does not hold what the manifest states. `folder` serves as before.
        StoreError: the store is out of reach, or the disk is full. `folder` serves as before.
    """
    local = LocalStore(Path(folder))
    _refuse_other_folder(store, local, channel)
    with holding(local):
        while True:
            served = _wanted(store, channel, version)
            try:
                stored = read_manifest(store, served.version)
                named = find_generation(stored, checkpoint, store).checkpoint if checkpoint is not None else None
                return _Pull(store, local, channel, on_progress).of(stored, named or served.checkpoint, tiers, vectors)
            except (InputError, NotFound):
                # It was retired while it was read: the channel names another one by now.
                if version is not None or channel_serves(store, channel) == served:
                    raise


def _wanted(store: Store, channel: str, version: int | None) -> Served:
    """What the channel names; another version by the checkpoint that the channel serves, if it has that."""
    if version is None:
        return channel_serves(store, channel)
    seen = None if channel == names.LATEST else read_channel(store, channel)
    known = read_manifest(store, version).checkpoints
    return Served(version, seen[0].checkpoint if seen and seen[0].checkpoint in known else None)


def roll_back(folder: str | Path) -> tuple[Served, Served]:
    """Serve what was served before from a mirror, without its source; from what, and to what.

    Twice in a row it goes back and forth; the next pull goes forward. Raises `InputError` when there is no other.
    """
    local = LocalStore(Path(folder))
    if not local.root.is_dir() or (mirror := read_mirror(local)) is None:
        raise InputError(f"{local.root} is no mirror; make one with: tierloom pull STORE {local.root} --channel ...")
    with holding(local):
        now = mirror_serves(local, mirror.channel)
        others = [held for held in mirror.held if held.served != now and is_here(local, held)]
        if now is None or not others:
            number = now.version if now else None
            raise InputError(
                f"{local.root} holds no version before {number}; the next pull that changes it will keep one"
            )
        serve(local, mirror.channel, others[-1].served)
        return now, others[-1].served


class _Pull:
    """One pull into a folder that is held."""

    def __init__(self, store: Store, local: LocalStore, channel: str, on_progress: OnProgress | None) -> None:
        self._store, self._local, self._channel = store, local, channel
        self._on_progress = on_progress
        known = _known(local)
        self._mirror = known or Mirror(source=store.url, channel=channel)
        # What a folder that lost its memory holds is not touched before it serves again.
        self._may_sweep = known is not None
        # Before anything else is there: a folder that a pull began is told from any other.
        write_mirror(local, self._mirror)

    def of(
        self, stored: Manifest, checkpoint: str | None, tiers: Sequence[int | str] | None, vectors: bool
    ) -> PullReport:
        """Mirror one generation of a version; the manifest comes as it is stored."""
        manifest = stored.of(checkpoint)
        held = Held(manifest.version, manifest.checkpoint, _chosen(manifest, tiers), vectors)
        _refuse_lacking_source(self._store, held)
        model = read_checkpoint(self._store, manifest.checkpoint)
        others = tuple(other for other in self._mirror.held if other.served != held.served)
        want = wanted(manifest, held.tiers)
        removed = self._sweep((*others, held), want.objects) if self._may_sweep else 0
        hole = None if vectors else model.space.dimensions
        brought = bring(self._store, self._local, want, self._mirror, hole, self._on_progress)
        replace_object(self._local, names.checkpoint(manifest.checkpoint), model.to_bytes())
        replace_object(self._local, names.manifest(manifest.version), stored.to_bytes())
        self._note((*others, held), brought.hollow)
        before = mirror_serves(self._local, self._channel)
        serve(self._local, self._channel, held.served)
        removed += self._forget(held, before)
        return self._report(held, model.space.model, brought, removed)

    def _note(self, held: tuple[Held, ...], hollow: Mapping[str, str]) -> None:
        known = {one.path: one.sha256 for one in self._mirror.hollow} | dict(hollow)
        here = (Hollow(path, sha256) for path, sha256 in sorted(known.items()) if self._local.size(path) is not None)
        self._mirror = Mirror(self._mirror.source, self._mirror.channel, held, tuple(here))
        write_mirror(self._local, self._mirror)

    def _forget(self, new: Held, before: Served | None) -> int:
        """Keep what is new, what was served before it, and what readers hold a lease on."""
        others = [held for held in self._mirror.held if held.served != new.served and is_here(self._local, held)]
        back = [held for held in others if held.served == before] or others[-1:]
        now = datetime.now(UTC).timestamp()
        leased = {record.version for _, record in leases(self._local) if not record.expired(now)}
        kept = (*(held for held in others if held.version in leased and held not in back), *back, new)
        self._note(kept, {})
        removed = self._sweep(kept, ())
        # Of what was removed, nothing is left to know.
        self._note(kept, {})
        return removed

    def _sweep(self, kept: Sequence[Held], wanted_now: Sequence[StoredObject]) -> int:
        """Remove the objects of other versions, and what arrived of objects that are not `wanted_now`."""
        needed = {stored.path for stored in wanted_now}.union(*(names_held(self._local, held) for held in kept))
        stale = [listed for place in PLACES for listed in self._local.list(place) if listed.name not in needed]
        arriving = {part_name(stored) for stored in wanted_now}
        for path in self._local.scratch().glob(f"{PART}*"):
            if path.name not in arriving:
                path.unlink(missing_ok=True)
        return sum(self._local.remove(listed) for listed in stale)

    def _report(self, held: Held, model: str, brought: Brought, removed: int) -> PullReport:
        others = [other.served for other in self._mirror.held if other.served != held.served]
        return PullReport(
            version=held.version,
            checkpoint=held.checkpoint,
            model=model,
            previous=others[-1].version if others else None,
            previous_checkpoint=others[-1].checkpoint if others else None,
            tiers=held.tiers,
            vectors=held.vectors,
            fetched_objects=brought.fetched.objects,
            fetched_bytes=brought.fetched.bytes,
            kept_objects=brought.kept_objects,
            kept_bytes=brought.kept_bytes,
            removed_objects=removed,
        )


def _known(local: LocalStore) -> Mirror | None:
    """What the mirror knows of itself; None for a new one, and where that is damaged: pulling mends it."""
    try:
        return read_mirror(local)
    except (Corrupt, Malformed):
        return None


def _chosen(manifest: Manifest, tiers: Sequence[int | str] | None) -> tuple[str, ...]:
    """The names of the tiers, in the collection's order. Raises `CheckpointError` for one that it has not."""
    own = manifest.collection.tiers
    if tiers is None:
        return tuple(tier.name for tier in own)
    chosen = {manifest.collection.tier(name).name for name in tiers}
    return tuple(tier.name for tier in own if tier.name in chosen)


def _refuse_lacking_source(store: Store, held: Held) -> None:
    """A mirror may be mirrored in turn: what it has not itself, it cannot give."""
    if (source := read_mirror(store)) is None:
        return
    there = source.of(held.version, held.checkpoint)
    if there is None or not set(held.tiers) <= set(there.tiers) or (held.vectors and not there.vectors):
        having = "with" if there and there.vectors else "without"
        has = f"tiers {', '.join(there.tiers)} {having} full vectors" if there else "nothing"
        raise NotPulled(
            f"{store.url} is a mirror, and has {has} of version {held.version} of checkpoint {held.checkpoint}; "
            f"pull {source.source}"
        )


def _refuse_other_folder(store: Store, local: LocalStore, channel: str) -> None:
    """Into a folder that holds anything but a mirror of the same, nothing is pulled."""
    root = local.root
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file; name a folder to mirror into")
    if store.local and Path(store.url).resolve() == root.resolve():
        raise InputError(f"{root} cannot be mirrored into itself; name another folder")
    lacks_memory = root.exists() and local.size(names.MIRROR) is None
    if lacks_memory and any(not path.name.startswith(".") for path in root.iterdir()):
        raise InputError(f"{root} holds something else than a mirror; name an empty folder, or a new one")
    mirror = _known(local) if root.exists() else None
    if mirror is not None and (mirror.source, mirror.channel) != (store.url, channel):
        raise InputError(
            f"{root} mirrors channel {mirror.channel!r} of {mirror.source}, not {channel!r} of {store.url}; "
            "name another folder, or remove this one"
        )
