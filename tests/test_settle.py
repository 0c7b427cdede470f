"""Who wins, against a plain-dict oracle, with keys that collide and any order of arrival."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.small_shards import Row, arrange, store_shard, with_dead
from tierloom.document import document_key
from tierloom.object_files import ObjectFiles
from tierloom.settle import Verdict, settle
from tierloom.shards.live import LiveShard
from tierloom.stores.local import LocalStore

Chunk = tuple[str, int, int]
"""A document, a sequence, an ordinal."""

# Each shard a set of events; each event the ordinals of its rows in that shard, of which some may come twice.
# Few values, so that much collides.
_EVENTS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.integers(-1, 2)),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)
_ARRIVALS = st.lists(_EVENTS, min_size=1, max_size=4)
Events = dict[tuple[str, int], list[int]]


def colliding(document_id: str) -> int:
    """Keys of which several documents share each."""
    return document_key(document_id) % 3


def rows_of(events: Events) -> list[Row]:
    return [
        Row(document_id, ordinal, sequence)
        for (document_id, sequence), ordinals in events.items()
        for ordinal in sorted(ordinals)
    ]


@dataclass
class Shelf:
    """Shards in a store, and the rows of each in their order."""

    store: LocalStore

    def open(self, events: Events, dead: Sequence[int] = ()) -> LiveShard:
        stored = with_dead(self.store, store_shard(self.store, rows_of(events), key_of=colliding), dead)
        return LiveShard(stored, ObjectFiles(self.store))


@contextmanager
def shelf() -> Iterator[Shelf]:
    """Hypothesis asks for a new one for each example."""
    with TemporaryDirectory() as folder:
        yield Shelf(LocalStore(Path(folder)))


def chunks_of(events: Events) -> list[Chunk]:
    """The rows of a shard in its order."""
    rows = arrange(rows_of(events), key_of=colliding)
    return list(zip(rows.document_id.to_pylist(), rows.sequence.tolist(), rows.ordinal.tolist(), strict=True))


def survivors(shards: Sequence[Events], verdict: Verdict) -> list[Chunk]:
    """Rows that live after the verdict, with repetitions."""
    return [
        chunk
        for events, dead in zip(shards, verdict.dead, strict=True)
        for row, chunk in enumerate(chunks_of(events))
        if row not in set(dead.tolist())
    ]


def best_chunks(shards: Sequence[Events]) -> set[Chunk]:
    """The oracle: every chunk of each document's highest sequence, once."""
    best: dict[str, int] = {}
    for document_id, sequence in (event for events in shards for event in events):
        best[document_id] = max(sequence, best.get(document_id, sequence))
    return {
        (document_id, sequence, ordinal)
        for events in shards
        for (document_id, sequence), ordinals in events.items()
        for ordinal in ordinals
        if best[document_id] == sequence
    }


def settled(shards: Sequence[Events]) -> list[Events]:
    """Existing shards as a version holds them: of each document one sequence, each chunk in one shard."""
    left, out = best_chunks(shards), []
    for events in shards:
        kept: Events = {}
        for (document_id, sequence), ordinals in events.items():
            mine = [ordinal for ordinal in sorted(set(ordinals)) if (document_id, sequence, ordinal) in left]
            left -= {(document_id, sequence, ordinal) for ordinal in mine}
            if mine:
                kept[document_id, sequence] = mine
        if kept:
            out.append(kept)
    return out


def expected_counts(existing: Sequence[Events], incoming: Sequence[Events]) -> dict[str, int]:
    """The documented counts, event by event."""
    before = {document_id: sequence for events in existing for document_id, sequence in events}
    held = {(*event, ordinal) for events in existing for event, ordinals in events.items() for ordinal in ordinals}
    best = {document_id: sequence for document_id, sequence, _ in best_chunks([*existing, *incoming])}
    counts = Counter[str](live=0, completed=0, lost=0, repeated=0, replaced=0)
    counts["replaced"] = sum(best[document_id] > sequence for document_id, sequence in before.items())
    copies = Counter[Chunk](
        (*event, ordinal) for events in incoming for event, ordinals in events.items() for ordinal in ordinals
    )
    for document_id, sequence in {event for events in incoming for event in events}:
        mine = {chunk: times for chunk, times in copies.items() if chunk[:2] == (document_id, sequence)}
        times = max(mine.values())
        if sequence < best[document_id]:
            counts["lost"] += times
        elif mine.keys() <= held:
            counts["repeated"] += times
        else:
            counts["repeated"] += times - 1
            counts["completed" if before.get(document_id) == sequence else "live"] += 1
    return dict(counts)


def counts_of(verdict: Verdict) -> dict[str, int]:
    return {name: getattr(verdict, name) for name in ("live", "completed", "lost", "repeated", "replaced")}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ARRIVALS, _ARRIVALS)
