"""What a version adds is kept from being removed until the version is there."""

from pathlib import Path

import msgspec
import pytest

from tests.small_shards import Row, index_shards, make_collection, store_shard
from tierloom.commit import commit
from tierloom.errors import CommitConflict
from tierloom.manifest import Manifest, VectorShard
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Listed
from tierloom.versions import head_version


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(4,))
    return store


def adding(store: LocalStore, head: Manifest, shard: VectorShard) -> Manifest:
    indexes = index_shards(store, head.collection, [[shard]])
    return msgspec.structs.replace(head, version=head.version + 1, vector_shards=(shard,), index_shards=indexes)


def test_what_was_listed_before_it_was_published_is_spared(store: LocalStore) -> None:
    shard = store_shard(store, [Row("a")])

    def change(head: Manifest) -> Manifest:
        proposal = adding(store, head, shard)
        listed.extend(store.list("shards/"))
        listed.extend(store.list("indexes/"))
        return proposal

    listed: list[Listed] = []
    commit(store, change)
    assert len(listed) == 2
    assert not any(store.remove(one) for one in listed)


def test_a_version_that_names_what_was_removed_is_not_published(store: LocalStore) -> None:
    shard = store_shard(store, [Row("a")])

    def change(head: Manifest) -> Manifest:
        proposal = adding(store, head, shard)
        assert all(store.remove(listed) for listed in list(store.list("shards/")))
        return proposal

    with pytest.raises(CommitConflict, match=r"shards/\w+\.parquet \(one of 1 objects\) was removed before it was pub"):
        commit(store, change)
    assert head_version(store) == 0
