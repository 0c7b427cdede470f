"""Choosing what a collection's tiers are measured by: a new version says so, and is measured by it."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.gate.recall_gate import put
from index_builder.gate.sample import Sample, given_sample
from index_builder.upkeep.publishing import publish_upkeep
from tierloom.column_files import ColumnFiles
from tierloom.document import document_key
from tierloom.errors import InputError
from tierloom.gate import Gate
from tierloom.generations import progress
from tierloom.manifest import Manifest
from tierloom.queries import JudgedQuery
from tierloom.shards.live import LiveShard
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store


def set_gate(
    store: Store,
    floor: float | None = None,
    given: Sample | None = None,
    held_out: bool = False,
    checkpoint: str | None = None,
) -> Manifest:
    """Publish a version whose tiers are measured with these queries, against this floor; None leaves what is. Of two
    generations it is that of `checkpoint` (a fingerprint) whose tiers these are, or else the one in front; it is in
    front of the answer.

    With `held_out` the queries are chunks of the corpus again, drawn anew. Raises `BelowFloor` when a tier of the
    generation in front does not reach the floor: then the version is not published. The other one serves nobody yet;
    it is not promoted then.
    """
    probe_preconditions(store)
    stored = put(given.to_bytes(), store) if given else None

    def change(head: Manifest) -> Manifest:
        if not head.is_complete:
            raise InputError(
                f"checkpoint {head.checkpoint} is {progress(head)} built in version {head.version}; its tiers are "
                "measured when it is complete: set the gate then"
            )
        collection = head.collection
        if floor is not None:
            collection = msgspec.structs.replace(collection, recall_floor=floor)
        gate = None if held_out else head.gate
        if stored:
            gate = Gate(floor=collection.recall_floor, source="given", queries=0, seed=0, tiers=(), sample=stored)
        return msgspec.structs.replace(head, collection=collection, gate=gate)

    return publish_upkeep("gate", change, store, checkpoint)


def sample_of_queries(queries: list[JudgedQuery], vectors: NDArray[np.float32]) -> Sample:
    """Queries with their unit vectors (q, D)."""
    return given_sample(vectors, [[document_key(name) for name in query.relevant] for query in queries])


def documents_missing(queries: list[JudgedQuery], manifest: Manifest, store: Store) -> list[str]:
    """Of the documents that are named relevant, those that do not live, sorted."""
    named = sorted({name for query in queries for name in query.relevant})
    keys = np.unique(np.array([document_key(name) for name in named], np.uint64))
    files, found = ColumnFiles(store), set[str]()
    for shard in manifest.vector_shards:
        live = LiveShard(shard, files)
        found.update(live.ids(live.rows_of(keys)).to_pylist())
    return [name for name in named if name not in found]
