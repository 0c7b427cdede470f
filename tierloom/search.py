"""Shortlist on a tier, then rerank with the full vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierloom.index_reader import Found, IndexReader, split_keys
from tierloom.quantizer import estimated_cosine, query_code
from tierloom.reranking import exact_scores
from tierloom.shards.live import LiveShard


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows with their scores, best first: `shards` and `rows` int64 (n,), `scores` float64 (n,), a cosine."""

    shards: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def best(self, count: int) -> "Candidates":
        """The `count` highest scores; ties in the order of the rows, so that a search repeats itself."""
        order = np.lexsort((self.rows, self.shards, -self.scores))[:count]
        return Candidates(self.shards[order], self.rows[order], self.scores[order])


@dataclass(frozen=True, slots=True)
class TierShard:
    """An open index shard and, for each position in its keys, which vector shard that is."""

    reader: IndexReader
    positions: NDArray[np.int64]


def shortlist(
    tier: Sequence[TierShard], shards: Sequence[LiveShard], query: NDArray[np.float32], count: int
) -> Candidates:
    """The `count` nearest live rows of a tier; `query` is a unit vector (D,)."""
    found = [_search_alive(index, shards, query, count) for index in tier]
    return _joined(found).best(count)


def rerank(candidates: Candidates, shards: Sequence[LiveShard], query: NDArray[np.float32]) -> Candidates:
    """The same rows with the exact scores of their full vectors, best first."""
    scores = np.empty(len(candidates))
    for position in np.unique(candidates.shards):
        here = candidates.shards == position
        scores[here] = exact_scores(shards[position].shard.gather("vector", candidates.rows[here]), query)
    return Candidates(candidates.shards, candidates.rows, scores).best(len(candidates))


def exact(shards: Sequence[LiveShard], query: NDArray[np.float32], count: int) -> Candidates:
    """The `count` best live rows by their full vectors: every row is scored. The oracle of every tier."""
    return _joined([_score_all(position, live, query).best(count) for position, live in enumerate(shards)]).best(count)


def _score_all(position: int, live: LiveShard, query: NDArray[np.float32]) -> Candidates:
    rows = np.flatnonzero(live.alive)
    blocks = [rows[start : start + 4096] for start in range(0, len(rows), 4096)]
    scores = [exact_scores(live.shard.gather("vector", block), query) for block in blocks]
    return Candidates(np.full(len(rows), position), rows, np.concatenate([*scores, np.empty(0)]))


def _search_alive(index: TierShard, shards: Sequence[LiveShard], query: NDArray[np.float32], count: int) -> Candidates:
    """Ask for more until `count` are alive, or the graph has no more to give."""
    code = query_code(query, index.reader.shard.parameters)
    asked = min(count, index.reader.shard.codes)
    while True:
        candidates = _alive(index, shards, index.reader.search(code, asked))
        if len(candidates) >= count or asked >= index.reader.shard.codes:
            return candidates
        asked = min(2 * asked, index.reader.shard.codes)


def _alive(index: TierShard, shards: Sequence[LiveShard], found: Found) -> Candidates:
    positions, rows = split_keys(found.keys)
    owners = index.positions[positions]
    lives = _alive_rows(shards, owners, rows)
    coded = index.reader.shard.parameters
    scores = estimated_cosine(found.distances[lives], coded.metric, coded.dimensions)
    return Candidates(owners[lives], rows[lives], scores)


def _alive_rows(shards: Sequence[LiveShard], owners: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    lives = np.empty(len(rows), dtype=np.bool_)
    for position in np.unique(owners):
        here = owners == position
        lives[here] = shards[position].alive[rows[here]]
    return lives


def _joined(parts: Sequence[Candidates]) -> Candidates:
    nothing = Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    every = [nothing, *parts]
    return Candidates(
        np.concatenate([part.shards for part in every]),
        np.concatenate([part.rows for part in every]),
        np.concatenate([part.scores for part in every]),
    )
