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
from transforms.publishing.outcome import CursorMove, Outcome
from transforms.publishing.publisher import Publisher
from transforms.timing import stopwatch


class PublishDoFn(beam.DoFn):
    """(everything a run made) -> RunReport. Idempotent: a run is published once.

    The element is the move of a stream's cursor, if a stream's it is.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(  # one side input for each thing that a version is made of
        self,
        cursor: CursorMove | None,
        merged: Sequence[MergedShard],
        indexes: Iterable[IndexShard],
        letters: Iterable[DeadLetters],
        tallies: Iterable[Tally],
        files: Iterable[tuple[SeenFile, ...]],
        settled: Settled,
    ) -> Iterator[RunReport]:
        with stopwatch("publish"):
            stored = ObjectFiles(open_store(self._job.store))
            outcome = Outcome(
                tally=sum(tallies, Tally()),
                settled=settled,
                letters=tuple(read_letters(letters, stored)),
                retried=retried_letters(self._job),
                files=tuple(file for some in files for file in some),
                cursor=cursor,
            )
            shards = [one.shard for one in sorted(merged, key=lambda one: one.place)]
            report = Publisher(self._job, outcome, shards, sorted(indexes, key=_index_order)).publish()
        yield report


def _index_order(index: IndexShard) -> tuple[int, str]:
    return index.parameters.dimensions, index.path
