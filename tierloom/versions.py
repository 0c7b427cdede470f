"""Finding and reading versions. A channel is only a hint of the newest: a manifest that exists is the truth."""

from tierloom import names
from tierloom.channel import read_channel
from tierloom.checkpoint import Checkpoint
from tierloom.errors import InputError, NotACollection, NotFound
from tierloom.manifest import Manifest
from tierloom.stores.store import Store


def head_version(store: Store) -> int:
    """The newest version. Raises `NotACollection` when there is none.

    Manifests are created in order, so the newest is found from the `latest` channel by asking for the next
    one until there is none.
    """
    seen = read_channel(store, names.LATEST)
    version = seen[0].version if seen else 0
    if store.size(names.manifest(version)) is None:
        raise NotACollection(f"{store.url} holds no collection; make one with: tierloom init {store.url} --model ...")
    while store.size(names.manifest(version + 1)) is not None:
        version += 1
    return version


def read_manifest(store: Store, version: int) -> Manifest:
    """The manifest of a version. Raises `InputError` when there is no such version."""
    try:
        return Manifest.from_bytes(store.read(names.manifest(version)), version)
    except NotFound as error:
        raise InputError(f"{store.url} has no version {version}; the newest is {head_version(store)}") from error


def read_head(store: Store) -> Manifest:
    """The newest manifest. Raises `NotACollection`."""
    return read_manifest(store, head_version(store))


def channel_version(store: Store, channel: str) -> int:
    """The version that a channel names; for `latest` the newest there is. Raises `InputError`."""
    if channel == names.LATEST:
        return head_version(store)
    if (seen := read_channel(store, channel)) is None:
        raise InputError(f"{store.url} has no channel {channel!r}")
    return seen[0].version


def read_checkpoint(store: Store, fingerprint: str) -> Checkpoint:
    """The checkpoint of this fingerprint. Raises `NotFound` or `CheckpointMismatch`."""
    return Checkpoint.from_bytes(store.read(names.checkpoint(fingerprint)), fingerprint)
