"""Leases, garbage and erasures on a bucket."""

from datetime import timedelta

import msgspec
import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep.collect import collect
from index_builder.upkeep.erase import erase
from index_builder.upkeep.history import history
from index_builder.upkeep.retention import set_retention
from tests.engines.gcs_server import GcsBucket
from tests.small_shards import Row, index_shards, make_collection, publish, store_shard
from tierloom import names
from tierloom.commit import commit
from tierloom.errors import CommitConflict, ErasureRefused
from tierloom.lease import leases
from tierloom.manifest import DocumentCounts, Manifest
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import read_head, stored_versions

pytestmark = pytest.mark.engine

NO_GRACE = timedelta()


@pytest.fixture
def store(gcs_bucket: GcsBucket) -> Store:
    """Four versions, of which the last two hold something; garbage beside them."""
    store = open_store(f"{gcs_bucket.url}/corpus")
    make_collection(store, tiers=(16,))
    for document_id in ("first", "second", "third"):
        publish(store, [[store_shard(store, [Row(document_id), Row("always")])]])
    change = DocumentCounts(documents_in=2, live=2)
    commit(store, lambda head: msgspec.structs.replace(head, version=head.version + 1, documents=change))
    set_retention(store, {"versions": 2, "versions_seconds": 0})
    store_shard(store, [Row("garbage")])
    return store


def objects(store: Store) -> set[str]:
    return {
        listed.name for prefix in (names.VECTOR_SHARDS, names.INDEXES, names.GATES) for listed in store.list(prefix)
    }


def needed(store: Store) -> set[str]:
    return {stored.path for stored in read_head(store).objects()}


def test_garbage_goes_and_what_is_on_lease_stays(store: Store) -> None:
    with tierloom.open(store.url, version=2, lease=timedelta(minutes=5)) as snapshot:
        collect(store, NO_GRACE)
        assert stored_versions(store) == [0, 2, 4, 5]
        assert {hit.document_id for hit in snapshot.search([1.0] * 32)} == {"second", "always"}
    collect(store, NO_GRACE)
    assert [entry.manifest.version for entry in history(store)] == [5, 4, 0]
    assert objects(store) == needed(store)
    assert audit(store).problems == ()
    assert list(leases(store)) == []


def test_young_garbage_is_left(store: Store) -> None:
    before = objects(store)
    collect(store)
    assert objects(store) == before


def test_what_is_removed_before_it_is_published_is_refused(store: Store) -> None:
    shard = store_shard(store, [Row("paid for")])

    def change(head: Manifest) -> Manifest:
        indexes = index_shards(store, head.collection, [[shard]])
        collect(store, NO_GRACE)
        return msgspec.structs.replace(head, version=head.version + 1, vector_shards=(shard,), index_shards=indexes)

    with pytest.raises(CommitConflict, match="was removed before it was published"):
        commit(store, change)


def test_a_document_is_erased(store: Store) -> None:
    with tierloom.open(store.url, lease=timedelta(minutes=5)), pytest.raises(ErasureRefused, match=r"5 \(lease of"):
        erase(store, ["third"])
    receipt = erase(store, ["third", "second"])
    assert receipt.complete
    assert [document.found for document in receipt.documents] == [True, True]
    assert set(receipt.retired) == {2, 3, 4, 5}
    with tierloom.open(store.url) as snapshot:
        assert {chunk.document_id for chunk in snapshot.chunks()} == {"always"}
        assert {hit.document_id for hit in snapshot.search([1.0] * 32)} == {"always"}
    assert audit(store).problems == ()
    assert erase(store, ["third"]).removed == ()
