"""Comparing events with what is live: what did not change costs nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.document import Deletion, Document
from transforms.base import Base, base_of
from transforms.elements import DocumentBlock, EventBlock, Tally
from transforms.job import Job
from transforms.timing import stopwatch

Deletions: TypeAlias = tuple[Deletion, ...]


@dataclass(slots=True)
class Changes:
    """Of some events the ones that the base does not know; and how many the others are."""

    documents: list[Document] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


def changed_events(events: Sequence[Document | Deletion], base: Base, retry: bool = False) -> Changes:
    """What of these events the base does not hold yet at their sequence or a higher one.

    Of several events of one document the highest sequence is kept, the first of equal ones, but a deletion before
    a document. A document with an open letter is not tried again but by a `retry`.
    """
    newest = newest_events(events)
    live = base.find(newest)
    changes = Changes(tally=Tally(superseded=len(events) - len(newest)))
    for document_id, event in newest.items():
        known = max((address.sequence for address in live.get(document_id, ())), default=None)
        became = _became(event, known, base.tombstones.sequence_of(document_id))
        if became is None and not retry and (document_id, event.sequence) in base.dead_events:
            became = "known_dead" if isinstance(event, Document) else None
        _note(changes, event, became)
    return changes


def newest_events(events: Sequence[Document | Deletion]) -> dict[str, Document | Deletion]:
    """Of each document the event that wins, the first of equal ones."""
    newest: dict[str, Document | Deletion] = {}
    for event in events:
        seen = newest.get(event.document_id)
        if seen is None or _rank(event) > _rank(seen):
            newest[event.document_id] = event
    return newest


def _rank(event: Document | Deletion) -> tuple[int, bool]:
    return event.sequence, isinstance(event, Deletion)


_Became = Literal["unchanged", "superseded", "known_dead", "known_deleted"]


def _became(event: Document | Deletion, known: int | None, deleted: int | None) -> _Became | None:
    """What an event is in the eyes of a version with this live sequence and this deletion; None if it is news."""
    if isinstance(event, Deletion):
        if known is None and event.sequence == deleted:
            return "known_deleted"
        newer = known if known is not None else deleted
        return "superseded" if newer is not None and newer > event.sequence else None
    if event.sequence == known:
        return "unchanged"
    older = (known is not None and known > event.sequence) or (deleted is not None and deleted >= event.sequence)
    return "superseded" if older else None


def _note(changes: Changes, event: Document | Deletion, became: _Became | None) -> None:
    if became is not None:
        changes.tally = replace(changes.tally, **{became: getattr(changes.tally, became) + 1})
    elif isinstance(event, Deletion):
        changes.deletions.append(event)
    else:
        changes.documents.append(event)


class CompareDoFn(beam.DoFn):
    """EventBlock -> DocumentBlock of what changed; tags `deletions` and `tally`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def start_bundle(self) -> None:
        self._base = base_of(self._job)

    def process(
        self, block: EventBlock
    ) -> Iterator[
        DocumentBlock | TaggedOutput[Literal["deletions"], Deletions] | TaggedOutput[Literal["tally"], Tally]
    ]:
        with stopwatch("compare"):
            changes = changed_events(block.events, self._base, self._job.retry)
        yield TaggedOutput("tally", changes.tally)
        if changes.deletions:
            yield TaggedOutput("deletions", tuple(changes.deletions))
        if changes.documents:
            yield DocumentBlock(block.place, tuple(changes.documents))
