"""What a folder that was pulled knows of itself: a mirror is a store, with one object more."""

from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.channel import ChannelName, Served
from tierloom.collection import Fingerprint
from tierloom.errors import NotPulled
from tierloom.sealed import read_sealed, seal, unseal
from tierloom.serving import TierName
from tierloom.stored_object import Count, Sha256
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store

FORMAT: Final = 1


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A generation of a version that is here: with which tiers, and whether with the full vectors."""

    version: Count
    checkpoint: Fingerprint
    tiers: tuple[TierName, ...]
    vectors: bool

    @property
    def served(self) -> Served:
        """As a channel names it."""
        return Served(self.version, self.checkpoint)


class Hollow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vector shard without its full vectors: a hole of zeros stands where the `vector` column was. `sha256` is that
    of the file as it is here."""

    path: str
    sha256: Sha256


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was pulled from where. Of what is held, the channel names what serves."""

    source: str
    channel: ChannelName
    held: tuple[Held, ...] = ()
    hollow: tuple[Hollow, ...] = ()
    format: Literal[1] = FORMAT

    def of(self, version: int, checkpoint: str) -> Held | None:
        """What is here of a generation of a version."""
        return next((held for held in self.held if held.served == (version, checkpoint)), None)

    def checkpoint_of(self, version: int) -> str | None:
        """The checkpoint of what is here of a version; of what came last, where that are two generations."""
        return next((held.checkpoint for held in reversed(self.held) if held.version == version), None)

    def hollow_sha256(self, path: str) -> str | None:
        """The hash of a vector shard that lacks its full vectors; None for any other."""
        return next((hollow.sha256 for hollow in self.hollow if hollow.path == path), None)


def read_mirror(store: Store) -> Mirror | None:
    """What a mirror knows of itself; None for a store that is no mirror. Raises `Corrupt` or `Malformed`."""
    if not store.local or store.size(names.MIRROR) is None:
        return None
    return unseal(read_sealed(store, names.MIRROR), Mirror, names.MIRROR, FORMAT)


def write_mirror(local: LocalStore, mirror: Mirror) -> None:
    """Replace it, whatever it was."""
    seen = local.read_revision(names.MIRROR)
    data = seal(mirror)
    if seen is None or seen[0] != data:
        local.swap(names.MIRROR, data, seen[1] if seen else None)


def refuse_mirror(store: Store) -> None:
    """For whoever writes a version or moves a channel. Raises `NotPulled`: what a writer needs is not in a mirror."""
    if (mirror := read_mirror(store)) is not None:
        raise NotPulled(
            f"{store.url} is a mirror, which only `tierloom pull` changes (and takes back: --rollback); change "
            f"{mirror.source}"
        )


def object_not_pulled(mirror: Mirror, folder: str, path: str) -> NotPulled:
    """The error of who asks a mirror for an object that is not there."""
    here = {tier for held in mirror.held for tier in held.tiers}
    place, tier, *_ = path.split("/")
    if f"{place}/" != names.INDEXES or tier in here:
        return NotPulled(f"{path} is not in the mirror {folder}; {_command(mirror, folder)}")
    tiers = ",".join(sorted({*here, tier}, key=lambda name: (len(name), name)))
    return NotPulled(f"tier {tier} was not pulled into {folder}; {_command(mirror, folder)} --tiers {tiers}")


def vectors_not_pulled(mirror: Mirror, folder: str) -> NotPulled:
    """The error of who asks a mirror for full vectors that it was told to leave out."""
    return NotPulled(
        f"{folder} was pulled without the full vectors: search it by a tier alone (rerank=False, --no-rerank), or get "
        f"them: {_command(mirror, folder)}, without --no-vectors"
    )


def generation_not_pulled(mirror: Mirror, folder: str, version: int, checkpoint: str) -> NotPulled:
    """The error of who asks a mirror for a generation of which it holds nothing."""
    here = ", ".join(f"version {held.version} of {held.checkpoint}" for held in mirror.held)
    return NotPulled(
        f"checkpoint {checkpoint} of version {version} was not pulled into {folder}, but {here}; pull it into a folder "
        f"of its own: tierloom pull {mirror.source} DIR --channel {mirror.channel} --checkpoint {checkpoint}"
    )


def _command(mirror: Mirror, folder: str) -> str:
    return f"tierloom pull {mirror.source} {folder} --channel {mirror.channel}"
