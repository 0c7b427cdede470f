"""What a fleet needs of a version: no dead letters, no ledgers, no measurements."""

from collections.abc import Sequence
from dataclasses import dataclass

from tierloom.manifest import Manifest, VectorShard
from tierloom.stored_object import StoredObject


@dataclass(frozen=True, slots=True)
class Wanted:
    """The objects of one version that a mirror holds: vector shards, and all that is taken whole in any case."""

    shards: tuple[VectorShard, ...]
    others: tuple[StoredObject, ...]

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        return (*self.shards, *self.others)


def wanted(manifest: Manifest, tiers: Sequence[str]) -> Wanted:
    """What these tiers take, and what describes their hits."""
    deletes = [shard.deletes for shard in manifest.vector_shards if shard.deletes]
    indexes = [shard for shard in manifest.index_shards if shard.tier in tiers]
    aliases = [shard.aliases for shard in indexes if shard.aliases]
    return Wanted(manifest.vector_shards, (*deletes, *indexes, *aliases))
