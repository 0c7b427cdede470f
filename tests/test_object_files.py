from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.small_shards import CHECKPOINT, Row, store_shard
from tierloom.digest import bytes_digest
from tierloom.errors import CheckpointMismatch, Corrupt, Malformed, NotFound
from tierloom.manifest import Footer, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.stored_object import StoredObject
from tierloom.stores.local import LocalStore


class CountingStore(LocalStore):
    """Tells what was fetched."""

    fetched: list[str] = []  # noqa: RUF012 -- shared on purpose: a store is a frozen value

    def fetch(self, name: str, folder: Path) -> Path:
        self.fetched.append(name)
        return super().fetch(name, folder)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    CountingStore.fetched.clear()
    return CountingStore(tmp_path)


@pytest.fixture
def shard(store: LocalStore) -> VectorShard:
    shard = store_shard(store, [Row("a"), Row("b")])
    CountingStore.fetched.clear()
    return shard


def stored(store: LocalStore, name: str, data: bytes) -> StoredObject:
    store.create(name, data)
    return StoredObject(path=name, bytes=len(data), sha256=bytes_digest(data))


def test_an_object_is_fetched_and_hashed_once(store: LocalStore, shard: VectorShard) -> None:
    files = ObjectFiles(store)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(files.path, [shard] * 50))
    assert paths == {store.root / shard.path}
    assert CountingStore.fetched == [shard.path]
    assert files.shard(shard) is files.shard(shard)


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "0 bytes"), (b"12345", "5 bytes"), (b"123", "3 bytes"), (b"1235", "sha256")]
)
def test_other_bytes_are_corrupt(store: LocalStore, data: bytes, said: str) -> None:
    known = stored(store, "shards/x", b"1234")
    (store.root / "shards/x").write_bytes(data)
    files = ObjectFiles(store)
    for _ in range(2):
        with pytest.raises(Corrupt, match=f"shards/x: {said}"):
            files.path(known)


def test_what_was_corrupt_and_is_mended_is_used(store: LocalStore) -> None:
    known = stored(store, "shards/x", b"1234")
    files = ObjectFiles(store)
    (store.root / "shards/x").write_bytes(b"1235")
    with pytest.raises(Corrupt):
        files.path(known)
    (store.root / "shards/x").write_bytes(b"1234")
    assert files.path(known).read_bytes() == b"1234"


def test_equal_objects_of_two_names_are_each_verified(store: LocalStore) -> None:
    first, second = stored(store, "deletes/a", b"same"), stored(store, "deletes/b", b"same")
    files = ObjectFiles(store)
    files.path(first)
    (store.root / "deletes/b").write_bytes(b"also")
    with pytest.raises(Corrupt, match="deletes/b"):
        files.path(second)


def test_a_missing_object_is_not_found(store: LocalStore) -> None:
    with pytest.raises(NotFound, match="shards/x"):
        ObjectFiles(store).path(StoredObject(path="shards/x", bytes=1, sha256="0" * 64))


class VanishingStore(LocalStore):
    """Another process removes each object right after it was found."""

    def fetch(self, name: str, folder: Path) -> Path:
        path = super().fetch(name, folder)
        path.unlink()
        return path


def test_what_is_removed_before_it_is_opened_is_not_found(tmp_path: Path) -> None:
    store = VanishingStore(tmp_path)
    with pytest.raises(NotFound, match="shards/x"):
        ObjectFiles(store).path(stored(store, "shards/x", b"1234"))


def test_a_shard_that_is_removed_between_its_uses_is_not_found(store: LocalStore, shard: VectorShard) -> None:
    files = ObjectFiles(store)
    files.path(shard).unlink()
    with pytest.raises(NotFound, match=shard.path):
        files.shard(shard)


def test_a_shard_of_another_checkpoint_is_refused(store: LocalStore, shard: VectorShard) -> None:
    with pytest.raises(CheckpointMismatch, match=shard.path) as refused:
        ObjectFiles(store).shard(msgspec.structs.replace(shard, checkpoint="0" * 32))
    assert CHECKPOINT.fingerprint in str(refused.value)


def test_a_shard_of_other_rows_is_refused(store: LocalStore, shard: VectorShard) -> None:
    with pytest.raises(Malformed, match="2 rows, but the manifest states 3"):
        ObjectFiles(store).shard(msgspec.structs.replace(shard, rows=3))


def test_a_true_hash_of_what_is_no_shard_is_malformed(store: LocalStore) -> None:
    known = stored(store, "shards/x.parquet", b"PAR1 not really PAR1")
    claim = VectorShard(
        path=known.path,
        bytes=known.bytes,
        sha256=known.sha256,
        rows=1,
        checkpoint=CHECKPOINT.fingerprint,
        footer=Footer(bytes=8, sha256=known.sha256),
    )
    with pytest.raises(Malformed, match=r"shards/x\.parquet"):
        ObjectFiles(store).shard(claim)
