"""Stopping at a cap by batches: as request by request, though what was sent comes back when it likes, or not at all."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierloom
from pipelines.running import make_job
from tests.embedders.batch_server import BatchServer, Fate
from tests.one_canary import ASIDE, keep_one_canary
from tests.transforms.runs import head_of, record_line, run_directly, small_collection, split_of_lines
from tests.transforms.test_leaving import BLOCK, DOCUMENTS, TOKENS, texts_of, words
from tierloom.embedders import batch_lane, gathering
from tierloom.embedders.batch_pace import Looks
from tierloom.errors import EmbedderUnavailable
from tierloom.run_report import RunReport
from tierloom.spending.terms import Allowance, Caps
from transforms.reading.records import Fields
from transforms.reading.splits import Split


class Place:
    """A collection at a provider of batches, and runs over it."""

    def __init__(self, folder: Path, server: BatchServer) -> None:
        self.server = server
        self.folder = folder
        self.store = str(folder / "store")
        small_collection(self.store, server, BLOCK)
        keep_one_canary(self.store)
        server.billed_tokens = 0

    def split(self, name: str, lines: list[str]) -> Split:
        return split_of_lines(self.folder / name, lines)

    def ingest(self, splits: list[Split], tokens: int | None = None) -> tuple[RunReport, int]:
        """The report, and what was billed."""
        before = self.server.billed_tokens
        job = make_job(self.store, "ingest", Fields(), allowance=Allowance(Caps(tokens=tokens)), lane="batch")
        report = run_directly(replace(job, concurrency=2), splits)
        self.server.run_out()
        assert not self.server.violations
        return report, self.server.billed_tokens - before

    def live(self) -> dict[tuple[str, int], str]:
        with tierloom.open(self.store) as snapshot:
            chunks = list(snapshot.chunks())
        assert len({(chunk.document_id, chunk.ordinal) for chunk in chunks}) == len(chunks)
        return {(chunk.document_id, chunk.ordinal): chunk.text for chunk in chunks}


@contextmanager
def opened(seed: int = 0) -> Iterator[Place]:
    with BatchServer(seed=seed) as server, TemporaryDirectory() as folder:
        yield Place(Path(folder), server)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lane, "LOOKS", Looks(0.0, 1.0, 0.0))


def by_lot(seed: int, badness: float) -> Iterator[Fate]:
    """What becomes of requests."""
    drawn = random.Random(seed)
    while True:
        kind: Fate = drawn.choice(["expired", "missing", 429, 500])
        yield kind if drawn.random() < badness else "answered"


@settings(max_examples=10, deadline=None)
@given(
    groups=DOCUMENTS,
    caps=st.lists(st.integers(1, 40 * TOKENS + 6 * ASIDE), min_size=1, max_size=3),
    per_batch=st.sampled_from([4, 7, 50]),
    badness=st.sampled_from([0.0, 0.1, 0.2]),
    seed=st.integers(0, 1 << 16),
)
def test_documents_are_whole_or_left_and_no_run_passes_its_cap(
    groups: list[list[int]], caps: list[int], per_batch: int, badness: float, seed: int
) -> None:
    fates = by_lot(seed, badness)
    with opened(seed) as place, mock.patch.object(gathering, "MAX_INPUTS", per_batch):
        place.server.fate = lambda texts: next(fates)
        documents = {f"{chr(97 + at)}{n}": size for at, group in enumerate(groups) for n, size in enumerate(group)}
        lines = {id_: record_line(id_, 1, words(id_, size)) for id_, size in documents.items()}
        splits = [
            place.split(f"{at}.jsonl", [line for id_, line in lines.items() if id_[0] == chr(97 + at)])
            for at in range(len(groups))
        ]
        everything = {key: text for id_, size in documents.items() for key, text in texts_of(id_, size).items()}
        for cap in [*caps, None]:
            before = {id_ for id_, _ in place.live()}
            try:
                report, billed = place.ingest(splits, cap)
            except EmbedderUnavailable:
                # Sent so often in vain that the run gave up.
                assert badness
                return
            live = place.live()
            whole = {id_ for id_, _ in live}
            assert cap is None or billed <= cap
            assert whole >= before
            assert live == {key: text for key, text in everything.items() if key[0] in whole}
            assert head_of(place.store).documents.adds_up
            assert report.record.left_documents == len(documents) - len(whole)
            assert (report.least_left > 0) <= (len(whole) < len(documents))
        assert place.live() == everything
        words_billed = Counter({text: times for text, times in place.server.billed.items() if text != gathering.PROBE})
        assert words_billed == Counter(everything.values())
