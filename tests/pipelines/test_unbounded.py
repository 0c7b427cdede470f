"""The unbounded pipeline on Beam's own TestStream: late, repeated and reordered changes, and several panes."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.transforms.window import TimestampedValue

from pipelines.beam_options import split_arguments
from pipelines.running import make_job
from pipelines.unbounded import PublishChanges, engine_options
from pipelines.unbounded_sources import span_of_message
from tests.embedders.endpoint import Endpoint, error
from tests.pipelines.command_line import assert_whole, declare, head_of, init, live_texts, ok, run, write_records
from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document, Origin
from tierloom.errors import InputError
from tierloom.stores.opening import open_store
from transforms.bundle import BundleOutcome, ShardSteps, Span
from transforms.elements import ShardReceipt
from transforms.job import Job
from transforms.publish_window import PublishWindowDoFn
from transforms.publishing.stream_position import Taken
from transforms.reading.records import Fields
from transforms.streams.cuts import Cuts

SECONDS = 10
Event = Document | Deletion | DeadLetter


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint))
    # As whoever starts a run does.
    ok(run("canary", path, "--record"))
    return path


def put(document_id: str, sequence: int, text: str = "") -> Document:
    return Document(document_id, sequence, text or f"{document_id} at {sequence}", "{}", Origin("test"))


def stream_job(store: Path) -> Job:
    return replace(make_job(str(store), "stream", Fields()), base=None)


class Stream:
    """A TestStream that begins now, with times in seconds since then."""

    def __init__(self) -> None:
        self._began = time.time() // SECONDS * SECONDS
        self._stream = test_stream.TestStream().advance_watermark_to(self._began)

    def gives(self, at: float, *events: Event) -> "Stream":
        self._stream = self._stream.add_elements(
            [TimestampedValue(Span((event,)), self._began + at) for event in events]
        )
        return self

    def reaches(self, at: float) -> "Stream":
        """Its watermark does."""
        self._stream = self._stream.advance_watermark_to(self._began + at)
        return self

    def into(self, store: Path) -> None:
        """Publish all of it, then end."""
        options = PipelineOptions(["--streaming"])
        with beam.Pipeline(runner=BundleBasedDirectRunner(), options=options) as pipeline:
            changes = pipeline | self._stream.advance_watermark_to_infinity()
            _ = changes | PublishChanges(stream_job(store), "test", head_of(store).version, {}, SECONDS)


def live_documents(store: Path) -> dict[str, str]:
    return {document_id: text for (document_id, _), text in live_texts(store).items()}


def test_each_window_is_one_version(endpoint: Endpoint, store: Path) -> None:
    stream = Stream().gives(1, put("a", 1), put("b", 1)).gives(5, put("c", 1)).reaches(10)
    stream.gives(11, put("a", 2)).reaches(20).into(store)
    head = head_of(store)
    assert (head.version, head.documents.live, head.documents.superseded) == (2, 3, 1)
    assert live_documents(store) == {"a": "a at 2", "b": "b at 1", "c": "c at 1"}
    assert head.run.command == "stream"
    assert_whole(store)


def test_what_comes_late_is_published_with_a_pane_of_its_own(endpoint: Endpoint, store: Path) -> None:
    stream = Stream().gives(1, put("a", 1)).reaches(10)
    assert_versions(stream.gives(2, put("late", 1)).reaches(50).gives(3, put("a", 2)), store, 3)
    assert live_documents(store) == {"a": "a at 2", "late": "late at 1"}
    assert_whole(store)


def test_what_comes_days_late_is_not_dropped(endpoint: Endpoint, store: Path) -> None:
    stream = Stream().gives(1, put("a", 1)).reaches(10)
    stream.gives(-40 * 86_400, put("ancient", 1)).into(store)
    assert live_documents(store) == {"a": "a at 1", "ancient": "ancient at 1"}
    assert_whole(store)


def assert_versions(stream: Stream, store: Path, count: int) -> None:
    stream.into(store)
    assert head_of(store).version == count


def test_a_late_older_change_brings_nothing_back(endpoint: Endpoint, store: Path) -> None:
    stream = Stream().gives(1, put("a", 5), put("b", 5)).reaches(10).gives(11, Deletion("a", 7)).reaches(20)
    stream.gives(2, put("a", 6), put("b", 4)).reaches(30).into(store)
    head = head_of(store)
    assert live_documents(store) == {"b": "b at 5"}
    assert (head.documents.live, head.documents.deleted, head.documents.adds_up) == (1, 1, True)
    assert_whole(store)


def test_repeated_changes_are_one(endpoint: Endpoint, store: Path) -> None:
    stream = Stream().gives(1, put("a", 1), put("a", 1)).gives(2, put("a", 1)).reaches(10)
    stream.gives(11, put("a", 1)).gives(3, put("a", 1)).reaches(20).into(store)
    head = head_of(store)
    assert (head.version, head.documents.live) == (1, 1)
    # What is live already is not sent again; within a window nothing is live yet.
    assert endpoint.billed["a at 1"] <= 2
    assert_whole(store)


def test_what_cannot_be_embedded_becomes_a_letter(endpoint: Endpoint, store: Path) -> None:
    refused = DeadLetter(stage="read", reason="invalid-json", detail="no", source="test", offset=1)
    endpoint.script = lambda asked: error(400, "no") if "poison" in str(asked.inputs) else None
    Stream().gives(1, put("a", 1), put("b", 1, "poison"), put("c", 1, "   "), refused).reaches(10).into(store)
    head = head_of(store)
    assert (head.documents.documents_in, head.documents.live, head.documents.dead_lettered) == (4, 1, 3)
    assert_whole(store)


def test_a_large_bundle_is_taken_in_parts(endpoint: Endpoint, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.bundle._LARGEST", 1)
    every = [put(f"d{n}", 1) for n in range(5)]
    Stream().gives(1, *every).reaches(10).into(store)
    assert live_documents(store) == model_of(every)
    # One small shard for each part, of which the version made one.
    assert len(list((store / "shards").iterdir())) == len(every) + 1
    assert head_of(store).version == 1
    assert_whole(store)


def history(seed: int) -> list[Document | Deletion]:
    """Changes of few documents, some more than once, in no order of their sequences."""
    dice = random.Random(seed)
    changes: list[Document | Deletion] = []
    for sequence in range(40):
        document_id = f"d{dice.randrange(8)}"
        changes.append(Deletion(document_id, sequence) if dice.random() < 0.25 else put(document_id, sequence))
    changes += dice.sample(changes, 10)
    dice.shuffle(changes)
    return changes


def model_of(changes: Sequence[Document | Deletion]) -> dict[str, str]:
    """What a dict says is live."""
    newest: dict[str, Document | Deletion] = {}
    for change in sorted(changes, key=lambda change: change.sequence):
        newest[change.document_id] = change
    return {id_: change.text for id_, change in newest.items() if isinstance(change, Document)}


@pytest.mark.parametrize("seed", range(4))
def test_any_history_in_any_panes_ends_as_the_model_does(endpoint: Endpoint, store: Path, seed: int) -> None:
    dice, stream, changes, watermark = random.Random(seed), Stream(), history(seed), 0
    for at in range(0, len(changes), 5):
        stream.gives(max(0, watermark + dice.choice((-25, -8, 1, 4))), *changes[at : at + 5])
        watermark += dice.choice((1, 3, 12))
        stream.reaches(watermark)
    stream.into(store)
    assert live_documents(store) == model_of(changes)
    assert head_of(store).documents.adds_up
    assert_whole(store)


class Remembered:
    """What a runner remembers of one key, and forgets when it goes back to its last checkpoint."""

    def __init__(self) -> None:
        self.value: Taken | None = None

    def read(self) -> Taken | None:
        return self.value

    def write(self, value: Taken) -> None:
        self.value = value


@pytest.fixture
def publish(store: Path) -> Iterator[PublishWindowDoFn]:
    dofn = PublishWindowDoFn(stream_job(store), "test", since=0, taken_up={})
    dofn.setup()
    yield dofn
    dofn.teardown()


def outcomes_of(store: Path, *spans: Span) -> list[BundleOutcome]:
    """Of bundles with one span each."""
    steps = ShardSteps(stream_job(store))
    outcomes = [steps.run([span]) for span in spans]
    steps.close()
    return outcomes


def test_a_pane_that_comes_again_is_recognised(
    tmp_path: Path, endpoint: Endpoint, store: Path, publish: PublishWindowDoFn
) -> None:
    first = Span((put("a", 1), put("b", 1)), "0", 0, 0, 2)
    outcomes = outcomes_of(store, first, Span((put("b", 2), Deletion("c", 1)), "0", 0, 2, 4))
    [report] = publish.process((str(store), outcomes), Remembered())
    assert (report.version, head_of(store).documents.documents_in) == (1, 4)
    # Another writer comes between; then the worker died before it could say that it had published.
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", [{"id": "d", "sequence": 1, "text": "d"}])))
    remembered = Remembered()
    assert list(publish.process((str(store), outcomes[::-1]), remembered)) == []
    head = head_of(store)
    assert (head.version, head.documents.documents_in, head.documents.superseded) == (2, 5, 1)
    assert remembered.value == Taken(2, {"0": 4}, {"0": ()})
    assert_whole(store)


def test_bundles_that_are_made_again_change_nothing(
    endpoint: Endpoint, store: Path, publish: PublishWindowDoFn
) -> None:
    spans = [Span((put("a", 1), put("b", 1)), "0", 0, 0, 2), Span((put("a", 2),), "0", 0, 2, 3)]
    [*publish.process((str(store), outcomes_of(store, *spans)), Remembered())]
    asked = endpoint.requests
    again = Span(spans[0].events + spans[1].events, "0", 0, 0, 3)
    [report] = publish.process((str(store), outcomes_of(store, again)), Remembered())
    assert (report.published, endpoint.requests, head_of(store).version) == (False, asked, 1)


def test_the_cursor_moves_with_what_it_stands_for(endpoint: Endpoint, store: Path, publish: PublishWindowDoFn) -> None:
    remembered = Remembered()
    early, late = outcomes_of(store, Span((put("a", 1),), "0", 5, 5, 6), Span((put("b", 1),), "0", 5, 6, 7))
    [*publish.process((str(store), [late]), remembered)]
    cursor = head_of(store).cursor_of("test")
    assert cursor is not None
    assert cursor.positions == {"0": 5}
    [*publish.process((str(store), [early]), remembered)]
    cursor = head_of(store).cursor_of("test")
    assert cursor is not None
    assert cursor.positions == {"0": 7}


def test_an_empty_pane_is_nothing(endpoint: Endpoint, store: Path, publish: PublishWindowDoFn) -> None:
    assert list(publish.process((str(store), []), Remembered())) == []
    assert head_of(store).version == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("kafka://localhost:1/t", "--streaming"), "name an engine that can run for ever"),
        (("kafka://localhost:1/t", "--runner=DirectRunner"), "name an engine that can run for ever"),
        (("kafka://localhost:1/t", "more", "--runner=FlinkRunner"), "one source at a time: what is 'more'?"),
        (("kafka://localhost:1/t", "--runner=FlinkRunner", "--interval", "0"), "--interval 0: an engine"),
        (("docs", "--runner=FlinkRunner"), "'docs' cannot be read by an engine"),
        (("pubsub://project/name", "--runner=FlinkRunner"), "DataflowRunner only, not on FlinkRunner"),
        (("kafka://localhost:1", "--runner=FlinkRunner"), "kafka://host:9092/topic"),
        (("kafka://localhost:1/t", "--runner=NoRunner"), "Beam refuses these options"),
    ],
)
def test_what_no_engine_can_follow_is_refused(store: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in run("stream", store, *arguments).error


def test_options_of_an_engine_reach_its_job_server_alone() -> None:
    flags = ["--runner=FlinkRunner", "--savepoint_path=gs://b/s", "--checkpointing_interval=1"]
    assert engine_options(flags)._flags == flags
    with pytest.raises(InputError, match="no such option: --savepoint_path"):
        split_arguments(["docs", "--savepoint_path=gs://b/s"])


class Message(NamedTuple):
    """What Beam's reader of Pub/Sub gives."""

    data: bytes
    message_id: str
    publish_time: datetime | None


