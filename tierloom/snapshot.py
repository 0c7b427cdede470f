"""A manifest opened for reading: search it, or walk over everything that lives in it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tierloom import search
from tierloom.answer import Answer, Hit
from tierloom.answering import Question, answer, hits_of
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Tier
from tierloom.lease import Lease
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.open_objects import OpenObjects
from tierloom.open_version import OpenVersion
from tierloom.query_vectors import Query, QueryVectors
from tierloom.routing import Route, held_tiers, route, served_tiers
from tierloom.search import Candidates, TierShard
from tierloom.search_options import RouteOptions, SearchOptions
from tierloom.serving import DEFAULT_TOP
from tierloom.shards.live import LiveShard
from tierloom.shards.schema import ROW_GROUP_ROWS
from tierloom.version_rows import VersionRows


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


@dataclass(frozen=True, slots=True)
class Shared:
    """What several snapshots of one store have in common: open objects, and the model of one checkpoint."""

    objects: OpenObjects
    vectors: QueryVectors


class Snapshot:
    """One version of a collection. Safe to use from several threads, and after a fork; a context manager.

    What a call needs is fetched and verified when it is first needed, and mapped from then on.
    """

    def __init__(
        self,
        manifest: Manifest,
        checkpoint: Checkpoint,
        files: ObjectFiles,
        lease: Lease | None = None,
        shared: Shared | None = None,
    ) -> None:
        """What is `shared` is closed by whoever gives it."""
        self.manifest = manifest
        self.checkpoint = checkpoint
        self.lease = lease
        self._shared = shared
        self._files = files
        self._vectors = shared.vectors if shared else QueryVectors(checkpoint)
        # What a mirror has of the version; None where everything is to be had.
        self.held = files.held(manifest.version, manifest.checkpoint)
        self._version = OpenVersion(manifest, shared.objects if shared else OpenObjects(files))

    def search(self, query: Query, **options: Unpack[SearchOptions]) -> Answer:
        """The best live chunks for a question or a full-dimension query vector; see `SearchOptions`.

        Raises:
            QueryError: the query is empty, not finite, zero, or not of the native dimensions; the profile is not
                declared; a count is out of range.
            CheckpointMismatch: the query vector is of another checkpoint.
            CheckpointError: there is no such tier.
        """
        (answered,) = self.search_many([query], **options)
        return answered

    def search_many(self, queries: Sequence[Query] | NDArray[Any], **options: Unpack[SearchOptions]) -> list[Answer]:
        """`search` of each, in order. The model is asked for all texts together, in as few requests as it allows."""
        documents, by_document = options.get("documents"), options.get("by_document", False)
        describe = options.get("describe", True)
        chosen = route(self.manifest, options, self.held)
        began = time.perf_counter()
        vectors = self._vectors.of(queries, options.get("checkpoint"))
        seconds = (time.perf_counter() - began) / max(len(vectors), 1)
        return [
            answer(self._version, Question(vector, chosen, documents, by_document, describe, seconds))
            for vector in vectors
        ]

    def query_vector(self, query: Query, checkpoint: str | None = None) -> NDArray[np.float32]:
        """The unit vector (D,) of a question (with the checkpoint's query prompt) or of a given vector."""
        (vector,) = self._vectors.of([query], checkpoint)
        return vector

    def query_vectors(self, queries: Sequence[Query]) -> list[NDArray[np.float32]]:
        """`query_vector` of each, in order; the model is asked for all texts together."""
        return self._vectors.of(queries)

    def candidates(
        self, vector: NDArray[np.float32], *, tier: int | str | None = None, shortlist: int, rerank: bool
    ) -> Candidates:
        """The shortlist of a unit query vector, best first; rows are addresses in the manifest's vector shards."""
        options = RouteOptions(tier=tier, shortlist=shortlist, rerank=rerank, top=1)
        chosen: Route = route(self.manifest, options, self.held)
        found = search.shortlist(self._version.tier(chosen.tier), self._version.rows, vector, shortlist)
        scored = search.rerank(found, self._version.rows, vector) if rerank else found
        return scored.best(len(scored))

    @property
    def rows(self) -> VersionRows:
        """The rows of this version, for those who measure."""
        return self._version.rows

    def index_shards(self, tier: Tier) -> Sequence[TierShard]:
        """The open index shards of a tier, for those who measure."""
        return self._version.tier(tier)

    def exact(self, vector: NDArray[np.float32], top: int = DEFAULT_TOP) -> Candidates:
        """The true best rows of a unit query vector: every live full vector is scored."""
        return search.exact(self._version.rows, vector, top)

    def hits(self, candidates: Candidates) -> list[Hit]:
        """Candidates with what they say, in their order."""
        return list(hits_of(self._version, candidates))

    def chunks(self, *, vectors: bool = False) -> Iterator[LiveChunk]:
        """Every live chunk, shard by shard, sorted by key within each; memory is that of one row group."""
        for live in self._version.rows.shards:
            for start in range(0, len(live.alive), ROW_GROUP_ROWS):
                rows = start + np.flatnonzero(live.alive[start : start + ROW_GROUP_ROWS])
                yield from _chunks_of(live, rows, vectors)

    def open(self, searches: int = 1) -> None:
        """Fetch, verify, map and warm now all that queries may need: every vector shard, and the tiers of the declared
        profiles and of the default, each for so many searches at once. Raises what a query would have."""
        self._version.open(served_tiers(self.manifest.collection, self.held))
        self._version.warm(searches, self.has_vectors)

    @property
    def has_vectors(self) -> bool:
        """Whether full vectors can be asked here: a mirror may lack them."""
        return self.held is None or self.held.vectors

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers that can be asked here: a mirror may have some of them."""
        return held_tiers(self.manifest.collection, self.held)

    @property
    def searches(self) -> int:
        """The most searches that there were at once."""
        return self._version.views

    def close(self) -> None:
        """Let go of files, of the embedder and of the lease. Hits and chunks that were returned stay valid."""
        self._version.close()
        if self._shared is None:
            self._vectors.close()
            self._files.forget()
        if self.lease is not None:
            self.lease.close()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _chunks_of(live: LiveShard, rows: NDArray[np.int64], vectors: bool) -> Iterator[LiveChunk]:
    described = live.shard.read(("document_id", "heading", "text", "metadata"), rows).to_pylist()
    ordinals, sequences = live.shard.gather("ordinal", rows), live.shard.gather("sequence", rows)
    full = live.shard.gather("vector", rows) if vectors else [None] * len(rows)
    for row, ordinal, sequence, vector in zip(described, ordinals, sequences, full, strict=True):
        row["metadata"] = json.loads(row["metadata"])
        yield LiveChunk(ordinal=int(ordinal), sequence=int(sequence), vector=vector, **row)
