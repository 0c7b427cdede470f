"""The loop in this process, over streams that tests wrote down."""

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from index_builder.upkeep.compaction_plan import Rules, plan_rounds
from index_builder.upkeep.retention import set_retention
from pipelines.running import make_job
from pipelines.streaming.live_line import LiveLine
from pipelines.streaming.loop import Pace, StreamLoop
from pipelines.streaming.totals import Totals
from pipelines.streaming.upkeep import Upkeep
from tests.embedders.endpoint import Endpoint
from tests.index_builder.upkeep.living import Living
from tests.pipelines.command_line import assert_whole, head_of, live_texts
from tests.pipelines.streaming.following import texts_of, wait_until
from tests.pipelines.streaming.scripted import SOURCE, Event, Scripted, document
from tests.small_shards import Row, make_collection, publish, store_shard
from tests.transforms.runs import small_collection
from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.errors import SourceHeld, StoreError
from tierloom.stores.local import LocalStore
from tierloom.versions import stored_versions
from transforms.micro_batch import MicroBatches
from transforms.reading.records import Fields
from transforms.streams.stream import Batch


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    small_collection(str(tmp_path / "store"), endpoint)
    return tmp_path / "store"


def follow(store: Path, stream: Scripted, pace: Pace = Pace(interval=0.0)) -> Totals:  # noqa: B008 -- immutable
    job = make_job(str(store), "stream", Fields())
    return StreamLoop(job, stream, pace, LiveLine(), threading.Event()).run()


