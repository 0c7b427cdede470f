"""Writers, readers, compaction, garbage collection and erasures, all at once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from pathlib import Path

import msgspec
import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep.collect import collect
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.erase import erase
from index_builder.upkeep.history import history
from index_builder.upkeep.retention import set_retention
from tests.index_builder.upkeep.erased import found_in
from tests.small_shards import Row, index_shards, make_collection, store_shard
from tierloom.commit import commit
from tierloom.errors import CommitConflict
from tierloom.manifest import Manifest, VectorShard
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head

pytestmark = pytest.mark.slow

SECONDS = 12.0
# Well above what lies between the claim of an object and its publication, on a busy machine too.
GRACE = timedelta(seconds=5)
QUERY = [1.0] * 32


class World:
    """A collection, and what must be live in it."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.live: set[str] = set()
        self.erased: set[str] = set()
        self.done: Counter[str] = Counter()
        self._numbers = count()
        self._changing = threading.Lock()

    def write(self) -> None:
        ids = [f"document-{next(self._numbers)}." for _ in range(3)]
        shard = store_shard(self.store, [Row(id_, at) for id_ in ids for at in range(2)])
        try:
            commit(self.store, lambda head: self._adding(head, shard, len(ids)))
        except CommitConflict:
            # An erasure took it for a leftover.
            return
        with self._changing:
            self.live |= set(ids)

    def _adding(self, head: Manifest, shard: VectorShard, number: int) -> Manifest:
        documents = msgspec.structs.replace(
            head.documents, documents_in=head.documents.documents_in + number, live=head.documents.live + number
        )
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            documents=documents,
            vector_shards=(*head.vector_shards, shard),
            index_shards=(*head.index_shards, *index_shards(self.store, head.collection, [[shard]])),
        )

    def read(self) -> None:
        with tierloom.open(self.store.root, lease=timedelta(minutes=1)) as snapshot:
            chunks = {(chunk.document_id, chunk.ordinal) for chunk in snapshot.chunks()}
            hits = snapshot.search(QUERY, top=100_000, shortlist=100_000)
            assert {(hit.document_id, hit.ordinal) for hit in hits} == chunks
            assert len(hits) == len(chunks) == snapshot.manifest.live_chunks
            assert snapshot.lease
            assert not snapshot.lease.lost

    def collect(self) -> None:
        collect(self.store, GRACE)
        assert list(history(self.store))

    def compact(self) -> None:
        compact(self.store, rounds=1, apart=False)

    def erase(self) -> None:
        with self._changing:
            some = sorted(self.live)[:2]
        if some:
            assert not erase(self.store, some, apart=False).remaining
        with self._changing:
            self.live -= set(some)
            self.erased |= set(some)

    def keep_busy(self, *deeds: Callable[[], None]) -> None:
        """Do each of these again and again, in a thread of its own."""
        end = time.monotonic() + SECONDS

        def repeat(deed: Callable[[], None]) -> None:
            while time.monotonic() < end:
                deed()
                self.done[deed.__name__] += 1

        with ThreadPoolExecutor(len(deeds)) as pool:
            for future in [pool.submit(repeat, deed) for deed in deeds]:
                future.result()
        assert all(self.done[deed.__name__] for deed in deeds)


@pytest.fixture
def world(tmp_path: Path) -> World:
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(8, 16), noise=True)
    set_retention(store, {"versions": 1, "versions_seconds": 0})
    return World(store)


def assert_exact(world: World) -> None:
    assert audit(world.store).problems == ()
    head = read_head(world.store)
    assert head.documents.adds_up
    assert head.documents.live == len(world.live)
    with tierloom.open(world.store.root) as snapshot:
        assert {chunk.document_id for chunk in snapshot.chunks()} == world.live


def test_what_is_read_under_a_lease_is_never_collected(world: World) -> None:
    world.keep_busy(world.write, world.write, world.read, world.read, world.collect, world.collect, world.compact)
    assert_exact(world)
    collect(world.store, timedelta())
    named = {stored.path for stored in read_head(world.store).objects()}
    assert {listed.name for prefix in ("shards/", "indexes/") for listed in world.store.list(prefix)} == {
        path for path in named if path.startswith(("shards/", "indexes/"))
    }


def test_documents_are_erased_beside_everything_else(world: World) -> None:
    world.keep_busy(world.write, world.erase, world.collect, world.compact)
    assert_exact(world)
    receipt = erase(world.store, world.erased)
    assert receipt.complete
    assert [id_ for id_ in world.erased if found_in(world.store, id_)] == []
