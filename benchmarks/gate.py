"""What measuring costs: of a first publish against building its tiers, and of a micro-batch against publishing it."""

from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import corpus
from benchmarks.measuring import seconds, show_claim, sizes
from index_builder.build import build_index_shard, plan_index_tasks
from index_builder.gate.recall_gate import RecallGate
from tierloom.column_files import ColumnFiles
from tierloom.manifest import Manifest, VectorShard
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from tierloom.versions import read_head


def with_shards(manifest: Manifest, added: tuple[VectorShard, ...], store: Store) -> Manifest:
    """The manifest with these vector shards, and index shards over them in every tier."""
    tasks = plan_index_tasks(manifest.collection.tiers, added, manifest.collection.sizes.index_shard_rows)
    return msgspec.structs.replace(
        manifest,
        version=manifest.version + 1,
        vector_shards=(*manifest.vector_shards, *added),
        index_shards=(*manifest.index_shards, *(build_index_shard(task, store) for task in tasks)),
    )


def main() -> None:
    size = sizes(
        __doc__,
        {"rows": 100_000, "batch": 500, "batches": 20},
        {"rows": 20_000, "batch": 500, "batches": 10},
    )
    with TemporaryDirectory(prefix="tierloom-") as folder:
        store = LocalStore(Path(folder))
        corpus.create(store, corpus.checkpoint())
        every = size.rows + size.batch * size.batches
        shards = tuple(corpus.store_shards(store, size.rows, size.rows))
        head = read_head(store)
        gate = RecallGate(ColumnFiles(store))
        built: list[Manifest] = []
        building = seconds(lambda: built.append(with_shards(head, shards, store)))
        head = gate.measured(built[0], head, refuse=False)
        first = head.gate.seconds if head.gate else 0.0
        show_claim(f"gate of a first publish of {size.rows:,} x {corpus.DIMENSIONS} in {len(corpus.TIERS)} tiers")
        print(
            f"  measuring {first:8.2f} s\n  building  {building:8.2f} s\n  share     {first / (first + building):8.1%}"
        )
        took, made = [], []
        for number in range(size.batches):
            more = tuple(corpus.store_shards(store, size.batch, size.batch, first_seed=1000 + number))
            made.append(seconds(partial(lambda *given: built.append(with_shards(*given)), head, more, store)))
            head = gate.measured(built[-1], head, refuse=False)
            took.append(head.gate.seconds if head.gate else 0.0)
        show_claim(f"gate of a micro-batch of {size.batch:,} on top of that ({every:,} rows at the end); medians")
        print(f"  measuring {median(took):8.3f} s\n  building  {median(made):8.3f} s", flush=True)


if __name__ == "__main__":
    main()
