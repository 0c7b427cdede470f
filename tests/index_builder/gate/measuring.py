"""What a gate should find, computed one query at a time from a snapshot."""

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.sample import Sample
from tierloom.document import document_key
from tierloom.gate import TOP
from tierloom.snapshot import LiveChunk, Snapshot

Address = tuple[int, int]


def sampled_chunks(snapshot: Snapshot, sample: Sample) -> list[LiveChunk]:
    """The live chunks that the queries of a sample are."""
    wanted = set(zip(sample.keys.tolist(), sample.ordinals.tolist(), strict=True))
    return [
        chunk for chunk in snapshot.chunks(vectors=True) if (document_key(chunk.document_id), chunk.ordinal) in wanted
    ]


def recall_by_hand(snapshot: Snapshot, chunk: LiveChunk, tier: str, shortlist: int, rerank: bool) -> float:
    """The share of the exact ten that a chunk's vector finds, but for itself."""
    assert chunk.vector is not None
    query = snapshot.query_vector(chunk.vector.astype(np.float32))
    own = snapshot.exact(query, 1)
    itself = (int(own.shards[0]), int(own.rows[0]))
    scores = {address: score for address, score in _scored(snapshot, query) if address != itself}
    best = sorted(scores.values(), reverse=True)[:TOP]
    found = snapshot.candidates(query, tier=tier, shortlist=shortlist + 1, rerank=False)
    listed = [address for address in _addresses(found.shards, found.rows) if address != itself][:shortlist]
    if not rerank:
        listed = listed[:TOP]
    good = sum(scores[address] >= best[-1] - 1e-5 for address in listed)
    return min(good, len(best)) / len(best)


def mean_recall(snapshot: Snapshot, sample: Sample, tier: str, shortlist: int, rerank: bool = True) -> float:
    chunks = sampled_chunks(snapshot, sample)
    assert len(chunks) == len(sample)
    return float(np.mean([recall_by_hand(snapshot, chunk, tier, shortlist, rerank) for chunk in chunks]))


def _scored(snapshot: Snapshot, query: NDArray[np.float32]) -> list[tuple[Address, float]]:
    every = snapshot.exact(query, 1_000_000)
    return list(zip(_addresses(every.shards, every.rows), every.scores.tolist(), strict=True))


def _addresses(shards: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Address]:
    return list(zip(shards.tolist(), rows.tolist(), strict=True))