def test_a_message_is_ordered_by_when_it_was_published() -> None:
    published = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    span = span_of_message(Message(b'{"id": "a", "text": "t"}', "m1", published), "pubsub://p/s", Fields())
    [event] = span.events
    assert isinstance(event, Document)
    assert (event.document_id, event.sequence) == ("a", 1_767_323_045_678_901_000)
    assert span.partition == ""
    [letter] = span_of_message(Message(b"{", "m2", published), "pubsub://p/s", Fields()).events
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.source) == ("invalid-json", "pubsub://p/s/m2")
    assert letter.record is not None


def test_cuts_are_found_again_and_the_first_one_stays(tmp_path: Path) -> None:
    cuts, again = (Cuts(open_store(str(tmp_path)), "kafka://h/t") for _ in range(2))
    assert cuts.after("0", 5) is None
    cuts.note("0", 5, 9)
    again.note("0", 5, 12)
    assert (again.after("0", 5), again.after("1", 5), again.after("0", 9)) == (9, None, None)
    assert Cuts(open_store(str(tmp_path)), "kafka://h/other").after("0", 5) is None


def test_a_span_has_the_same_shards_whatever_its_bundle_holds(endpoint: Endpoint, store: Path) -> None:
    one, two = (Span((put(id_, 1),), "0", 0, at, at + 1) for at, id_ in enumerate("ab"))
    [together] = outcomes_of_bundle(store, one, two)
    apart = outcomes_of(store, two, one)
    again = [receipt for outcome in apart for receipt in receipts_of(outcome)]
    shards = {receipt.shard.path for receipt in receipts_of(together)}
    assert shards == {receipt.shard.path for receipt in again}
    assert len(shards) == 2
    assert all(receipt.found for receipt in again)
    assert sum(endpoint.billed.values()) == 2


def receipts_of(outcome: BundleOutcome) -> tuple[ShardReceipt, ...]:
    [part] = outcome.parts.values()
    return part.receipts


def outcomes_of_bundle(store: Path, *spans: Span) -> list[BundleOutcome]:
    """Of one bundle with all these spans."""
    steps = ShardSteps(stream_job(store))
    outcome = steps.run(spans)
    steps.close()
    return [outcome]
