"""One generation asked with all queries of a comparison: what it finds, and how fast."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.comparing.comparison import ComparedGeneration, ComparedTier
from index_builder.gate.addressed import AddressedRows
from index_builder.gate.asking import Asking
from index_builder.gate.quality import Judge
from index_builder.gate.ranked import Ranked
from index_builder.gate.sample import Sample
from index_builder.reporting.judgement import at_shortlist
from tierloom.collection import Tier
from tierloom.gate import TOP
from tierloom.manifest import IndexShard
from tierloom.search import TierShard
from tierloom.serving import DEFAULT_SHORTLIST
from tierloom.snapshot import Snapshot

_FLOAT16_BYTES: Final = 2
# Searches that are timed, after as many that only warm up; an exact one reads every vector.
_TIMED: Final = 50
_TIMED_EXACTLY: Final = 5
_STEPS: Final = ("shortlist", "narrow", "rerank")


class Side:
    """A generation, open, and its answers to a sample of queries."""

    def __init__(self, snapshot: Snapshot, sample: Sample, embed_seconds: float | None = None) -> None:
        self.sample = sample
        self._snapshot = snapshot
        self._embed_seconds = embed_seconds
        self._indexes: dict[str, TierShard] = {}
        shards = snapshot.rows.shards
        self.rows = AddressedRows(shards)
        self._asked = Asking(snapshot.manifest, shards, sample, self._index_shard).after(None)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which queries could be asked here (q,)."""
        return self._asked.present

    @property
    def exact(self) -> Ranked:
        """The exact answers of every query."""
        return self._asked.answers.exact

    def compared(self) -> ComparedGeneration:
        manifest, space = self._snapshot.manifest, self._snapshot.checkpoint.space
        judge = Judge(self._asked, self.sample, manifest.live_chunks, self.rows)
        return ComparedGeneration(
            checkpoint=manifest.checkpoint,
            model=space.model,
            revision=space.revision,
            dimensions=space.dimensions,
            reached=manifest.reached,
            live_documents=manifest.documents.live,
            live_chunks=manifest.live_chunks,
            vector_bytes=manifest.live_chunks * space.dimensions * _FLOAT16_BYTES,
            stored_bytes=sum({stored.path: stored.bytes for stored in manifest.own_objects()}.values()),
            exact=judge.exact() if self.sample.judged else None,
            exact_seconds=self._exact_seconds(),
            embed_seconds=self._embed_seconds,
            tiers=tuple(self._tier(tier, judge) for tier in manifest.collection.tiers),
        )

    def _tier(self, tier: Tier, judge: Judge) -> ComparedTier:
        manifest = self._snapshot.manifest
        found = judge.tier(tier, self._asked.answers.tiers[tier.name], manifest.collection.recall_floor)
        measured = manifest.gate.of_tier(tier.name) if manifest.gate else None
        shortlist = (measured or found).safe_shortlist or DEFAULT_SHORTLIST
        return ComparedTier(
            tier=tier.name,
            shortlist=shortlist,
            quality=at_shortlist(found, shortlist),
            bytes=sum(
                shard.bytes + (shard.aliases.bytes if shard.aliases else 0)
                for shard in manifest.index_shards_of(tier.name)
            ),
            seconds=self._seconds(tier, shortlist),
        )

    def _seconds(self, tier: Tier, shortlist: int) -> float:
        def search(vector: NDArray[np.float32]) -> float:
            answer = self._snapshot.search(
                vector, tier=tier.name, shortlist=max(shortlist, TOP), rerank=True, top=TOP, describe=False
            )
            return sum(answer.seconds[step] for step in _STEPS)

        return _median(search, self._vectors()[:_TIMED])

    def _exact_seconds(self) -> float:
        def search(vector: NDArray[np.float32]) -> float:
            began = time.perf_counter()
            self._snapshot.exact(vector, TOP)
            return time.perf_counter() - began

        return _median(search, self._vectors()[:_TIMED_EXACTLY])

    def _vectors(self) -> Sequence[NDArray[np.float32]]:
        return list(self._asked.vectors[self._asked.present])

    def _index_shard(self, shard: IndexShard) -> TierShard:
        if shard.path not in self._indexes:
            tier = self._snapshot.manifest.collection.tier(shard.tier)
            self._indexes |= {opened.reader.shard.path: opened for opened in self._snapshot.index_shards(tier)}
        return self._indexes[shard.path]


def _median(search: Callable[[NDArray[np.float32]], float], vectors: Sequence[NDArray[np.float32]]) -> float:
    for vector in vectors[:TOP]:
        search(vector)
    return round(statistics.median(search(vector) for vector in vectors), 9)