def test_the_highest_sequence_lives_once_in_its_earliest_shard_and_is_counted(
    earlier: list[Events], incoming: list[Events]
) -> None:
    existing = settled(earlier)
    with shelf() as store:
        verdict = settle([*map(store.open, existing)], [*map(store.open, incoming)])
    shards = [*existing, *incoming]
    keepers = _keepers(shards)
    for at, events in enumerate(shards):
        assert verdict.dead[at].dtype == np.int64
        assert verdict.dead[at].tolist() == [row for row in range(len(chunks_of(events))) if (at, row) not in keepers]
    assert Counter(survivors(shards, verdict)) == Counter(best_chunks(shards))
    assert counts_of(verdict) == expected_counts(existing, incoming)


def _keepers(shards: Sequence[Events]) -> set[tuple[int, int]]:
    """Where each best chunk lies first: (shard, row)."""
    first: dict[Chunk, tuple[int, int]] = {}
    for at, events in enumerate(shards):
        for row, chunk in enumerate(chunks_of(events)):
            first.setdefault(chunk, (at, row))
    best = best_chunks(shards)
    return {place for chunk, place in first.items() if chunk in best}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_EVENTS, min_size=2, max_size=3))
def test_no_order_of_arrival_changes_what_lives(arrivals: list[Events]) -> None:
    with shelf() as store:
        opened = [store.open(events) for events in arrivals]
        for order in itertools.permutations(range(len(arrivals))):
            verdict = settle([], [opened[at] for at in order])
            assert set(survivors([arrivals[at] for at in order], verdict)) == best_chunks(arrivals)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ARRIVALS)
def test_shards_that_come_one_by_one_end_as_if_together(arrivals: list[Events]) -> None:
    with shelf() as store:
        dead: list[set[int]] = []
        for at in range(len(arrivals)):
            existing = [store.open(events, sorted(rows)) for events, rows in zip(arrivals, dead, strict=False)]
            verdict = settle(existing, [store.open(arrivals[at])])
            dead.append(set())
            for rows, more in zip(dead, verdict.dead, strict=True):
                assert rows.isdisjoint(more.tolist())
                rows.update(more.tolist())
    lives = [
        chunk
        for events, rows in zip(arrivals, dead, strict=True)
        for row, chunk in enumerate(chunks_of(events))
        if row not in rows
    ]
    assert Counter(lives) == Counter(best_chunks(arrivals))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ARRIVALS)
def test_a_shard_that_comes_again_changes_nothing(earlier: list[Events]) -> None:
    existing = settled(earlier)
    with shelf() as store:
        opened = [store.open(events) for events in existing]
        for again in opened:
            verdict = settle(opened, [again])
            assert [len(rows) for rows in verdict.dead] == [0] * len(opened) + [len(again.alive)]
            assert (verdict.live, verdict.completed, verdict.lost, verdict.replaced) == (0, 0, 0, 0)
            assert verdict.repeated == len({(c[0], c[1]) for c in chunks_of(existing[opened.index(again)])})


@pytest.fixture
def local(tmp_path: Path) -> Shelf:
    return Shelf(LocalStore(tmp_path))


def test_nothing_settles_to_nothing(local: Shelf) -> None:
    assert counts_of(settle([], [])) == {"live": 0, "completed": 0, "lost": 0, "repeated": 0, "replaced": 0}
    verdict = settle([local.open({("a", 1): [0]})], [])
    assert [rows.tolist() for rows in verdict.dead] == [[]]


def test_rows_that_are_dead_already_neither_win_nor_die_again(local: Shelf) -> None:
    old = local.open({("a", 5): [0, 1]}, dead=[0, 1])
    verdict = settle([old], [local.open({("a", 3): [0]})])
    assert [rows.tolist() for rows in verdict.dead] == [[], []]
    assert counts_of(verdict) == {"live": 1, "completed": 0, "lost": 0, "repeated": 0, "replaced": 0}


def test_extreme_sequences_are_compared_as_numbers(local: Shelf) -> None:
    low, high = local.open({("a", -(2**63)): [0]}), local.open({("a", 2**63 - 1): [0]})
    for existing, incoming in ((low, high), (high, low)):
        dead = settle([existing], [incoming]).dead
        assert [len(rows) for rows in dead] == ([1, 0] if existing is low else [0, 1])


def test_a_document_under_a_colliding_key_is_left_alone(local: Shelf) -> None:
    same = [document_id for document_id in map(str, range(30)) if colliding(document_id) == 1][:2]
    verdict = settle([local.open({(same[0], 1): [0, 1]})], [local.open({(same[1], 9): [0]})])
    assert [rows.tolist() for rows in verdict.dead] == [[], []]
    assert counts_of(verdict) == {"live": 1, "completed": 0, "lost": 0, "repeated": 0, "replaced": 0}


def test_chunks_that_were_missing_complete_their_document(local: Shelf) -> None:
    verdict = settle([local.open({("a", 1): [0, 2]})], [local.open({("a", 1): [1, 2]})])
    assert [rows.tolist() for rows in verdict.dead] == [[], [1]]
    assert counts_of(verdict) == {"live": 0, "completed": 1, "lost": 0, "repeated": 0, "replaced": 0}
