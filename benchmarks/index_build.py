"""Building an index shard from a stored vector shard to a stored index shard, against the bare usearch `add`.

Both add the same distinct codes in the same order with one thread. Ours besides: the vector shard is verified, its
codes are read, told apart and put in order; the graph is saved, checked, hashed and stored.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from index_builder.build import Codes, IndexTask, build_graph, build_index_shard, distinct_codes
from tierloom import names
from tierloom.collection import Tier
from tierloom.object_files import ObjectFiles
from tierloom.stores.local import LocalStore


def _build_shard(task: IndexTask, store: LocalStore) -> float:
    (store.root / names.index_shard(task.tier.name, task.digest)).unlink(missing_ok=True)
    return seconds(partial(build_index_shard, task, store))


def _bare_add(tier: Tier, codes: Codes) -> float:
    return seconds(partial(build_graph, tier, codes.keys, codes.codes))


def main() -> None:
    size = sizes(
        __doc__, {"rows": 131_072, "dimensions": 128, "runs": 3}, {"rows": 16_384, "dimensions": 128, "runs": 3}
    )
    tier = Tier(name=str(size.dimensions), dimensions=size.dimensions)
    with TemporaryDirectory(prefix="tierloom-") as folder:
        store = LocalStore(Path(folder))
        task = IndexTask(tier, tuple(corpus.store_shards(store, size.rows, size.rows)))
        codes = distinct_codes(task, ObjectFiles(store))
        timings = in_turn(partial(_build_shard, task, store), partial(_bare_add, tier, codes), size.runs)
    claim = f"index build: {size.rows:,} codes of {size.dimensions} dimensions, M={tier.connectivity}"
    show(claim, ("index shard", "usearch add"), timings, size.rows, "codes", 0.85)


if __name__ == "__main__":
    main()
