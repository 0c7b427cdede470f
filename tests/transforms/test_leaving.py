"""Stopping at a cap: documents are whole or left, what is left comes next, and nothing is paid for twice."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierloom
from pipelines.running import make_job
from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.one_canary import ASIDE, WATCHED, keep_one_canary
from tests.transforms.runs import (
    Refusing,
    deletion_line,
    head_of,
    record_line,
    run_directly,
    run_retry,
    small_collection,
    split_of_lines,
)
from tierloom.document import Document, Origin
from tierloom.errors import CapReached
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport
from tierloom.seen_files import read_seen_files
from tierloom.spending.terms import Allowance, Caps
from tierloom.stores.opening import open_store
from transforms.bundle import ShardBundleDoFn, Span
from transforms.inline import InlineStep, aside
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits
from transforms.reading.splits import Split

BLOCK = 16
SMALL = BLOCK // 4
TOKENS = len("d_10000")

DOCUMENTS = st.lists(st.lists(st.integers(1, 3 * SMALL), min_size=1, max_size=4), min_size=1, max_size=4)


def words(document_id: str, chunks: int, sequence: int = 1) -> str:
    return " ".join(f"{document_id:2}{sequence}{at:04}".replace(" ", "_") for at in range(chunks))


def texts_of(document_id: str, chunks: int, sequence: int = 1) -> dict[tuple[str, int], str]:
    return {(document_id, at): word for at, word in enumerate(words(document_id, chunks, sequence).split())}


class Place:
    """A collection at an endpoint, and runs over it."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.folder = folder
        self.store = str(folder / "store")
        small_collection(self.store, endpoint, BLOCK)
        keep_one_canary(self.store)
        endpoint.billed_tokens = endpoint.canary_tokens = endpoint.requests = 0

    def split(self, name: str, lines: list[str]) -> Split:
        return split_of_lines(self.folder / name, lines)

    def ingest(self, splits: list[Split], tokens: int | None = None) -> tuple[RunReport, int]:
        """The report, and what was billed for documents; all of it is within the cap."""
        before, canaries = self.endpoint.billed_tokens, self.endpoint.canary_tokens
        job = make_job(self.store, "ingest", Fields(), allowance=Allowance(Caps(tokens=tokens)))
        report = run_directly(job, splits)
        billed = self.endpoint.billed_tokens - before
        assert tokens is None or billed <= tokens
        return report, billed - (self.endpoint.canary_tokens - canaries)

    def live(self) -> dict[tuple[str, int], str]:
        with tierloom.open(self.store) as snapshot:
            chunks = list(snapshot.chunks())
        assert len({(chunk.document_id, chunk.ordinal) for chunk in chunks}) == len(chunks)
        return {(chunk.document_id, chunk.ordinal): chunk.text for chunk in chunks}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture
def place(tmp_path: Path, endpoint: Endpoint) -> Place:
    return Place(tmp_path, endpoint)


@settings(max_examples=10, deadline=None)
@given(groups=DOCUMENTS, cap=st.integers(1, 40 * TOKENS + 6 * ASIDE))
def test_documents_are_whole_or_left_and_the_next_run_pays_for_the_rest_alone(
    groups: list[list[int]], cap: int
) -> None:
    with TemporaryDirectory() as folder, Endpoint(dimensions=16) as endpoint:
        place = Place(Path(folder), endpoint)
        documents = {f"{chr(97 + at)}{n}": size for at, group in enumerate(groups) for n, size in enumerate(group)}
        lines = {id_: record_line(id_, 1, words(id_, size)) for id_, size in documents.items()}
        splits = [
            place.split(f"{at}.jsonl", [line for id_, line in lines.items() if id_[0] == chr(97 + at)])
            for at in range(len(groups))
        ]
        everything = {key: text for id_, size in documents.items() for key, text in texts_of(id_, size).items()}
        unique = sum(len(text) for text in everything.values())

        report, billed = place.ingest(splits, cap)
        live = place.live()
        whole = {id_ for id_, _ in live}
        paid = endpoint.billed_tokens
        assert live == {key: text for key, text in everything.items() if key[0] in whole}
        assert report.record.left_documents == len(documents) - len(whole)
        assert report.record.documents.documents_in == len(whole)
        assert (report.least_left > 0) == (len(whole) < len(documents))
        # Nothing that fits is left.
        assert paid + report.least_left > cap or not report.record.left_documents

        report, further = place.ingest(splits)
        assert place.live() == everything
        assert billed + further == unique == endpoint.billed_tokens - endpoint.canary_tokens
        assert set(endpoint.billed.values()) == {1}
        assert head_of(place.store).documents.documents_in == len(documents)
        assert report.record.left_documents == 0


def test_an_older_version_stays_live_until_its_successor_can_be_paid_for(place: Place) -> None:
    place.ingest([place.split("old.jsonl", [record_line("d", 1, words("d", 3)), record_line("e", 1, words("e", 1))])])
    news = [place.split("new.jsonl", [record_line("d", 2, words("d", 3, 2)), deletion_line("e", 2)])]
    report, billed = place.ingest(news, 2 * TOKENS + ASIDE)
    assert billed == 0
    assert place.live() == texts_of("d", 3)
    assert (report.record.left_documents, report.record.removed) == (1, 1)
    assert report.least_left == 3 * TOKENS + ASIDE
    place.ingest(news)
    assert place.live() == texts_of("d", 3, 2)


