"""The vector shards of version after version: what two of them share is opened once."""

from collections.abc import Iterable

from tierloom.column_files import ColumnFiles
from tierloom.manifest import Manifest, VectorShard
from tierloom.shards.live import LiveShard


class LiveShards:
    """Opens the shards of one version at a time, and keeps what the one before had open.

    A shard that lost more rows since is another live shard of the same columns.
    """

    def __init__(self, files: ColumnFiles) -> None:
        self.files = files
        self._open: dict[VectorShard, LiveShard] = {}

    def of(self, manifest: Manifest, incoming: Iterable[VectorShard] = ()) -> list[LiveShard]:
        """The manifest's shards, then the incoming ones, in their order. All others are let go of."""
        shards = [*manifest.vector_shards, *incoming]
        before = self._open
        self._open = {shard: before.get(shard) or LiveShard(shard, self.files) for shard in shards}
        self.files.keep(manifest.objects(), shards)
        return [self._open[shard] for shard in shards]
