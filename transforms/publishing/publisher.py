"""A run, ready to be published: it meets whatever head there is, and one manifest says what became of it."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from tierloom.commit import commit, now, writer
from tierloom.errors import GenerationsChanged
from tierloom.manifest import DocumentCounts, Manifest, RunRecord
from tierloom.run_report import RunReport, store_report
from tierloom.stores.opening import open_store
from tierloom.turn import check_turn
from transforms.base import open_shards
from transforms.job import Job
from transforms.paying import together
from transforms.publishing.generation_step import Changed, GenerationStep, OpenGeneration, only_deletions
from transforms.publishing.outcome import Made
from transforms.publishing.remembering import newly_seen, remember_deletions, remember_files, with_cursor


class OpenGenerations(dict[str, OpenGeneration]):
    """What is open of each generation of a collection, by checkpoint, from run to run."""

    def __init__(self, url: str, with_bases: bool = False) -> None:
        """`with_bases` shares what the bases of this process have open: for who works in one thread."""
        self._url = url
        self._with_bases = with_bases

    def __missing__(self, checkpoint: str) -> OpenGeneration:
        shards = open_shards(self._url, checkpoint) if self._with_bases else None
        self[checkpoint] = OpenGeneration(open_store(self._url), shards)
        return self[checkpoint]


class Publisher:
    """One run, ready to be published on top of whatever head it meets."""

    def __init__(self, job: Job, made: Sequence[Made], opened: OpenGenerations | None = None) -> None:
        """`made` has what the run made, of each generation that it knew. `opened` is what the publisher of the run
        before had open."""
        self._job = job
        self._made = {one.checkpoint: one for one in made}
        self._store = open_store(job.store)
        self._opened = opened or OpenGenerations(job.store)
        self._record = RunRecord(run=job.run, command=job.command)
        self._records: tuple[RunRecord, ...] = (self._record,)

    def publish(self) -> RunReport:
        """Commit a new version if there is anything new; say what became of the run.

        Raises `AccountingError` when documents in and out do not add up, `SourceHeld` when another stream moved the
        cursor that this one was to move, `BelowFloor` when a tier does not find what it should, `GenerationsChanged`
        when the collection has moved to other checkpoints since, `TurnLost` when another process has taken the run's
        turn: then nothing is published.
        """
        head = commit(self._store, self._successor, self._check_turn)
        published = head.run.run == self._job.run
        records = tuple(each.run for each in head.generations) if published else self._records
        report = RunReport(
            record=records[0],
            other=records[1] if len(records) > 1 else None,
            version=head.version,
            published=published,
            gate_seconds=sum(each.gate.seconds for each in head.generations if each.gate) if published else 0.0,
            least_left=together(made.outcome.settled.left for made in self._made.values()).least,
        )
        store_report(report, self._store)
        return report

    def _check_turn(self) -> None:
        if self._job.fence is not None:
            check_turn(self._store, self._job.fence, time.time())

    def _successor(self, head: Manifest) -> Manifest | None:
        if head.run.run == self._job.run:
            return None
        first = self._first(head)
        self._deciding = first.checkpoint
        changes = self._changes(head, first)
        self._records = tuple(change.generation.run for change in changes)
        files = self._opened[head.checkpoint].shards.files
        seen = newly_seen(head, self._job.base, first.outcome.seen, files)
        cursors = with_cursor(head, first.outcome.cursor)
        if not (any(change.is_news for change in changes) or seen or cursors != head.cursors):
            return None
        proposal = msgspec.structs.replace(
            head,
            version=head.version + 1,
            created=now(),
            writer=writer(),
            tombstones=remember_deletions(head, _together(changes), files),
            files=remember_files(head, seen, files),
            cursors=cursors,
        )
        for change in changes:
            proposal = proposal.with_generation(change.generation)
        return self._measured(proposal, head)

    def _first(self, head: Manifest) -> Made:
        """What the run made of the first generation that it knew. Raises `GenerationsChanged` if it knew none."""
        for checkpoint in head.checkpoints:
            if (made := self._made.get(checkpoint)) is not None:
                return made
        raise GenerationsChanged(
            f"the collection is of checkpoint {' and '.join(head.checkpoints)} now, and this run began when it was of "
            f"{' and '.join(self._made)}; nothing was published, run it again"
        )

    def _changes(self, head: Manifest, first: Made) -> list[Changed]:
        """Of each generation, in the order of the head. Which deletions hold is decided by the `first` one that the run
        knew: another one may lack documents still."""
        decided = self._changed(head.of(first.checkpoint), first)
        changes = [
            decided if generation.checkpoint == first.checkpoint else self._beside(generation, decided)
            for generation in head.generations
        ]
        beside = (change for change in changes if change is not decided)
        knowing = next(beside, decided) if self._builds else decided
        return [_agreeing(change, knowing) for change in changes]

    def _beside(self, generation: Manifest, decided: Changed) -> Changed:
        made = self._made.get(generation.checkpoint)
        if not self._builds and (made or decided.deletions):
            made = only_deletions(decided.deletions, made, generation.checkpoint)
        return self._changed(generation, made)

    @property
    def _builds(self) -> bool:
        """Whether the run builds a generation, and has nothing to tell the other one."""
        return any(one.part for one in self._made.values())

    def _changed(self, generation: Manifest, made: Made | None) -> Changed:
        paid = dict(self._job.canary_tokens).get(generation.checkpoint, 0)
        record = msgspec.structs.replace(self._record, canary_tokens=paid)
        changed = GenerationStep(record, self._store, self._opened[generation.checkpoint]).on(generation, made)
        reached = self._reached(generation)
        return Changed(
            msgspec.structs.replace(changed.generation, reached=reached),
            changed.is_news or reached != generation.reached,
            changed.deletions,
        )

    def _reached(self, generation: Manifest) -> int:
        """How far the building of a generation is after this run."""
        if self._left_some(generation):
            # The other one holds its text: whoever builds this one finds what it lacks.
            return generation.reached if self._builds or generation.checkpoint == self._deciding else 0
        if not self._builds:
            behind = generation.checkpoint not in self._made and any(one.merged for one in self._made.values())
            # A run that began before the generation did brought it nothing: whoever builds it looks at all of it again.
            return 0 if behind else generation.reached
        made = self._made.get(generation.checkpoint)
        if made and made.part and made.part.start <= generation.reached:
            return max(generation.reached, made.part.stop)
        return generation.reached

    def _left_some(self, generation: Manifest) -> bool:
        """Whether the run's cap left documents of this generation."""
        made = self._made.get(generation.checkpoint)
        return made is not None and made.outcome.settled.left.documents > 0

    def _measured(self, proposal: Manifest, head: Manifest) -> Manifest:
        """With the gate of each generation that is complete. Below its floor the one in front is not published, and
        none is completed; one that is only kept current is not promoted then."""
        for place, checkpoint in enumerate(proposal.checkpoints):
            generation, before = proposal.of(checkpoint), head.of(checkpoint)
            refuse = place == 0 or not before.is_complete
            measured = msgspec.structs.replace(generation, gate=None)
            if generation.is_complete:
                measured = self._opened[checkpoint].gate.measured(generation, before, refuse)
            proposal = proposal.with_generation(measured.own)
        return proposal


def _agreeing(change: Changed, decided: Changed) -> Changed:
    """A generation that is being built knows less of what was deleted and came back: it is told by the other one."""
    counts, deleted = change.generation.documents, decided.generation.documents.deleted
    agreed = DocumentCounts(
        documents_in=counts.documents_in + deleted - counts.deleted,
        live=counts.live,
        superseded=counts.superseded,
        deleted=deleted,
        dead_lettered=counts.dead_lettered,
    )
    return replace(change, generation=msgspec.structs.replace(change.generation, documents=agreed))


def _together(changes: Sequence[Changed]) -> Mapping[str, int]:
    deletions: defaultdict[str, int] = defaultdict(int)
    for change in changes:
        for document_id, sequence in change.deletions.items():
            deletions[document_id] = max(sequence, deletions[document_id])
    return deletions
