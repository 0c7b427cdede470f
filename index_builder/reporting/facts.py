"""What a report states: gathered from the retained manifests and channels, before anything is drawn."""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

import msgspec

from index_builder.comparing.comparison import Comparison
from index_builder.upkeep.history import history
from index_builder.upkeep.holders import read_holders
from index_builder.upkeep.retained import read_manifests
from tierloom.channel import Channel, Served
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Tier
from tierloom.errors import InputError
from tierloom.gate import Gate, TierQuality
from tierloom.manifest import Manifest, RunRecord
from tierloom.mirroring.mirror import read_mirror
from tierloom.names import LATEST
from tierloom.stores.store import Store
from tierloom.versions import channel_serves, read_checkpoint

_FLOAT16_BYTES: Final = 2
_FLOAT32_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What stays of a manifest when only its numbers are wanted. `created` is RFC 3339, UTC. `left_documents` are those
    that its run left at its cap, over all generations."""

    version: int
    created: str
    run: RunRecord
    live_documents: int
    live_chunks: int
    gate: Gate | None
    left_documents: int


@dataclass(frozen=True, slots=True)
class TierFacts:
    """A tier of the newest version: what was measured, and the bytes of its index shards and alias files, which is
    what it takes in memory when it is mapped whole. `rows` are the rows that it indexes, dead ones too."""

    tier: Tier
    quality: TierQuality | None
    index_shards: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A collection as it is now. `versions` are those that are not retired, ascending, the newest at the end: at most
    as many as were asked for. `pointed` are what channels serve.

    `head` has a generation in front, which is that of `checkpoint`; `behind` is the checkpoint of its other one, if it
    has two, and `front` the fingerprint of the one that `latest` serves. Every channel names its checkpoint, unless its
    version was retired. `comparison` is what was measured of two generations, if that was given.
    """

    url: str
    head: Manifest
    checkpoint: Checkpoint
    versions: tuple[VersionFacts, ...]
    channels: tuple[Channel, ...]
    pointed: dict[Served, VersionFacts]
    front: str
    behind: Checkpoint | None = None
    comparison: Comparison | None = None

    @property
    def generations(self) -> tuple["Facts", ...]:
        """The same collection as each of its generations has it: itself first."""
        if self.behind is None:
            return (self,)
        return self, replace(self, head=self.head.generations[1], checkpoint=self.behind, behind=self.checkpoint)

    @property
    def is_front(self) -> bool:
        """Whether `latest` serves the generation in front of `head`."""
        return self.head.checkpoint == self.front

    @property
    def serving(self) -> tuple[Channel, ...]:
        """The channels that serve this generation, in whatever version; that of `latest` has those of checkpoints too
        which the newest version has no more."""
        known = self.head.checkpoints if self.is_front else ()
        return tuple(
            channel
            for channel in self.channels
            if channel.checkpoint == self.head.checkpoint or (self.is_front and channel.checkpoint not in known)
        )

    @property
    def served_by(self) -> tuple[str, ...]:
        """The names of the channels that serve this generation."""
        return (*((LATEST,) if self.is_front else ()), *(channel.name for channel in self.serving))

    @property
    def floor(self) -> float:
        """The share of the exact answers that a tier must find. Once measured it is that of the measurement."""
        return self.head.gate.floor if self.head.gate else self.head.collection.recall_floor

    @property
    def tiers(self) -> tuple[TierFacts, ...]:
        return tuple(_tier_facts(tier, self.head) for tier in self.head.collection.tiers)

    @property
    def measured(self) -> tuple[tuple[int, TierQuality], ...]:
        """The tiers of the newest version that were measured, each with its number."""
        found = ((at, one.quality) for at, one in enumerate(self.tiers))
        return tuple((at, quality) for at, quality in found if quality)

    @property
    def full_vector_bytes(self) -> int:
        """The float16 vectors of all live chunks."""
        return self.head.live_chunks * self.checkpoint.space.dimensions * _FLOAT16_BYTES

    @property
    def full_index_bytes(self) -> int:
        """What a float32 HNSW graph over the full vectors of all live chunks would take in memory."""
        connectivity = max(tier.connectivity for tier in self.head.collection.tiers)
        return round(self.head.live_chunks * full_row_bytes(self.checkpoint.space.dimensions, connectivity))

    @property
    def gate_share(self) -> float | None:
        """The seconds of the gate over the seconds between versions that followed each other; None where that is not
        known. For a stream, the share of its time that measuring took."""
        spent = passed = 0.0
        for before, after in pairwise(self.versions):
            if after.gate and after.version == before.version + 1:
                spent += after.gate.seconds
                passed += _moment(after) - _moment(before)
        return spent / passed if passed > 0 else None


