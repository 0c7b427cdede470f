"""Comparing events with what is live: what did not change costs nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.document import Deletion, Document
from transforms.base import Base, base_of
from transforms.elements import DocumentBlock, EventBlock, Tally
from transforms.job import Job
from transforms.timing import stopwatch

Deletions: TypeAlias = tuple[Deletion, ...]
E = TypeVar("E", Document, Deletion)
# A member of `Tally`.
_Became = Literal["unchanged", "superseded", "known_dead", "known_deleted"]


@dataclass(frozen=True, slots=True)
class Changes:
    """Of some events the ones that the base does not know; and how many the others are."""

    documents: tuple[Document, ...]
    deletions: Deletions
    tally: Tally


def changed_events(events: Sequence[Document | Deletion], base: Base, retry: bool = False) -> Changes:
    """What of these events the base does not hold yet at their sequence or a higher one.

    A document with an open letter is not tried again but by a `retry`.
    """
    newest = newest_events(events)
    live = base.sequences({event.document_id for event in newest})
    news: list[Document | Deletion] = []
    counts = Counter[_Became](superseded=len(events) - len(newest))
    for event in newest:
        became = _became(event, live.get(event.document_id), base.tombstones.sequence_of(event.document_id))
        if became is None and not retry and isinstance(event, Document):
            became = "known_dead" if (event.document_id, event.sequence) in base.dead_events else None
        if became is None:
            news.append(event)
        else:
            counts[became] += 1
    return Changes(
        documents=tuple(event for event in news if isinstance(event, Document)),
        deletions=tuple(event for event in news if isinstance(event, Deletion)),
        tally=Tally(**counts),
    )


def newest_events(events: Iterable[Document | Deletion]) -> list[Document | Deletion]:
    """Of each document its newest deletion, and its newest text unless that deletion wins; the first of equal ones.

    The deletion goes on also where a newer text follows: should the model refuse that, the older one must go.
    """
    documents: dict[str, Document] = {}
    deletions: dict[str, Deletion] = {}
    for event in events:
        if isinstance(event, Deletion):
            _keep_newest(deletions, event)
        else:
            _keep_newest(documents, event)
    beaten = {id_ for id_, gone in deletions.items() if id_ in documents and documents[id_].sequence <= gone.sequence}
    return [*(text for id_, text in documents.items() if id_ not in beaten), *deletions.values()]


def _keep_newest(newest: dict[str, E], event: E) -> None:
    seen = newest.get(event.document_id)
    if seen is None or event.sequence > seen.sequence:
        newest[event.document_id] = event


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
            yield TaggedOutput("deletions", changes.deletions)
        if changes.documents:
            yield DocumentBlock(block.place, changes.documents)
