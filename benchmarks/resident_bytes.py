"""Memory of a process that shortlists on a 64-dimension int8 tier, against one that searches a full float32 HNSW graph.

Each is a process of its own, whose resident memory is read before it opens its index, and after it has searched it.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np

import tierloom
from benchmarks import corpus
from benchmarks.measuring import show_claim, sizes
from benchmarks.rerank import publish
from tierloom.stores.local import LocalStore

TIER = 64
CONNECTIVITY = 16
# Times less at least, by full dimensions.
TARGETS = {768: 7, 3072: 25}
_QUERIES = 3000


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tier_bytes(folder: str) -> int:
    queries = corpus.vectors(_QUERIES, seed=3)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with tierloom.open(folder) as snapshot:
        before = resident()
        for query in queries:
            snapshot.candidates(query, tier=TIER, shortlist=200, rerank=False)
        return resident() - before


def hnsw_bytes(path: str, dimensions: int) -> int:
    queries = corpus.vectors(_QUERIES // 10, dimensions, seed=3)
    before = resident()
    graph = faiss.read_index(path)
    graph.search(queries, 10)
    return resident() - before


def write_hnsw(path: Path, rows: int, dimensions: int) -> None:
    graph = faiss.IndexHNSWFlat(dimensions, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 40
    graph.add(corpus.vectors(rows, dimensions))
    faiss.write_index(graph, str(path))


def main() -> None:
    size = sizes(__doc__, {"rows": 100_000, "wide_rows": 40_000}, {"rows": 20_000, "wide_rows": 10_000})
    apart = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with TemporaryDirectory(prefix="tierloom-") as folder, apart:
        store = Path(folder) / "store"
        publish(LocalStore(store), size.rows, 65_536, TIER)
        held = apart.submit(tier_bytes, str(store)).result() / size.rows
        for dimensions, rows in ((768, size.rows), (3072, size.wide_rows)):
            path = Path(folder) / f"{dimensions}.faiss"
            write_hnsw(path, rows, dimensions)
            peer = apart.submit(hnsw_bytes, str(path), dimensions).result() / rows
            show_claim(f"resident bytes of a vector, {rows:,} x {dimensions}")
            print(f"  tier of {TIER}     {held:10,.0f}\n  float32 HNSW  {peer:10,.0f}")
            print(f"  ratio         {peer / held:10.1f}    (target: at least {TARGETS[dimensions]})", flush=True)


if __name__ == "__main__":
    main()
