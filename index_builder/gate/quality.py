"""From answers to figures: recall, nDCG and hit rate of each tier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.answers import TierAnswers
from index_builder.gate.asking import Asked
from index_builder.gate.estimates import estimate
from index_builder.gate.exact import KEPT
from index_builder.gate.ranked import NOBODY, Ranked
from index_builder.gate.sample import Sample
from tierloom.collection import Tier
from tierloom.gate import SHORTLISTS, TOP, Estimate, Quality, Reranked, TierQuality

# Scores that differ by less are equal: float16 vectors are not that precise, nor is a sum in another order.
_SAME: Final = 1e-5

KeysOf = Callable[[NDArray[np.int64]], NDArray[np.uint64]]
ScoresOf = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares what tiers answer with the exact answers `asked` of a `sample`.

    `keys_of` are the document keys of addresses (n,), `scores_of` the exact scores of addresses for a query; `live`
    chunks live.
    """

    asked: Asked
    sample: Sample
    live: int
    keys_of: KeysOf
    scores_of: ScoresOf

    def exact(self) -> Quality:
        """The quality of the exact answers themselves: recall 1."""
        return self._quality(np.ones(int(self.asked.present.sum())), self._exact)

    def tier(self, tier: Tier, answers: TierAnswers, floor: float) -> TierQuality:
        """The figures of one tier."""
        nearest = answers.nearest.of(self.asked.present)
        levels = [nearest.at_level(at) for at in range(len(answers.levels))]
        reranked = tuple(
            Reranked(shortlist=count, quality=self._reranked(levels[_level(count, answers)].first(count)))
            for count in self._shortlists()
        )
        return TierQuality(
            tier=tier.name,
            # Ten documents may take more than ten chunks.
            alone=self._quality(self._found(levels[0].first(TOP)), levels[0]),
            reranked=reranked,
            safe_shortlist=next((one.shortlist for one in reranked if self._is_safe(one, floor)), None),
        )

    def _shortlists(self) -> list[int]:
        """Those to measure: up to the first that holds all there is."""
        short = [count for count in SHORTLISTS if count < self.live]
        return [*short, *SHORTLISTS[len(short) : len(short) + 1]]

    def _is_safe(self, one: Reranked, floor: float) -> bool:
        recall = one.quality.recall
        return recall.low >= floor or (one.shortlist >= self.live and recall.mean >= floor)

    @property
    def _exact(self) -> Ranked:
        return self.asked.answers.exact.of(self.asked.present)

    def _found(self, listed: Ranked) -> NDArray[np.float64]:
        """For each query the share of its true best that is in a list, (q,)."""
        exact = self._exact
        expected = np.minimum(exact.counts, TOP)
        least = np.take_along_axis(exact.scores, np.maximum(expected - 1, 0)[:, np.newaxis], axis=1) - _SAME
        good = (exact.scores >= least) & (exact.addresses != NOBODY)
        found = _common(exact.addresses, good, listed.addresses)
        for query in np.flatnonzero(good.sum(axis=1) == KEPT).tolist():
            found[query] = self._equally_good(query, listed, float(least[query, 0]))
        share: NDArray[np.float64] = np.minimum(found, expected) / np.maximum(expected, 1) + (expected == 0)
        return share

    def _equally_good(self, query: int, listed: Ranked, least: float) -> int:
        """How many listed rows score as the best: where more are equal than are kept, they are all scored."""
        addresses = listed.addresses[query]
        vector = self.asked.vectors[self.asked.present][query]
        return int((self.scores_of(addresses[addresses != NOBODY], vector) >= least).sum())

    def _reranked(self, listed: Ranked) -> Quality:
        exact = self._exact
        kept = exact.only(_is_listed(exact.addresses, listed.addresses)) if self.sample.judged else exact
        return self._quality(self._found(listed), kept)

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
                scored.append(_gains(self.keys_of(addresses[addresses != NOBODY]), relevant))
        if not scored:
            return None, None
        ndcg, hits = np.array(scored).T
        return estimate(ndcg), estimate(hits)


def _gains(keys: NDArray[np.uint64], relevant: NDArray[np.uint64]) -> tuple[float, float]:
    """nDCG and hit of the first ten documents among chunks with these keys, best first."""
    _, first = np.unique(keys, return_index=True)
    documents = keys[np.sort(first)][:TOP]
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    good = np.isin(documents, relevant)
    ideal = discounts[: min(TOP, len(relevant))].sum()
    return float(discounts[: len(documents)][good].sum() / ideal), float(good.any())


def _level(count: int, answers: TierAnswers) -> int:
    return next(at for at, level in enumerate(answers.levels) if level >= count)


def _common(addresses: NDArray[np.int64], good: NDArray[np.bool_], listed: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the good addresses of each query are listed, (q,)."""
    width = int(good.sum(axis=1).max(initial=0))
    # The good ones come first: the scores descend.
    counts: NDArray[np.int64] = (_is_listed(addresses[:, :width], listed) & good[:, :width]).sum(axis=1)
    return counts


def _is_listed(addresses: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each address (q, n) is among those listed (q, m) for the same query."""
    ordered = np.sort(listed, axis=1)
    at = np.stack([np.searchsorted(there, wanted) for there, wanted in zip(ordered, addresses, strict=True)])
    found = np.take_along_axis(ordered, np.minimum(at, ordered.shape[1] - 1), axis=1)
    there: NDArray[np.bool_] = (found == addresses) & (addresses != NOBODY)
    return there
