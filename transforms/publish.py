"""Publishing a run: who wins against what is live is decided here, and one manifest says so."""

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import msgspec
import numpy as np

from tierloom import deletion_vector, names
from tierloom.commit import commit, now, writer
from tierloom.digest import bytes_digest
from tierloom.letters import read_letters
from tierloom.live_shard import LiveShard
from tierloom.manifest import DeadLetters, Deletes, IndexShard, Manifest, RunRecord, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport, store_report
from tierloom.settle import Verdict, settle
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from transforms.accounting import Outcome, history_counts, run_counts
from transforms.base import retried_letters
from transforms.elements import Tally
from transforms.job import Job
from transforms.letter_changes import LetterChanges, change_letters
from transforms.merge import MergedShard, Settled
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
        self._files = ObjectFiles(self._store)
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
        there = {shard.path for shard in head.vector_shards}
        incoming = [LiveShard(shard, self._files) for shard in self._merged if shard.path not in there]
        existing = [LiveShard(shard, self._files) for shard in head.vector_shards]
        verdict = settle(existing, incoming)
        outcome = self._outcome
        letters = change_letters(outcome.letters, outcome.retried, head, [*existing, *incoming], self._files)
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
        kept = [*existing, *incoming] if verdict.live or verdict.completed else existing
        shards = [_with_dead_rows(shard, verdict.dead[position], self._store) for position, shard in enumerate(kept)]
        added = {shard.stored.path for shard in kept[len(existing) :]}
        indexes = [index for index in self._indexes if set(index.vector_shards) <= added]
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            created=now(),
            writer=writer(),
            run=self._record,
            vector_shards=tuple(shards),
            index_shards=(*head.index_shards, *indexes),
            dead_letters=letters.store(self._job.run, self._store),
            documents=history_counts(head.documents, self._outcome, verdict, letters, self._known_records(head)),
        )

    def _known_records(self, head: Manifest) -> int:
        opened = {letter.letter_id for letter in read_letters(head.dead_letters, self._files)}
        return len({x.letter_id for x in self._outcome.letters if x.chunk is None and x.letter_id in opened})


def _with_dead_rows(shard: LiveShard, dead: np.ndarray, store: Store) -> VectorShard:
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
