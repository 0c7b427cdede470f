"""Writing a vector shard, against writing the same bytes raw.

Ours: columns in memory become a Parquet file, which is hashed, opened, described and stored. Raw: the same bytes
are hashed and stored. Both bring the file and its name to the disk.
"""

import hashlib
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import corpus
from benchmarks.corpus import ShardRows
from benchmarks.measuring import in_turn, seconds, show, sizes
from tierloom import names
from tierloom.stores.local import LocalStore
from tierloom.storing import store_vector_shard


def _write_shard(rows: ShardRows, folder: str) -> float:
    with TemporaryDirectory(dir=folder) as root:
        store = LocalStore(Path(root))
        return seconds(lambda: _stored(rows, store))


def _stored(rows: ShardRows, store: LocalStore) -> None:
    path = store.scratch() / "shard.parquet"
    sha256 = corpus.write_shard(path, rows)
    store_vector_shard(path, sha256, names.vector_shard("ours"), store, store.scratch())


def _write_raw(data: bytes, folder: str) -> float:
    with TemporaryDirectory(dir=folder) as root:
        store = LocalStore(Path(root))
        return seconds(lambda: _stored_raw(data, store))


def _stored_raw(data: bytes, store: LocalStore) -> None:
    store.create(names.vector_shard(hashlib.sha256(data).hexdigest()), data)


def main() -> None:
    size = sizes(__doc__, {"rows": 131_072, "runs": 5}, {"rows": 16_384, "runs": 5})
    rows = corpus.shard_rows(size.rows)
    with TemporaryDirectory(prefix="tierloom-") as folder:
        path = Path(folder) / "shard.parquet"
        corpus.write_shard(path, rows)
        data = path.read_bytes()
        timings = in_turn(partial(_write_shard, rows, folder), partial(_write_raw, data, folder), size.runs)
    megabytes = len(data) / 1e6
    claim = f"vector shard write: {size.rows:,} rows x {corpus.DIMENSIONS} dimensions, {megabytes:,.0f} MB"
    show(claim, ("vector shard", "the same bytes raw"), timings, megabytes, "MB", 0.6)


if __name__ == "__main__":
    main()
