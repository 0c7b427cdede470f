"""A small collection that changes version by version, a plain dict that it must equal, and how they are compared."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

import tierloom
from index_builder.audit import audit
from index_builder.build import build_index_shard, plan_index_tasks
from tests.small_shards import CHECKPOINT, Row, collection_of, first_manifest, store_shard
from tierloom import names
from tierloom.collection import Sizes
from tierloom.commit import advance_latest, commit
from tierloom.manifest import Manifest, RunRecord, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.deletion_vector import dead_rows
from tierloom.stores.store import Store
from tierloom.storing import with_dead_rows
from tierloom.versions import read_head

TIERS = (8, "16-binary", 16)
SIZES = Sizes(block_chunks=8, vector_shard_rows=32, index_shard_rows=128)


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

    def put(self, chunks: Mapping[str, int]) -> Manifest:
        """Publish new events of these documents: the number of chunks of each."""
        self._sequence += 1
        rows = [self._row(document_id, at) for document_id, count in chunks.items() for at in range(count)]
        self._forget(chunks)
        self.model |= {(row.document_id, row.ordinal): row.text for row in rows}
        return self._publish(frozenset(chunks), [store_shard(self.store, rows)] if rows else [])

    def delete(self, document_ids: Iterable[str]) -> Manifest:
        """Publish the end of these documents."""
        gone = frozenset(document_ids)
        self._forget(gone)
        return self._publish(gone, [])

    def check(self) -> None:
        """Every live chunk is in every tier exactly once, none but those of the model lives, and all is sound."""
        assert audit(self.store).problems == ()
        with tierloom.open(self.store.url) as snapshot:
            chunks = list(snapshot.chunks())
            assert {(chunk.document_id, chunk.ordinal): chunk.text for chunk in chunks} == self.model
            assert len(chunks) == len(self.model)
            for tier in snapshot.manifest.collection.tiers:
                hits = snapshot.search([1.0] * 32, tier=tier.name, shortlist=10_000, top=10_000)
                assert Counter((hit.document_id, hit.ordinal) for hit in hits) == Counter(self.model.keys())

    def _row(self, document_id: str, at: int) -> Row:
        return Row(document_id, at, self._sequence, text=f"{document_id} {at} at {self._sequence}")

    def _forget(self, document_ids: Iterable[str]) -> None:
        gone = set(document_ids)
        self.model = {chunk: text for chunk, text in self.model.items() if chunk[0] not in gone}

    def _publish(self, gone: frozenset[str], added: list[VectorShard]) -> Manifest:
        files = ObjectFiles(self.store)

        def change(head: Manifest) -> Manifest:
            collection = head.collection
            tasks = plan_index_tasks(collection.tiers, added, collection.sizes.index_shard_rows)
            stored = [with_dead_rows(shard, _dead(shard, gone, files), self.store) for shard in head.vector_shards]
            return msgspec.structs.replace(
                head,
                version=head.version + 1,
                run=RunRecord(run=f"run-{head.version + 1}", command="test"),
                vector_shards=(*stored, *added),
                index_shards=(*head.index_shards, *(build_index_shard(task, self.store) for task in tasks)),
            )

        return commit(self.store, change)


def _dead(shard: VectorShard, gone: frozenset[str], files: ObjectFiles) -> NDArray[np.int64]:
    ids = files.shard(shard).read_all(("document_id",))["document_id"].to_pylist()
    lost = np.array([row for row, document_id in enumerate(ids) if document_id in gone], dtype=np.int64)
    return np.union1d(dead_rows(shard, files).astype(np.int64), lost)
