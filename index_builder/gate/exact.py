"""Exact answers: every live full vector is scored against every query of the sample."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import Ranked, promising
from tierloom.shards.live import LiveShard

# Answers kept of each query: ten are compared, the others take the places of those that die.
KEPT: Final = 100

_BLOCK_ROWS: Final = 4096


def score_shard(position: int, live: LiveShard, queries: NDArray[np.float32], kept: Ranked) -> Ranked:
    """The best of what was `kept` and of the live rows of one shard; `queries` are unit vectors (q, D)."""
    rows = np.flatnonzero(live.alive)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        scores = queries @ live.shard.gather("vector", block).astype(np.float32).T
        kept = kept.with_others(promising(position, block, scores, kept))
    return kept


def score_every_shard(shards: Sequence[LiveShard], queries: NDArray[np.float32]) -> Ranked:
    """The `KEPT` best live rows of each query."""
    kept = Ranked.nothing(len(queries), KEPT)
    for position, live in enumerate(shards):
        kept = score_shard(position, live, queries, kept)
    return kept
