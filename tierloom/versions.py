"""Finding and reading versions. A channel is only a hint of the newest: a manifest that exists is the truth.

Versions are retired (`index_builder.upkeep.collect`): below the newest there may be holes, and what was found a
moment ago may be gone. Numbers are never used again.
"""

from collections.abc import Sequence

from tierloom import names
from tierloom.channel import Served, read_channel
from tierloom.checkpoint import Checkpoint
from tierloom.errors import InputError, NotACollection, NotFound
from tierloom.manifest import Manifest
from tierloom.manifest_checks import checked_manifest
from tierloom.mirroring.mirror import Mirror, read_mirror
from tierloom.sealed import read_sealed
from tierloom.stores.store import Store


def head_version(store: Store) -> int:
    """The newest version. Raises `NotACollection` when there is none."""
    return _head(store).version


def _head(store: Store) -> Served:
    """The newest version, and which generation of it is served; in a mirror, what that serves.

    Manifests are created in order, so the newest is found from the `latest` channel by asking for the next
    one until there is none.
    """
    if (mirror := read_mirror(store)) is not None:
        return _mirrored(store, mirror)
    version = _hint(store)
    while store.size(names.manifest(version)) is None:
        # Others may have published since the hint was read, and retired what it names.
        if (newer := _hint(store)) == version:
            raise NotACollection(
                f"{store.url} holds no collection; make one with: tierloom init {store.url} --model ..."
            )
        version = newer
    while store.size(names.manifest(version + 1)) is not None:
        version += 1
    return Served(version)


def _mirrored(store: Store, mirror: Mirror) -> Served:
    """What its channel names: a mirror has no other head."""
    if (seen := read_channel(store, mirror.channel)) is None:
        raise NotACollection(f"{store.url} is a mirror whose first pull was never finished; pull again")
    return seen[0].serves


def _hint(store: Store) -> int:
    seen = read_channel(store, names.LATEST)
    return seen[0].version if seen else 0


def read_manifest(store: Store, version: int) -> Manifest:
    """The manifest of a version. Raises `InputError` when there is no such version, or none any more."""
    try:
        return checked_manifest(read_sealed(store, names.manifest(version)), version)
    except NotFound as error:
        newest = head_version(store)
        if not 0 <= version <= newest:
            raise InputError(f"{store.url} has no version {version}; the newest is {newest}") from error
        kept = spans(stored_versions(store))
        raise InputError(f"version {version} of {store.url} was retired; there still are {kept}") from error


def read_head(store: Store) -> Manifest:
    """The newest manifest; that of a mirror has what is served in front. Raises `NotACollection`."""
    while True:
        version, checkpoint = _head(store)
        try:
            return checked_manifest(read_sealed(store, names.manifest(version)), version).of(checkpoint)
        except NotFound:
            # Newer versions took its place in this very moment.
            continue


def stored_versions(store: Store) -> list[int]:
    """Every version that there is now, ascending. For people and for maintenance: a listing is never truth."""
    listed = (names.manifest_version(found.name) for found in store.list(names.MANIFESTS))
    return sorted(version for version in listed if version is not None)


def spans(versions: Sequence[int]) -> str:
    """Ascending numbers for people: `0, 3, 7-12`."""
    runs: list[list[int]] = []
    for version in versions:
        if runs and runs[-1][-1] == version - 1:
            runs[-1][1:] = [version]
        else:
            runs.append([version])
    return ", ".join("-".join(map(str, run)) for run in runs)


def channel_serves(store: Store, channel: str) -> Served:
    """What a channel names; `latest` means the newest version there is, and in a mirror what that serves.

    Raises `InputError`.
    """
    if channel == names.LATEST:
        return _head(store)
    if (seen := read_channel(store, channel)) is None:
        raise InputError(f"{store.url} has no channel {channel!r}")
    return seen[0].serves


def read_checkpoint(store: Store, fingerprint: str) -> Checkpoint:
    """The checkpoint of this fingerprint. Raises `NotFound` or `CheckpointMismatch`."""
    return Checkpoint.from_bytes(read_sealed(store, names.checkpoint(fingerprint)), fingerprint)
