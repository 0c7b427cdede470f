"""Bringing answers up to a version: what is gone is dropped, what is new is asked, the rest is taken over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.answers import Answers, TierAnswers, living, positions_now
from index_builder.gate.exact import KEPT, score_every_shard, score_shard
from index_builder.gate.nearest import MOST, Nearest, levels_of
from index_builder.gate.ranked import NOBODY, Ranked, split
from index_builder.gate.sample import Sample, own_addresses
from tierloom.collection import Tier
from tierloom.errors import VerificationError
from tierloom.gate import TOP
from tierloom.manifest import IndexShard, Manifest
from tierloom.search import TierShard
from tierloom.shards.live import LiveShard

# A shortlist that lost more than this share of its rows to deletions is asked for anew: a reader would ask on.
_MISSING: Final = 0.1

_UNIT_WITHIN: Final = 0.01

OpenIndex = Callable[[IndexShard], TierShard]


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers, and the queries that they are of: `vectors` float32 (q, D); `present` bool (q,) is False for queries
    whose chunk is gone."""

    answers: Answers
    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]


class Asking:
    """The queries of a sample, asked of one version."""

    def __init__(self, manifest: Manifest, shards: Sequence[LiveShard], sample: Sample, open_index: OpenIndex) -> None:
        """`shards` are the vector shards of the manifest, in its order."""
        self._manifest = manifest
        self._shards = shards
        self._sample = sample
        self._open_index = open_index

    def after(self, before: Answers | None) -> Asked:
        """The answers, given those of an earlier version, or none."""
        first = before is None
        before = before or self._nothing()
        positions = positions_now(before, self._shards)
        fresh = sorted(set(range(len(self._shards))) - set(positions.tolist()))
        own = self._own(before, positions, fresh)
        vectors = self._vectors(own)
        prints = _prints(vectors)
        if self._sample.source == "held-out":
            # A chunk that went, or says something else now, is asked no more: its answers would be another query's.
            own = np.where(first | ((before.prints == prints) & (before.own != NOBODY)), own, NOBODY)
        present = own != NOBODY if self._sample.source == "held-out" else np.ones(len(own), np.bool_)
        exact, horizon = self._exact(before, positions, fresh, own, vectors, present)
        answers = Answers(
            shards=tuple(live.stored.path for live in self._shards),
            live=tuple(live.stored.live_rows for live in self._shards),
            own=own,
            prints=prints,
            exact=exact,
            horizon=horizon,
            tiers={
                tier.name: self._tier(tier, before, positions, own, vectors) for tier in self._manifest.collection.tiers
            },
        )
        return Asked(answers, vectors, present)

    def _nothing(self) -> Answers:
        queries = len(self._sample)
        return Answers(
            shards=(),
            live=(),
            own=self._nobody(),
            prints=np.zeros(queries, np.uint64),
            exact=Ranked.nothing(queries, KEPT),
            horizon=np.full(queries, -np.inf, np.float32),
            tiers={},
        )

    def _own(self, before: Answers, positions: NDArray[np.int64], fresh: Sequence[int]) -> NDArray[np.int64]:
        if self._sample.source == "given":
            return self._nobody()
        one = before.own[:, np.newaxis]
        stayed = Ranked(one, np.zeros(one.shape, np.float32), np.ones(one.shape, np.uint8)).moved(positions)
        stayed = living(stayed, self._shards, self._nobody())
        found = own_addresses(self._sample, {at: self._shards[at] for at in fresh})
        return np.where(found != NOBODY, found, stayed.addresses[:, 0])

    def _vectors(self, own: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._sample.source == "given":
            return self._sample.vectors
        dimensions = self._shards[0].shard.schema.dimensions if self._shards else 1
        vectors = np.zeros((len(own), dimensions), np.float32)
        positions, rows = split(own)
        for position in np.unique(positions[own != NOBODY]):
            here = (positions == position) & (own != NOBODY)
            vectors[here] = self._shards[position].shard.gather("vector", rows[here]).astype(np.float32)
            _refuse_other_lengths(vectors[here], self._shards[position].stored.path)
        return vectors

    def _exact(
        self,
        before: Answers,
        positions: NDArray[np.int64],
        fresh: Sequence[int],
        own: NDArray[np.int64],
        vectors: NDArray[np.float32],
        present: NDArray[np.bool_],
    ) -> tuple[Ranked, NDArray[np.float32]]:
        exact = living(before.exact.moved(positions), self._shards, own)
        for position in fresh:
            exact = score_shard(position, self._shards[position], vectors, exact)
        horizon = np.maximum(before.horizon, _last(exact))
        exact = living(exact.only(exact.scores >= horizon[:, np.newaxis]), self._shards, own)
        thin = np.flatnonzero(present & (exact.counts < TOP) & np.isfinite(horizon))
        if len(thin):
            anew = score_every_shard(self._shards, vectors[thin])
            horizon[thin] = _last(anew)
            anew = living(anew, self._shards, own[thin])
            exact.addresses[thin], exact.scores[thin] = anew.addresses, anew.scores
            exact.levels[thin] = anew.levels
        return exact, horizon

    def _tier(
        self,
        tier: Tier,
        before: Answers,
        positions: NDArray[np.int64],
        own: NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> TierAnswers:
        indexes = self._manifest.index_shards_of(tier.name)
        index_of = {path: index.path for index in indexes for path in index.vector_shards}
        taken = self._taken_over(before, tier, positions, index_of)
        known = {index_of[self._shards[at].stored.path] for at in taken.positions}
        nearest = self._with_indexes(taken.nearest, [i for i in indexes if i.path not in known], tier, own, vectors)
        if self._is_short(nearest, tier):
            nearest = self._with_indexes(self._no_answers(), indexes, tier, own, vectors)
        return TierAnswers(tuple(index_of[live.stored.path] for live in self._shards), levels_of(tier), nearest)

    def _taken_over(
        self, before: Answers, tier: Tier, positions: NDArray[np.int64], index_of: Mapping[str, str]
    ) -> "_TakenOver":
        """What is still true of a tier's answers: those of index shards whose vector shards are all as they were."""
        old = before.tiers.get(tier.name)
        if old is None or old.levels != levels_of(tier):
            return _TakenOver(self._no_answers(), frozenset())
        same = [
            at != NOBODY and index_of[path] == index
            for path, index, at in zip(before.shards, old.index_of, positions.tolist(), strict=True)
        ]
        broken = {index for index, is_same in zip(old.index_of, same, strict=True) if not is_same}
        kept = [NOBODY if index in broken else at for index, at in zip(old.index_of, positions.tolist(), strict=True)]
        moved = old.nearest.moved(np.array(kept, np.int64))
        return _TakenOver(living(moved, self._shards, own=self._nobody()), frozenset(kept) - {NOBODY})

    def _with_indexes(
        self,
        nearest: Ranked,
        indexes: Sequence[IndexShard],
        tier: Tier,
        own: NDArray[np.int64],
        vectors: NDArray[np.float32],
    ) -> Ranked:
        asking = Nearest(tier, vectors, self._shards)
        position_of = {live.stored.path: at for at, live in enumerate(self._shards)}
        for index in indexes:
            covered = [position_of[path] for path in index.vector_shards]
            nearest = asking.with_index(nearest, index, covered, partial(self._open_index, index))
        return living(nearest, self._shards, own)

    def _is_short(self, nearest: Ranked, tier: Tier) -> bool:
        """Whether too much of the shortlists has died: a reader would have asked on."""
        live = sum(shard.stored.live_rows for shard in self._shards)
        return any(
            bool((nearest.counts_at(at) < (1 - _MISSING) * min(level, live) - 1).any())
            for at, level in enumerate(levels_of(tier))
        )

    def _no_answers(self) -> Ranked:
        return Ranked.nothing(len(self._sample), MOST)

    def _nobody(self) -> NDArray[np.int64]:
        return np.full(len(self._sample), NOBODY, np.int64)


@dataclass(frozen=True, slots=True)
class _TakenOver:
    nearest: Ranked
    positions: frozenset[int]


def _refuse_other_lengths(vectors: NDArray[np.float32], name: str) -> None:
    """Scores are cosines only between vectors of unit length, to which float16 comes within a thousandth."""
    lengths = np.linalg.norm(vectors, axis=1)
    odd = lengths[np.abs(lengths - 1) > _UNIT_WITHIN]
    if len(odd):
        raise VerificationError(
            f"{name}: {len(odd)} of {len(lengths)} sampled vectors have not unit length, but {odd[0]:.3g}"
        )


def _last(ranked: Ranked) -> NDArray[np.float32]:
    """The score of the last answer that there is room for; minus infinity where room is left."""
    last: NDArray[np.float32] = ranked.scores[:, -1].copy()
    return last


def _prints(vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
    digests = [blake2b(vector.tobytes(), digest_size=8).digest() for vector in vectors]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
