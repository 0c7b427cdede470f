"""A small collection that changes version by version, a plain dict that it must equal, and how they are compared.

It may have a second generation, under another checkpoint, that every change is written to as well.
"""

from collections import Counter
from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.audit import audit
from index_builder.build import build_index_shard, plan_index_tasks
from index_builder.upkeep.publishing import publish_change
from tests.small_shards import CHECKPOINT, Row, collection_of, first_manifest, store_shard
from tierloom import names
from tierloom.checkpoint import Checkpoint, Space
from tierloom.collection import Sizes
from tierloom.commit import advance_latest, commit
from tierloom.document import document_key
from tierloom.manifest import KEY_UNITS, DocumentCounts, Generation, Manifest, RunRecord, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.deletion_vector import dead_rows
from tierloom.shards.schema import ShardSchema
from tierloom.snapshot import Snapshot
from tierloom.stores.store import Store
from tierloom.storing import with_dead_rows
from tierloom.versions import read_checkpoint, read_head

TIERS = (8, "16-binary", 16)
SIZES = Sizes(block_chunks=8, vector_shard_rows=32, index_shard_rows=128)
SECOND = Checkpoint(
    Space(provider="openai", model="second-test-model", revision="1", dimensions=24, trained_prefixes=(4, 8, 12))
)


