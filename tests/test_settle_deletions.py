"""Deletions among the events, remembered from batch to batch, in every order, under keys that collide."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_settle import Chunk, Events, Shelf, chunks_of, colliding, local, shelf  # noqa: F401 -- a fixture
from tierloom.manifest import LedgerPart
from tierloom.object_files import ObjectFiles
from tierloom.settle import Verdict, settle
from tierloom.tombstones import TOMBSTONES, Tombstones, tombstone_entries

_EVENTS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3)),
    st.just([0, 1]),
    min_size=1,
    max_size=3,
)
_DELETIONS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3), max_size=3)
_BATCHES = st.lists(st.tuples(_EVENTS, _DELETIONS), min_size=1, max_size=4)
Batch = tuple[Events, Mapping[str, int]]


@pytest.fixture(autouse=True)
def _colliding_keys() -> Iterator[None]:
    with (
        mock.patch("tierloom.settle.document_key", colliding),
        mock.patch("tierloom.tombstones.document_key", colliding),
    ):
        yield


@dataclass
class History:
    """Versions, batch after batch: shards with their dead rows, and tombstones."""

    shelf: Shelf
    shards: list[Events] = field(default_factory=list)
    dead: list[set[int]] = field(default_factory=list)
    tombstones: tuple[LedgerPart, ...] = ()
    live: int = 0
    deleted: int = 0

    def publish(self, batch: Batch) -> Verdict:
        events, deletions = batch
        existing = [self.shelf.open(*one) for one in zip(self.shards, map(sorted, self.dead), strict=True)]
        files = ObjectFiles(self.shelf.store)
        verdict = settle(existing, [self.shelf.open(events)], deletions, Tombstones(self.tombstones, files))
        self.shards.append(events)
        self.dead.append(set())
        for rows, more in zip(self.dead, verdict.dead, strict=True):
            assert rows.isdisjoint(more.tolist())
            rows.update(more.tolist())
        entries = tombstone_entries(verdict.deletions.items(), noted=1)
        self.tombstones = TOMBSTONES.add(self.tombstones, entries, self.shelf.store, files)
        self.live += verdict.live - verdict.replaced - verdict.removed
        self.deleted += len(verdict.deletions) - verdict.undone
        return verdict

    def lives(self) -> Counter[Chunk]:
        return Counter(
            chunk
            for events, rows in zip(self.shards, self.dead, strict=True)
            for row, chunk in enumerate(chunks_of(events))
            if row not in rows
        )


def newest(batches: Sequence[Batch]) -> dict[str, tuple[int, bool]]:
    """The oracle: of each document its highest sequence, and whether that is a deletion, which wins among equals."""
    every = [(id_, (sequence, False)) for events, _ in batches for id_, sequence in events]
    every += [(id_, (sequence, True)) for _, deletions in batches for id_, sequence in deletions.items()]
    best: dict[str, tuple[int, bool]] = {}
    for document_id, event in every:
        best[document_id] = max(event, best.get(document_id, event))
    return best


def expected(batches: Sequence[Batch]) -> set[Chunk]:
    return {
        (id_, sequence, ordinal)
        for id_, (sequence, deleted) in newest(batches).items()
        for ordinal in (0, 1)
        if not deleted
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_BATCHES)
def test_after_each_batch_the_newest_event_of_each_document_holds(batches: list[Batch]) -> None:
    with shelf() as store:
        history = History(store)
        for at, batch in enumerate(batches, 1):
            history.publish(batch)
            assert history.lives() == Counter(expected(batches[:at]))
            told = newest(batches[:at]).values()
            assert history.live == sum(not deleted for _, deleted in told)
            assert history.deleted == sum(deleted for _, deleted in told)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_EVENTS, _DELETIONS), min_size=2, max_size=3))
def test_no_order_of_batches_brings_a_document_back(batches: list[Batch]) -> None:
    with shelf() as store:
        for order in itertools.permutations(batches):
            history = History(store)
            for batch in order:
                history.publish(batch)
            assert set(history.lives()) == expected(batches)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_BATCHES)
def test_a_replayed_batch_changes_nothing(batches: list[Batch]) -> None:
    with shelf() as store:
        history = History(store)
        for batch in batches:
            history.publish(batch)
        before = history.lives(), history.live, history.deleted
        for batch in batches:
            verdict = history.publish(batch)
            assert (verdict.deletions, verdict.removed, verdict.undone) == ({}, 0, 0)
        assert (history.lives(), history.live, history.deleted) == before


def test_a_deletion_of_an_unknown_document_is_remembered(local: Shelf) -> None:  # noqa: F811
    history = History(local)
    assert history.publish(({("a", 1): [0]}, {"e": 5})).deletions == {"e": 5}
    late = history.publish(({("e", 4): [0]}, {}))
    assert (late.lost, late.live) == (1, 0)


def test_an_older_deletion_deletes_nothing(local: Shelf) -> None:  # noqa: F811
    history = History(local)
    history.publish(({("a", 5): [0]}, {}))
    verdict = history.publish(({("b", 1): [0]}, {"a": 4}))
    assert (verdict.lost, verdict.removed, verdict.deletions) == (1, 0, {})


def test_at_equal_sequences_the_deletion_wins(local: Shelf) -> None:  # noqa: F811
    history = History(local)
    verdict = history.publish(({("a", 5): [0], ("b", 1): [0]}, {"a": 5}))
    assert (verdict.lost, verdict.live, verdict.deletions) == (1, 1, {"a": 5})
    assert history.publish(({("a", 5): [0]}, {})).lost == 1
