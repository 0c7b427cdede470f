"""A run, ready to be published: who wins against what is live is decided here, and one manifest says so."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from index_builder.gate.recall_gate import RecallGate
from index_builder.verify import verify_index_shard
from tierloom.collection import Tier
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.manifest import IndexShard, Manifest, RunRecord, VectorShard
from tierloom.run_report import RunReport, store_report
from tierloom.seen_files import SeenFile
from tierloom.settle import Verdict, settle
from tierloom.shards.live import LiveShard, at_once
from tierloom.shards.live_shards import LiveShards
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.storing import with_dead_rows
from tierloom.tombstones import Tombstones
from transforms.job import Job
from transforms.publishing.accounting import history_counts, run_counts
from transforms.publishing.letter_changes import LetterChanges, Sides, change_letters
from transforms.publishing.outcome import Outcome
from transforms.publishing.remembering import newly_seen, remember_deletions, remember_files, with_cursor


class Publisher:
    """One run, ready to be published on top of whatever head it meets."""

    def __init__(
        self,
        job: Job,
        outcome: Outcome,
        merged: Sequence[VectorShard],
        indexes: Sequence[IndexShard],
        shards: LiveShards | None = None,
        gate: RecallGate | None = None,
    ) -> None:
        """`shards` are what the publisher of the run before had open, `gate` what it measured."""
        self._job = job
        self._outcome = outcome
        self._merged = merged
        self._indexes = indexes
        self._store = open_store(job.store)
        self._shards = shards or LiveShards(ColumnFiles(self._store))
        self._files = self._shards.files
        self._gate = gate or RecallGate(self._files)
        self._record = RunRecord(run=job.run, command=job.command)
        self._seen: list[SeenFile] = []

    def publish(self) -> RunReport:
        """Commit a new version if there is anything new; say what became of the run.

        Raises `AccountingError` when documents in and out do not add up, `SourceHeld` when another stream moved the
        cursor that this one was to move, `BelowFloor` when a tier does not find what it should: then nothing is
        published.
        """
        head = commit(self._store, self._successor)
        published = head.run.run == self._job.run
        report = RunReport(
            record=head.run if published else self._record,
            version=head.version,
            published=published,
            gate_seconds=head.gate.seconds if published and head.gate else 0.0,
        )
        store_report(report, self._store)
        return report

    def _successor(self, head: Manifest) -> Manifest | None:
        if head.run.run == self._job.run:
            return None
        # A shard that the head has already (another run made the same one) comes in again, and loses every row.
        shards = self._shards.of(head, self._merged)
        existing, incoming = shards[: len(head.vector_shards)], shards[len(head.vector_shards) :]
        tombstones = Tombstones(head.tombstones, self._files)
        verdict = settle(existing, incoming, self._outcome.settled.deletions, tombstones)
        letters = change_letters(self._outcome, head, _sides(existing, shards, tombstones, verdict), self._files)
        self._record = self._describe_run(verdict)
        moved = with_cursor(head, self._outcome.cursor) != head.cursors
        self._seen = newly_seen(head, self._job.base, self._outcome.seen, self._files)
        if not (_changes(verdict) or letters.changed or self._seen or moved):
            return None
        return self._gate.measured(self._next_manifest(head, existing, incoming, verdict, letters), head)

    def _describe_run(self, verdict: Verdict) -> RunRecord:
        settled = self._outcome.settled
        return RunRecord(
            run=self._job.run,
            command=self._job.command,
            documents=run_counts(self._outcome, verdict),
            added=verdict.live - verdict.replaced,
            changed=verdict.replaced,
            removed=verdict.removed,
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
            index_shards=(*head.index_shards, *self._indexes_of(added, head)),
            dead_letters=letters.store(self._job.run, self._store),
            documents=history_counts(head.documents, self._outcome, verdict, letters.counts),
            tombstones=remember_deletions(head, verdict.deletions, self._files),
            files=remember_files(head, self._seen, self._files),
            cursors=with_cursor(head, self._outcome.cursor),
        )

    def _added(self, head: Manifest, incoming: Sequence[LiveShard], verdict: Verdict) -> list[VectorShard]:
        """The vector shards that the head lacks; none when nothing of them would live."""
        if not (verdict.live or verdict.completed):
            return []
        there = {shard.path for shard in head.vector_shards}
        stored = self._with_dead_rows(incoming, verdict.dead[len(head.vector_shards) :])
        return [shard for shard in stored if shard.path not in there]

    def _with_dead_rows(self, shards: Sequence[LiveShard], dead: Sequence[NDArray[np.int64]]) -> list[VectorShard]:
        return at_once(partial(_with_dead_rows, store=self._store), shards, dead)

    def _indexes_of(self, added: Sequence[VectorShard], head: Manifest) -> list[IndexShard]:
        """Index shards that cover these vector shards, and no others, in every tier of the head."""
        return [index for tier in head.collection.tiers for index in self._indexes_in(tier, added)]

    def _indexes_in(self, tier: Tier, added: Sequence[VectorShard]) -> list[IndexShard]:
        """Of one tier. What the run did not build is built now: the tier was added while it lasted, or the head got
        some of its vector shards from elsewhere, and what was built together with them is of no use any more."""
        paths = {shard.path for shard in added}
        whole = [index for index in self._indexes if index.tier == tier.name and paths.issuperset(index.vector_shards)]
        covered = {path for index in whole for path in index.vector_shards}
        bare = [shard for shard in added if shard.path not in covered]
        tasks = plan_index_tasks([tier], bare, self._job.collection.sizes.index_shard_rows)
        return [*whole, *(self._build(task) for task in tasks)]

    def _build(self, task: IndexTask) -> IndexShard:
        index = build_index_shard(task, self._store)
        verify_index_shard(index, task.vector_shards, self._files)
        return index


def _changes(verdict: Verdict) -> bool:
    """Whether any row or any remembered deletion is news."""
    return bool(verdict.live or verdict.completed or verdict.removed or verdict.deletions)


def _sides(existing: list[LiveShard], every: list[LiveShard], tombstones: Tombstones, verdict: Verdict) -> Sides:
    def deleted_after(document_id: str) -> int | None:
        return verdict.deletions.get(document_id, tombstones.sequence_of(document_id))

    return Sides(existing, tombstones.sequence_of, every, deleted_after)


def _with_dead_rows(shard: LiveShard, dead: NDArray[np.int64], store: Store) -> VectorShard:
    if not len(dead):
        return shard.stored
    return with_dead_rows(shard.stored, np.union1d(np.flatnonzero(~shard.alive), dead), store)
