"""Objects for those who compare and build: of a vector shard, only the columns they ask for."""

from tierloom.manifest import VectorShard
from tierloom.mirroring.mirror import refuse_mirror
from tierloom.object_files import ObjectFiles
from tierloom.shards.columns import ShardColumns
from tierloom.shards.mapped import WholeFile
from tierloom.shards.paged import PagedShard
from tierloom.shards.partial_copy import PartialCopy


class ColumnFiles(ObjectFiles):
    """`ObjectFiles` whose vector shards are checked page by page, and of a remote store fetched so: never whole
    (`tierloom.shards.paged`). All else are files verified against the manifest."""

    def _open(self, stored: VectorShard) -> ShardColumns:
        refuse_mirror(self.store)
        if self.store.local:
            return PagedShard(stored, WholeFile(stored, self.store.fetch(stored.path, self.folder)))
        return PagedShard(stored, PartialCopy(stored, self.store, self.folder))
