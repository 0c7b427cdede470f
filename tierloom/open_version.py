"""What is open of one version: its vector shards, and the tiers that were asked for."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from tierloom.collection import Tier
from tierloom.forking import remake_in_children
from tierloom.manifest import IndexShard, Manifest
from tierloom.open_objects import OpenObjects
from tierloom.search import TierShard, rerank, shortlist
from tierloom.shards.live import LiveShard
from tierloom.version_rows import VersionRows

_FIRST_SHORTLIST: Final = 10


class OpenVersion:
    """One version, opened piece by piece. Safe to use from several threads."""

    def __init__(self, manifest: Manifest, objects: OpenObjects) -> None:
        self.manifest = manifest
        self.rows = VersionRows(
            [LiveShard(shard, objects.files) for shard in manifest.vector_shards], objects.described
        )
        self._objects = objects
        self._opening = threading.Lock()
        self._tiers: dict[str, list[TierShard]] = {}
        self._positions = {stored.path: at for at, stored in enumerate(manifest.vector_shards)}
        remake_in_children(self._remake)

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

    @property
    def views(self) -> int:
        """The most searches of one index shard that there were at once."""
        return max((index.reader.views for tier in self._tiers.values() for index in tier), default=0)

    def warm(self, views: int, vectors: bool) -> None:
        """Let the opened tiers have so many views, and answer a first query each: by it libraries choose their
        kernels, and pages are mapped. Full `vectors`, if they are here, are touched if a declared profile reranks."""
        for tier in self._tiers.values():
            for index in tier:
                index.reader.open_views(views)
        if self.rows.shards:
            profiles = self.manifest.collection.serving.profiles.values()
            self._ask_once(vectors and any(profile.rerank for profile in profiles))

    def _ask_once(self, reranked: bool) -> None:
        stored = self.rows.shards[0].shard
        query = np.zeros(stored.schema.dimensions, np.float32)
        query[: stored.schema.prefix_dimensions] = stored.gather("prefix", np.zeros(1, np.int64))[0]
        for tier in self._tiers.values():
            found = shortlist(tier, self.rows, query, _FIRST_SHORTLIST)
            if reranked:
                rerank(found, self.rows, query)

    def _remake(self) -> None:
        self._opening = threading.Lock()

    def _open_index(self, shard: IndexShard) -> TierShard:
        positions = np.array([self._positions[path] for path in shard.vector_shards], dtype=np.int64)
        return TierShard(self._objects.reader(shard), positions)
