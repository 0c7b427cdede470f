"""The steps of a search: shortlist on a tier, narrow by prefixes, rerank with the full vectors."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tierloom.document import document_key
from tierloom.index_reader import Found, IndexReader, split_keys
from tierloom.quantizer import estimated_cosine, query_code
from tierloom.reranking import exact_scores
from tierloom.rescoring import prefix_scores
from tierloom.shards.live import LiveShard
from tierloom.version_rows import VersionRows

# Full vectors gathered at once where there is no bound of rows to score.
_BLOCK_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows with their scores: `shards` and `rows` int64 (n,), `scores` float64 (n,), a cosine."""

    shards: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def best(self, count: int) -> "Candidates":
        """The `count` highest scores; ties in the order of the rows, so that a search repeats itself."""
        few = self._at_least(count)
        order = np.lexsort((few.rows, few.shards, -few.scores))[:count]
        return few.at(order)

    def at(self, chosen: NDArray[np.integer]) -> "Candidates":
        return Candidates(self.shards[chosen], self.rows[chosen], self.scores[chosen])

    def _at_least(self, count: int) -> "Candidates":
        """The `count` best and what ties with the last of them, in no order: a partition is cheaper than a sort."""
        if 2 * count >= len(self):
            return self
        least = np.partition(self.scores, len(self) - count)[len(self) - count]
        return self.at(np.flatnonzero(self.scores >= least))


_NONE: Final = np.empty(0)
NOTHING: Final = Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True)
class TierShard:
    """An open index shard and, for each position in its keys, which vector shard that is."""

    reader: IndexReader
    positions: NDArray[np.int64]


def shortlist(tier: Sequence[TierShard], rows: VersionRows, query: NDArray[np.float32], count: int) -> Candidates:
    """The `count` nearest live rows of a tier, in no order; `query` is a unit vector (D,)."""
    found = _joined([_search_alive(index, rows, query, count) for index in tier])
    return found if len(found) <= count else found.best(count)


def narrow(
    candidates: Candidates, rows: VersionRows, query: NDArray[np.float32], dimensions: int, keep: int
) -> Candidates:
    """The `keep` best by the first `dimensions` components of the int8 prefixes, in no order, with those scores."""
    scored = by_prefixes(candidates, rows, query, dimensions)
    return scored if len(scored) <= keep else scored.best(keep)


def by_prefixes(candidates: Candidates, rows: VersionRows, query: NDArray[np.float32], dimensions: int) -> Candidates:
    """The same rows in no order, scored by the first `dimensions` components of their int8 prefixes."""
    scores = [prefix_scores(rows.gather("prefix", *block), query, dimensions) for block in _blocks(candidates)]
    return Candidates(candidates.shards, candidates.rows, np.concatenate([_NONE, *scores]))


def rerank(candidates: Candidates, rows: VersionRows, query: NDArray[np.float32]) -> Candidates:
    """The same rows in no order, with the exact scores of their full vectors."""
    scores = [exact_scores(rows.gather("vector", *block), query) for block in _blocks(candidates)]
    return Candidates(candidates.shards, candidates.rows, np.concatenate([_NONE, *scores]))


def exact(rows: VersionRows, query: NDArray[np.float32], count: int) -> Candidates:
    """The `count` best live rows by their full vectors, best first: every row is scored. The oracle of every tier."""
    parts = [rerank(_all_of(position, live), rows, query) for position, live in enumerate(rows.shards)]
    return _joined([part.best(count) for part in parts]).best(count)


def rows_of_documents(rows: VersionRows, documents: Collection[str]) -> Candidates:
    """Every live row of these documents, without scores yet (0)."""
    wanted = set(documents)
    keys = np.unique(np.array([document_key(document) for document in wanted], dtype=np.uint64))
    if not wanted:
        return NOTHING
    return _joined([_documents_in(position, live, keys, wanted) for position, live in enumerate(rows.shards)])


def _documents_in(position: int, live: LiveShard, keys: NDArray[np.uint64], wanted: set[str]) -> Candidates:
    found = live.rows_of(keys)
    if not len(found):
        return NOTHING
    ids = live.ids(found)
    mine = found[np.asarray(pc.is_in(ids, value_set=pa.array(sorted(wanted), pa.string())))]
    return Candidates(np.full(len(mine), position), mine, np.zeros(len(mine)))


def _all_of(position: int, live: LiveShard) -> Candidates:
    rows = np.flatnonzero(live.alive)
    return Candidates(np.full(len(rows), position), rows, np.zeros(len(rows)))


def _search_alive(index: TierShard, rows: VersionRows, query: NDArray[np.float32], count: int) -> Candidates:
    """Ask for more until `count` are alive, or the graph has no more to give."""
    shard = index.reader.shard
    code = query_code(query, shard.parameters)
    asked = min(count, shard.codes)
    while True:
        candidates = _alive(index, rows, index.reader.search(code, asked))
        if len(candidates) >= count or asked >= shard.codes:
            return candidates
        asked = min(2 * asked, shard.codes)


def _alive(index: TierShard, rows: VersionRows, found: Found) -> Candidates:
    positions, places = split_keys(found.keys)
    owners = index.positions[positions]
    coded = index.reader.shard.parameters
    candidates = Candidates(owners, places, estimated_cosine(found.distances, coded.metric, coded.dimensions))
    lives = rows.lives(owners, places)
    return candidates if lives is None else candidates.at(np.flatnonzero(lives))


def _blocks(candidates: Candidates) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Shards and rows, a bounded number at a time."""
    for start in range(0, len(candidates), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        yield candidates.shards[part], candidates.rows[part]


def _joined(parts: Sequence[Candidates]) -> Candidates:
    if len(parts) == 1:
        return parts[0]
    every = [NOTHING, *parts]
    return Candidates(
        np.concatenate([part.shards for part in every]),
        np.concatenate([part.rows for part in every]),
        np.concatenate([part.scores for part in every]),
    )
