"""The contract on a bucket of a real server, and what a network can do wrong."""

import pytest

from tests.engines.gcs_server import GcsBucket
from tests.stores.contract import StoreContract
from tierloom.stores.gcs import GcsStore
from tierloom.stores.store import Store

pytestmark = pytest.mark.engine


class TestGcsStore(StoreContract):
    @pytest.fixture
    def store(self, gcs_bucket: GcsBucket) -> Store:
        self.bucket = gcs_bucket
        return GcsStore(gcs_bucket.name, "some/prefix")

    @pytest.fixture
    def other_store(self, gcs_bucket: GcsBucket) -> Store:
        return GcsStore(gcs_bucket.name, "other")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        self.bucket.put(f"some/prefix/{name}", data)

    def raw_get(self, store: Store, name: str) -> bytes:
        return self.bucket.get(f"some/prefix/{name}")
