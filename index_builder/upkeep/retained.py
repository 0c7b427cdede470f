"""Which versions are kept, and what they need."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice

from index_builder.upkeep.at_once import AT_ONCE, of_each
from tierloom import names
from tierloom.digest import bytes_digest
from tierloom.errors import NotFound
from tierloom.manifest import Manifest, Retention
from tierloom.manifest_checks import checked_manifest
from tierloom.stores.store import Listed, Store


def stored_manifests(store: Store) -> dict[int, Listed]:
    """Every manifest that there is now, by version."""
    listed = {names.manifest_version(found.name): found for found in store.list(names.MANIFESTS)}
    return {version: found for version, found in listed.items() if version is not None}


def retained_manifests(
    store: Store, stored: dict[int, Listed], head: int, retention: Retention, held: Collection[int], now: float
) -> Iterator[Manifest]:
    """The first version, the newest ones, the young ones, and those that somebody holds, ascending.

    `head` is the newest version, `held` those that a channel or a lease keeps, `now` seconds since 1970. Raises what
    `checked_manifest` has against any of them: who cannot read a version does not know what it needs.
    """
    for_sure = {version for version in stored if version == 0 or version > head - retention.versions or version in held}
    cutoff = now - retention.versions_seconds
    # Written or renewed: it cannot be older than it was modified.
    perhaps = [version for version, listed in stored.items() if listed.modified >= cutoff]
    for manifest in read_manifests(store, sorted(for_sure.union(perhaps))):
        if manifest.version in for_sure or created_at(manifest) >= cutoff:
            yield manifest


def read_manifests(store: Store, versions: Iterable[int]) -> Iterator[Manifest]:
    """The manifests of these versions, but for those that somebody retires meanwhile; a few at a time are in memory."""
    return (manifest for manifest, _ in read_with_digests(store, versions))


def read_with_digests(store: Store, versions: Iterable[int]) -> Iterator[tuple[Manifest, str]]:
    """`read_manifests`, each with its digest: what its successor states as its parent."""
    waiting = iter(versions)
    while some := list(islice(waiting, AT_ONCE)):
        found = of_each(lambda version: _read(store, version), some)
        yield from (one for one in found if one is not None)


def _read(store: Store, version: int) -> tuple[Manifest, str] | None:
    try:
        data = store.read(names.manifest(version))
    except NotFound:
        return None
    return checked_manifest(data, version), bytes_digest(data)


class Kept:
    """Versions that stay, and the names of all objects that they need."""

    def __init__(self) -> None:
        self.versions: set[int] = set()
        self.names: set[str] = set()

    def add(self, manifest: Manifest) -> None:
        self.versions.add(manifest.version)
        for generation in manifest.generations:
            checkpoint = generation.checkpoint
            self.names |= {names.checkpoint(checkpoint), names.canaries(checkpoint), names.run(generation.run.run)}
        self.names.update(stored.path for stored in manifest.objects())


def created_at(manifest: Manifest) -> float:
    """When a version was published, in seconds since 1970."""
    return datetime.fromisoformat(manifest.created).timestamp()
