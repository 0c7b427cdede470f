"""The contract on a folder, and what only a folder can do wrong."""

from pathlib import Path

import pytest

from tests.stores.contract import StoreContract
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "store")

    @pytest.fixture
    def other_store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "other")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        path = Path(store.url) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def raw_get(self, store: Store, name: str) -> bytes:
        return (Path(store.url) / name).read_bytes()
