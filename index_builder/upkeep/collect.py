"""Collecting garbage: versions that nobody keeps are retired, and what no version names is removed.

Manifests go first, so that wherever this is killed every version that is left is whole. Everything is listed before it
is decided, and removed only if it was not renewed since: whoever finds an object and means to publish it renews it, and
`tierloom.commit` claims what a new version adds. What is younger than the grace period is not touched, nor what is
younger than a run that holds a lease: they may still mean to publish it.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from index_builder.upkeep.at_once import of_each
from index_builder.upkeep.holders import read_holders
from index_builder.upkeep.retained import Kept, read_manifests, retained_manifests, stored_manifests
from index_builder.upkeep.scratch import ScratchEntry, idle_entries, remove_entry
from tierloom import names
from tierloom.commit import advance_latest
from tierloom.stores.store import Listed, Store
from tierloom.versions import read_head

DEFAULT_GRACE: Final = timedelta(hours=24)

# What is known of a batch that was paid for, for as long as the provider keeps its answers: see
# `tierloom.embedders.openai_batches`.
BATCH_SECONDS: Final = 30 * 86_400.0

# Of these, what no version names is garbage. Channels are moved, leases end, turns and receipts of erasures stay.
COLLECTED: Final = (
    names.VECTOR_SHARDS,
    names.DELETES,
    names.INDEXES,
    names.DEAD_LETTERS,
    names.TOMBSTONES,
    names.SEEN_FILES,
    names.CHECKPOINTS,
    names.RUNS,
    names.PROBES,
    names.CUTS,
    names.GATES,
    names.DRAFTS,
    names.BATCHES,
)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What stays and what is to go, as it was listed: manifests of retired versions, ended leases, objects, and what
    killed processes left in the folder for temporary files. `young` objects are named by no version, and stay."""

    retained: tuple[int, ...]
    retired: tuple[Listed, ...]
    leases: tuple[Listed, ...]
    objects: tuple[Listed, ...]
    scratch: tuple[ScratchEntry, ...]
    young: tuple[Listed, ...]

    @property
    def going(self) -> tuple[Listed, ...]:
        return (*self.retired, *self.leases, *self.objects)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was done, or would be: `removed` is gone, `spared` was found to be in use again."""

    garbage: Garbage
    removed: tuple[Listed, ...]
    spared: tuple[Listed, ...]

    @property
    def bytes(self) -> int:
        """What is free now."""
        return sum(listed.bytes for listed in self.removed) + sum(entry.bytes for entry in self.garbage.scratch)


def collect(
    store: Store,
    grace: timedelta = DEFAULT_GRACE,
    dry_run: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Collected:
    """Retire versions by the collection's retention and remove garbage; with `dry_run` only say what would go.

    Safe beside every writer and reader, and beside another collection, and may be killed at any point. Without
    a grace period it is not: then nobody else may write. `check` is called before each removal, and what it raises ends
    the collection. Raises `NotACollection`, and `Corrupt` or `Malformed` where
    a version that is kept cannot be read: then nothing is removed.
    """
    garbage = _look(store, time.time(), grace)
    if dry_run:
        return Collected(garbage, garbage.going, ())
    check()
    advance_latest(store, max(garbage.retained))
    retired = _remove(store, garbage.retired, check)
    in_use = _named_by_spared(store, garbage, retired)
    objects = [listed for listed in garbage.objects if listed.name not in in_use]
    went = {*retired, *_remove(store, (*garbage.leases, *objects), check)}
    for entry in garbage.scratch:
        remove_entry(entry)
    return Collected(
        garbage,
        removed=tuple(listed for listed in garbage.going if listed in went),
        spared=tuple(listed for listed in garbage.going if listed not in went),
    )


def _named_by_spared(store: Store, garbage: Garbage, retired: Collection[Listed]) -> set[str]:
    """The objects of versions that were to go, and that somebody has taken a lease on since, or promoted."""
    spared = {names.manifest_version(listed.name) for listed in set(garbage.retired).difference(retired)}
    kept = Kept()
    for manifest in read_manifests(store, sorted(version for version in spared if version is not None)):
        kept.add(manifest)
    return kept.names


def _look(store: Store, now: float, grace: timedelta) -> Garbage:
    head = read_head(store)
    # In this order: see `tierloom.lease`.
    stored = stored_manifests(store)
    holders = read_holders(store, now)
    kept = Kept()
    for manifest in retained_manifests(store, stored, head.version, head.retention, holders.kept, now):
        kept.add(manifest)
    unnamed = _unnamed(store, kept)
    cutoff = min(now - grace.total_seconds(), holders.working_since)
    later = {
        names.RUNS: min(cutoff, now - head.retention.versions_seconds),
        names.BATCHES: min(cutoff, now - BATCH_SECONDS),
    }
    old = {x for x in unnamed if x.modified < later.get(x.name.partition("/")[0] + "/", cutoff)}
    return Garbage(
        retained=tuple(sorted(kept.versions)),
        retired=tuple(listed for version, listed in stored.items() if version not in kept.versions),
        leases=holders.expired,
        objects=tuple(listed for listed in unnamed if listed in old),
        scratch=tuple(idle_entries(store, cutoff)),
        young=tuple(listed for listed in unnamed if listed not in old),
    )


def _unnamed(store: Store, kept: Kept) -> list[Listed]:
    """What no version names. One that is published while the objects are listed joins those that are kept."""
    listed = [found for prefix in COLLECTED for found in store.list(prefix)]
    kept.add(read_head(store))
    return [found for found in listed if found.name not in kept.names]


def _remove(store: Store, listed: Sequence[Listed], check: Callable[[], None]) -> list[Listed]:
    def remove(one: Listed) -> bool:
        check()
        return store.remove(one)

    went = of_each(remove, listed)
    return [one for one, gone in zip(listed, went, strict=True) if gone]
