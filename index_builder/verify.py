"""Checking a stored index shard against the vector shards that it was built from."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from usearch.index import BatchMatches, Index

from tierloom.errors import VerificationError
from tierloom.index_reader import ROW_BITS, is_scanned, open_view, read_alias_pairs
from tierloom.manifest import IndexShard, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import Code, prefix_codes

_SAMPLE = 256
_NEIGHBOURS = 10

# Approximate search misses a few of its own rows even in a sound graph (self-recall .99 and more); a graph
# that is torn or fed with other codes finds next to none.
_MIN_SHARE_FOUND = 0.9

# The cosine distance of parallel codes, as float32 computes it, is below this (measured: 1.2e-7); that by Hamming of
# equal ones is 0.
_SAME_DIRECTION = 1e-6


def verify_index_shard(shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    """Raise `VerificationError`, `Corrupt` or `Malformed` unless the stored shard is sound.

    Length and sha256; the graph opens; every row of the vector shards is in it or among the aliases exactly
    once; and a sample of rows is found by their own codes.
    """
    view = open_view(files.path(shard), shard, key_lookups=True)
    _check_shape(view, shard)
    _check_rows(view, shard, vector_shards, files)
    _check_found(view, shard, vector_shards, files)


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


def _check_found(view: Index, shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles) -> None:
    keys, codes = _sample(shard, vector_shards, files)
    found = int(_are_found(view, _indexed(keys, shard, files), codes).sum())
    if found < _MIN_SHARE_FOUND * len(keys):
        raise VerificationError(
            f"{shard.path}: only {found} of {len(keys)} sampled rows are found by their own codes; "
            f"build the tier with a larger connectivity or expansion"
        )


def _are_found(view: Index, keys: NDArray[np.uint64], codes: Code) -> NDArray[np.bool_]:
    """Whether each key is among the nearest to its code and where that points, or they all point there."""
    count = min(_NEIGHBOURS, len(view))
    # The first code twice: of a single query, usearch's answer has no dimension of queries.
    asked = np.concatenate([codes[:1], codes])
    nearest = cast(BatchMatches, view.search(asked, count, threads=1, exact=is_scanned(len(view), count)))
    counts = nearest.counts[1:].astype(np.int64)
    answered = np.arange(count) < counts[:, np.newaxis]
    alike = answered & (nearest.distances[1:] < _SAME_DIRECTION)
    among = ((nearest.keys[1:] == keys[:, np.newaxis]) & alike).any(axis=1)
    last = nearest.distances[1:][np.arange(len(keys)), counts - 1]
    found: NDArray[np.bool_] = among | ((counts > 0) & (last < _SAME_DIRECTION))
    return found


def _indexed(keys: NDArray[np.uint64], shard: IndexShard, files: ObjectFiles) -> NDArray[np.uint64]:
    """The keys under which the codes of these rows are in the graph: of an alias, that of its twin."""
    if shard.aliases is None:
        return keys
    pairs = read_alias_pairs(shard.aliases, files.path(shard.aliases))
    indexed, further = pairs[np.argsort(pairs[:, 1])].T
    at = np.minimum(np.searchsorted(further, keys), len(further) - 1)
    return np.where(further[at] == keys, indexed[at], keys)


def _sample(
    shard: IndexShard, vector_shards: Sequence[VectorShard], files: ObjectFiles
) -> tuple[NDArray[np.uint64], Code]:
    """Evenly spaced rows of each vector shard: their keys and codes."""
    count = -(-_SAMPLE // len(vector_shards))
    rows = [np.linspace(0, stored.rows - 1, min(count, stored.rows), dtype=np.int64) for stored in vector_shards]
    keys = [_keys(position, here) for position, here in enumerate(rows)]
    prefixes = [files.shard(stored).gather("prefix", here) for stored, here in zip(vector_shards, rows, strict=True)]
    codes = prefix_codes(np.concatenate(prefixes), shard.parameters)
    return np.concatenate(keys), np.ascontiguousarray(codes)


def _keys(position: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    return rows.astype(np.uint64) | np.uint64(position << ROW_BITS)
