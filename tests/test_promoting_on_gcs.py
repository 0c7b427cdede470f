"""Channels in a bucket, moved by several at once."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.engines.gcs_server import GcsBucket
from tests.measured import publish_measured
from tests.small_shards import make_collection
from tierloom.channel import read_channel
from tierloom.errors import Corrupt, InputError
from tierloom.lease import leases
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import read_manifest

pytestmark = pytest.mark.engine


@pytest.fixture
def store(gcs_bucket: GcsBucket) -> Store:
    store = open_store(f"{gcs_bucket.url}/corpus")
    make_collection(store, tiers=(4,))
    for at in range(3):
        publish_measured(store, f"document {at}")
    return store


def test_channels_move_there_and_back_and_lose_no_move(store: Store) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda version: promote(store, version, "prod", f"{version}"), (1, 2, 3)))
    seen = read_channel(store, "prod")
    assert seen is not None
    assert sorted(move.message for move in seen[0].moves) == ["1", "2", "3"]
    assert all(before.version == after.previous for before, after in pairwise(seen[0].moves))
    *_, before, _ = seen[0].served
    assert rollback(store, "prod").channel.serves == before
    assert list(leases(store)) == []


def test_what_cannot_be_served_is_refused(store: Store) -> None:
    for listed in list(store.list(read_manifest(store, 2).index_shards[0].path)):
        store.remove(listed)
    with pytest.raises(Corrupt, match=r"version 2 cannot be served: indexes/4/.* is gone; see tierloom verify gs://"):
        promote(store, 2, "prod")
    with pytest.raises(InputError, match="no channel 'prod'; nobody promoted anything yet"):
        rollback(store, "prod")
