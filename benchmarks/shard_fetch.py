"""Fetching 200 random full vectors from an open vector shard: the mapped gather, against pyarrow's own read.

pyarrow is asked in its fastest way: the file open and mapped, only the column and the row groups that hold one of
the rows, on all of its threads.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, sizes
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ROW_GROUP_ROWS

ROWS = 200


def read_with_pyarrow(file: pq.ParquetFile, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """The vectors (n, D) of these rows."""
    groups, position = np.unique(rows // ROW_GROUP_ROWS, return_inverse=True)
    table = file.read_row_groups(groups.tolist(), columns=["vector"])
    taken = table["vector"].take(pa.array(position * ROW_GROUP_ROWS + rows % ROW_GROUP_ROWS)).combine_chunks()
    return np.frombuffer(taken.buffers()[1], np.float16).reshape(len(rows), -1)


def main() -> None:
    size = sizes(__doc__, {"rows": 131_072, "runs": 21}, {"rows": 32_768, "runs": 11})
    rows = np.random.default_rng(0).integers(0, size.rows, ROWS)
    with TemporaryDirectory(prefix="tierloom-") as folder:
        path = Path(folder) / "shard.parquet"
        corpus.write_shard(path, corpus.shard_rows(size.rows))
        shard, file = MappedShard(path), pq.ParquetFile(path, memory_map=True)
        if not np.array_equal(shard.gather("vector", rows), read_with_pyarrow(file, rows)):
            raise AssertionError("the two reads differ")
        timings = in_turn(
            partial(seconds, partial(shard.gather, "vector", rows)),
            partial(seconds, partial(read_with_pyarrow, file, rows)),
            size.runs,
        )
    claim = f"fetch of {ROWS} random vectors of {size.rows:,} x {corpus.DIMENSIONS}"
    show(claim, ("mapped gather", "pyarrow"), timings, ROWS, "rows", 50)


if __name__ == "__main__":
    main()
