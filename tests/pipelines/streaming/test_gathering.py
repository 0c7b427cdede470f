from pipelines.streaming.gathering import Bounds, Gatherer, bounds_of
from tests.pipelines.streaming.scripted import Scripted, document
from tests.small_shards import collection_of

AMPLE = Bounds(changes=1000, bytes=1 << 30, seconds=0.0)


def documents(count: int, text: str = "words") -> list[object]:
    return [document(f"d{n}", n, text) for n in range(count)]


def gatherer(stream: Scripted, bounds: Bounds = AMPLE, stopping: bool = False) -> Gatherer:
    return Gatherer(stream, bounds, lambda: stopping)


def test_what_has_come_makes_one_batch() -> None:
    stream = Scripted([document("a", 1), document("b", 2), document("c", 3)], at_once=2, ends=False)
    gathered = gatherer(stream).next()
    assert [change.event for change in gathered.batch.changes] == stream.events[:2]
    assert gathered.batch.positions == {"0": 2}
    assert not gathered.ended


def test_within_the_interval_more_is_waited_for() -> None:
    stream = Scripted([document("a", 1), document("b", 2), document("c", 3)], at_once=1)
    batches = gatherer(stream, Bounds(changes=1000, bytes=1 << 30, seconds=3600.0))
    # The first batch is not delayed: no version was published shortly before.
    assert len(batches.next().batch.changes) == 1
    rest = batches.next()
    assert len(rest.batch.changes) == 2
    assert rest.batch.positions == {"0": 3}
    assert rest.ended


def test_no_more_is_taken_than_a_batch_may_hold() -> None:
    stream = Scripted([document(f"d{n}", n) for n in range(700)])
    batches = gatherer(stream, Bounds(changes=300, bytes=1 << 30, seconds=0.0))
    assert [len(batches.next().batch.changes) for _ in range(3)] == [300, 300, 100]
    assert sum(stream.asked[:2]) == 300


def test_a_batch_ends_when_its_texts_are_long_enough() -> None:
    stream = Scripted([document(f"d{n}", n, "x" * 1000) for n in range(1024)])
    gathered = gatherer(stream, Bounds(changes=1024, bytes=1000, seconds=0.0)).next()
    assert len(gathered.batch.changes) == 256


def test_nothing_that_came_is_an_empty_batch() -> None:
    stream = Scripted([], ends=False)
    gathered = gatherer(stream).next()
    assert gathered.batch.changes == ()
    assert not gathered.ended
    assert len(stream.asked) == 1


def test_the_end_of_a_source_comes_with_its_last_changes_or_after() -> None:
    batches = gatherer(Scripted([document("a", 1)]), Bounds(changes=1000, bytes=1 << 30, seconds=0.0))
    first, second = batches.next(), batches.next()
    assert len(first.batch.changes) + len(second.batch.changes) == 1
    assert second.ended


def test_nothing_more_is_taken_when_the_stream_is_to_stop() -> None:
    stream = Scripted([document("a", 1)])
    assert gatherer(stream, stopping=True).next().batch.changes == ()
    assert stream.asked == []


def test_a_batch_holds_about_one_block() -> None:
    collection = collection_of()
    bounds = bounds_of(collection, 1 << 30, 2.0)
    assert bounds.changes == collection.sizes.block_chunks
    assert bounds.bytes == 4 * collection.sizes.block_chunks * collection.chunking.max_tokens
    assert bounds_of(collection, 7, 2.0).changes == 7
