"""Copies of parts: what was asked for is there, in few requests, whatever was asked before."""

import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.remote import RemoteStore
from tierloom.errors import StoreError
from tierloom.shards.layout import Spans
from tierloom.shards.partial_copy import BLOCK, PartialCopy
from tierloom.stored_object import StoredObject

NAME = "indexes/64/a.usearch"
LENGTH = 5 * (1 << 20) + 77
DATA = np.random.default_rng(0).bytes(LENGTH)


class BrokenStore(RemoteStore):
    """Refuses so many ranges, then answers."""

    refusals = 0

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        if self.refusals:
            self.refusals -= 1
            raise StoreError(f"{name}: the network is down")
        return super().read_range(name, offset, length)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BrokenStore:
    store = BrokenStore(tmp_path_factory.mktemp("store"))
    store.create(NAME, DATA)
    return store


def copy_of(store: RemoteStore) -> PartialCopy:
    store.traffic.ranges.clear()
    return PartialCopy(StoredObject(path=NAME, bytes=LENGTH, sha256="0" * 64), store, Path(tempfile.gettempdir()))


def spans(*pairs: tuple[int, int]) -> Spans:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Spans(array[:, 0], array[:, 1])


_OFFSETS = st.integers(0, LENGTH - 1)
_SPANS = st.tuples(_OFFSETS, st.integers(1, 10_000) | st.integers(1, LENGTH)).map(
    lambda pair: (pair[0], min(sum(pair), LENGTH))
)


@settings(deadline=None)
@given(asked=st.lists(st.lists(_SPANS, max_size=20), max_size=4))
def test_what_was_asked_for_is_there(store: BrokenStore, asked: list[list[tuple[int, int]]]) -> None:
    copy = copy_of(store)
    for pairs in asked:
        copy.fill(spans(*pairs))
        for begin, end in pairs:
            assert copy.map[begin:end] == DATA[begin:end]
    before = len(store.traffic.ranges)
    for pairs in asked:
        copy.fill(spans(*pairs))
    assert len(store.traffic.ranges) == before


@pytest.mark.parametrize(
    ("pairs", "requests"),
    [
        ([], []),
        ([(10, 20)], [(0, BLOCK)]),
        ([(BLOCK - 1, BLOCK + 1)], [(0, 2 * BLOCK)]),
        ([(LENGTH - 1, LENGTH)], [(LENGTH // BLOCK * BLOCK, LENGTH % BLOCK)]),
        # Near ones in one request, far ones apart.
        ([(0, 1), (100_000, 100_001)], [(0, 25 * BLOCK)]),
        ([(0, 1), (1_000_000, 1_000_001)], [(0, BLOCK), (244 * BLOCK, BLOCK)]),
        # A long one in pieces.
        ([(0, LENGTH)], [(0, 4 << 20), (4 << 20, LENGTH - (4 << 20))]),
    ],
)
def test_requests(store: BrokenStore, pairs: list[tuple[int, int]], requests: list[tuple[int, int]]) -> None:
    copy_of(store).fill(spans(*pairs))
    assert sorted((offset, length) for _, offset, length in store.traffic.ranges) == requests


def test_what_failed_is_asked_again(store: BrokenStore) -> None:
    copy, store.refusals = copy_of(store), 1
    with pytest.raises(StoreError, match="the network is down"):
        copy.fill(spans((0, LENGTH)))
    copy.fill(spans((0, LENGTH)))
    assert copy.map[:] == DATA


def test_a_full_disk_is_a_store_error_that_names_the_folder(store: BrokenStore) -> None:
    copy = copy_of(store)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LENGTH // 2, before[1]))
    try:
        with pytest.raises(StoreError, match=f"{tempfile.gettempdir()}: File too large; free some space"):
            copy.fill(spans((LENGTH - 10, LENGTH)))
        with pytest.raises(StoreError, match="File too large; free some space"):
            copy_of(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    copy.fill(spans((LENGTH - 10, LENGTH)))
    assert copy.map[-10:] == DATA[-10:]


def test_a_folder_that_is_not_there_is_a_store_error(store: BrokenStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone"):
        PartialCopy(StoredObject(path=NAME, bytes=LENGTH, sha256="0" * 64), store, tmp_path / "gone")
