from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from index_builder.upkeep.collect import collect
from index_builder.upkeep.history import history
from index_builder.upkeep.retention import set_retention
from tests.committer import commit_one
from tests.small_shards import make_collection
from tierloom import names
from tierloom.channel import move_channel
from tierloom.errors import NotACollection
from tierloom.lease import Lease
from tierloom.manifest import Retention, RunRecord
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head, read_manifest


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(4,))
    for at in range(5):
        commit_one(store, str(at))
    return store


def versions(store: LocalStore, last: int | None = None) -> list[int]:
    return [entry.manifest.version for entry in history(store, last)]


def test_the_newest_comes_first(store: LocalStore) -> None:
    assert versions(store) == [5, 4, 3, 2, 1, 0]
    assert versions(store, last=2) == [5, 4]


def test_each_version_says_who_keeps_it(store: LocalStore) -> None:
    move_channel(store, "prod", 2, None)
    with Lease(store, 2, timedelta(minutes=1)), Lease(store, 0, timedelta(minutes=1)):
        kept = {
            entry.manifest.version: ([name for name, _ in entry.channels], entry.leases) for entry in history(store)
        }
    assert kept == {5: (["latest"], 0), 4: ([], 0), 3: ([], 0), 2: (["prod"], 1), 1: ([], 0), 0: ([], 1)}


def test_retired_versions_are_passed_over(store: LocalStore) -> None:
    move_channel(store, "prod", 2, None)
    set_retention(store, {"versions": 2, "versions_seconds": 0})
    collect(store)
    assert versions(store) == [6, 5, 2, 0]


def test_what_is_not_in_the_chain_is_no_version(store: LocalStore) -> None:
    """A writer that slept puts its version into the hole of a retired one, and takes it back a moment later."""
    zombie = msgspec.structs.replace(read_manifest(store, 3), run=RunRecord("zombie", "test"))
    for listed in list(store.list(names.manifest(3))):
        store.remove(listed)
    store.create(names.manifest(3), zombie.to_bytes())
    assert versions(store) == [5, 4, 2, 1, 0]


def test_an_empty_store_is_no_collection(tmp_path: Path) -> None:
    with pytest.raises(NotACollection):
        history(LocalStore(tmp_path))


def test_a_retention_is_changed_by_a_version(store: LocalStore) -> None:
    assert set_retention(store, {"versions": 3}) == Retention(versions=3)
    head = read_head(store)
    assert (head.version, head.run.command, head.retention) == (6, "retention", Retention(versions=3))
    assert set_retention(store, {"deletions_seconds": 60}) == Retention(versions=3, deletions_seconds=60)


def test_the_same_retention_is_no_news(store: LocalStore) -> None:
    assert set_retention(store, {}) == set_retention(store, {"versions": 20}) == Retention()
    assert read_head(store).version == 5
