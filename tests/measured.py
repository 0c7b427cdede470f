"""What a gate says of small versions, without measuring: which tiers are safe, and from which shortlist on."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.small_shards import Row, index_shards, make_collection, store_shard
from tierloom import names
from tierloom.commit import commit
from tierloom.digest import bytes_digest
from tierloom.gate import DEFAULT_FLOOR, Estimate, Gate, Quality, Reranked, TierQuality
from tierloom.manifest import Manifest, RunRecord
from tierloom.stored_object import StoredObject
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store

SAMPLE = b"queries"


def measured_store(folder: Path) -> LocalStore:
    """A collection in `folder`: version 0, which is empty, and 1 to 4, in which every tier is safe."""
    for name, data in _objects().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return LocalStore(folder)


@cache
def _objects() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        make_collection(store, tiers=(4, 8))
        for at in range(1, 5):
            publish_measured(store, f"document {at}")
        return {listed.name: store.read(listed.name) for listed in store.list("")}


def quality(recall: float) -> Quality:
    return Quality(recall=Estimate(mean=recall, low=max(recall - 0.02, 0.0), high=min(recall + 0.02, 1.0)))


def tier_quality(tier: str, safe_shortlist: int | None) -> TierQuality:
    """A tier that reaches recall .99 at its safe shortlist, and .91 at most where it has none."""
    largest = Reranked(shortlist=safe_shortlist or 1000, quality=quality(0.99 if safe_shortlist else 0.91))
    return TierQuality(tier=tier, alone=quality(0.7), reranked=(largest,), safe_shortlist=safe_shortlist)


def gate_of(store: Store, safe: Mapping[str, int | None], floor: float = DEFAULT_FLOOR) -> Gate:
    """A gate that names a safe shortlist (or None) for each of these tiers."""
    name = names.gate("sample")
    store.create(name, SAMPLE)
    return Gate(
        floor=floor,
        source="held-out",
        queries=50,
        seed=7,
        tiers=tuple(tier_quality(tier, shortlist) for tier, shortlist in safe.items()),
        sample=StoredObject(path=name, bytes=len(SAMPLE), sha256=bytes_digest(SAMPLE)),
    )


def publish_measured(store: Store, document_id: str = "d", gate: Gate | None = None, floor: float | None = None) -> int:
    """Publish a version that holds one document, measured by `gate` (default: every tier is safe from 50 on), in a
    collection of this recall floor from then on; its number."""
    shard = store_shard(store, [Row(document_id)])

    def change(head: Manifest) -> Manifest:
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            run=RunRecord(run=f"run-{head.version + 1}", command="test"),
            collection=msgspec.structs.replace(head.collection, recall_floor=floor or head.collection.recall_floor),
            vector_shards=(shard,),
            index_shards=index_shards(store, head.collection, [[shard]]),
            gate=gate or gate_of(store, {tier.name: 50 for tier in head.collection.tiers}),
        )

    return commit(store, change).version
