"""Publishing 100 changed documents into 10,000, 100,000 and 1,000,000 live rows: the time must not grow with them.

Beside it stands what the store itself takes for the objects that a publish writes, one after the other: files of the
same sizes, synced. Documents of one chunk; compaction does not run meanwhile; the embedder is free.
"""

import random
import time
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import corpus
from benchmarks.free_embedder import embedding_for_free
from benchmarks.measuring import seconds, show_claim, sizes
from pipelines.running import make_job
from tierloom.document import Document, Origin
from tierloom.stores.local import LocalStore
from transforms.micro_batch import MicroBatches
from transforms.reading.records import Fields
from transforms.streams.stream import Batch, Change

_SHARD_ROWS: Final = 131_072


@dataclass(frozen=True, slots=True)
class Published:
    """Seconds of the first publish of a process, which opens the shards; of each after it; and of the store alone."""

    first: float
    further: tuple[float, ...]
    store: float


def publish_into(rows: int, changed: int, runs: int, folder: Path) -> Published:
    """Publish `changed` documents of a collection of `rows`, `runs` times and once."""
    store = LocalStore(folder / f"{rows}")
    corpus.publish_rows(store, rows, _SHARD_ROWS)
    batches = MicroBatches(replace(make_job(store.url, "stream", Fields()), base=None))
    draw = random.Random(rows)
    taken = []
    for run in range(runs + 1):
        batch = _batch(rows, changed, run, draw)
        before = _objects(store)
        taken.append(seconds(partial(batches.publish, batch, uuid.uuid4().hex, None)))
    batches.close()
    written = {name: size for name, size in _objects(store).items() if name not in before}
    return Published(taken[0], tuple(taken[1:]), _store_seconds(written, folder / "alone"))


def _batch(rows: int, changed: int, run: int, draw: random.Random) -> Batch:
    now = time.time()
    return Batch(tuple(Change(_changed(at, rows + run), now) for at in draw.sample(range(rows), changed)))


def _changed(at: int, sequence: int) -> Document:
    """A new text of what `benchmarks.corpus.store_shards` stored as its row `at`."""
    name = f"document-{at // _SHARD_ROWS}-{at % _SHARD_ROWS}"
    return Document(name, sequence, f"{name} as of {sequence}", "{}", Origin("publish_flat", at))


def _objects(store: LocalStore) -> dict[str, int]:
    return {listed.name: listed.bytes for listed in store.list("")}


def _store_seconds(objects: dict[str, int], folder: Path) -> float:
    """To create objects of these names and sizes, one after the other."""
    store = LocalStore(folder)

    def create_all() -> None:
        for name, size in objects.items():
            store.create(name, bytes(size))

    return seconds(create_all)


def main() -> None:
    size = sizes(__doc__, {"rows": 1_000_000, "changed": 100, "runs": 15}, {"rows": 100_000, "changed": 100, "runs": 7})
    show_claim(f"publishing {size.changed} changed documents")
    with embedding_for_free(corpus.vectors(10_000)):
        for rows in (size.rows // 100, size.rows // 10, size.rows):
            with TemporaryDirectory(prefix="tierloom-") as folder:
                _show(rows, publish_into(rows, size.changed, size.runs, Path(folder)))
    print("  (target: flat in the rows)", flush=True)


def _show(rows: int, published: Published) -> None:
    print(
        f"  {rows:>9,} rows   {median(published.further):6.3f} s   least {min(published.further):6.3f} s"
        f"   first {published.first:6.3f} s   the store's writes alone {published.store:6.3f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
