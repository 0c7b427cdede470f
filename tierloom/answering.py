"""From a query vector and a route to an answer: each step, and the time that it took."""

import json
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tierloom import search
from tierloom.answer import STEPS, Answer, Hit
from tierloom.open_version import OpenVersion
from tierloom.routing import Route
from tierloom.search import Candidates
from tierloom.version_rows import VersionRows

_log: Final = logging.getLogger("tierloom.search")


@dataclass(frozen=True, slots=True)
class Question:
    """One query: a unit `vector` (D,), how it is answered, and of what. `embed_seconds` is what the vector took."""

    vector: NDArray[np.float32]
    route: Route
    documents: Collection[str] | None
    by_document: bool
    describe: bool
    embed_seconds: float


def answer(version: OpenVersion, question: Question) -> Answer:
    """The answer, logged."""
    laps = _Laps(question.embed_seconds)
    candidates, best = _best(version, question, laps)
    hits = hits_of(version, best, question.describe)
    laps.end("describe")
    route = question.route
    made = Answer(
        hits=hits,
        query_class=route.query_class,
        profile=route.profile,
        tier=route.tier.name,
        dimensions=route.tier.dimensions,
        version=version.manifest.version,
        checkpoint=version.manifest.collection.checkpoint,
        shortlist=route.shortlist,
        candidates=candidates,
        reranked=route.rerank,
        seconds=laps.seconds,
        routed=route.routed,
    )
    if _log.isEnabledFor(logging.INFO):
        _log.info("%s", _line(made))
    return made


def hits_of(version: OpenVersion, candidates: Candidates, describe: bool = True) -> tuple[Hit, ...]:
    """Candidates with what they say, in their order; ids and ordinals alone unless they are to be described."""
    places = zip(candidates.shards.tolist(), candidates.rows.tolist(), candidates.scores.tolist(), strict=True)
    hit = _described if describe else _named
    return tuple(hit(version.rows, shard, row, score) for shard, row, score in places)


def _named(rows: VersionRows, shard: int, row: int, score: float) -> Hit:
    document_id, ordinal = rows.name(shard, row)
    return Hit(document_id, ordinal, score, "", "", {})


def _described(rows: VersionRows, shard: int, row: int, score: float) -> Hit:
    document_id, ordinal = rows.name(shard, row)
    heading, text, metadata = rows.text(shard, row)
    return Hit(document_id, ordinal, score, heading, text, json.loads(metadata))


class _Laps:
    """The seconds of each step."""

    def __init__(self, embed_seconds: float) -> None:
        self.seconds = dict.fromkeys(STEPS, 0.0)
        self.seconds["embed"] = embed_seconds
        self._began = time.perf_counter()

    def end(self, step: str) -> None:
        """What went by since the last step was this one's."""
        now = time.perf_counter()
        self.seconds[step] += now - self._began
        self._began = now


def _best(version: OpenVersion, question: Question, laps: _Laps) -> tuple[int, Candidates]:
    """How many candidates there were, and the best of them, best first."""
    if question.documents is not None:
        scored = _of_documents(version, question, question.documents, laps)
        best = _best_chunks(version, scored, question.route.top) if question.by_document else None
        return len(scored), scored.best(question.route.top) if best is None else best
    if not question.by_document:
        count, scored = _searched(version, question.vector, question.route, laps)
        return count, scored.best(question.route.top)
    return _best_of_documents(version, question, laps)


def _searched(version: OpenVersion, vector: NDArray[np.float32], route: Route, laps: _Laps) -> tuple[int, Candidates]:
    """How many candidates the tier gave, and what the steps of the route left of them, in no order."""
    found = search.shortlist(version.tier(route.tier), version.rows, vector, route.shortlist)
    count = len(found)
    laps.end("shortlist")
    for step in route.funnel:
        found = search.narrow(found, version.rows, vector, step.dimensions, max(step.keep, route.top))
        laps.end("narrow")
    if route.rerank:
        found = search.rerank(found, version.rows, vector)
        laps.end("rerank")
    return count, found


def _of_documents(version: OpenVersion, question: Question, documents: Collection[str], laps: _Laps) -> Candidates:
    """Every live row of these documents: the primary key finds them, no tier is asked."""
    found = search.rows_of_documents(version.rows, documents)
    laps.end("shortlist")
    if question.route.rerank:
        found = search.rerank(found, version.rows, question.vector)
        laps.end("rerank")
        return found
    found = search.by_prefixes(found, version.rows, question.vector, question.route.tier.dimensions)
    laps.end("narrow")
    return found


def _best_of_documents(version: OpenVersion, question: Question, laps: _Laps) -> tuple[int, Candidates]:
    """The best chunk of each of the best documents: more candidates are asked for until there are `top` documents, or
    the tier has no more."""
    route = question.route
    while True:
        count, scored = _searched(version, question.vector, route, laps)
        best = _best_chunks(version, scored, question.route.top)
        everything = count < route.shortlist and len(scored) == count
        if len(best) == question.route.top or everything:
            return count, best
        route = route.wider(2)


def _best_chunks(version: OpenVersion, scored: Candidates, top: int) -> Candidates:
    """The first chunk of each document, best first, of the `top` best documents. Keys may collide: ids decide."""
    ordered = scored.best(len(scored))
    keys = version.rows.gather("key", ordered.shards, ordered.rows) if len(ordered) else np.empty(0, np.uint64)
    kept: list[int] = []
    of_key: dict[int, list[str]] = {}
    for at, key in enumerate(keys.tolist()):
        known = of_key.setdefault(key, [])
        document_id = version.rows.name(int(ordered.shards[at]), int(ordered.rows[at]))[0]
        if document_id not in known:
            known.append(document_id)
            kept.append(at)
            if len(kept) == top:
                break
    return ordered.at(np.array(kept, dtype=np.int64))


def _line(answer: Answer) -> str:
    record: dict[str, Any] = {
        "class": answer.query_class,
        "profile": answer.profile,
        "tier": answer.tier,
        "version": answer.version,
        "checkpoint": answer.checkpoint,
        "dimensions": answer.dimensions,
        "shortlist": answer.shortlist,
        "candidates": answer.candidates,
        "hits": len(answer.hits),
        "milliseconds": {step: round(1000 * seconds, 3) for step, seconds in answer.seconds.items()},
    }
    return json.dumps(record)
