"""A tier search with reranking against exact float32 search, and against FAISS HNSW over full float32 vectors.

One query at a time, in one thread, each at a recall@10 of at least .95 against the exact answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import tierloom
from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, show_claim, sizes
from benchmarks.rerank import publish
from tierloom.gate import SHORTLISTS, TOP
from tierloom.snapshot import Snapshot
from tierloom.stores.local import LocalStore

RECALL = 0.95
CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSIONS = (16, 32, 64, 128, 256, 512, 1024)
# How far ours looks along its graph is turned as well, with the shortest shortlist that will do.
OWN_EXPANSIONS = (32, 64, 128)

Vectors = NDArray[np.float32]
Answer = Callable[[Vectors], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to search: the knob that it was turned to, what it answers a query with, and its recall."""

    knob: int
    answer: Answer
    recall: float


def main() -> None:
    size = sizes(
        __doc__,
        {"rows": 200_000, "dimensions": 128, "queries": 200, "runs": 3, "faiss": 1},
        {"rows": 20_000, "dimensions": 128, "queries": 100, "runs": 3, "faiss": 1},
    )
    with TemporaryDirectory(prefix="tierloom-") as folder, threadpool_limits(1):
        publish(LocalStore(Path(folder)), size.rows, 65_536, size.dimensions)
        with tierloom.open(folder) as snapshot:
            matrix = full_vectors(snapshot)
            queries = near_stored(matrix, size.queries)
            truth = [exact(matrix, query) for query in queries]
            ours, expansion = fastest(snapshot, size.dimensions, queries, truth)
            where = (
                f"{size.rows:,} x {corpus.DIMENSIONS}, tier of {size.dimensions}, expansion {expansion}, "
                f"reranking {ours.knob}"
            )
            against_exact = in_turn(
                partial(asked, ours.answer, queries), partial(asked, partial(exact, matrix), queries), size.runs
            )
            show(f"against exact float32: {where}", ("tierloom", "exact"), against_exact, size.queries, "queries", 50)
            print(f"  recall@10: {ours.recall:.3f}", flush=True)
            if not size.faiss:
                return
            graph, built = hnsw(matrix)
            theirs = turned(EXPANSIONS, partial(by_hnsw, graph), queries, truth)
            pair = in_turn(partial(asked, ours.answer, queries), partial(asked, theirs.answer, queries), 2 * size.runs)
            show(f"against FAISS HNSW: {where}", ("tierloom", "FAISS"), pair, size.queries, "queries", 1)
            print(f"  recall@10: tierloom {ours.recall:.3f}, FAISS {theirs.recall:.3f} (expansion {theirs.knob})")
            show_memory(snapshot, graph, size.rows, built)


def fastest(
    snapshot: Snapshot, dimensions: int, queries: Vectors, truth: Sequence[NDArray[np.int64]]
) -> tuple[Way, int]:
    """Of the ways that reach the recall, each with another expansion, the one that takes least time."""
    ways = []
    for expansion in OWN_EXPANSIONS:
        way = turned(SHORTLISTS, partial(by_tier, looking(snapshot, expansion), dimensions), queries, truth)
        if way.recall >= RECALL:
            asked(way.answer, queries)
            ways.append((asked(way.answer, queries), expansion, way))
    _, expansion, way = min(ways, key=lambda one: one[0])
    return way, expansion


def looking(snapshot: Snapshot, expansion: int) -> Snapshot:
    """The same version, whose graphs are searched with another expansion."""
    indexes = tuple(
        msgspec.structs.replace(index, parameters=msgspec.structs.replace(index.parameters, expansion_search=expansion))
        for index in snapshot.manifest.index_shards
    )
    manifest = msgspec.structs.replace(snapshot.manifest, index_shards=indexes)
    return Snapshot(manifest, snapshot.checkpoint, snapshot._files)


def full_vectors(snapshot: Snapshot) -> Vectors:
    shards = [live.shard.column("vector") for live in snapshot.rows.shards]
    return np.concatenate([shard.astype(np.float32) for shard in shards])


def near_stored(matrix: Vectors, count: int) -> Vectors:
    """Unit vectors (count, D), each some way off a stored one."""
    draw = np.random.default_rng(11)
    chosen = matrix[draw.integers(0, len(matrix), count)]
    noise = draw.standard_normal(chosen.shape, dtype=np.float32) * matrix[:1000].std(axis=0) * np.float32(0.7)
    moved = chosen + noise
    unit: Vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit


def exact(matrix: Vectors, query: Vectors) -> NDArray[np.int64]:
    scores = matrix @ query
    best = np.argpartition(-scores, TOP)[:TOP]
    return best[np.argsort(-scores[best])]


def by_tier(snapshot: Snapshot, dimensions: int, shortlist: int) -> Answer:
    begins = np.cumsum([0, *(shard.rows for shard in snapshot.manifest.vector_shards)])

    def answer(query: Vectors) -> NDArray[np.int64]:
        found = snapshot.candidates(query, tier=dimensions, shortlist=shortlist, rerank=True).best(TOP)
        return begins[found.shards] + found.rows

    return answer


def by_hnsw(graph: faiss.IndexHNSWFlat, expansion: int) -> Answer:
    def answer(query: Vectors) -> NDArray[np.int64]:
        graph.hnsw.efSearch = expansion
        found: NDArray[np.int64] = graph.search(query[np.newaxis], TOP)[1][0]
        return found

    return answer


def hnsw(matrix: Vectors) -> tuple[faiss.IndexHNSWFlat, float]:
    """The graph, and the seconds that it took on all cores."""
    graph = faiss.IndexHNSWFlat(matrix.shape[1], CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EXPANSION_ADD
    took = seconds(lambda: graph.add(matrix))
    faiss.omp_set_num_threads(1)
    return graph, took


def turned(
    knobs: Sequence[int], way: Callable[[int], Answer], queries: Vectors, truth: Sequence[NDArray[np.int64]]
) -> Way:
    """The least that reaches the recall, or the most there is."""
    for knob in knobs:
        answer = way(knob)
        found = [len(np.intersect1d(answer(q), true)) / TOP for q, true in zip(queries, truth, strict=True)]
        if (recall := float(np.mean(found))) >= RECALL:
            break
    return Way(knob, answer, recall)


def asked(answer: Answer, queries: Vectors) -> float:
    return seconds(lambda: [answer(query) for query in queries])


def show_memory(snapshot: Snapshot, graph: faiss.IndexHNSWFlat, rows: int, built: float) -> None:
    held = sum(shard.bytes for shard in snapshot.manifest.index_shards) / rows
    peer = faiss.serialize_index(graph).nbytes / rows
    show_claim("bytes that searching keeps in memory, of a vector")
    print(f"  tierloom {held:8,.0f}  (the tier; full vectors are read from the page cache for the shortlist alone)")
    print(f"  FAISS    {peer:8,.0f}  (built in {built:.0f} s)\n  ratio    {peer / held:8.1f}", flush=True)


if __name__ == "__main__":
    main()
