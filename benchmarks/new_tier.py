"""A new tier for a live collection, from its stored prefixes to a published version, against the bare usearch `add`.

Both add the same distinct codes of the same index shards in the same order, one thread a graph, in as many processes
as there are processors. Ours besides: the processes are started; the vector shards are checked, their codes are read,
told apart and put in order; the graphs are saved, hashed, stored and searched for their own rows; and a manifest is
published.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from index_builder.build import IndexTask, build_graph, distinct_codes
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tierloom.collection import Tier
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.stores.local import LocalStore


def _add_tier(tier: Tier, store: LocalStore) -> float:
    took = seconds(partial(add_tiers, store, [tier]))
    drop_tiers(store, [tier.name])
    for listed in store.list(f"indexes/{tier.name}/"):
        (store.root / listed.name).unlink()
    return took


def _stored_codes(tier: Tier, head: Manifest, store: LocalStore, folder: Path) -> Iterator[Path]:
    """A file of keys and codes for each index shard to be: in this collection, one for each vector shard."""
    files = ObjectFiles(store)
    for number, shard in enumerate(head.vector_shards):
        codes = distinct_codes(IndexTask(tier, (shard,)), files)
        path = folder / f"{number}.npz"
        np.savez(path, keys=codes.keys, codes=codes.codes)
        yield path


def _bare_add(tier: Tier, path: Path) -> None:
    codes = np.load(path)
    build_graph(tier, codes["keys"], codes["codes"])


def _bare_adds(tier: Tier, paths: Sequence[Path], pool: Executor) -> float:
    return seconds(lambda: list(pool.map(partial(_bare_add, tier), paths)))


def main() -> None:
    size = sizes(
        __doc__, {"rows": 200_000, "dimensions": 128, "runs": 3}, {"rows": 20_000, "dimensions": 128, "runs": 3}
    )
    tier = Tier(name=str(size.dimensions), dimensions=size.dimensions)
    processors = len(os.sched_getaffinity(0))
    with (
        TemporaryDirectory(prefix="tierloom-") as folder,
        ProcessPoolExecutor(processors, mp_context=get_context("spawn")) as pool,
    ):
        store = LocalStore(Path(folder) / "store")
        head = corpus.publish_rows(store, size.rows, 65_536)
        paths = list(_stored_codes(tier, head, store, Path(folder)))
        # The processes are there before the clock runs.
        _bare_adds(tier, paths[-1:] * processors, pool)
        timings = in_turn(partial(_add_tier, tier, store), partial(_bare_adds, tier, paths, pool), size.runs)
    claim = f"new tier: {size.rows:,} chunks, {size.dimensions} dimensions, M={tier.connectivity}, no model call"
    show(claim, ("tiers add", "usearch add"), timings, size.rows, "codes", round(1 / 1.3, 2))


if __name__ == "__main__":
    main()
