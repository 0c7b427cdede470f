"""A manifest opened for reading: search it, or walk over everything that lives in it."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierloom import search
from tierloom.checkpoint import Checkpoint
from tierloom.embedders.embedder import Embedder
from tierloom.embedders.opening import embed_query, open_embedder
from tierloom.errors import CheckpointMismatch, QueryError
from tierloom.index_reader import IndexReader
from tierloom.lease import Lease
from tierloom.manifest import IndexShard, Manifest
from tierloom.object_files import ObjectFiles
from tierloom.search import Candidates, TierShard
from tierloom.shards.live import LiveShard
from tierloom.shards.schema import ROW_GROUP_ROWS

DEFAULT_SHORTLIST = 200
DEFAULT_TOP = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk of an answer. `score` is a cosine: exact after reranking, else the tier's estimate."""

    document_id: str
    ordinal: int
    score: float
    heading: str
    text: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LiveChunk:
    """One live row. `vector` is float16 (D,), unit length; None unless it was asked for."""

    document_id: str
    ordinal: int
    sequence: int
    heading: str
    text: str
    metadata: Mapping[str, Any]
    vector: NDArray[np.float16] | None


class Snapshot:
    """One version of a collection. Safe to use from several threads; a context manager.

    What a call needs is fetched and verified when it is first needed, and mapped from then on.
    """

    def __init__(
        self, manifest: Manifest, checkpoint: Checkpoint, files: ObjectFiles, lease: Lease | None = None
    ) -> None:
        self.manifest = manifest
        self.checkpoint = checkpoint
        self.lease = lease
        self._files = files
        self._opening = threading.RLock()
        self._tiers: dict[str, list[TierShard]] = {}

    def search(
        self,
        query: str | Sequence[float] | NDArray[Any],
        *,
        tier: int | str | None = None,
        shortlist: int = DEFAULT_SHORTLIST,
        rerank: bool = True,
        top: int = DEFAULT_TOP,
        checkpoint: str | None = None,
    ) -> list[Hit]:
        """The `top` best live chunks for a question or a full-dimension query vector.

        `tier` is its name, or a number of dimensions (default: the largest tier); `shortlist` candidates are taken
        from it and, with `rerank`, scored exactly with their full vectors. `checkpoint` is the fingerprint that a
        query vector was made under, if the caller knows it.

        Raises:
            QueryError: the query is empty, not finite, zero, or not of the native dimensions.
            CheckpointMismatch: the query vector is of another checkpoint.
            CheckpointError: there is no such tier.
        """
        if shortlist < 1 or top < 1:
            raise QueryError(f"shortlist {shortlist} and top {top} must be at least 1")
        vector = self.query_vector(query, checkpoint)
        return self.hits(self.candidates(vector, tier=tier, shortlist=max(shortlist, top), rerank=rerank).best(top))

    def query_vector(
        self, query: str | Sequence[float] | NDArray[Any], checkpoint: str | None = None
    ) -> NDArray[np.float32]:
        """The unit vector (D,) of a question (with the checkpoint's query prompt) or of a given vector."""
        if checkpoint not in (None, own := self.manifest.collection.checkpoint):
            raise CheckpointMismatch(f"the query vector is of checkpoint {checkpoint}, the collection of {own}")
        if isinstance(query, str):
            return _unit(embed_query(self._embedder, self.checkpoint, query))
        return _unit(_checked_query(query, self.checkpoint.space.dimensions))

    def candidates(
        self, vector: NDArray[np.float32], *, tier: int | str | None = None, shortlist: int, rerank: bool
    ) -> Candidates:
        """The shortlist of a unit query vector, best first; rows are addresses in the manifest's vector shards."""
        found = search.shortlist(self._tier(tier), self._live_shards, vector, shortlist)
        return search.rerank(found, self._live_shards, vector) if rerank else found

    def exact(self, vector: NDArray[np.float32], top: int = DEFAULT_TOP) -> Candidates:
        """The true best rows of a unit query vector: every live full vector is scored."""
        return search.exact(self._live_shards, vector, top)

    def hits(self, candidates: Candidates) -> list[Hit]:
        """Candidates with what they say, in their order."""
        hits: list[Hit | None] = [None] * len(candidates)
        for position in np.unique(candidates.shards):
            here = np.flatnonzero(candidates.shards == position)
            rows = candidates.rows[here]
            shard = self._live_shards[position].shard
            described = shard.read(("document_id", "heading", "text", "metadata"), rows).to_pylist()
            for at, row, ordinal in zip(here, described, shard.gather("ordinal", rows), strict=True):
                row["metadata"] = json.loads(row["metadata"])
                hits[at] = Hit(ordinal=int(ordinal), score=float(candidates.scores[at]), **row)
        return [hit for hit in hits if hit is not None]

    def chunks(self, *, vectors: bool = False) -> Iterator[LiveChunk]:
        """Every live chunk, shard by shard, sorted by key within each; memory is that of one row group."""
        for live in self._live_shards:
            for start in range(0, len(live.alive), ROW_GROUP_ROWS):
                rows = start + np.flatnonzero(live.alive[start : start + ROW_GROUP_ROWS])
                yield from _chunks_of(live, rows, vectors)

    def close(self) -> None:
        """Let go of files, of the embedder and of the lease. Hits and chunks that were returned stay valid."""
        if (embedder := self.__dict__.pop("_embedder", None)) is not None:
            embedder.close()
        self._tiers.clear()
        self.__dict__.pop("_live_shards", None)
        self._files.forget()
        if self.lease is not None:
            self.lease.close()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _embedder(self) -> Embedder:
        return open_embedder(self.checkpoint, concurrency=1)

    @cached_property
    def _live_shards(self) -> list[LiveShard]:
        return [LiveShard(shard, self._files) for shard in self.manifest.vector_shards]

    def _tier(self, name: int | str | None) -> list[TierShard]:
        tiers = self.manifest.collection.tiers
        tier = self.manifest.collection.tier(name) if name is not None else tiers[-1]
        with self._opening:
            if tier.name not in self._tiers:
                with ThreadPoolExecutor() as pool:
                    shards = self.manifest.index_shards_of(tier.name)
                    self._tiers[tier.name] = list(pool.map(self._open_index, shards))
            return self._tiers[tier.name]

    def _open_index(self, shard: IndexShard) -> TierShard:
        aliases = self._files.path(shard.aliases) if shard.aliases else None
        position = {stored.path: at for at, stored in enumerate(self.manifest.vector_shards)}
        reader = IndexReader(shard, self._files.path(shard), aliases)
        return TierShard(reader, np.array([position[path] for path in shard.vector_shards], dtype=np.int64))