def random_events(seed: int, count: int) -> list[Event]:
    """Upserts and deletions of few documents, some of them late, some of them twice."""
    draw = random.Random(seed)
    events: list[Event] = []
    for sequence in range(count):
        name = f"d{draw.randrange(8)}"
        upsert = document(name, sequence, f"{name}{sequence:04d}")
        events.append(Deletion(name, sequence) if draw.random() < 0.3 else upsert)
    for _ in range(count // 4):
        events.insert(draw.randrange(len(events)), draw.choice(events))
    draw.shuffle(events)
    return events


def winners(events: list[Event]) -> dict[str, str]:
    """What lives after all of them, in whatever order they came."""
    newest: dict[str, Event] = {}
    for event in events:
        assert not isinstance(event, DeadLetter)
        seen = newest.get(event.document_id)
        if seen is None or (event.sequence or 0) > (seen.sequence or 0):
            newest[event.document_id] = event
    return {name: event.text for name, event in newest.items() if isinstance(event, Document)}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_batches_and_the_order_the_highest_sequence_lives(store: Path, seed: int) -> None:
    events = random_events(seed, 60)
    stream = Scripted(events, at_once=random.Random(seed).randrange(1, 20))
    totals = follow(store, stream)
    assert texts_of(store) == winners(events)
    assert totals.changes == len(events)
    assert head_of(store).documents.documents_in <= len(events)
    assert_whole(store)


def test_each_batch_is_one_version_and_told_after_it(store: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Watching(Scripted):
        def published(self, batch: object) -> None:
            super().published(batch)  # type: ignore[arg-type]
            head = head_of(store)
            cursor = head.cursor_of(SOURCE)
            assert cursor is not None
            seen.append((head.version, cursor.positions["0"]))

    stream = Watching([document(f"d{n}", n) for n in range(7)], at_once=3)
    totals = follow(store, stream, Pace(max_batch=3, interval=0.0))
    assert seen == [(1, 3), (2, 6), (3, 7)]
    assert stream.published_up_to == [3, 6, 7]
    assert stream.closed
    assert totals.versions == 3


def test_it_goes_on_from_the_manifest(store: Path) -> None:
    events = [document(f"d{n}", n) for n in range(6)]
    follow(store, Scripted(events[:4]))
    again = Scripted(events)
    follow(store, again)
    assert again.opened_at == {"0": 4}
    assert again.published_up_to == [6]
    beginning = Scripted(events)
    totals = follow(store, beginning, Pace(from_beginning=True))
    assert beginning.opened_at is None
    assert (totals.changes, totals.added, totals.changed, totals.embedded_chunks) == (6, 0, 0, 0)


def test_once_ends_when_it_has_caught_up(store: Path) -> None:
    stream = Scripted([document("a", 1)], ends=False)
    assert follow(store, stream, Pace(once=True)).changes == 1


def test_once_waits_for_a_source_that_cannot_tell(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.streaming.loop._QUIET_SECONDS", 0.2)

    class Slow(Scripted):
        """Gives nothing on every other take, and does not know how much will come."""

        def take(self, limit: int, seconds: float) -> Batch | None:
            if len(self.asked) % 2:
                self.asked.append(limit)
                return Batch(())
            return super().take(limit, seconds)

        def behind(self) -> int | None:  # type: ignore[override]
            return None

    slow = Slow([document("a", 1), document("b", 2), document("c", 3)], at_once=1, ends=False)
    assert follow(store, slow, Pace(once=True, max_batch=1, interval=0.0)).changes == 3


def test_a_stream_that_lost_its_cursor_to_another_is_told_and_publishes_nothing(store: Path) -> None:
    first = Scripted([document("a", 1), document("b", 2)], at_once=1)
    other = Scripted([document("c", 1), document("d", 2), document("e", 3)])

    def overtake() -> None:
        if first.taken == 1 and not other.taken:
            follow(store, other)

    first.on_take = overtake
    with pytest.raises(SourceHeld, match="is read by another stream too"):
        follow(store, first, Pace(max_batch=1, interval=0.0))
    # The other one had begun behind the first batch of this one.
    assert texts_of(store).keys() == {"a", "d", "e"}
    assert first.published_up_to == [1]
    assert first.closed
    assert_whole(store)


def test_letters_of_many_versions_lie_in_few_parts(store: Path) -> None:
    unreadable = [DeadLetter("read", "invalid-json", "not JSON", SOURCE, offset=n) for n in range(20)]
    follow(store, Scripted(unreadable, at_once=1), Pace(max_batch=1, interval=0.0))
    head = head_of(store)
    assert head.version == 20
    assert sum(part.letters for part in head.dead_letters) == 20
    assert len(head.dead_letters) <= 5
    assert (head.documents.documents_in, head.documents.dead_lettered) == (20, 20)
    assert_whole(store)


def test_what_fails_of_the_store_is_tried_again_and_published_once(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_batch, failures = MicroBatches.publish, iter([StoreError("no route to the store"), StoreError("no route")])

    def failing(batches: MicroBatches, *arguments: object) -> object:
        report = publish_batch(batches, *arguments)  # type: ignore[arg-type]
        if (error := next(failures, None)) is not None:
            # The reply is lost: what was published stays so.
            raise error
        return report

    monkeypatch.setattr(MicroBatches, "publish", failing)
    monkeypatch.setattr("pipelines.streaming.patience._FIRST_SECONDS", 0.01)
    stream = Scripted([document("a", 1), document("b", 2)])
    follow(store, stream)
    assert head_of(store).version == 1
    assert stream.published_up_to == [2]
    assert "waiting: no route to the store; trying again in" in capsys.readouterr().err
    assert_whole(store)


def test_when_patience_ends_the_source_keeps_what_was_not_published(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> object:
        raise StoreError("no route to the store")

    monkeypatch.setattr(MicroBatches, "publish", failing)
    stream = Scripted([document("a", 1)])
    with pytest.raises(StoreError, match="no route to the store"):
        follow(store, stream, Pace(patience=0.0))
    assert stream.published_up_to == []
    assert stream.closed
    assert head_of(store).version == 0


class TestUpkeep:
    @pytest.fixture
    def collection(self, tmp_path: Path) -> LocalStore:
        made = LocalStore(tmp_path / "collection")
        make_collection(made)
        return made

    def look_until(self, upkeep: Upkeep, condition: Callable[[], object]) -> None:
        def looked() -> object:
            upkeep.look(published=False)
            return condition()

        wait_until(looked)

    def test_a_round_at_a_time_behind(self, collection: LocalStore) -> None:
        shards = [store_shard(collection, [Row(f"{shard} {row}") for row in range(5)]) for shard in range(20)]
        publish(collection, [[shard] for shard in shards])
        before = live_texts(collection.root)
        said: list[str] = []
        with Upkeep(collection, said.append) as upkeep:
            upkeep.look(published=True)
            self.look_until(upkeep, lambda: upkeep.rounds)
        assert said == []
        head = head_of(collection.root)
        assert head.run.command == "compact"
        assert len(head.vector_shards) < 20
        assert live_texts(collection.root) == before

    def test_behind_both_generations(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "two"))
        living.begin()
        for at in range(8):
            living.put({f"document {at}": 3})
        said: list[str] = []
        with Upkeep(living.store, said.append) as upkeep:
            upkeep.look(published=True)
            self.look_until(upkeep, lambda: not plan_rounds(living.head, Rules()))
        assert said == []
        assert [len(generation.vector_shards) for generation in living.head.generations] == [1, 1]
        living.check()

    def test_garbage_is_collected_now_and_then(self, collection: LocalStore) -> None:
        for _ in range(4):
            publish(collection, [])
        set_retention(collection, {"versions": 1, "versions_seconds": 0})
        leftover, young = (store_shard(collection, [Row(name)]) for name in ("leftover", "young"))
        os.utime(collection.root / leftover.path, (0, 0))
        said: list[str] = []
        with Upkeep(collection, said.append, collect_every=timedelta(seconds=0.01)) as upkeep:
            upkeep.look(published=True)
            self.look_until(upkeep, lambda: not collection.size(leftover.path))
            self.look_until(upkeep, lambda: not multiprocessing.active_children()[3:])
        assert said == []
        assert stored_versions(collection) == [0, 5]
        assert collection.size(young.path)

    def test_nothing_is_collected_before_its_time(self, collection: LocalStore) -> None:
        set_retention(collection, {"versions": 1, "versions_seconds": 0})
        publish(collection, [])
        with Upkeep(collection, print) as upkeep:
            for _ in range(10):
                upkeep.look(published=True)
            assert len(multiprocessing.active_children()) == 3
        assert stored_versions(collection) == [0, 1, 2]

    def test_nothing_to_do_is_no_version(self, collection: LocalStore) -> None:
        with Upkeep(collection, print) as upkeep:
            upkeep.look(published=True)
            upkeep.look(published=False)
        assert head_of(collection.root).version == 0

    def test_what_is_wrong_is_said_and_the_stream_goes_on(self, tmp_path: Path) -> None:
        said: list[str] = []
        with Upkeep(LocalStore(tmp_path / "nothing"), said.append) as upkeep:
            upkeep.look(published=True)
            self.look_until(upkeep, lambda: said)
        assert "holds no collection" in said[0]
        assert "the next try is in 60 s" in said[0]

    def test_a_process_that_was_killed_is_started_again_later(self, collection: LocalStore) -> None:
        said: list[str] = []
        with Upkeep(collection, said.append) as upkeep:
            upkeep.look(published=True)
            for child in multiprocessing.active_children():
                child.kill()
            self.look_until(upkeep, lambda: said)
        assert said[0] == "upkeep: its process has ended; the next try is in 60 s"