def _moment(version: VersionFacts) -> float:
    return datetime.fromisoformat(version.created).timestamp()


def full_row_bytes(dimensions: int, connectivity: int) -> float:
    """Bytes of one vector in a float32 HNSW graph of usearch: `4 D + 16 + 8 M + (4 + 4 M) / (M - 1)`.

    Measured of files of usearch 2.26.6, for vectors of one byte a component: 16, 8 and 4 are the bytes of a node's
    key and head, of the two times M edges of the lowest level, and of each edge of the levels above.
    """
    edges = max(connectivity, 2)
    return _FLOAT32_BYTES * dimensions + 16 + 8 * edges + (4 + 4 * edges) / (edges - 1)


def gather(store: Store, last: int | None = None, comparison: Comparison | None = None) -> Facts:
    """The facts of a collection; of its retained versions only the `last` ones if that is given.

    Raises `NotACollection`, `Corrupt`, `Malformed` or `CheckpointMismatch`; `InputError` for a comparison of other
    generations than the newest version has.
    """
    newest_first = history(store, last)
    mirror = read_mirror(store)
    head = next(newest_first).manifest.of(channel_serves(store, LATEST).checkpoint if mirror else None)
    versions = [version_facts(head), *(version_facts(entry.manifest) for entry in newest_first)]
    _refuse_other_generations(head, comparison, store.url)
    channels, pointed = _pointed(store, read_holders(store, time.time()).channels)
    return Facts(
        url=store.url,
        head=head,
        checkpoint=read_checkpoint(store, head.checkpoint),
        versions=tuple(reversed(versions)),
        channels=channels,
        pointed=pointed,
        front=head.checkpoint,
        behind=read_checkpoint(store, head.other.checkpoint) if head.other and not mirror else None,
        comparison=comparison,
    )


def version_facts(manifest: Manifest) -> VersionFacts:
    return VersionFacts(
        version=manifest.version,
        created=manifest.created,
        run=manifest.run,
        live_documents=manifest.documents.live,
        live_chunks=manifest.live_chunks,
        gate=manifest.gate,
        left_documents=manifest.left_documents,
    )


def _refuse_other_generations(head: Manifest, comparison: Comparison | None, url: str) -> None:
    if comparison and {side.checkpoint for side in comparison.sides} != set(head.checkpoints):
        compared = " and ".join(side.checkpoint for side in comparison.sides)
        raise InputError(
            f"the comparison is of checkpoints {compared}; version {head.version} has "
            f"{' and '.join(head.checkpoints)}; compare those: tierloom compare {url} --json"
        )


def _pointed(store: Store, channels: tuple[Channel, ...]) -> tuple[tuple[Channel, ...], dict[Served, VersionFacts]]:
    """The channels, each with its checkpoint, and what they serve; nothing of a version that was retired."""
    versions = sorted({channel.version for channel in channels})
    stored = {manifest.version: manifest for manifest in read_manifests(store, versions)}
    named = tuple(_with_checkpoint(channel, stored.get(channel.version)) for channel in channels)
    pointed = {
        channel.serves: version_facts(manifest.of(channel.checkpoint))
        for channel in named
        if (manifest := stored.get(channel.version))
    }
    return named, pointed


def _with_checkpoint(channel: Channel, manifest: Manifest | None) -> Channel:
    if channel.checkpoint or manifest is None:
        return channel
    return msgspec.structs.replace(channel, checkpoint=manifest.checkpoint)


def _tier_facts(tier: Tier, manifest: Manifest) -> TierFacts:
    shards = manifest.index_shards_of(tier.name)
    return TierFacts(
        tier=tier,
        quality=manifest.gate.of_tier(tier.name) if manifest.gate else None,
        index_shards=len(shards),
        rows=sum(shard.codes + (shard.aliases.pairs if shard.aliases else 0) for shard in shards),
        bytes=sum(shard.bytes + (shard.aliases.bytes if shard.aliases else 0) for shard in shards),
    )
