from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from tests.small_shards import Row, store_shard, with_dead
from tierloom.digest import bytes_digest
from tierloom.errors import Corrupt, Malformed
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.deletion_vector import alive, dead_rows, from_bytes, to_bytes
from tierloom.shards.live import LiveShard
from tierloom.stores.local import LocalStore

_ROWS = st.sets(st.integers(0, 2**32 - 1))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def shard(store: LocalStore) -> VectorShard:
    return store_shard(store, [Row("a", at) for at in range(5)])


@given(_ROWS)
def test_rows_come_back_ascending(rows: set[int]) -> None:
    assert from_bytes(to_bytes(rows), "name").tolist() == sorted(rows)


@given(_ROWS)
def test_equal_rows_have_equal_bytes(rows: set[int]) -> None:
    assert to_bytes(sorted(rows)) == to_bytes(sorted(rows, reverse=True))


def test_long_runs_are_small() -> None:
    assert len(to_bytes(range(1_000_000))) < 1000


def test_the_bytes_are_the_portable_format() -> None:
    """RoaringFormatSpec: cookie 12346, one container, its key and cardinality, its offset, its values."""
    expected = [12346, 1, 0, 1, 16, 0, 3, 9]
    data = to_bytes([3, 9])
    assert np.frombuffer(data[:8], "<u4").tolist() == expected[:2]
    assert np.frombuffer(data[8:12], "<u2").tolist() == expected[2:4]
    assert np.frombuffer(data[12:16], "<u4").tolist() == expected[4:5]
    assert np.frombuffer(data[16:], "<u2").tolist() == expected[6:]


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_rows_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert from_bytes(data, "deletes/x.roaring").dtype == np.uint32


def test_every_cut_is_refused() -> None:
    data = to_bytes([*range(0, 100, 3), *range(70_000, 90_000)])
    for length in range(len(data)):
        with pytest.raises(Malformed, match="name"):
            from_bytes(data[:length], "name")


def test_a_shard_without_deletes_lives_whole(store: LocalStore, shard: VectorShard) -> None:
    assert dead_rows(shard, ObjectFiles(store)).tolist() == []
    assert alive(shard, ObjectFiles(store)).tolist() == [True] * 5


def test_dead_rows_are_those_of_the_bitmap(store: LocalStore, shard: VectorShard) -> None:
    dying = with_dead(store, shard, [4, 0])
    assert dead_rows(dying, ObjectFiles(store)).tolist() == [0, 4]
    assert alive(dying, ObjectFiles(store)).tolist() == [False, True, True, True, False]
    assert (dying.live_rows, with_dead(store, dying, []).live_rows) == (3, 5)


@pytest.mark.parametrize(("rows", "stated"), [([1, 5], 2), ([1, 2], 3), ([1, 2], 1), ([], 1)])
def test_a_bitmap_that_does_not_fit_its_shard_is_refused(
    store: LocalStore, shard: VectorShard, rows: list[int], stated: int
) -> None:
    dying = with_dead(store, shard, [0])
    assert dying.deletes is not None
    data = BitMap(rows).serialize()
    (store.root / dying.deletes.path).write_bytes(data)
    deletes = msgspec.structs.replace(dying.deletes, bytes=len(data), sha256=bytes_digest(data), rows=stated)
    with pytest.raises(Malformed, match=dying.deletes.path):
        alive(msgspec.structs.replace(dying, deletes=deletes), ObjectFiles(store))


def test_a_damaged_bitmap_is_corrupt(store: LocalStore, shard: VectorShard) -> None:
    dying = with_dead(store, shard, [0])
    assert dying.deletes is not None
    (store.root / dying.deletes.path).write_bytes(to_bytes([1]))
    with pytest.raises(Corrupt, match=dying.deletes.path):
        dead_rows(dying, ObjectFiles(store))


def test_rows_are_found_by_key_alive_only(store: LocalStore) -> None:
    rows = [Row(document_id, at) for document_id in ("7", "7", "2", "9") for at in range(2)]
    shard = store_shard(store, rows[2:], key_of=int)
    live = LiveShard(with_dead(store, shard, [3]), ObjectFiles(store))
    assert live.keys.tolist() == [2, 2, 7, 7, 9, 9]
    for wanted, found in (([], []), ([1], []), ([2], [0, 1]), ([7], [2]), ([0, 2, 7, 8, 9, 10], [0, 1, 2, 4, 5])):
        assert live.rows_of(np.array(wanted, dtype=np.uint64)).tolist() == found
