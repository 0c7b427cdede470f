"""Which version a mirror serves, and what belongs to a version that it holds."""

from tierloom import names
from tierloom.channel import Channel, read_channel
from tierloom.errors import Corrupt, FormatTooNew, Malformed, TierloomError
from tierloom.manifest import Manifest
from tierloom.manifest_checks import checked_manifest
from tierloom.mirroring.mirror import Held
from tierloom.mirroring.wanted import wanted
from tierloom.sealed import read_sealed, seal
from tierloom.stores.local import LocalStore


def served_version(local: LocalStore, channel: str) -> int | None:
    """The version that the mirror's channel names; None where nothing is served yet, or the channel is damaged."""
    try:
        seen = read_channel(local, channel)
    except (Corrupt, Malformed, FormatTooNew):
        return None
    return seen[0].version if seen else None


def serve(local: LocalStore, channel: str, version: int) -> None:
    """Let the mirror's channel name `version`: one file is replaced, and is on the disk when this returns."""
    try:
        seen = read_channel(local, channel)
    except (Corrupt, Malformed, FormatTooNew):
        seen = None
    if seen is None or seen[0].version != version:
        serial = seen[0].serial + 1 if seen else 0
        replace_object(local, names.channel(channel), seal(Channel(name=channel, version=version, serial=serial)))


def replace_object(local: LocalStore, name: str, data: bytes) -> None:
    """Have these bytes under `name`, whatever was there."""
    seen = local.read_revision(name)
    if seen is None or seen[0] != data:
        local.swap(name, data, seen[1] if seen else None)


def names_held(local: LocalStore, held: Held) -> set[str]:
    """Every object that belongs to a version of the mirror; none of one whose manifest is not (yet) there."""
    if (manifest := _manifest(local, held)) is None:
        return set()
    own = {names.manifest(manifest.version), names.checkpoint(manifest.collection.checkpoint)}
    return own | {stored.path for stored in wanted(manifest, held.tiers).objects}


def is_here(local: LocalStore, held: Held) -> bool:
    """Whether every object of a version is in the mirror, in its length: its bytes a reader checks before their use."""
    if (manifest := _manifest(local, held)) is None:
        return False
    objects = wanted(manifest, held.tiers).objects
    checkpoint = names.checkpoint(manifest.collection.checkpoint)
    return local.size(checkpoint) is not None and all(local.size(stored.path) == stored.bytes for stored in objects)


def _manifest(local: LocalStore, held: Held) -> Manifest | None:
    try:
        return checked_manifest(read_sealed(local, names.manifest(held.version)), held.version)
    except TierloomError:
        return None
