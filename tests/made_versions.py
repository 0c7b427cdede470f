"""Collections of many versions, made of manifests alone: what a report reads, and no more.

The shards that they name do not exist; their numbers fit together as those of real ones do.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from tierloom import names
from tierloom.channel import Move, move_channel, read_channel
from tierloom.checkpoint import Checkpoint, Space
from tierloom.collection import Collection, Tier
from tierloom.commit import advance_latest
from tierloom.gate import SHORTLISTS, Estimate, Gate, Quality, Reranked, TierQuality
from tierloom.manifest import (
    KEY_UNITS,
    DeadLetters,
    DocumentCounts,
    Footer,
    IndexParameters,
    IndexShard,
    Manifest,
    RunRecord,
    VectorShard,
)
from tierloom.stored_object import StoredObject
from tierloom.stores.store import Store

CHECKPOINT: Final = Checkpoint(
    Space(
        provider="openai",
        model="nomic-embed-text-v1.5",
        revision="v1.5",
        dimensions=768,
        trained_prefixes=(64, 128, 256, 512, 768),
    )
)
TIERS: Final = (
    Tier("64", 64),
    Tier("128", 128),
    Tier("256-binary", 256, "binary"),
)
_RUN: Final = RunRecord(run="run", command="ingest")
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """One version: the rows of its vector shards, each group in one index shard a tier; its gate and its run."""

    groups: Sequence[Sequence[int]] = ()
    gate: Gate | None = None
    run: RunRecord = _RUN
    letters: int = 0


def estimate(mean: float, half: float = 0.012) -> Estimate:
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def gate(
    recalls: Mapping[str, tuple[float, Sequence[float]]],
    floor: float = 0.95,
    seconds: float = 1.5,
    relevance: bool = False,
) -> Gate:
    """A measurement: the recall of each tier alone, and reranked with the first of `SHORTLISTS`."""
    return Gate(
        floor=floor,
        source="given" if relevance else "held-out",
        queries=400,
        seed=7,
        tiers=tuple(_tier_quality(name, *recall, floor, relevance) for name, recall in recalls.items()),
        sample=StoredObject("gates/sample.parquet", 100, _sha256("sample")),
        exact=_quality(1.0, relevance) if relevance else None,
        seconds=seconds,
    )


def _tier_quality(name: str, alone: float, reranked: Sequence[float], floor: float, relevance: bool) -> TierQuality:
    measured = tuple(
        Reranked(shortlist, _quality(recall, relevance))
        for shortlist, recall in zip(SHORTLISTS, reranked, strict=False)
    )
    safe = next((one.shortlist for one in measured if one.quality.recall.low >= floor), None)
    return TierQuality(name, _quality(alone, relevance), measured, safe)


def _quality(recall: float, relevance: bool) -> Quality:
    if not relevance:
        return Quality(estimate(recall))
    return Quality(estimate(recall), ndcg=estimate(0.61 * recall, 0.03), hit_rate=estimate(0.84 * recall, 0.03))


def store_versions(
    store: Store,
    steps: Sequence[Step],
    checkpoint: Checkpoint = CHECKPOINT,
    tiers: Sequence[Tier] = TIERS,
    **collection: object,
) -> Manifest:
    """Version 0, empty, and one for each step, a minute apart. The newest manifest."""
    described = Collection(
        checkpoint=checkpoint.fingerprint,
        prefix_dimensions=max(tier.dimensions for tier in tiers),
        tiers=tuple(tiers),
    )
    described = msgspec.structs.replace(described, **collection)
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    head: Manifest | None = None
    for version, step in enumerate([Step(run=RunRecord(run="init", command="init")), *steps]):
        head = _manifest(version, step, described, head)
        store.create(names.manifest(version), head.to_bytes())
    assert head is not None
    advance_latest(store, head.version)
    return head


def store_other(
    store: Store,
    head: Manifest,
    step: Step,
    checkpoint: Checkpoint,
    tiers: Sequence[Tier] = TIERS,
    reached: int = KEY_UNITS,
) -> Manifest:
    """One version more: like the head, with a generation of another checkpoint beside it."""
    collection = msgspec.structs.replace(head.collection, checkpoint=checkpoint.fingerprint, tiers=tuple(tiers))
    beside = msgspec.structs.replace(_manifest(head.version + 1, step, collection, head).own, reached=reached)
    made = msgspec.structs.replace(head, version=head.version + 1, parent=head.digest(), other=beside)
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    store.create(names.manifest(made.version), made.to_bytes())
    advance_latest(store, made.version)
    return made


def point(store: Store, channel: str, version: int, **members: Any) -> None:
    """Move a channel to a version, with a record of it; `members` are those of the move that matter."""
    seen = read_channel(store, channel)
    at = (_BEGAN + timedelta(hours=seen[0].serial + 1 if seen else 0)).isoformat().replace("+00:00", "Z")
    described = {"action": "promote", "by": "somebody@host"} | members
    move = Move(version=version, previous=seen[0].version if seen else None, at=at, **described)
    move_channel(store, channel, version, seen, move)


def retire(store: Store, *versions: int) -> None:
    """As `gc` does: their manifests go."""
    for listed in list(store.list(names.MANIFESTS)):
        if names.manifest_version(listed.name) in versions:
            assert store.remove(listed)


def _manifest(version: int, step: Step, collection: Collection, before: Manifest | None) -> Manifest:
    groups = [
        [vector_shard(collection.checkpoint, f"{version} {at} {place}", rows) for place, rows in enumerate(group)]
        for at, group in enumerate(step.groups)
    ]
    vectors = tuple(shard for group in groups for shard in group)
    live = sum(shard.rows for shard in vectors)
    return Manifest(
        version=version,
        created=(_BEGAN + timedelta(minutes=version)).isoformat().replace("+00:00", "Z"),
        parent=before.digest() if before else None,
        writer="tierloom 0.1.0",
        collection=collection,
        run=step.run,
        vector_shards=vectors,
        index_shards=tuple(_index_shard(collection, tier, group) for tier in collection.tiers for group in groups),
        dead_letters=(DeadLetters("dead-letters/run/part.jsonl", 10, _sha256("letters"), step.letters),)
        if step.letters
        else (),
        documents=DocumentCounts(documents_in=live + step.letters, live=live, dead_lettered=step.letters),
        gate=step.gate,
    )


def vector_shard(checkpoint: str, name: str, rows: int) -> VectorShard:
    """What a manifest says of a vector shard that nobody wrote."""
    digest = _sha256(f"{name} {rows}")
    return VectorShard(
        path=names.vector_shard(digest[:40]),
        bytes=rows * 2100,
        sha256=digest,
        rows=rows,
        checkpoint=checkpoint,
        footer=Footer(1000, digest),
    )


def _index_shard(collection: Collection, tier: Tier, group: Sequence[VectorShard]) -> IndexShard:
    rows = sum(shard.rows for shard in group)
    digest = _sha256(f"{tier.name} {[shard.path for shard in group]}")
    code = tier.dimensions if tier.kind == "int8" else tier.dimensions // 8
    return IndexShard(
        path=names.index_shard(tier.name, digest[:40]),
        bytes=rows * (code + 149),
        sha256=digest,
        tier=tier.name,
        codes=rows,
        checkpoint=collection.checkpoint,
        vector_shards=tuple(shard.path for shard in group),
        parameters=IndexParameters(tier.dimensions, tier.metric, 16, 128, 128, "2.26.6"),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
