"""Counting documents in and out: every event ends live, superseded, deleted or dead-lettered."""

from dataclasses import dataclass

from tierloom.dead_letter import DeadLetter
from tierloom.errors import AccountingError
from tierloom.manifest import DocumentCounts
from tierloom.settle import Verdict
from transforms.elements import Tally
from transforms.letter_changes import LetterChanges
from transforms.merge import Settled


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did before it met the head. `retried` are the letters that it sent through again."""

    tally: Tally
    settled: Settled
    letters: tuple[DeadLetter, ...]
    retried: tuple[DeadLetter, ...] = ()


def run_counts(outcome: Outcome, verdict: Verdict) -> DocumentCounts:
    """What became of the events that this run read. Raises `AccountingError`."""
    tally, settled = outcome.tally, outcome.settled
    records = {letter.letter_id for letter in outcome.letters if letter.chunk is None}
    return _checked(
        DocumentCounts(
            documents_in=tally.read,
            live=tally.unchanged + verdict.live + verdict.completed + verdict.repeated,
            superseded=tally.superseded + settled.superseded + verdict.lost,
            dead_lettered=len(records) + len(settled.dead) + tally.known_dead,
        ),
        "this run",
    )


def history_counts(
    before: DocumentCounts, outcome: Outcome, verdict: Verdict, letters: LetterChanges, known_records: int
) -> DocumentCounts:
    """The counts of the whole history after this run. Raises `AccountingError`.

    Events that the history knows already are not counted in again: unchanged documents, open letters
    (`known_records` of them unreadable records), and what was retried.
    """
    tally, settled = outcome.tally, outcome.settled
    known = tally.unchanged + tally.known_dead + verdict.repeated
    known += _events(outcome.retried) if outcome.retried else known_records + verdict.completed
    superseded = tally.superseded + settled.superseded + verdict.lost + verdict.replaced + letters.outdated
    return _checked(
        DocumentCounts(
            documents_in=before.documents_in + tally.read - known,
            live=before.live + verdict.live - verdict.replaced,
            superseded=before.superseded + superseded,
            deleted=before.deleted,
            dead_lettered=letters.dead,
        ),
        "the history",
    )


def _events(letters: tuple[DeadLetter, ...]) -> int:
    """Events of which letters speak: one for a record, one for all chunks of a document."""
    documents = {(letter.document_id, letter.sequence) for letter in letters if letter.chunk}
    return len(documents) + sum(letter.chunk is None for letter in letters)


def _checked(counts: DocumentCounts, of: str) -> DocumentCounts:
    if not counts.adds_up:
        raise AccountingError(f"the documents of {of} do not add up, so nothing was published: {counts}")
    return counts
