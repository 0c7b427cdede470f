"""Reranking a shortlist of 200 with the full vectors, against finding it, and against reranking with numpy.

One query at a time, in one thread, on a warm snapshot.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from numpy.typing import NDArray

import tierloom
from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from index_builder.build import build_index_shard, plan_index_tasks
from tierloom import search
from tierloom.collection import Tier
from tierloom.commit import commit
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.search import Candidates
from tierloom.shards.live import LiveShard
from tierloom.stores.local import LocalStore
from tierloom.version_rows import VersionRows

SHORTLIST = 200

Query = NDArray[np.float32]
Reranking = Callable[[Candidates, VersionRows, Query], Candidates]


def rerank_with_numpy(found: Candidates, rows: VersionRows, query: Query) -> Candidates:
    """As `tierloom.search.rerank`, with a product in float32 by numpy."""
    scores = np.empty(len(found))
    for position in np.unique(found.shards):
        here = found.shards == position
        scores[here] = rows.shards[position].shard.gather("vector", found.rows[here]).astype(np.float32) @ query
    return Candidates(found.shards, found.rows, scores).best(len(found))


def rerank_and_sort(found: Candidates, rows: VersionRows, query: Query) -> Candidates:
    """As a search does it."""
    return search.rerank(found, rows, query).best(len(found))


def publish(store: LocalStore, rows: int, rows_per_shard: int, dimensions: int) -> None:
    """A collection of `rows` rows with one tier."""
    corpus.create(store, corpus.checkpoint())
    shards = tuple(corpus.store_shards(store, rows, rows_per_shard))
    tier = Tier(name=str(dimensions), dimensions=dimensions)
    built = tuple(build_index_shard(task, store) for task in plan_index_tasks((tier,), shards, rows))

    def successor(head: Manifest) -> Manifest:
        collection = msgspec.structs.replace(head.collection, tiers=(tier,))
        made = {"vector_shards": shards, "index_shards": built, "collection": collection}
        return msgspec.structs.replace(head, version=head.version + 1, **made)

    commit(store, successor)


def main() -> None:
    size = sizes(
        __doc__,
        {"rows": 131_072, "dimensions": 128, "queries": 200, "runs": 5},
        {"rows": 16_384, "dimensions": 128, "queries": 100, "runs": 5},
    )
    queries = corpus.vectors(size.queries, seed=7)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with TemporaryDirectory(prefix="tierloom-") as folder:
        publish(LocalStore(Path(folder)), size.rows, 65_536, size.dimensions)
        with tierloom.open(folder) as snapshot:
            files = ObjectFiles(LocalStore(Path(folder)))
            rows = VersionRows([LiveShard(shard, files) for shard in snapshot.manifest.vector_shards])
            find = partial(snapshot.candidates, tier=size.dimensions, shortlist=SHORTLIST, rerank=False)
            found = [find(query) for query in queries]

            def all_queries(reranking: Reranking) -> float:
                return seconds(lambda: [reranking(c, rows, q) for c, q in zip(found, queries, strict=True)])

            finding = partial(seconds, lambda: [find(query) for query in queries])
            against_finding = in_turn(partial(all_queries, rerank_and_sort), finding, size.runs)
            against_numpy = in_turn(
                partial(all_queries, rerank_and_sort), partial(all_queries, rerank_with_numpy), size.runs
            )
    where = f"{SHORTLIST} of {size.rows:,} rows x {corpus.DIMENSIONS}, tier of {size.dimensions}"
    show(f"rerank against finding: {where}", ("rerank", "find"), against_finding, size.queries, "queries", 2)
    show(f"rerank against numpy: {where}", ("numkong", "numpy"), against_numpy, size.queries, "queries", 1)


if __name__ == "__main__":
    main()
