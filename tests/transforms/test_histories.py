"""Any history of a collection against a plain dict: changes, replays, upkeep, crashes between any two store calls."""

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import tierloom
from index_builder.audit import audit
from index_builder.upkeep.collect import collect
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.erase import erase
from index_builder.upkeep.retained import stored_manifests
from index_builder.upkeep.retention import set_retention
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.crashes import Crash, dying_at
from tests.embedders.endpoint import Endpoint
from tests.transforms.oracle import (
    Arrival,
    Chunk,
    State,
    chunks_of,
    deletion,
    deletions_of,
    is_deletion,
    text_of,
    to_embed,
    word_of,
)
from tests.transforms.runs import Refusing, head_of, ingest_job, small_collection
from tierloom.collection import Tier
from tierloom.document import Deletion, Document, Origin
from tierloom.stores.opening import open_store
from transforms.base import _bases, _versions
from transforms.micro_batch import MicroBatches
from transforms.streams.stream import Batch, Change

ARRIVALS = st.tuples(st.sampled_from("abcde"), st.integers(1, 6))
EVENTS = st.lists(st.one_of(ARRIVALS, ARRIVALS, ARRIVALS.map(deletion)), min_size=1, max_size=5)
# Where a step crashes: at which call, and whether that is still carried out. Most steps do not.
CRASHES = st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 60), st.booleans()))
EXTRA_TIER = Tier(name="8-binary", dimensions=8, kind="binary")

ChunkTexts = dict[Chunk, str]


