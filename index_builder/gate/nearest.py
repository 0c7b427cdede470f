"""What a tier's own index shards answer: the shortlists that a reader would get.

A reader scans an index shard that is small, or of which much is asked; here the same is computed for all queries
at once.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import NOBODY, Ranked, joined, padded, promising
from tierloom.collection import Tier
from tierloom.gate import SHORTLISTS
from tierloom.index_reader import is_scanned
from tierloom.manifest import IndexShard
from tierloom.quantizer import quantize_query
from tierloom.search import TierShard, shortlist
from tierloom.shards.live import LiveShard
from tierloom.version_rows import VersionRows

MOST: Final = SHORTLISTS[-1]

_BLOCK_ROWS: Final = 16_384


def levels_of(tier: Tier) -> tuple[int, ...]:
    """The lengths of search that give different candidates, ascending.

    A graph looks at `expansion_search` candidates whenever fewer are asked for, so that the shorter of those
    shortlists begin the longest one.
    """
    within = max((count for count in SHORTLISTS if count <= tier.expansion_search), default=SHORTLISTS[0])
    return tuple(count for count in SHORTLISTS if count >= within)


class Nearest:
    """The queries (q, D), unit vectors, asked of the index shards of one tier."""

    def __init__(self, tier: Tier, queries: NDArray[np.float32], shards: Sequence[LiveShard]) -> None:
        self._tier = tier
        self._queries = queries
        self._shards = shards
        self._rows = VersionRows(shards)
        self._levels = levels_of(tier)
        self._wanted = _directions(_asked_codes(queries, tier), tier)

    def with_index(
        self, nearest: Ranked, index: IndexShard, covered: Sequence[int], opened: Callable[[], TierShard]
    ) -> Ranked:
        """The `MOST` best of `nearest` and of what a reader gets from one index shard, which covers the vector shards
        at these positions; each with the levels that find it."""
        scanned = [is_scanned(index.codes, level) for level in self._levels]
        bits = sum(1 << at for at, is_one in enumerate(scanned) if is_one)
        if all(scanned):
            return self._scanned(nearest, covered, bits)
        parts = [self._asked(opened(), at) for at, is_one in enumerate(scanned) if not is_one]
        if bits:
            parts.append(self._scanned(Ranked.nothing(len(self._queries), MOST), covered, bits))
        return nearest.with_others(_united(parts))

    def _scanned(self, nearest: Ranked, covered: Sequence[int], bits: int) -> Ranked:
        """Every code is compared: so does a reader whose index shard is small, or who asks for much of it."""
        for position in covered:
            live = self._shards[position]
            rows = np.flatnonzero(live.alive)
            for start in range(0, len(rows), _BLOCK_ROWS):
                block = rows[start : start + _BLOCK_ROWS]
                codes = live.shard.gather("prefix", block)[:, : self._tier.dimensions]
                scores = self._wanted @ _directions(codes, self._tier).T
                nearest = nearest.with_others(promising(position, block, scores, nearest, bits))
        return nearest

    def _asked(self, index: TierShard, level: int) -> Ranked:
        found = [shortlist([index], self._rows, query, self._levels[level]) for query in self._queries]
        return padded(
            len(found),
            np.repeat(np.arange(len(found)), [len(one) for one in found]),
            np.concatenate([joined(one.shards, one.rows) for one in found]),
            np.concatenate([one.scores for one in found]),
            np.concatenate([np.full(len(one), 1 << level, np.uint8) for one in found]),
        )


def _united(parts: Sequence[Ranked]) -> Ranked:
    """Each answer once, with the levels of all parts."""
    queries = len(parts[0].addresses)
    united = [_united_query([part.of(np.array([query])) for part in parts]) for query in range(queries)]
    counts = [len(addresses) for addresses, _, _ in united]
    addresses, scores, levels = (np.concatenate(arrays) for arrays in zip(*united, strict=True))
    return padded(queries, np.repeat(np.arange(queries), counts), addresses, scores, levels)


def _united_query(parts: Sequence[Ranked]) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.uint8]]:
    addresses, levels = (np.concatenate([getattr(part, name)[0] for part in parts]) for name in ("addresses", "levels"))
    scores = np.concatenate([part.scores[0] for part in parts])
    there = addresses != NOBODY
    unique, first, place = np.unique(addresses[there], return_index=True, return_inverse=True)
    bits = np.zeros(len(unique), np.uint8)
    np.bitwise_or.at(bits, place, levels[there])
    return unique, scores[there][first], bits


def _asked_codes(queries: NDArray[np.float32], tier: Tier) -> NDArray[np.int8 | np.float32]:
    """What `query_code` makes of each query; of a binary tier, what it packs the signs of."""
    if tier.kind == "binary":
        return queries[:, : tier.dimensions]
    return np.stack([quantize_query(query, tier.dimensions) for query in queries])


def _directions(codes: NDArray[np.int8 | np.float32], tier: Tier) -> NDArray[np.float32]:
    """Unit float32 vectors whose dot products order codes as the tier's metric does."""
    wide = codes.astype(np.float32) if tier.kind == "int8" else np.where(codes > 0, np.float32(1), np.float32(-1))
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    directions: NDArray[np.float32] = np.divide(wide, lengths, out=wide, where=lengths > 0)
    return directions
