"""Checking a stored index shard against the vector shards that it was built from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from tierloom.errors import VerificationError
from tierloom.index_reader import ROW_BITS, IndexReader, open_view, read_alias_pairs
from tierloom.manifest import IndexShard, VectorShard
from tierloom.object_files import ObjectFiles

_SAMPLE = 256
_NEIGHBOURS = 10

# Approximate search misses a few of its own rows even in a sound graph (self-recall .99 and more); a graph
# that is torn or fed with other codes finds next to none.
_MIN_SHARE_FOUND = 0.9

# The cosine distance of parallel codes, as float32 computes it, is below this (measured: 1.2e-7).
_SAME_DIRECTION = 1e-6


def verify_index_shard(shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    """Raise `VerificationError`, `Corrupt` or `Malformed` unless the stored shard is sound.

    Length and sha256; the graph opens; every row of the vector shards is in it or among the aliases exactly
    once; and a sample of rows is found by their own codes.
    """
    view = open_view(files.path(shard), shard, key_lookups=True)
    _check_shape(view, shard)
    _check_rows(view, shard, vector_shards, files)
    _check_found(shard, vector_shards, files)


def _check_shape(view: Index, shard: IndexShard) -> None:
    if (len(view), view.ndim) != (shard.codes, shard.parameters.dimensions):
        raise VerificationError(
            f"{shard.path}: {len(view)} codes of {view.ndim} dimensions, not "
            f"{shard.codes} of {shard.parameters.dimensions}"
        )


def _check_rows(view: Index, shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    aliases = shard.aliases
    further = read_alias_pairs(aliases, files.path(aliases))[:, 1] if aliases else np.empty(0, np.uint64)
    found = np.sort(np.concatenate([np.asarray(view.keys[:], dtype=np.uint64), further]))
    expected = np.concatenate([_keys(position, np.arange(s.rows)) for position, s in enumerate(vector_shards)])
    if not np.array_equal(found, expected):
        raise VerificationError(f"{shard.path}: its {len(found)} keys are not the {len(expected)} rows it should hold")


def _check_found(shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    reader = IndexReader(shard, files.path(shard), files.path(shard.aliases) if shard.aliases else None)
    found = [
        _finds(reader, key, code)
        for position, stored in enumerate(vector_shards)
        for key, code in _sample(position, stored, shard, -(-_SAMPLE // len(vector_shards)), files)
    ]
    if sum(found) < _MIN_SHARE_FOUND * len(found):
        raise VerificationError(
            f"{shard.path}: only {sum(found)} of {len(found)} sampled rows are found by their own codes; "
            f"build the tier with a larger connectivity or expansion"
        )


def _finds(reader: IndexReader, key: np.uint64, code: NDArray[np.int8]) -> bool:
    """Whether a row is among the nearest to its own code, or they all point exactly where it does."""
    nearest = reader.search(code, _NEIGHBOURS)
    return bool(np.isin(key, nearest.keys)) or float(nearest.distances[-1]) < _SAME_DIRECTION


def _sample(
    position: int, stored: VectorShard, shard: IndexShard, count: int, files: ObjectFiles
) -> list[tuple[np.uint64, NDArray[np.int8]]]:
    """Evenly spaced rows of a vector shard: their keys and codes."""
    rows = np.linspace(0, stored.rows - 1, min(count, stored.rows), dtype=np.int64)
    prefixes = files.shard(stored).gather("prefix", rows)
    codes = np.ascontiguousarray(prefixes[:, : shard.parameters.dimensions])
    return list(zip(_keys(position, rows), codes, strict=True))


def _keys(position: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    return rows.astype(np.uint64) | np.uint64(position << ROW_BITS)
