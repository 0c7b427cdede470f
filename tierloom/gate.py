"""What a gate found out about the tiers of a version: how much of the exact answers each of them finds.

The exact answers are those of a full-vector search over all that is live; rows with equal scores count as equal.
Every figure is of the first ten (`TOP`), and comes with its 95 % confidence interval over the queries.
"""

from typing import Annotated, Final, Literal

import msgspec

from tierloom.checkpoint import Positive
from tierloom.serving import TierName
from tierloom.stored_object import Count, StoredObject

TOP: Final = 10
DEFAULT_FLOOR: Final = 0.95
# Where relevant documents are known, a safe shortlist loses no more than this of the exact answers' nDCG.
NDCG_WITHIN: Final = 0.002
# The shortlists that are measured, smallest first.
SHORTLISTS: Final = (20, 50, 100, 200, 500, 1000)

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mean over the queries of the sample, and the ends of its 95 % confidence interval."""

    mean: Share
    low: Share
    high: Share


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good the first ten of a way to search are. `ndcg` and `hit_rate` are of documents, and known where relevant
    ones are named with the queries."""

    recall: Estimate
    ndcg: Estimate | None = None
    hit_rate: Estimate | None = None


class Reranked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The quality of a `shortlist` of so many candidates that is reranked with the full vectors."""

    shortlist: Positive
    quality: Quality


class TierQuality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured of one tier: by itself, and reranked, by the size of the shortlist, smallest first.

    `safe_shortlist` is the smallest whose recall reaches the floor with the low end of its interval, or that holds
    all there is; None where none does: such a tier is not published. Where relevant documents are known, its nDCG is
    within `NDCG_WITHIN` of the exact answers' as well, if that of any is.
    """

    tier: TierName
    alone: Quality
    reranked: tuple[Reranked, ...]
    safe_shortlist: Positive | None

    def at(self, shortlist: int | None) -> Quality | None:
        """The quality of reranking so many, if that was measured."""
        return next((one.quality for one in self.reranked if one.shortlist == shortlist), None)


Verdict = Literal["matryoshka", "refused", "undecided"]


class Advantage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A difference of two shares, and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class PrefixProbe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the ten nearest neighbours by the full vectors that a prefix of `dimensions` finds (`overlap`), and
    that as many dimensions find that no training has chosen: random projections (`projected`) and random subsets of
    the dimensions (`subset`).

    `advantage` is that of the prefix over the better of these two. A prefix is `matryoshka` if it beats both by more
    than the noise, and `refused` if it does not; `undecided` where the sample is too small to tell.
    """

    dimensions: Positive
    overlap: Estimate
    projected: Estimate
    subset: Estimate
    advantage: Advantage
    verdict: Verdict


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The measurement of one version.

    `source` says whose queries they are: chunks of the corpus itself, held out of their own answers, or those that
    the owner gave. `seed` chose the chunks. `sample` holds the query vectors, `answers` what is kept from version to
    version so that only what is new is measured; it may be older than the version. `exact` is the quality of the exact
    answers, where relevant documents are known. `probes` say whether the model's prefixes carry more than as many
    other dimensions; they are made anew with the sample. `seconds` is what the measurement took.
    """

    floor: Share
    source: Literal["held-out", "given"]
    queries: Count
    seed: Count
    tiers: tuple[TierQuality, ...]
    sample: StoredObject
    answers: StoredObject | None = None
    exact: Quality | None = None
    probes: tuple[PrefixProbe, ...] = ()
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def of_tier(self, name: str) -> TierQuality | None:
        return next((quality for quality in self.tiers if quality.tier == name), None)
