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
        self._open: dict[str, LiveShard] = {}

    def of(self, manifest: Manifest, incoming: Iterable[VectorShard] = ()) -> list[LiveShard]:
        """The manifest's shards, then the incoming ones, in their order. All others are let go of."""
        shards = [*manifest.vector_shards, *incoming]
        opened = self.opened(shards)
        self.files.keep(manifest.objects(), shards)
        return opened

    def opened(self, shards: Iterable[VectorShard]) -> list[LiveShard]:
        """These shards, in their order; files stay what they are."""
        opened = [self._opened(shard) for shard in shards]
        self._open = {live.stored.path: live for live in opened}
        return opened

    def _opened(self, shard: VectorShard) -> LiveShard:
        live = self._open.get(shard.path)
        if live is None or live.stored.sha256 != shard.sha256:
            return LiveShard(shard, self.files)
        return live if live.stored == shard else live.as_stored(shard)
