"""Settling a run's small shards among themselves, and merging them to their target size."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from index_builder.merge import MergeTask, merge_vector_shards, plan_merges
from tierloom.column_files import ColumnFiles
from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion
from tierloom.letters import read_letters
from tierloom.manifest import DeadLetters, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.settle import settle
from tierloom.shards.live import LiveShard
from tierloom.stores.opening import open_store
from transforms.compare import Deletions
from transforms.elements import ShardReceipt
from transforms.job import Job
from transforms.paying import NOTHING_LEFT, Left, together
from transforms.publishing.events import Event, LiveEvents, event_of, events_of, live_events
from transforms.publishing.leaving import left_in_all, without_left
from transforms.timing import stopwatch


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the events of a run, before they meet those of other runs.

    `superseded` events lost to a higher sequence or repeated another; `deletions` hold, by document; `dead` events
    have letters and no row at all. Chunks and tokens as in `tierloom.manifest.RunRecord`; `left` is what the cap left.
    """

    superseded: int
    deletions: dict[str, int]
    dead: frozenset[Event]
    embedded: int
    copied: int
    found: int
    tokens: int
    left: Left = NOTHING_LEFT


@dataclass(frozen=True, slots=True)
class MergedShard:
    """A merged shard and its place among those of the run."""

    place: int
    shard: VectorShard


def settle_run(
    receipts: Sequence[ShardReceipt],
    deletions: Sequence[Deletion],
    letters: Sequence[DeadLetter],
    files: ObjectFiles,
    max_rows: int,
    left: Left = NOTHING_LEFT,
) -> tuple[Settled, list[MergeTask]]:
    """Who wins within the run, and the merges that leave the losers behind, and what the cap `left`."""
    ordered = sorted(receipts, key=lambda receipt: receipt.place)
    stored = [LiveShard(receipt.shard, files) for receipt in ordered]
    left = left_in_all(left, stored, letters)
    shards, letters = without_left(left, stored), left.without(letters)
    newest = {deletion.document_id: deletion.sequence for deletion in sorted(deletions, key=_sequence)}
    verdict = settle((), shards, newest)
    live = live_events(letters, shards, verdict.deletions.get)
    again = len(deletions) - len(newest)
    settled = Settled(
        superseded=verdict.lost + verdict.repeated + again + _repeated_with_letters(letters, live),
        deletions=verdict.deletions,
        dead=events_of(letters) - live.events,
        embedded=sum(receipt.embedded for receipt in ordered if not receipt.found),
        copied=sum(receipt.copied for receipt in ordered if not receipt.found),
        found=sum(receipt.shard.rows for receipt in ordered if receipt.found),
        tokens=sum(receipt.tokens for receipt in ordered if not receipt.found),
        left=left,
    )
    dead = [np.union1d(lost, np.flatnonzero(~shard.alive)) for lost, shard in zip(verdict.dead, shards, strict=True)]
    return settled, plan_merges([receipt.shard for receipt in ordered], dead, max_rows)


def _sequence(deletion: Deletion) -> int:
    return deletion.sequence


def _repeated_with_letters(letters: Iterable[DeadLetter], live: LiveEvents) -> int:
    """How often events came in beyond what their rows alone tell.

    Each time that an event comes in, each of its chunks becomes a row or a letter.
    """
    failed: defaultdict[Event, Counter[int]] = defaultdict(Counter)
    for letter in letters:
        if letter.chunk and (event := event_of(letter)):
            failed[event][letter.chunk.ordinal] += 1
    return sum(_further(live.rows.get(event, Counter()), ordinals) for event, ordinals in failed.items())


def _further(rows: Counter[int], failed: Counter[int]) -> int:
    return max((rows + failed).values()) - max(rows.values(), default=1)


class SettleDoFn(beam.DoFn):
    """(all receipts, deletions, letters, and what was left) -> MergeTasks in order; tag `settled`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._files = ColumnFiles(open_store(self._job.store))

    def process(
        self,
        _: object,
        receipts: Sequence[ShardReceipt],
        deletions: Sequence[Deletions],
        letters: Sequence[DeadLetters],
        left: Sequence[Left],
    ) -> Iterator[tuple[int, MergeTask] | TaggedOutput[Literal["settled"], Settled]]:
        with stopwatch("merge"):
            max_rows = self._job.collection.sizes.vector_shard_rows
            every = [deletion for block in deletions for deletion in block]
            opened = read_letters(letters, self._files)
            settled, tasks = settle_run(receipts, every, opened, self._files, max_rows, together(left))
            self._files.forget()
        yield TaggedOutput("settled", settled)
        yield from enumerate(tasks)


class MergeDoFn(beam.DoFn):
    """(place, MergeTask) -> MergedShard. Idempotent: the name is a digest of the task."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)

    def process(self, numbered: tuple[int, MergeTask]) -> Iterator[MergedShard]:
        place, task = numbered
        with stopwatch("merge"):
            shard = merge_vector_shards(task, self._store)
        if shard is not None:
            yield MergedShard(place, shard)
