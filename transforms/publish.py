"""Publishing a run: who wins against what is live is decided here, and one manifest says so."""

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from index_builder.verify import verify_index_shard
from tierloom import names
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.digest import bytes_digest
from tierloom.letters import read_letters
from tierloom.manifest import DeadLetters, Deletes, IndexShard, Manifest, RunRecord, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport, store_report
from tierloom.settle import Verdict, settle
from tierloom.shards import deletion_vector
from tierloom.shards.live import LiveShard
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from transforms.accounting import history_counts, run_counts
from transforms.base import retried_letters
from transforms.elements import Tally
from transforms.job import Job
from transforms.letter_changes import LetterChanges, change_letters
from transforms.merge import MergedShard, Settled
from transforms.outcome import Outcome
from transforms.timing import stopwatch


class Publisher:
    """One run, ready to be published on top of whatever head it meets."""

    def __init__(
        self, job: Job, outcome: Outcome, merged: Sequence[VectorShard], indexes: Sequence[IndexShard]
    ) -> None:
        self._job = job
        self._outcome = outcome
        self._merged = merged
        self._indexes = indexes
        self._store = open_store(job.store)
        self._files = ColumnFiles(self._store)
        self._record = RunRecord(run=job.run, command=job.command)

    def publish(self) -> RunReport:
        """Commit a new version if there is anything new; say what became of the run.

        Raises `AccountingError` when documents in and out do not add up: then nothing is published.
        """
        head = commit(self._store, self._successor)
        published = head.run.run == self._job.run
        report = RunReport(record=head.run if published else self._record, version=head.version, published=published)
        store_report(report, self._store)
        return report

    def _successor(self, head: Manifest) -> Manifest | None:
        if head.run.run == self._job.run:
            return None
        # A shard that the head has already (another run made the same one) comes in again, and loses every row.
        incoming = [LiveShard(shard, self._files) for shard in self._merged]
        existing = [LiveShard(shard, self._files) for shard in head.vector_shards]
        verdict = settle(existing, incoming)
        letters = change_letters(self._outcome, head, existing, incoming, self._files)
        self._record = self._describe_run(verdict)
        if not (verdict.live or verdict.completed or letters.changed):
            return None
        return self._next_manifest(head, existing, incoming, verdict, letters)

    def _describe_run(self, verdict: Verdict) -> RunRecord:
        settled = self._outcome.settled
        return RunRecord(
            run=self._job.run,
            command=self._job.command,
            documents=run_counts(self._outcome, verdict),
            embedded_chunks=settled.embedded,
            copied_chunks=settled.copied,
            found_chunks=settled.found,
            dead_letters=len({letter.letter_id for letter in self._outcome.letters}),
            tokens=settled.tokens,
        )

    def _next_manifest(
        self,
        head: Manifest,
        existing: Sequence[LiveShard],
        incoming: Sequence[LiveShard],
        verdict: Verdict,
        letters: LetterChanges,
    ) -> Manifest:
        stored = self._with_dead_rows(existing, verdict.dead[: len(existing)])
        added = self._added(head, incoming, verdict)
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            created=now(),
            writer=writer(),
            run=self._record,
            vector_shards=(*stored, *added),
            index_shards=(*head.index_shards, *self._indexes_of(added)),
            dead_letters=letters.store(self._job.run, self._store),
            documents=history_counts(head.documents, self._outcome, verdict, letters.counts),
        )

    def _added(self, head: Manifest, incoming: Sequence[LiveShard], verdict: Verdict) -> list[VectorShard]:
        """The vector shards that the head lacks; none when nothing of them would live."""
        if not (verdict.live or verdict.completed):
            return []
        there = {shard.path for shard in head.vector_shards}
        stored = self._with_dead_rows(incoming, verdict.dead[len(head.vector_shards) :])
        return [shard for shard in stored if shard.path not in there]

    def _with_dead_rows(self, shards: Sequence[LiveShard], dead: Sequence[NDArray[np.int64]]) -> list[VectorShard]:
        return [_with_dead_rows(shard, rows, self._store) for shard, rows in zip(shards, dead, strict=True)]

    def _indexes_of(self, added: Sequence[VectorShard]) -> list[IndexShard]:
        """Index shards that cover these vector shards and no others.

        Where the head got some of the run's vector shards from elsewhere in the meantime, what was built
        together with them is of no use any more, and is built again.
        """
        paths = {shard.path for shard in added}
        whole = [index for index in self._indexes if paths.issuperset(index.vector_shards)]
        covered = {path for index in whole for path in index.vector_shards}
        bare = [shard for shard in added if shard.path not in covered]
        collection = self._job.collection
        tasks = plan_index_tasks(collection.tiers, bare, collection.sizes.index_shard_rows)
        return [*whole, *(self._build(task) for task in tasks)]

    def _build(self, task: IndexTask) -> IndexShard:
        index = build_index_shard(task, self._store)
        verify_index_shard(index, task.vector_shards, self._files)
        return index


def _with_dead_rows(shard: LiveShard, dead: NDArray[np.int64], store: Store) -> VectorShard:
    if not len(dead):
        return shard.stored
    rows = np.union1d(np.flatnonzero(~shard.alive), dead)
    data = deletion_vector.to_bytes(rows.tolist())
    sha256 = bytes_digest(data)
    name = names.deletes(bytes_digest(f"{shard.stored.path} {sha256}".encode())[:40])
    store.create(name, data)
    deletes = Deletes(path=name, bytes=len(data), sha256=sha256, rows=len(rows))
    return msgspec.structs.replace(shard.stored, deletes=deletes)


class PublishDoFn(beam.DoFn):
    """(everything a run made) -> RunReport. Idempotent: a run is published once."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(  # one side input for each thing that a version is made of
        self,
        _: object,
        merged: Sequence[MergedShard],
        indexes: Iterable[IndexShard],
        letters: Iterable[DeadLetters],
        tallies: Iterable[Tally],
        settled: Settled,
    ) -> Iterator[RunReport]:
        with stopwatch("publish"):
            files = ObjectFiles(open_store(self._job.store))
            outcome = Outcome(
                sum(tallies, Tally()), settled, tuple(read_letters(letters, files)), retried_letters(self._job)
            )
            shards = [one.shard for one in sorted(merged, key=lambda one: one.place)]
            report = Publisher(self._job, outcome, shards, sorted(indexes, key=_index_order)).publish()
        yield report


def _index_order(index: IndexShard) -> tuple[int, str]:
    return index.parameters.dimensions, index.path