def test_a_file_that_holds_something_left_is_read_again_and_no_other(place: Place) -> None:
    folder = place.folder / "source"
    folder.mkdir()
    for name, size in (("a", 1), ("b", 4)):
        (folder / f"{name}.jsonl").write_text(record_line(name, 1, words(name, size)))
    place.ingest([*plan_splits([str(folder)]).splits], TOKENS + ASIDE)
    seen = read_seen_files(head_of(place.store).files, ObjectFiles(open_store(place.store)))
    assert set(seen) == {str(folder / "a.jsonl")}
    again = plan_splits([str(folder)], seen=seen)
    assert (again.files, again.unchanged) == (1, 1)
    place.ingest([*again.splits])
    assert place.live() == texts_of("a", 1) | texts_of("b", 4)


def test_a_large_document_is_not_begun_twice(place: Place) -> None:
    """Its first blocks are paid for, the cap leaves the last one: nothing of it is live, and they are found again."""
    size = 3 * SMALL
    lines = [record_line("d", 1, words("d", size)), record_line("e", 1, words("e", 1))]
    splits = [place.split("r.jsonl", lines)]
    report, billed = place.ingest(splits, (2 * SMALL + 1) * TOKENS + 2 * WATCHED + ASIDE)
    assert billed == (2 * SMALL + 1) * TOKENS
    assert place.live() == texts_of("e", 1)
    assert (report.record.left_documents, report.record.documents.documents_in) == (1, 1)
    report, billed = place.ingest(splits)
    assert billed == SMALL * TOKENS
    assert report.record.found_chunks == 2 * SMALL
    assert place.live() == texts_of("d", size) | texts_of("e", 1)


def test_an_event_that_comes_twice_is_counted_in_both_times(place: Place) -> None:
    """Once it was begun and left, once it was whole, for all was found in the store."""
    size = 2 * SMALL
    large = record_line("d", 1, words("d", size))
    first = [place.split("a.jsonl", [large])]
    cap = (size + SMALL) * TOKENS + 2 * WATCHED + ASIDE
    report, _ = place.ingest([*first, place.split("b.jsonl", [large])], cap)
    # Both copies are the same blocks: the second one finds what the first one stored, or sends it too.
    assert report.record.documents.adds_up
    assert report.record.left_documents + report.record.documents.documents_in == 2
    place.ingest(first)
    assert place.live() == texts_of("d", size)


def test_an_event_that_is_left_whenever_it_comes_is_counted_each_time(place: Place) -> None:
    line = record_line("d", 1, words("d", 3 * SMALL))
    splits = [place.split("a.jsonl", [line]), place.split("b.jsonl", [line])]
    report, billed = place.ingest(splits, TOKENS)
    assert billed == 0
    assert (report.record.left_documents, report.record.documents.documents_in) == (2, 0)


def test_letters_that_cannot_be_paid_for_stay_open(place: Place) -> None:
    refusing = Refusing()
    refusing.words = {words(name, 1) for name in "ab"}
    place.endpoint.script = refusing
    lines = [record_line(name, 1, words(name, 2)) for name in "ab"]
    place.ingest([place.split("r.jsonl", lines)])
    assert [part.letters for part in head_of(place.store).dead_letters] == [2]
    place.endpoint.script = None
    job = make_job(place.store, "retry", Fields(), retry=True, allowance=Allowance(Caps(tokens=TOKENS + ASIDE)))
    report = run_retry(place.store, job)
    assert (report.record.left_documents, report.record.documents.documents_in) == (1, 1)
    assert [part.letters for part in head_of(place.store).dead_letters] == [1]
    assert head_of(place.store).documents.adds_up
    run_retry(place.store)
    assert head_of(place.store).dead_letters == ()
    assert place.live() == texts_of("a", 2) | texts_of("b", 2)


def test_what_retries_ate_is_left_and_what_was_answered_is_kept(place: Place) -> None:
    """All was set aside, then the endpoint billed an answer that never came: its retry is one too many."""

    def script(asked: Asked) -> Reply | None:
        return error(500, "after the work was done") if asked.number == 0 else None

    place.endpoint.script = script
    lines = [record_line(name, 1, words(name, 1)) for name in "abcd"]
    report, billed = place.ingest([place.split("r.jsonl", lines)], 4 * TOKENS + ASIDE)
    assert billed == 0
    assert report.record.left_documents == 4
    assert not report.published


def test_a_pipeline_without_end_fails_at_its_cap(place: Place) -> None:
    cap = 2 * TOKENS + ASIDE
    allowance = Allowance(Caps(tokens=cap))
    job = replace(make_job(place.store, "stream", Fields(), allowance=allowance), base=None)
    documents = [Document(name, 1, words(name, 1), "{}", Origin("topic")) for name in "abc"]
    said = f"--max-tokens {cap}: what comes next would pass it; start again"
    with closing(InlineStep(ShardBundleDoFn(job))) as step, pytest.raises(CapReached, match=said):
        list(step.bundle([Span(tuple(documents), "0", 0, 0, 3)], others=aside()))
    assert place.endpoint.billed_tokens == 2 * TOKENS + WATCHED
