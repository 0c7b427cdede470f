"""The best rows of many queries at once: what exact searches and tiers answer, in one shape."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tierloom.index_reader import ROW_BITS

NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class Ranked:
    """`addresses` int64 (q, n): position of a vector shard << 32 | row, best first; `scores` float32 (q, n).

    A query with fewer answers ends with `NOBODY` and minus infinity. `levels` uint8 (q, n) has a bit for each way to
    search that gave this answer, where there are several.
    """

    addresses: NDArray[np.int64]
    scores: NDArray[np.float32]
    levels: NDArray[np.uint8]

    @classmethod
    def nothing(cls, queries: int, width: int) -> "Ranked":
        shape = queries, width
        return cls(np.full(shape, NOBODY, np.int64), np.full(shape, -np.inf, np.float32), np.zeros(shape, np.uint8))

    @property
    def width(self) -> int:
        return int(self.addresses.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many answers each query has (q,)."""
        counts: NDArray[np.int64] = (self.addresses != NOBODY).sum(axis=1)
        return counts

    def counts_at(self, level: int) -> NDArray[np.int64]:
        """How many answers one way to search gives each query (q,)."""
        counts: NDArray[np.int64] = self._at(level).sum(axis=1)
        return counts

    def places(self, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each address (q, m) is among the answers to the same query; -1 where it is not."""
        same = addresses[:, :, np.newaxis] == self.addresses[:, np.newaxis, :]
        return np.where(same.any(axis=2) & (addresses != NOBODY), same.argmax(axis=2), NOBODY)

    def ranks(self, places: NDArray[np.int64], level: int) -> NDArray[np.int64]:
        """The rank, from 1, that one way to search gives to the answers at these places (q, m); beyond all there are
        where it does not give them."""
        here = self._at(level)
        at = np.maximum(places, 0)
        ranks = np.take_along_axis(np.cumsum(here, axis=1), at, axis=1)
        given = np.take_along_axis(here, at, axis=1) & (places != NOBODY)
        return np.where(given, ranks, self.width + 1)

    def of(self, queries: NDArray[Any]) -> "Ranked":
        """The answers of some of the queries, by index or by mask."""
        return Ranked(self.addresses[queries], self.scores[queries], self.levels[queries])

    def first(self, count: int) -> "Ranked":
        return Ranked(self.addresses[:, :count], self.scores[:, :count], self.levels[:, :count])

    def at_level(self, level: int) -> "Ranked":
        """The answers of one way to search."""
        return self.only(self._at(level))

    def only(self, kept: NDArray[np.bool_]) -> "Ranked":
        """Without the answers that `kept` (q, n) says False of."""
        dropped = ~kept & (self.addresses != NOBODY)
        if not dropped.any():
            return self
        # What is kept stays in its order.
        order = np.argsort(dropped, axis=1, kind="stable")
        addresses, scores = np.where(dropped, NOBODY, self.addresses), np.where(dropped, -np.inf, self.scores)
        return Ranked(addresses, scores.astype(np.float32), self.levels)._taken(order)

    def moved(self, positions: NDArray[np.int64]) -> "Ranked":
        """With the vector shards at other positions: `positions[old]` is the new one, -1 of a shard that went."""
        if not len(positions):
            return self.only(self.addresses == NOBODY)
        if np.array_equal(positions, np.arange(len(positions))):
            return self
        old, rows = split(self.addresses)
        new = np.where(self.addresses != NOBODY, positions[old], NOBODY)
        # `only` looks at what was: an address that goes must still be one.
        stayed = self.only(new != NOBODY)
        old, rows = split(stayed.addresses)
        there = stayed.addresses != NOBODY
        addresses = np.where(there, joined(positions[np.where(there, old, 0)], rows), NOBODY)
        return Ranked(addresses, stayed.scores, stayed.levels)

    def with_others(self, other: "Ranked") -> "Ranked":
        """The best of both, as many as this has room for."""
        if not other.width:
            return self
        both = Ranked(
            np.concatenate([self.addresses, other.addresses], axis=1),
            np.concatenate([self.scores, other.scores], axis=1),
            np.concatenate([self.levels, other.levels], axis=1),
        )
        return both.sorted().first(self.width)

    def sorted(self) -> "Ranked":
        """Best first; equal scores in the order that they are in, so that a measurement repeats itself."""
        return self._taken(np.argsort(-self.scores, axis=1, kind="stable"))

    def _at(self, level: int) -> NDArray[np.bool_]:
        at: NDArray[np.bool_] = ((self.levels & np.uint8(1 << level)) != 0) & (self.addresses != NOBODY)
        return at

    def _taken(self, order: NDArray[np.int64]) -> "Ranked":
        return Ranked(
            np.take_along_axis(self.addresses, order, axis=1),
            np.take_along_axis(self.scores, order, axis=1),
            np.take_along_axis(self.levels, order, axis=1),
        )


def joined(positions: NDArray[np.int64] | np.int64, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Addresses of rows."""
    return (positions << ROW_BITS) | rows


def split(addresses: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of vector shards, and rows in them."""
    return addresses >> ROW_BITS, addresses & ((1 << ROW_BITS) - 1)


def padded(
    queries: int,
    of_query: NDArray[np.int64],
    addresses: NDArray[np.int64],
    scores: NDArray[Any],
    levels: NDArray[np.uint8],
) -> Ranked:
    """Answers (m,), each of the query in `of_query`, which ascends; sorted."""
    counts = np.bincount(of_query, minlength=queries)
    ranked = Ranked.nothing(queries, int(counts.max(initial=0)))
    places = np.arange(len(of_query)) - np.repeat(np.cumsum(counts) - counts, counts)
    ranked.addresses[of_query, places] = addresses
    ranked.scores[of_query, places] = scores
    ranked.levels[of_query, places] = levels
    return ranked.sorted()


def promising(
    position: int, rows: NDArray[np.int64], scores: NDArray[np.float32], kept: Ranked, levels: int = 1
) -> Ranked:
    """Of rows (n,) of one vector shard, with scores (q, n), those that would be among the `kept`; sorted."""
    least = kept.scores[:, -1:]
    if np.isneginf(least).any():
        return _best_of(position, rows, scores, kept.width, levels)
    of_query, at = np.nonzero(scores > least)
    here = joined(np.int64(position), rows[at])
    return padded(len(scores), of_query, here, scores[of_query, at], np.full(len(at), levels, np.uint8))


def _best_of(position: int, rows: NDArray[np.int64], scores: NDArray[np.float32], width: int, levels: int) -> Ranked:
    if len(rows) > width:
        at = np.argpartition(-scores, width, axis=1)[:, :width]
        scores = np.take_along_axis(scores, at, axis=1)
    else:
        at = np.broadcast_to(np.arange(len(rows)), scores.shape)
    addresses = joined(np.int64(position), rows[at])
    return Ranked(addresses, scores, np.full(scores.shape, levels, np.uint8)).sorted()
