"""What a run changes in one generation: who wins against what is live there, and what that makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from index_builder.gate.recall_gate import RecallGate
from index_builder.verify import verify_index_shard
from tierloom.collection import Tier
from tierloom.column_files import ColumnFiles
from tierloom.manifest import Generation, IndexShard, Manifest, RunRecord, VectorShard
from tierloom.settle import Verdict, settle
from tierloom.shards.live import LiveShard, at_once
from tierloom.shards.live_shards import LiveShards
from tierloom.stores.store import Store
from tierloom.storing import with_dead_rows
from tierloom.tombstones import Tombstones
from transforms.elements import Tally
from transforms.merge import Settled
from transforms.publishing.accounting import history_counts, run_counts
from transforms.publishing.letter_changes import Sides, change_letters
from transforms.publishing.outcome import Made, Outcome


@dataclass(frozen=True, slots=True)
class Changed:
    """A generation after a run. `is_news` tells if any row, letter or remembered deletion of it is; `deletions` are
    those of the run that hold and are news, by document."""

    generation: Generation
    is_news: bool
    deletions: Mapping[str, int]


class OpenGeneration:
    """What is open of a generation from version to version: its shards, and what its gate measured. For one thread."""

    def __init__(self, store: Store, shards: LiveShards | None = None) -> None:
        self.shards = shards or LiveShards(ColumnFiles(store))
        self.gate = RecallGate(self.shards.files)


class GenerationStep:
    """One run, and one generation of whatever head it meets."""

    def __init__(self, record: RunRecord, store: Store, opened: OpenGeneration) -> None:
        """`record` names the run."""
        self._record = record
        self._store = store
        self._opened = opened
        self._files = opened.shards.files

    def on(self, head: Manifest, made: Made | None) -> Changed:
        """The generation in front of the head, with what the run `made` of it: perhaps nothing.

        Raises `AccountingError` when documents in and out do not add up.
        """
        if made is None:
            return Changed(msgspec.structs.replace(head.own, run=self._record), False, {})
        outcome = made.outcome
        # A shard that the head has already (another run made the same one) comes in again, and loses every row.
        shards = self._opened.shards.of(head, made.merged)
        existing, incoming = shards[: len(head.vector_shards)], shards[len(head.vector_shards) :]
        tombstones = Tombstones(head.tombstones, self._files)
        verdict = settle(existing, incoming, outcome.settled.deletions, tombstones)
        letters = change_letters(outcome, head, _sides(existing, shards, tombstones, verdict), self._files)
        record = self._described(outcome, verdict)
        if not (_changes(verdict) or letters.changed):
            return Changed(msgspec.structs.replace(head.own, run=record), False, {})
        stored = self._with_dead_rows(existing, verdict.dead[: len(existing)])
        added = self._added(head, incoming, verdict)
        generation = msgspec.structs.replace(
            head.own,
            run=record,
            vector_shards=(*stored, *added),
            index_shards=(*head.index_shards, *self._indexes_of(added, head, made.indexes)),
            dead_letters=letters.store(record.run, self._store),
            documents=history_counts(head.documents, outcome, verdict, letters.counts),
        )
        return Changed(generation, True, verdict.deletions)

    def _described(self, outcome: Outcome, verdict: Verdict) -> RunRecord:
        settled = outcome.settled
        return msgspec.structs.replace(
            self._record,
            documents=run_counts(outcome, verdict),
            added=verdict.live - verdict.replaced,
            changed=verdict.replaced,
            removed=verdict.removed,
            embedded_chunks=settled.embedded,
            copied_chunks=settled.copied,
            found_chunks=settled.found,
            dead_letters=len({letter.letter_id for letter in outcome.letters}),
            tokens=settled.tokens,
            left_documents=settled.left.documents,
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

    def _indexes_of(
        self, added: Sequence[VectorShard], head: Manifest, built: Sequence[IndexShard]
    ) -> list[IndexShard]:
        """Index shards that cover these vector shards, and no others, in every tier of the head."""
        return [index for tier in head.collection.tiers for index in self._indexes_in(tier, added, head, built)]

    def _indexes_in(
        self, tier: Tier, added: Sequence[VectorShard], head: Manifest, built: Sequence[IndexShard]
    ) -> list[IndexShard]:
        """Of one tier. What the run did not build is built now: the tier was added while it lasted, or the head got
        some of its vector shards from elsewhere, and what was built together with them is of no use any more."""
        paths = {shard.path for shard in added}
        whole = [index for index in built if index.tier == tier.name and paths.issuperset(index.vector_shards)]
        covered = {path for index in whole for path in index.vector_shards}
        bare = [shard for shard in added if shard.path not in covered]
        tasks = plan_index_tasks([tier], bare, head.collection.sizes.index_shard_rows)
        return [*whole, *(self._build(task) for task in tasks)]

    def _build(self, task: IndexTask) -> IndexShard:
        index = build_index_shard(task, self._store)
        verify_index_shard(index, task.vector_shards, self._files)
        return index


def only_deletions(deletions: Mapping[str, int], made: Made | None, checkpoint: str) -> Made:
    """What a run makes of a generation beside the one that decides which deletions hold: of its own, if it `made`
    anything of it, those that do."""
    if made is None:
        settled = Settled(0, dict(deletions), frozenset(), 0, 0, 0, 0)
        return Made(checkpoint, Outcome(Tally(read=len(deletions)), settled, ()))
    settled = made.outcome.settled
    beaten = len(settled.deletions) - len(deletions)
    agreed = replace(settled, deletions=dict(deletions), superseded=settled.superseded + beaten)
    return replace(made, outcome=replace(made.outcome, settled=agreed))


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
