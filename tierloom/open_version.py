"""What is open of one version: its vector shards, and the tiers that were asked for."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tierloom.collection import Tier
from tierloom.index_reader import IndexReader
from tierloom.manifest import IndexShard, Manifest
from tierloom.object_files import ObjectFiles
from tierloom.search import TierShard
from tierloom.shards.live import LiveShard
from tierloom.version_rows import VersionRows


class OpenVersion:
    """One version, opened piece by piece. Safe to use from several threads."""

    def __init__(self, manifest: Manifest, files: ObjectFiles) -> None:
        self.manifest = manifest
        self.rows = VersionRows([LiveShard(shard, files) for shard in manifest.vector_shards])
        self._files = files
        self._opening = threading.Lock()
        self._tiers: dict[str, list[TierShard]] = {}
        self._positions = {stored.path: at for at, stored in enumerate(manifest.vector_shards)}

    def tier(self, tier: Tier) -> list[TierShard]:
        """The open index shards of a tier."""
        # Looked up without the lock: this is asked by every query.
        if (opened := self._tiers.get(tier.name)) is not None:
            return opened
        with self._opening:
            if tier.name not in self._tiers:
                with ThreadPoolExecutor() as pool:
                    shards = self.manifest.index_shards_of(tier.name)
                    self._tiers[tier.name] = list(pool.map(self._open_index, shards))
            return self._tiers[tier.name]

    def open(self, tiers: Iterable[Tier]) -> None:
        """Open all that queries of these tiers may need. Raises what is wrong with any of it."""
        for tier in tiers:
            self.tier(tier)
        self.rows.open()

    def close(self) -> None:
        """Let go of all of it."""
        self._tiers = {}
        self.rows = VersionRows([])

    def _open_index(self, shard: IndexShard) -> TierShard:
        aliases = self._files.path(shard.aliases) if shard.aliases else None
        reader = IndexReader(shard, self._files.path(shard), aliases)
        return TierShard(reader, np.array([self._positions[path] for path in shard.vector_shards], dtype=np.int64))
