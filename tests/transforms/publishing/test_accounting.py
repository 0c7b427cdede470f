"""Whatever happens to documents, what is live and what is counted agree with a plain model."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import tierloom
from pipelines.running import make_job
from tests.embedders.endpoint import Endpoint
from tests.transforms.oracle import (
    Arrival,
    Chunk,
    Embedded,
    State,
    chunks_of,
    deletion,
    deletions_of,
    is_deletion,
    text_of,
    to_embed,
    word_of,
)
from tests.transforms.runs import (
    Refusing,
    deletion_line,
    head_of,
    ingest_job,
    record_line,
    run_directly,
    run_retry,
    small_collection,
    split_of_lines,
)
from tierloom.letters import read_letters
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport
from tierloom.stores.opening import open_store
from transforms.reading.records import Fields
from transforms.reading.splits import Split

ARRIVALS = st.tuples(st.sampled_from("abc"), st.integers(1, 4))
EVENTS = st.one_of(ARRIVALS, ARRIVALS, ARRIVALS.map(deletion))
GROUPS = st.lists(st.lists(EVENTS, min_size=1, max_size=3), min_size=1, max_size=3)
# Chunks that the model refuses for now.
REFUSED = st.sets(ARRIVALS.flatmap(lambda arrival: st.sampled_from(chunks_of(arrival))), max_size=6)


class Histories(RuleBasedStateMachine):
    """Ingests, also on top of versions that are no longer the newest; retries; an endpoint that comes and goes."""

    block_chunks = 100
    shard_rows = 100

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.store = str(self.root / "store")
        self.refusing = Refusing()
        self.endpoint = Endpoint(16, self.refusing).__enter__()
        small_collection(self.store, self.endpoint, self.block_chunks, self.shard_rows)
        self.states = [State()]
        self.embedded = Embedded()
        self.numbers = itertools.count()

    @rule(groups=GROUPS, refused=REFUSED, behind=st.sampled_from((0, 0, 0, 1, 2)))
    def ingest(self, groups: list[list[Arrival]], refused: set[Chunk], behind: int) -> None:
        base = max(0, len(self.states) - 1 - behind)
        self.refusing.words = {word_of(chunk) for chunk in refused}
        job = ingest_job(self.store, base)
        report = run_directly(job, [self._split(group) for group in groups])
        rows: set[Chunk] = set()
        letters: set[Chunk] = set()
        for group in groups:
            block = [chunk for arrival in to_embed(group, self.states[base]) for chunk in chunks_of(arrival)]
            made = self.embedded.rows(block, self.refusing.words)
            rows |= made
            letters |= set(block) - made
        gone = [arrival for group in groups for arrival in deletions_of(group)]
        self._agree(report, self.states[-1].settled(rows, letters, gone), read=sum(map(len, groups)))

    @rule(refused=REFUSED)
    def retry(self, refused: set[Chunk]) -> None:
        self.refusing.words = {word_of(chunk) for chunk in refused}
        before = self.states[-1]
        rows = {chunk for chunk in before.letters if word_of(chunk) not in self.refusing.words}
        after = before.settled(rows, before.letters - rows)
        self._agree(run_retry(self.store), after, read=len({chunk[:2] for chunk in before.letters}))

    def _split(self, group: list[Arrival]) -> Split:
        lines = [line_of(arrival) for arrival in group]
        return split_of_lines(self.root / f"{next(self.numbers)}.jsonl", lines)

    def _agree(self, report: RunReport, expected: State, read: int) -> None:
        head = head_of(self.store)
        changed = expected != self.states[-1]
        assert report.published == changed
        if changed:
            self.states.append(expected)
        assert head.version == len(self.states) - 1
        assert report.record.documents.documents_in == read
        assert report.record.documents.adds_up
        assert head.documents.adds_up
        counts = head.documents
        gone = expected.deleted.keys() - expected.live.keys()
        assert (counts.live, counts.deleted, counts.dead_lettered) == (len(expected.live), len(gone), expected.dead)
        assert live_chunks(self.store) == {chunk: word_of(chunk) for chunk in expected.chunks}
        assert open_chunks(self.store) == expected.letters
        assert found_in_tiers(self.store) == Counter(itertools.product((8, 16), expected.chunks))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.endpoint.__exit__(None, None, None)
            self.folder.cleanup()


def line_of(arrival: Arrival) -> str:
    if is_deletion(arrival):
        return deletion_line(*deletions_of([arrival])[0])
    return record_line(*arrival, text_of(arrival))


def live_chunks(store: str) -> dict[Chunk, str]:
    """The text of every live chunk, each of which is there once."""
    with tierloom.open(store) as snapshot:
        chunks = list(snapshot.chunks())
    live = {(chunk.document_id, chunk.sequence, chunk.ordinal): chunk.text for chunk in chunks}
    assert len(live) == len(chunks)
    return live


def open_chunks(store: str) -> set[Chunk]:
    letters = read_letters(head_of(store).dead_letters, ObjectFiles(open_store(store)))
    return {(x.document_id or "", x.sequence or 0, x.chunk.ordinal) for x in letters if x.chunk}


def found_in_tiers(store: str) -> Counter[tuple[int, Chunk]]:
    """How often each tier gives each live chunk when asked for all it has."""
    found: Counter[tuple[int, Chunk]] = Counter()
    with tierloom.open(store) as snapshot:
        sequences = {(chunk.document_id, chunk.ordinal): chunk.sequence for chunk in snapshot.chunks()}
        for tier in (8, 16):
            for hit in snapshot.search([1.0] * 16, tier=tier, shortlist=1000, top=1000):
                found[tier, (hit.document_id, sequences[hit.document_id, hit.ordinal], hit.ordinal)] += 1
    return found


class ManyShards(Histories):
    """The same where every document is a vector shard of its own, or several."""

    shard_rows = 2


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(16, Refusing()) as served:
        yield served


class Scenario:
    """One document of two chunks, ingested by runs that all started from version 0."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.store = str(folder / "store")
        self.refusing = endpoint.script = Refusing()
        self._folder = folder
        self._numbers = itertools.count()
        small_collection(self.store, endpoint)

    def ingest(self, *refused: int, sequence: int = 1, base: int | None = 0, further: str = "") -> RunReport:
        """A run that is refused these chunks of the document; `further` is one more document of it."""
        self.refusing.words = {word_of(("a", sequence, ordinal)) for ordinal in refused}
        lines = [record_line("a", sequence, text_of(("a", sequence)))]
        lines += [record_line(further, 1, "further")] if further else []
        split = split_of_lines(self._folder / f"{next(self._numbers)}.jsonl", lines)
        return run_directly(ingest_job(self.store, base), [split])

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Documents in, live, superseded, dead-lettered."""
        counts = head_of(self.store).documents
        return counts.documents_in, counts.live, counts.superseded, counts.dead_lettered

    @property
    def live(self) -> set[int]:
        return {ordinal for _, _, ordinal in live_chunks(self.store)}

    @property
    def letters(self) -> set[int]:
        return {ordinal for _, _, ordinal in open_chunks(self.store)}


@pytest.fixture
def scenario(tmp_path: Path, endpoint: Endpoint) -> Scenario:
    return Scenario(tmp_path, endpoint)


def test_a_racing_run_that_succeeds_closes_the_letters_of_one_that_failed(scenario: Scenario) -> None:
    scenario.ingest(0, 1)
    assert (scenario.counts, scenario.letters) == ((1, 0, 0, 1), {0, 1})
    scenario.ingest()
    assert (scenario.counts, scenario.live, scenario.letters) == ((1, 1, 0, 0), {0, 1}, set())


def test_a_racing_run_that_fails_opens_no_letter_for_what_lives(scenario: Scenario) -> None:
    scenario.ingest()
    # Another document beside it: the same block would be found stored, and the model not asked.
    report = scenario.ingest(0, 1, further="b")
    assert report.record.documents.dead_lettered == 1
    assert (scenario.counts, scenario.live, scenario.letters) == ((2, 2, 0, 0), {0, 1}, set())


def test_racing_runs_that_fail_in_different_chunks_complete_each_other(scenario: Scenario) -> None:
    scenario.ingest(0)
    assert (scenario.counts, scenario.live, scenario.letters) == ((1, 1, 0, 0), {1}, {0})
    scenario.ingest(1, further="b")
    assert (scenario.counts, scenario.letters) == ((2, 2, 0, 0), set())
    assert live_chunks(scenario.store).keys() >= {("a", 1, 0), ("a", 1, 1)}


def test_a_dead_event_is_superseded_when_a_newer_one_lives(scenario: Scenario) -> None:
    scenario.ingest(0, 1)
    scenario.ingest(sequence=4)
    assert (scenario.counts, scenario.letters) == ((2, 1, 1, 0), set())
    scenario.ingest(0, 1, further="b")
    assert (scenario.counts, scenario.letters) == ((4, 2, 2, 0), set())


def test_racing_retries_close_a_letter_once(scenario: Scenario) -> None:
    scenario.ingest(0)
    first, second = (make_job(scenario.store, "retry", Fields(), retry=True) for _ in range(2))
    scenario.refusing.words = set()
    assert run_retry(scenario.store, first).published
    assert not run_retry(scenario.store, second).published
    assert (scenario.counts, scenario.live, scenario.letters) == ((1, 1, 0, 0), {0, 1}, set())


_SETTINGS = settings(
    max_examples=8,
    stateful_step_count=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = pytest.mark.slow(Histories.TestCase)
TestHistories.settings = _SETTINGS
TestManyShards = pytest.mark.slow(ManyShards.TestCase)
TestManyShards.settings = _SETTINGS
