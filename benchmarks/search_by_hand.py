"""A search of a tier with reranking, against the same usearch calls and rescoring written out by hand.

One query at a time, in one thread, on a warm version of 100,000 rows in three vector shards. By hand the full vectors
lie in one array in memory, and the answer is row numbers; ours come from mapped shards, checks which rows live, and has
ids, ordinals and timings. Each run asks other queries, so that no cache holds what they touch.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numkong
import numpy as np
from numpy.typing import NDArray

import tierloom
from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from benchmarks.rerank import publish
from tierloom.index_reader import open_view
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import quantize_query
from tierloom.reranking import exact_scores
from tierloom.stores.local import LocalStore

SHORTLIST = 200
TOP = 10

Query = NDArray[np.float32]
Rescore = Callable[[NDArray[np.float16], Query], NDArray[Any]]


class ByHand:
    """What one would write who knows that there is one index shard, and that every row lives."""

    def __init__(self, folder: Path, snapshot: tierloom.Snapshot, rescore: Rescore) -> None:
        (index,) = snapshot.manifest.index_shards
        files = ObjectFiles(LocalStore(folder))
        shards = [files.shard(stored) for stored in snapshot.manifest.vector_shards]
        self._view = open_view(folder / index.path, index)
        self._dimensions = index.parameters.dimensions
        self._firsts = np.cumsum([0, *(shard.rows for shard in shards)])[:-1]
        self._vectors = np.concatenate([shard.gather("vector", np.arange(shard.rows)) for shard in shards])
        self._rescore = rescore

    def search(self, query: Query) -> NDArray[np.int64]:
        found = self._view.search(quantize_query(query, self._dimensions), SHORTLIST, threads=1)
        keys = found.keys.astype(np.int64)
        rows = self._firsts[keys >> 32] + (keys & 0xFFFFFFFF)
        best = np.argsort(-self._rescore(self._vectors[rows], query))[:TOP]
        return np.asarray(rows[best])


def with_numpy(vectors: NDArray[np.float16], query: Query) -> NDArray[Any]:
    return vectors.astype(np.float32) @ query


def with_numkong(vectors: NDArray[np.float16], query: Query) -> NDArray[Any]:
    """The query rounded to float16: numkong takes no other with such rows. Ours scores what that loses too."""
    return np.asarray(numkong.cdist(vectors, query.astype(np.float16)[None, :], metric="dot"))[:, 0]


_RESCORING: Final = (
    ("numpy", with_numpy),
    ("numkong", exact_scores),
    ("numkong, the query rounded to float16", with_numkong),
)


def main() -> None:
    size = sizes(
        __doc__,
        {"rows": 100_000, "dimensions": 128, "queries": 300, "runs": 15},
        {"rows": 10_000, "dimensions": 128, "queries": 50, "runs": 3},
    )
    queries = corpus.vectors(4 * size.queries, seed=7)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    parts: Iterator[NDArray[np.float32]] = cycle(np.array_split(queries, 4))
    with TemporaryDirectory(prefix="tierloom-") as folder:
        publish(LocalStore(Path(folder)), size.rows, -(-size.rows // 3), size.dimensions)
        with tierloom.open(folder) as snapshot:
            snapshot.open()

            def ours(query: Query) -> object:
                return snapshot.search(query, shortlist=SHORTLIST, top=TOP, describe=False)

            def timed(search: Callable[[Query], object]) -> float:
                part = next(parts)
                return seconds(lambda: [search(query) for query in part])

            for name, rescore in _RESCORING:
                hand = ByHand(Path(folder), snapshot, rescore)
                for search in (ours, hand.search):
                    for query in queries:
                        search(query)
                timings = in_turn(partial(timed, ours), partial(timed, hand.search), size.runs)
                where = f"{SHORTLIST} of {size.rows:,} rows x {corpus.DIMENSIONS}, tier of {size.dimensions}"
                claim = f"search against {name} by hand: {where}"
                show(claim, ("tierloom", "by hand"), timings, size.queries, "queries", 0.85)


if __name__ == "__main__":
    main()
