"""From answers to figures: recall, nDCG and hit rate of each tier."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.estimates import estimate
from index_builder.gate.addressed import AddressedRows
from index_builder.gate.answers import TierAnswers
from index_builder.gate.asking import Asked
from index_builder.gate.exact import KEPT
from index_builder.gate.ranked import NOBODY, Ranked
from index_builder.gate.sample import Sample
from tierloom.collection import Tier
from tierloom.gate import NDCG_WITHIN, SHORTLISTS, TOP, Estimate, Quality, Reranked, TierQuality

# Scores that differ by less are equal: float16 vectors are not that precise, nor is a sum in another order.
SAME: Final = 1e-5


@dataclass(frozen=True)
class Judge:
    """Compares what tiers answer with the exact answers `asked` of a `sample`; `live` chunks live, among `rows`."""

    asked: Asked
    sample: Sample
    live: int
    rows: AddressedRows

    def exact(self) -> Quality:
        """The quality of the exact answers themselves: recall 1."""
        return self._quality(np.ones(int(self.asked.present.sum())), self._exact)

    def tier(self, tier: Tier, answers: TierAnswers, floor: float) -> TierQuality:
        """The figures of one tier."""
        nearest = answers.nearest.of(self.asked.present)
        good = self._good
        wanted = self._exact.addresses[:, : self._looked_for(good)]
        places = nearest.places(wanted)
        ranks = [nearest.ranks(places, level) for level in range(len(answers.levels))]
        reranked = tuple(
            Reranked(shortlist=count, quality=self._reranked(nearest, ranks, _level(count, answers), count))
            for count in self._shortlists()
        )
        return TierQuality(
            tier=tier.name,
            # Ten documents may take more than ten chunks.
            alone=self._quality(
                self._found(nearest, ranks[0] <= TOP, 0, TOP), nearest.at_level(0) if self.sample.judged else nearest
            ),
            reranked=reranked,
            safe_shortlist=self._safe(reranked, floor),
        )

    def _shortlists(self) -> list[int]:
        """Those to measure: up to the first that holds all there is."""
        short = [count for count in SHORTLISTS if count < self.live]
        return [*short, *SHORTLISTS[len(short) : len(short) + 1]]

    def _safe(self, reranked: Sequence[Reranked], floor: float) -> int | None:
        """The smallest that reaches the floor; where relevant documents are known, the smallest of those that orders
        them nearly as well as the exact answers do, or the longest if none does."""
        safe = [one for one in reranked if self._reaches(one, floor)]
        good = self.exact().ndcg if self.sample.judged else None
        if good is None:
            return safe[0].shortlist if safe else None
        close = [one for one in safe if one.quality.ndcg and good.mean - one.quality.ndcg.mean <= NDCG_WITHIN]
        return next((one.shortlist for one in (*close, *safe[::-1])), None)

    def _reaches(self, one: Reranked, floor: float) -> bool:
        recall = one.quality.recall
        return recall.low >= floor or (one.shortlist >= self.live and recall.mean >= floor)

    @cached_property
    def _exact(self) -> Ranked:
        return self.asked.answers.exact.of(self.asked.present)

    @cached_property
    def _good(self) -> NDArray[np.bool_]:
        """Which exact answers are as good as the tenth, (q, n): they come first."""
        exact = self._exact
        good: NDArray[np.bool_] = (exact.scores >= self._least[:, np.newaxis]) & (exact.addresses != NOBODY)
        return good

    @cached_property
    def _least(self) -> NDArray[np.float32]:
        """The score from which on an answer is as good as the tenth, (q,)."""
        exact = self._exact
        last = np.maximum(np.minimum(exact.counts, TOP) - 1, 0)
        least: NDArray[np.float32] = np.take_along_axis(exact.scores, last[:, np.newaxis], axis=1)[:, 0] - SAME
        return least

    def _looked_for(self, good: NDArray[np.bool_]) -> int:
        """How many exact answers are looked for in shortlists: for the order of documents, all there are."""
        return good.shape[1] if self.sample.judged else max(1, int(good.sum(axis=1).max(initial=0)))

    def _found(self, nearest: Ranked, listed: NDArray[np.bool_], level: int, count: int) -> NDArray[np.float64]:
        """For each query the share of its true best among the first `count` of a level, (q,); `listed` says of the
        exact answers (q, m) whether they are there."""
        expected = np.minimum(self._exact.counts, TOP)
        good = self._good
        found = (listed & good[:, : listed.shape[1]]).sum(axis=1)
        for query in np.flatnonzero(good.sum(axis=1) == KEPT).tolist():
            found[query] = self._equally_good(query, nearest.of(np.array([query])).at_level(level).first(count))
        share: NDArray[np.float64] = np.minimum(found, expected) / np.maximum(expected, 1) + (expected == 0)
        return share

    def _equally_good(self, query: int, listed: Ranked) -> int:
        """How many listed rows score as the best: where more are equal than are kept, they are all scored."""
        addresses = listed.addresses[0]
        vector = self.asked.vectors[self.asked.present][query]
        return int((self.rows.scores(addresses[addresses != NOBODY], vector) >= self._least[query]).sum())

    def _reranked(self, nearest: Ranked, ranks: Sequence[NDArray[np.int64]], level: int, count: int) -> Quality:
        listed = ranks[level] <= count
        # Reranked, the answers are the exact ones that are listed, in their order.
        order = self._exact.first(listed.shape[1]).only(listed) if self.sample.judged else self._exact
        return self._quality(self._found(nearest, listed, level, count), order)

    def _quality(self, recall: NDArray[np.float64], answered: Ranked) -> Quality:
        if not self.sample.judged:
            return Quality(recall=estimate(recall))
        ndcg, hit = self._judged(answered)
        return Quality(recall=estimate(recall), ndcg=ndcg, hit_rate=hit)

    def _judged(self, answered: Ranked) -> tuple[Estimate, Estimate] | tuple[None, None]:
        """nDCG@10 with binary gains (Järvelin and Kekäläinen 2002) and hit rate@10 of documents, over the queries whose
        relevant documents are known."""
        scored = []
        for at, query in enumerate(np.flatnonzero(self.asked.present)):
            if len(relevant := self.sample.relevant_to(int(query))):
                addresses = answered.addresses[at]
                scored.append(gains(self.rows.keys(addresses[addresses != NOBODY]), relevant))
        if not scored:
            return None, None
        ndcg, hits = np.array(scored).T
        return estimate(ndcg), estimate(hits)


def gains(keys: NDArray[np.uint64], relevant: NDArray[np.uint64]) -> tuple[float, float]:
    """nDCG and hit of the first ten documents among chunks with these keys, best first."""
    _, first = np.unique(keys, return_index=True)
    documents = keys[np.sort(first)][:TOP]
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    good = np.isin(documents, relevant)
    ideal = discounts[: min(TOP, len(relevant))].sum()
    return float(discounts[: len(documents)][good].sum() / ideal), float(good.any())


def _level(count: int, answers: TierAnswers) -> int:
    return next(at for at, level in enumerate(answers.levels) if level >= count)
