"""One question for every tier, alone and reranked, and for exact search where that is soon done."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom.answer import Answer, Hit
from tierloom.collection import Tier
from tierloom.server.questions import Comparison
from tierloom.server.replies import HitReply, hit_reply
from tierloom.snapshot import Snapshot

# As in the recall canary: scores this close are equal.
_TIE: Final = 1e-6
_SEARCHING: Final = ("shortlist", "narrow", "rerank")

Result = TypeVar("Result")


class Placed(HitReply, frozen=True, omit_defaults=True, kw_only=True):
    """A hit, and its place among those that the others are compared with, from 1; none if it is not among them."""

    place: int | None = None


class Lane(msgspec.Struct, frozen=True):
    """One way to answer. `kind` is that of the tier, or `exact`. `milliseconds` is the search alone, without the
    embedding of the question and the reading of texts: the better of two runs, so that none pays for opening files.
    `overlap` is the share of the reference's hits that are here; equal scores count as equal."""

    name: str
    kind: str
    tier: str | None
    dimensions: int
    reranked: bool
    shortlist: int | None
    milliseconds: float
    overlap: float
    hits: list[Placed]


class ComparisonReply(msgspec.Struct, frozen=True):
    """`reference` names the lane that overlaps are with: exact search, or the largest tier reranked in collections too
    large for that."""

    version: int
    checkpoint: str
    live_chunks: int
    embed_milliseconds: float
    reference: str
    lanes: list[Lane]


def compared(snapshot: Snapshot, comparison: Comparison, exact_chunks: int) -> ComparisonReply:
    """Every lane, exact search first, then the tiers as the collection has them; of a mirror, what can be asked."""
    embedding, vector = _timed(lambda: snapshot.query_vector(comparison.query))
    manifest = snapshot.manifest
    ways = (False, True) if snapshot.has_vectors else (False,)
    found = [_tier_lane(snapshot, vector, tier, rerank, comparison.top) for tier in snapshot.tiers for rerank in ways]
    if snapshot.has_vectors and manifest.live_chunks <= exact_chunks:
        found.insert(0, _exact_lane(snapshot, vector, comparison.top))
        reference = found[0]
    else:
        reference = found[-1]
    return ComparisonReply(
        version=manifest.version,
        checkpoint=manifest.collection.checkpoint,
        live_chunks=manifest.live_chunks,
        embed_milliseconds=_milliseconds(embedding),
        reference=reference.lane.name,
        lanes=[lane.beside(reference) for lane in found],
    )


class _Found(msgspec.Struct, frozen=True):
    """A lane whose overlap is not known yet, its hits, and further ones that are as good as the last of them."""

    lane: Lane
    hits: tuple[Hit, ...]
    as_good: tuple[Hit, ...] = ()

    def beside(self, reference: "_Found") -> Lane:
        places = {_identity(hit): place for place, hit in enumerate((*reference.hits, *reference.as_good), start=1)}
        placed = [
            Placed(**msgspec.structs.asdict(hit_reply(hit, text=True)), place=places.get(_identity(hit)))
            for hit in self.hits
        ]
        shared = sum(hit.place is not None for hit in placed)
        overlap = min(1.0, shared / len(reference.hits)) if reference.hits else 1.0
        return msgspec.structs.replace(self.lane, hits=placed, overlap=overlap)


def _tier_lane(snapshot: Snapshot, vector: NDArray[np.float32], tier: Tier, rerank: bool, top: int) -> _Found:
    def search(describe: bool) -> Answer:
        shortlist = None if rerank else top
        return snapshot.search(vector, tier=tier.name, rerank=rerank, top=top, shortlist=shortlist, describe=describe)

    answers = [search(describe=False), search(describe=True)]
    seconds = min(sum(answer.seconds[step] for step in _SEARCHING) for answer in answers)
    lane = Lane(
        name=f"{tier.name} reranked" if rerank else f"{tier.name} alone",
        kind=tier.kind,
        tier=tier.name,
        dimensions=tier.dimensions,
        reranked=rerank,
        shortlist=answers[1].shortlist if rerank else None,
        milliseconds=_milliseconds(seconds),
        overlap=0.0,
        hits=[],
    )
    return _Found(lane, answers[1].hits)


def _exact_lane(snapshot: Snapshot, vector: NDArray[np.float32], top: int) -> _Found:
    first, candidates = _timed(lambda: snapshot.exact(vector, 2 * top))
    second, _ = _timed(lambda: snapshot.exact(vector, 2 * top))
    hits = snapshot.hits(candidates)
    beyond = [hit for hit in hits[top:] if hit.score >= hits[top - 1].score - _TIE]
    lane = Lane(
        name="exact",
        kind="exact",
        tier=None,
        dimensions=snapshot.checkpoint.space.dimensions,
        reranked=False,
        shortlist=None,
        milliseconds=_milliseconds(min(first, second)),
        overlap=0.0,
        hits=[],
    )
    return _Found(lane, tuple(hits[:top]), tuple(beyond))


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _identity(hit: Hit) -> tuple[str, int]:
    return hit.document_id, hit.ordinal


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
