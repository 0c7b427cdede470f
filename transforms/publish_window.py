"""Publishing what a window brought: one version for each pane that a runner fires."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from tierloom.digest import digest_of
from tierloom.errors import InputError
from tierloom.run_report import RunReport
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_head, read_manifest
from transforms.bundle import BundleOutcome
from transforms.job import Job
from transforms.publishing.outcome import CursorMove
from transforms.publishing.steps import PublishSteps
from transforms.publishing.stream_position import Positions, Taken, cursor_move


def run_of(outcomes: Sequence[BundleOutcome]) -> str:
    """Names the run that publishes these bundles: the same whenever the pane comes again."""
    return digest_of("window", sorted(one.bundle for one in outcomes))[:32]


def published_by(run: str, store: Store, after: int) -> bool:
    """Whether a version after `after` was published by this run, however many others have come since."""
    return any(_run_at(version, store) == run for version in range(after + 1, head_version(store) + 1))


def _run_at(version: int, store: Store) -> str | None:
    try:
        return read_manifest(store, version).run.run
    except InputError:  # retired since
        return None


_TAKEN: Final = beam.DoFn.StateParam(ReadModifyWriteStateSpec("taken", PickleCoder()))


class PublishWindowDoFn(beam.DoFn):
    """(store, BundleOutcomes of a pane) -> RunReport, if the pane is not published yet.

    Keyed by the store, so that panes are published one after the other. What this does to the store is done at
    least once, what it remembers exactly once: a pane that comes again is found in the versions since.
    """

    def __init__(self, job: Job, source: str, since: int, taken_up: Positions) -> None:
        """`since` is the newest version when the pipeline was made, `taken_up` where it takes up each partition."""
        self._job = job
        self._source = source
        self._since = since
        self._taken_up = taken_up

    def setup(self) -> None:
        self._steps = PublishSteps(self._job)
        self._store = open_store(self._job.store)

    def process(self, pane: tuple[str, Iterable[BundleOutcome]], taken: Any = _TAKEN) -> Iterator[RunReport]:
        outcomes = list(pane[1])
        if outcomes:  # a trigger may fire an empty pane
            before = taken.read() or Taken(self._since)
            reached = before.with_outcomes(outcomes)
            run = run_of(outcomes)
            if not published_by(run, self._store, before.version):
                yield self._steps.publish(run, outcomes, cursor=self._cursor_move(reached))
            taken.write(replace(reached, version=head_version(self._store)))

    def teardown(self) -> None:
        self._steps.close()

    def _cursor_move(self, reached: Taken) -> CursorMove | None:
        held = read_head(self._store).cursor_of(self._source)
        return cursor_move(self._source, f"pipeline {self._job.run}", self._taken_up, reached, held)
