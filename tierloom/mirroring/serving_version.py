"""What a mirror serves, and what belongs to a generation that it holds."""

from tierloom import names
from tierloom.channel import Channel, Served, read_channel
from tierloom.errors import Corrupt, FormatTooNew, Malformed, TierloomError
from tierloom.manifest import Manifest
from tierloom.manifest_checks import checked_manifest
from tierloom.mirroring.mirror import Held
from tierloom.mirroring.wanted import wanted
from tierloom.sealed import read_sealed, seal
from tierloom.stores.local import LocalStore


def mirror_serves(local: LocalStore, channel: str) -> Served | None:
    """What the mirror's channel names; None where nothing is served yet, or the channel is damaged."""
    try:
        seen = read_channel(local, channel)
    except (Corrupt, Malformed, FormatTooNew):
        return None
    return seen[0].serves if seen else None


def serve(local: LocalStore, channel: str, served: Served) -> None:
    """Let the mirror's channel name this: one file is replaced, and is on the disk when this returns."""
    try:
        seen = read_channel(local, channel)
    except (Corrupt, Malformed, FormatTooNew):
        seen = None
    if seen is None or seen[0].serves != served:
        serial = seen[0].serial + 1 if seen else 0
        moved = Channel(name=channel, version=served.version, serial=serial, checkpoint=served.checkpoint)
        replace_object(local, names.channel(channel), seal(moved))


def replace_object(local: LocalStore, name: str, data: bytes) -> None:
    """Have these bytes under `name`, whatever was there."""
    seen = local.read_revision(name)
    if seen is None or seen[0] != data:
        local.swap(name, data, seen[1] if seen else None)


def names_held(local: LocalStore, held: Held) -> set[str]:
    """Every object that belongs to what a mirror holds; none of a version whose manifest is not (yet) there."""
    if (manifest := _manifest(local, held)) is None:
        return set()
    own = {names.manifest(manifest.version), names.checkpoint(manifest.checkpoint)}
    return own | {stored.path for stored in wanted(manifest, held.tiers).objects}


def is_here(local: LocalStore, held: Held) -> bool:
    """Whether every object of what is held is there, in its length: its bytes a reader checks before their use."""
    if (manifest := _manifest(local, held)) is None:
        return False
    objects = wanted(manifest, held.tiers).objects
    checkpoint = names.checkpoint(manifest.checkpoint)
    return local.size(checkpoint) is not None and all(local.size(stored.path) == stored.bytes for stored in objects)


def _manifest(local: LocalStore, held: Held) -> Manifest | None:
    try:
        data = read_sealed(local, names.manifest(held.version))
        return checked_manifest(data, held.version).of(held.checkpoint)
    except TierloomError:
        return None
