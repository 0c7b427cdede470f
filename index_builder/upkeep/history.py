"""What became of a collection, version by version."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from index_builder.upkeep.holders import Holders, channels_at, read_holders
from index_builder.upkeep.retained import read_with_digests, stored_manifests
from tierloom import names
from tierloom.manifest import Manifest
from tierloom.stores.store import Store
from tierloom.versions import head_version


@dataclass(frozen=True, slots=True)
class Entry:
    """A version, the channels that point to it, each with the checkpoint that it serves; and how many leases keep
    it."""

    manifest: Manifest
    channels: tuple[tuple[str, str], ...]
    leases: int


def history(store: Store, last: int | None = None) -> Iterator[Entry]:
    """The versions that are not retired, newest first; only the `last` ones if that is given.

    Raises `NotACollection`, `Corrupt` or `Malformed`.
    """
    head = head_version(store)
    stored = sorted((version for version in stored_manifests(store) if version <= head), reverse=True)
    holders = read_holders(store, time.time())
    return islice((_entry(manifest, holders, head) for manifest in _chain(store, stored)), last)


def _chain(store: Store, stored: list[int]) -> Iterator[Manifest]:
    """Without what a writer that slept has put into the hole of retired versions, and is about to take back."""
    successor: Manifest | None = None
    for manifest, digest in read_with_digests(store, stored):
        if successor is None or successor.version != manifest.version + 1 or successor.parent == digest:
            yield manifest
            successor = manifest


def _entry(manifest: Manifest, holders: Holders, head: int) -> Entry:
    version = manifest.version
    latest = ((names.LATEST, manifest.checkpoint),) if version == head else ()
    leases = sum(lease.version == version for _, lease in holders.leases)
    moved = ((one.name, one.checkpoint or manifest.checkpoint) for one in channels_at(holders.channels, version))
    return Entry(manifest, (*latest, *moved), leases)
