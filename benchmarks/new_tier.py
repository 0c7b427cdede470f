"""A new tier for a live collection, from its stored prefixes to a published version, against the bare usearch `add`.

Both add the same distinct codes in the same order with one thread. Ours besides: a process is started for it, the
vector shards are verified, their codes are read, told apart and put in order; the graph is saved, hashed, stored and
searched for its own rows; and a manifest is published.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from index_builder.build import Codes, IndexTask, build_graph, distinct_codes
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tierloom.collection import Tier
from tierloom.object_files import ObjectFiles
from tierloom.stores.local import LocalStore


def _add_tier(tier: Tier, store: LocalStore) -> float:
    took = seconds(partial(add_tiers, store, [tier]))
    drop_tiers(store, [tier.dimensions])
    for listed in store.list(f"indexes/{tier.name}/"):
        (store.root / listed.name).unlink()
    return took


def _bare_add(tier: Tier, codes: Codes) -> float:
    return seconds(partial(build_graph, tier, codes.keys, codes.codes))


def main() -> None:
    size = sizes(
        __doc__, {"rows": 200_000, "dimensions": 128, "runs": 3}, {"rows": 20_000, "dimensions": 128, "runs": 3}
    )
    tier = Tier(name=str(size.dimensions), dimensions=size.dimensions)
    with TemporaryDirectory(prefix="tierloom-") as folder:
        store = LocalStore(Path(folder))
        head = corpus.publish_rows(store, size.rows, 65_536)
        codes = distinct_codes(IndexTask(tier, head.vector_shards), ObjectFiles(store))
        timings = in_turn(partial(_add_tier, tier, store), partial(_bare_add, tier, codes), size.runs)
    claim = f"new tier: {size.rows:,} chunks, {size.dimensions} dimensions, M={tier.connectivity}, no model call"
    show(claim, ("tiers add", "usearch add"), timings, size.rows, "codes", round(1 / 1.3, 2))


if __name__ == "__main__":
    main()