class Collections(RuleBasedStateMachine):
    """One collection and its model."""

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.url = str(Path(self.folder.name) / "store")
        self.store = open_store(self.url)
        self.endpoint = Endpoint(16, Refusing()).__enter__()
        small_collection(self.url, self.endpoint, block_chunks=4, shard_rows=6, tiers=(8, 16))
        set_retention(self.store, {"versions": 3, "versions_seconds": 0})
        self.state = State()
        self.sent: list[list[Arrival]] = []
        self.versions: dict[int, ChunkTexts] = {0: {}, 1: {}}
        self.batches: MicroBatches | None = None

    @rule(events=EVENTS, crash=CRASHES)
    def change(self, events: list[Arrival], crash: tuple[int, bool] | None) -> None:
        self.sent.append(events)
        self._publish(events, crash)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), crash=CRASHES)
    def replay(self, data: st.DataObject, crash: tuple[int, bool] | None) -> None:
        """What came once comes again: late, and in another order."""
        events = data.draw(st.sampled_from(self.sent))
        self._publish(data.draw(st.permutations(events)), crash)

    @rule(crash=CRASHES)
    def compact(self, crash: tuple[int, bool] | None) -> None:
        self._step(lambda: compact(self.store, apart=False), crash, self.state)

    @rule(crash=CRASHES)
    def collect(self, crash: tuple[int, bool] | None) -> None:
        """Without a grace period, as nobody else writes."""
        self._step(lambda: collect(self.store, grace=timedelta(0)), crash, self.state)
        assert len(stored_manifests(self.store)) <= 3 + 1

    @rule(crash=CRASHES)
    def add_or_drop_a_tier(self, crash: tuple[int, bool] | None) -> None:
        there = EXTRA_TIER in head_of(self.url).collection.tiers

        def toggle() -> None:
            has = EXTRA_TIER in head_of(self.url).collection.tiers
            if has == there:
                drop_tiers(self.store, [EXTRA_TIER.name]) if there else add_tiers(self.store, [EXTRA_TIER], apart=False)

        self._step(toggle, crash, self.state)
        assert there != (EXTRA_TIER in head_of(self.url).collection.tiers)

    @rule(document_id=st.sampled_from("abcde"), crash=CRASHES)
    def erase(self, document_id: str, crash: tuple[int, bool] | None) -> None:
        """It is nowhere any more, and does not come back by what came before."""
        live = self.state.live.get(document_id)
        after = self.state.settled((), (), [(document_id, live[0])] if live else ())
        self._step(lambda: erase(self.store, [document_id], apart=False), crash, after)
        for version in stored_manifests(self.store):
            assert document_id not in {chunk[0] for chunk in live_chunks(self.url, version)}

    def _publish(self, events: list[Arrival], crash: tuple[int, bool] | None) -> None:
        rows = [chunk for arrival in to_embed(events, self.state) for chunk in chunks_of(arrival)]
        after = self.state.settled(rows, (), deletions_of(events))
        batch, run = Batch(tuple(map(change_of, events))), uuid.uuid4().hex
        self._step(lambda: self._open().publish(batch, run, None), crash, after)

    def _open(self) -> MicroBatches:
        if self.batches is None:
            self.batches = MicroBatches(replace(ingest_job(self.url), base=None))
        return self.batches

    def _close(self) -> None:
        """A new process would have nothing open."""
        if self.batches:
            self.batches.close()
        self.batches = None
        _bases.cache_clear()
        _versions.cache_clear()

    def _step(self, work: Callable[[], object], crash: tuple[int, bool] | None, after: State) -> None:
        """Do it, or crash in the midst of it; then what is there is as before or as after it, and it is done again."""
        if crash:
            try:
                with dying_at(*crash):
                    work()
            except Crash:
                self._close()
                assert self._chunks() in (self.state.chunks, after.chunks)
        work()
        self.state = after

    def _chunks(self) -> set[Chunk]:
        return set(live_chunks(self.url))

    @invariant()
    def the_newest_version_is_the_model_in_every_tier(self) -> None:
        if not hasattr(self, "state"):
            return
        head = head_of(self.url)
        expected = {chunk: word_of(chunk) for chunk in self.state.chunks}
        assert live_chunks(self.url) == expected
        assert head.documents.adds_up
        gone = self.state.deleted.keys() - self.state.live.keys()
        assert (head.documents.live, head.documents.deleted) == (len(self.state.live), len(gone))
        for tier in head.collection.tiers:
            assert found_in(self.url, tier) == Counter((id_, ordinal) for id_, _, ordinal in expected)

    @invariant()
    def every_object_is_sound_and_old_versions_read_the_same(self) -> None:
        if not hasattr(self, "state"):
            return
        assert audit(self.store).problems == ()
        stored = stored_manifests(self.store)
        for version in stored:
            known = self.versions.setdefault(version, live_chunks(self.url, version))
            assert live_chunks(self.url, version) == known

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self._close()
            self.endpoint.__exit__(None, None, None)
            self.folder.cleanup()


_ORIGIN = Origin("test")


def change_of(arrival: Arrival) -> Change:
    if is_deletion(arrival):
        return Change(Deletion(*deletions_of([arrival])[0]), arrived=0.0)
    return Change(Document(*arrival, text_of(arrival), "{}", _ORIGIN), arrived=0.0)


def live_chunks(url: str, version: int | None = None) -> ChunkTexts:
    """The text of every live chunk, each of which is there once."""
    with tierloom.open(url, version) as snapshot:
        chunks = list(snapshot.chunks())
    texts = {(chunk.document_id, chunk.sequence, chunk.ordinal): chunk.text for chunk in chunks}
    assert len(texts) == len(chunks)
    return texts


def found_in(url: str, tier: Tier) -> Counter[tuple[str, int]]:
    """What a tier gives when it is asked for all it has."""
    with tierloom.open(url) as snapshot:
        hits: Iterable[tierloom.Hit] = snapshot.search([1.0] * 16, tier=tier.name, shortlist=1000, top=1000)
        return Counter((hit.document_id, hit.ordinal) for hit in hits)


TestCollections = pytest.mark.timeout(600)(pytest.mark.slow(Collections.TestCase))
TestCollections.settings = settings(
    max_examples=int(os.environ.get("TIERLOOM_HISTORIES", "12")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
