"""Publishing a run: everything that it made becomes one version."""

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam

from tierloom.letters import read_letters
from tierloom.manifest import DeadLetters, IndexShard
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport
from tierloom.seen_files import SeenFile
from tierloom.stores.opening import open_store
from transforms.base import retried_letters
from transforms.elements import Tally
from transforms.job import Job
from transforms.merge import MergedShard, Settled
from transforms.publishing.outcome import Made, outcome_of
from transforms.publishing.publisher import Publisher
from transforms.timing import stopwatch


class GatherDoFn(beam.DoFn):
    """(everything a run made of a generation) -> Made."""

    def __init__(self, job: Job, part: range | None = None) -> None:
        """`part` are the keys that the run goes through, if it builds the generation."""
        self._job = job
        self._part = part

    def process(  # one side input for each thing that a version is made of
        self,
        _: object,
        merged: Sequence[MergedShard],
        indexes: Iterable[IndexShard],
        letters: Iterable[DeadLetters],
        tallies: Iterable[Tally],
        files: Iterable[tuple[SeenFile, ...]],
        settled: Settled,
    ) -> Iterator[Made]:
        with stopwatch("publish"):
            stored = ObjectFiles(open_store(self._job.store))
            outcome = outcome_of(
                tally=sum(tallies, Tally()),
                settled=settled,
                letters=read_letters(letters, stored),
                retried=retried_letters(self._job),
                files=tuple(file for some in files for file in some),
            )
            shards = [one.shard for one in sorted(merged, key=lambda one: one.place)]
        yield Made(self._job.fingerprint, outcome, shards, sorted(indexes, key=_index_order), self._part)


class PublishDoFn(beam.DoFn):
    """(what a run made of each generation) -> RunReport. Idempotent: a run is published once."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, _: object, made: Sequence[Made]) -> Iterator[RunReport]:
        with stopwatch("publish"):
            report = Publisher(self._job, made).publish()
        yield report


def _index_order(index: IndexShard) -> tuple[int, str]:
    return index.parameters.dimensions, index.path
