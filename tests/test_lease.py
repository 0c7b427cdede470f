import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import tierloom
from tests.committer import commit_one
from tests.small_shards import make_collection
from tierloom import lease as leasing
from tierloom import names
from tierloom.channel import move_channel
from tierloom.errors import InputError, Malformed, StoreError
from tierloom.lease import CLOCK_SKEW, Lease, LeaseRecord, lease_newest, leases
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision
from tierloom.versions import head_version

MINUTE = timedelta(minutes=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(4,))
    for at in range(3):
        commit_one(store, str(at))
    return store


def retire(store: LocalStore, version: int) -> None:
    for listed in list(store.list(names.manifest(version))):
        assert store.remove(listed)


def records(store: LocalStore) -> list[LeaseRecord]:
    return [record for _, record in leases(store)]


def test_a_lease_names_its_version_and_holder_until_it_is_closed(store: LocalStore) -> None:
    with Lease(store, 2, MINUTE, "me"):
        (record,) = records(store)
        assert (record.version, record.holder, record.working_since) == (2, "me", None)
        assert not record.expired(record.expires)
        assert record.expired(record.expires + CLOCK_SKEW.total_seconds() + 1)
    assert records(store) == []


def test_a_lease_of_work_states_since_when(store: LocalStore) -> None:
    with Lease(store, 2, MINUTE, working=True):
        (record,) = records(store)
    assert record.working_since is not None
    assert record.expires - record.working_since >= 60


def test_a_manifest_listed_before_its_lease_is_not_removed(store: LocalStore) -> None:
    """The one order that could go wrong: listed for removal first, leased after the leases were looked at."""
    (listed,) = store.list(names.manifest(1))
    with Lease(store, 1, MINUTE):
        assert not store.remove(listed)


def test_a_version_that_was_retired_cannot_be_leased(store: LocalStore) -> None:
    retire(store, 1)
    with pytest.raises(InputError, match=r"has no version 1, or none any more; see tierloom history"):
        Lease(store, 1, MINUTE)
    assert records(store) == []


def test_a_lease_too_short_to_renew_is_refused(store: LocalStore) -> None:
    with pytest.raises(InputError, match=r"0:00:01 is too short.*0:00:03"):
        Lease(store, 1, timedelta(seconds=1))


def test_the_newest_is_leased_where_it_was_retired_in_between(store: LocalStore) -> None:
    def newest() -> int:
        version = head_version(store)
        if version == 3:
            commit_one(store, "rival")
            retire(store, 3)
        return version

    with lease_newest(store, newest, MINUTE) as lease:
        assert lease.version == 4


class Renewals:
    """Watches a store for renewals of leases, and lets a test wait for them or go in between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda count: None) -> None:
        self.count = 0
        self._changed = threading.Condition()
        swap = LocalStore.swap

        def watched(store: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
            if not name.startswith(names.LEASES):
                return swap(store, name, data, expected)
            try:
                before(self.count)
                return swap(store, name, data, expected)
            finally:
                with self._changed:
                    self.count += 1
                    self._changed.notify_all()

        monkeypatch.setattr(LocalStore, "swap", watched)
        monkeypatch.setattr(leasing, "SHORTEST", timedelta())

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout=30)


SOON = timedelta(milliseconds=30)


def test_a_lease_is_renewed_in_the_background(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = Renewals(monkeypatch)
    with Lease(store, 1, SOON):
        (first,) = records(store)
        renewals.wait_for(4)
        (later,) = records(store)
    assert later.expires > first.expires
    assert records(store) == []


def test_a_lease_that_was_removed_is_taken_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = Renewals(monkeypatch)
    with Lease(store, 1, SOON) as lease:
        renewals.wait_for(2)
        for listed in list(store.list(names.LEASES)):
            store.remove(listed)
        renewals.wait_for(renewals.count + 4)
        assert [record.version for record in records(store)] == [1]
        assert not lease.lost


def test_a_lease_whose_version_was_retired_is_lost(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    renewals = Renewals(monkeypatch)
    with Lease(store, 1, SOON) as lease:
        renewals.wait_for(2)
        retire(store, 1)
        for listed in list(store.list(names.LEASES)):
            store.remove(listed)
        lease._thread.join(timeout=30)
        assert lease.lost
    assert records(store) == []


def test_a_store_out_of_reach_is_asked_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(count: int) -> None:
        if 1 <= count <= 3:
            raise StoreError("out of reach")

    renewals = Renewals(monkeypatch, fail)
    with Lease(store, 1, SOON) as lease:
        renewals.wait_for(6)
        assert not lease.lost
        assert records(store)[0].serial >= 2


def test_an_open_snapshot_holds_its_version(store: LocalStore) -> None:
    with tierloom.open(store.root, lease=MINUTE) as snapshot:
        assert snapshot.lease is not None
        assert [record.version for record in records(store)] == [snapshot.manifest.version] == [3]
    assert records(store) == []


def test_a_snapshot_that_cannot_be_opened_holds_nothing(store: LocalStore) -> None:
    (store.root / names.manifest(3)).write_bytes(b"{}")
    with pytest.raises(Malformed):
        tierloom.open(store.root, lease=MINUTE)
    assert records(store) == []


def test_a_channel_whose_version_is_gone_is_told(store: LocalStore) -> None:
    move_channel(store, "prod", 1, None)
    retire(store, 1)
    with pytest.raises(InputError, match=r"version 1 of .* was retired; there still are 0, 2-3"):
        tierloom.open(store.root, channel="prod")
    with pytest.raises(InputError, match="has no version 1, or none any more"):
        tierloom.open(store.root, channel="prod", lease=MINUTE)