def _chunks_of(live: LiveShard, rows: NDArray[np.int64], vectors: bool) -> Iterator[LiveChunk]:
    described = live.shard.read(("document_id", "heading", "text", "metadata"), rows).to_pylist()
    ordinals, sequences = live.shard.gather("ordinal", rows), live.shard.gather("sequence", rows)
    full = live.shard.gather("vector", rows) if vectors else [None] * len(rows)
    for row, ordinal, sequence, vector in zip(described, ordinals, sequences, full, strict=True):
        row["metadata"] = json.loads(row["metadata"])
        yield LiveChunk(ordinal=int(ordinal), sequence=int(sequence), vector=vector, **row)


def _checked_query(query: Sequence[float] | NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    try:
        vector = np.asarray(query)
    except ValueError as error:
        raise QueryError(f"a query vector is {dimensions} numbers: {error}") from error
    if vector.dtype.kind not in "fiu" or vector.shape != (dimensions,):
        raise QueryError(
            f"a query vector of shape {vector.shape} and dtype {vector.dtype}; "
            f"this collection's are ({dimensions},) real numbers"
        )
    return vector.astype(np.float64)


def _unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scaled to unit length; first by the largest component, so that no square overflows or vanishes."""
    largest = float(np.abs(vector).max())
    if not np.isfinite(largest) or largest == 0.0:
        raise QueryError(f"a query vector whose largest component is {largest} points nowhere")
    scaled = vector.astype(np.float64) / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)