class Living:
    """Documents of some chunks each in `store`, and `model`: what every reader must find."""

    def __init__(self, store: Store, sizes: Sizes = SIZES, tiers: Sequence[int | str] = TIERS) -> None:
        self.store = store
        self.model: dict[tuple[str, int], str] = {}
        self._sequence = 0
        # Its vectors are noise, whose first components carry no more than others.
        first = first_manifest(
            msgspec.structs.replace(collection_of(tiers=tiers), sizes=sizes, untrained_prefixes=True)
        )
        store.create(names.checkpoint(CHECKPOINT.fingerprint), CHECKPOINT.to_bytes())
        store.create(names.manifest(0), first.to_bytes())
        advance_latest(store, 0)

    @property
    def head(self) -> Manifest:
        return read_head(self.store)

    @property
    def documents(self) -> set[str]:
        """Those that live."""
        return {document_id for document_id, _ in self.model}

    def put(self, chunks: Mapping[str, int]) -> Manifest:
        """Publish new events of these documents: the number of chunks of each."""
        self._sequence += 1
        rows = [self._row(document_id, at) for document_id, count in chunks.items() for at in range(count)]
        replaced = self._forget(chunks)
        self.model |= {(row.document_id, row.ordinal): row.text for row in rows}
        added = len(chunks) - replaced
        return self._publish(chunks, rows, DocumentCounts(len(chunks), live=added, superseded=replaced))

    def delete(self, document_ids: Iterable[str]) -> Manifest:
        """Publish the end of these documents."""
        gone = frozenset(document_ids)
        removed = self._forget(gone)
        return self._publish(gone, [], DocumentCounts(len(gone), -removed, removed, len(gone)))

    def erased(self, document_ids: Iterable[str]) -> None:
        """Nothing of these documents is to be found any more."""
        self._forget(document_ids)

    def begin(
        self, checkpoint: Checkpoint = SECOND, tiers: Sequence[int | str] = (4, 12), reached: int = KEY_UNITS
    ) -> Manifest:
        """Publish a second generation: all that lives, or the documents whose keys lie below `reached`."""
        self.store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
        collection = msgspec.structs.replace(
            collection_of(checkpoint, tiers), sizes=self.head.collection.sizes, untrained_prefixes=True
        )
        other = Generation(collection=collection, run=RunRecord(run="begun", command="test"), reached=0)
        publish_change("begin", lambda head: msgspec.structs.replace(head, other=other), self.store)
        return self.reach(reached)

    def reach(self, reached: int = KEY_UNITS) -> Manifest:
        """Publish more of the generation that is being built."""
        begun = next(generation.reached for generation in self.head.generations if not generation.is_complete)
        rows = [
            Row(document_id, at, self._sequence, text=text)
            for (document_id, at), text in self.model.items()
            if begun <= document_key(document_id) >> 32 < reached
        ]

        def change(head: Manifest) -> Manifest:
            (building,) = (generation for generation in head.generations if not generation.is_complete)
            there = self._ids_in(building)
            grown = self._grown(building, frozenset(), [row for row in rows if row.document_id not in there])
            counts = msgspec.structs.replace(head.documents, superseded=0, documents_in=0)
            counts = msgspec.structs.replace(counts, documents_in=counts.live + counts.deleted)
            return head.with_generation(msgspec.structs.replace(grown, reached=reached, documents=counts))

        return publish_change("reach", change, self.store)

    def check(self) -> None:
        """Of every generation: every live chunk is in every tier exactly once, none but those of the model lives, and
        all is sound."""
        assert audit(self.store).problems == ()
        shards = Counter(shard.path for generation in self.head.generations for shard in generation.vector_shards)
        assert set(shards.values()) <= {1}
        for generation in self.head.generations:
            self._check(generation)

    def _check(self, generation: Manifest) -> None:
        snapshot = Snapshot(generation, read_checkpoint(self.store, generation.checkpoint), ObjectFiles(self.store))
        with snapshot:
            chunks = list(snapshot.chunks())
            found = {(chunk.document_id, chunk.ordinal): chunk.text for chunk in chunks}
            assert len(chunks) == len(found)
            assert found.items() <= self.model.items()
            assert {key for key in self.model if document_key(key[0]) >> 32 < generation.reached} <= found.keys()
            dimensions = snapshot.checkpoint.space.dimensions
            for tier in generation.collection.tiers:
                hits = snapshot.search([1.0] * dimensions, tier=tier.name, shortlist=10_000, top=10_000)
                assert Counter((hit.document_id, hit.ordinal) for hit in hits) == Counter(found.keys())
        assert generation.documents.adds_up
        assert not generation.is_complete or generation.documents.live == len(self.documents)

    def _row(self, document_id: str, at: int) -> Row:
        return Row(document_id, at, self._sequence, text=f"{document_id} {at} at {self._sequence}")

    def _forget(self, document_ids: Iterable[str]) -> int:
        """How many of these documents lived until now."""
        gone = set(document_ids)
        lived = len(self.documents & gone)
        self.model = {chunk: text for chunk, text in self.model.items() if chunk[0] not in gone}
        return lived

    def _publish(self, gone: Some[str], rows: Sequence[Row], counted: DocumentCounts) -> Manifest:
        def change(head: Manifest) -> Manifest:
            run = RunRecord(run=f"run-{head.version + 1}", command="test")
            changed = head
            for generation in head.generations:
                counts = _sum(generation.documents, counted)
                grown = msgspec.structs.replace(self._grown(generation, gone, rows), run=run, documents=counts)
                changed = changed.with_generation(grown)
            return msgspec.structs.replace(changed, version=head.version + 1)

        return commit(self.store, change)

    def _grown(self, generation: Manifest, gone: Some[str], rows: Sequence[Row]) -> Manifest:
        """A generation without the rows of some documents, and with these."""
        collection, files = generation.collection, ObjectFiles(self.store)
        dimensions = read_checkpoint(self.store, generation.checkpoint).space.dimensions
        schema = ShardSchema(generation.checkpoint, dimensions, collection.prefix_dimensions)
        added = [store_shard(self.store, rows, schema)] if rows else []
        tasks = plan_index_tasks(collection.tiers, added, collection.sizes.index_shard_rows)
        stored = [with_dead_rows(shard, _dead(shard, gone, files), self.store) for shard in generation.vector_shards]
        return msgspec.structs.replace(
            generation,
            vector_shards=(*stored, *added),
            index_shards=(*generation.index_shards, *(build_index_shard(task, self.store) for task in tasks)),
        )

    def _ids_in(self, generation: Manifest) -> set[str]:
        snapshot = Snapshot(generation, read_checkpoint(self.store, generation.checkpoint), ObjectFiles(self.store))
        return {chunk.document_id for chunk in snapshot.chunks()}


def _sum(before: DocumentCounts, added: DocumentCounts) -> DocumentCounts:
    pairs = zip(msgspec.structs.astuple(before), msgspec.structs.astuple(added), strict=True)
    return DocumentCounts(*(one + other for one, other in pairs))


def _dead(shard: VectorShard, gone: Some[str], files: ObjectFiles) -> NDArray[np.int64]:
    ids = files.shard(shard).read_all(("document_id",))["document_id"].to_pylist()
    lost = np.array([row for row, document_id in enumerate(ids) if document_id in gone], dtype=np.int64)
    return np.union1d(dead_rows(shard, files).astype(np.int64), lost)
