"""Checking a stored index shard against the vector shards that it was built from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from tierloom.errors import VerificationError
from tierloom.index_reader import ROW_BITS, open_view, read_alias_pairs
from tierloom.manifest import IndexShard, VectorShard
from tierloom.object_files import ObjectFiles

_SAMPLE = 256
_NEIGHBOURS = 10

# Approximate search misses a few of its own rows even in a sound graph (self-recall .99 and more); a graph
# that is torn or fed with other codes finds next to none.
_MIN_SHARE_FOUND = 0.9


def verify_index_shard(
    shard: IndexShard,
    vector_shards: Sequence[VectorShard],
    keys: NDArray[np.uint64],
    codes: NDArray[np.int8],
    files: ObjectFiles,
) -> None:
    """Raise `VerificationError`, `Corrupt` or `Malformed` unless the stored shard is sound.

    Length and sha256, the graph opens, every row of the vector shards is in it or among the aliases exactly
    once, and a sample of the given `codes` (n, d) is found under its `keys`.
    """
    view = open_view(files.path(shard), shard, key_lookups=True)
    _check_shape(view, shard)
    _check_rows(view, shard, vector_shards, files)
    _check_found(view, shard, keys, codes)


def _check_shape(view: Index, shard: IndexShard) -> None:
    if (len(view), view.ndim) != (shard.codes, shard.parameters.dimensions):
        raise VerificationError(
            f"{shard.path}: {len(view)} codes of {view.ndim} dimensions, not "
            f"{shard.codes} of {shard.parameters.dimensions}"
        )


def _check_rows(view: Index, shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    further = read_alias_pairs(files.path(shard.aliases))[:, 1] if shard.aliases else np.empty(0, np.uint64)
    found = np.sort(np.concatenate([np.asarray(view.keys[:], dtype=np.uint64), further]))
    rows = [
        np.arange(stored.rows, dtype=np.uint64) | np.uint64(position << ROW_BITS)
        for position, stored in enumerate(vector_shards)
    ]
    if not np.array_equal(found, np.concatenate(rows)):
        raise VerificationError(
            f"{shard.path}: its {len(found)} keys are not the {sum(map(len, rows))} rows of its vector shards"
        )


def _check_found(view: Index, shard: IndexShard, keys: NDArray[np.uint64], codes: NDArray[np.int8]) -> None:
    sample = np.linspace(0, len(keys) - 1, min(_SAMPLE, len(keys)), dtype=np.int64)
    matches = view.search(codes[sample], min(_NEIGHBOURS, shard.codes), threads=1)
    found = np.asarray(matches.keys).reshape(len(sample), -1) == keys[sample, None]
    share = float(found.any(axis=1).mean())
    if share < _MIN_SHARE_FOUND:
        raise VerificationError(
            f"{shard.path}: only {share:.0%} of {len(sample)} sampled rows are found by their own codes; "
            f"build the tier with a larger connectivity or expansion"
        )
