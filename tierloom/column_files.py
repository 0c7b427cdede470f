"""Objects for those who compare and build: of a remote vector shard, only the columns they ask for."""

from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.columns import ShardColumns
from tierloom.shards.ranged import RangedShard


class ColumnFiles(ObjectFiles):
    """`ObjectFiles` whose remote vector shards are read by ranges, never whole (`tierloom.shards.ranged`).

    All else, and the shards of a local store, are files verified against the manifest.
    """

    def _open(self, stored: VectorShard) -> ShardColumns:
        return super()._open(stored) if self.store.local else RangedShard(stored, self.store, self.folder)
