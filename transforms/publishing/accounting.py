"""Counting documents in and out: every event ends live, superseded, deleted or dead-lettered.

What the cap of a run left did not come in: it comes in with the next one.
"""

from tierloom.errors import AccountingError
from tierloom.manifest import DocumentCounts
from tierloom.settle import Verdict
from transforms.publishing.letter_changes import LetterCounts
from transforms.publishing.outcome import Outcome


def run_counts(outcome: Outcome, verdict: Verdict) -> DocumentCounts:
    """What became of the events that this run read. Raises `AccountingError`."""
    return _checked(
        DocumentCounts(
            documents_in=outcome.read,
            live=outcome.tally.unchanged + verdict.live + verdict.completed + verdict.repeated,
            superseded=_superseded(outcome, verdict),
            deleted=outcome.tally.known_deleted + verdict.known_deletions + len(verdict.deletions),
            dead_lettered=len(outcome.records) + len(outcome.settled.dead) + outcome.tally.known_dead,
        ),
        "this run",
    )


def history_counts(before: DocumentCounts, outcome: Outcome, verdict: Verdict, letters: LetterCounts) -> DocumentCounts:
    """The counts of the whole history after this run. Raises `AccountingError`.

    Events that the history knows already, live, deleted or dead, are not counted in again.
    """
    tally = outcome.tally
    known = tally.unchanged + tally.known_dead + verdict.repeated + verdict.completed + letters.known + letters.revived
    known += tally.known_deleted + verdict.known_deletions
    beaten = verdict.replaced + verdict.removed + verdict.undone + letters.superseded
    return _checked(
        DocumentCounts(
            documents_in=before.documents_in + outcome.read - known - letters.closed,
            live=before.live + verdict.live - verdict.replaced - verdict.removed,
            superseded=before.superseded + _superseded(outcome, verdict) + beaten,
            deleted=before.deleted + len(verdict.deletions) - verdict.undone,
            dead_lettered=letters.dead,
        ),
        "the history",
    )


def _superseded(outcome: Outcome, verdict: Verdict) -> int:
    """Events of this run that a newer one beat, or that came in more than once."""
    return outcome.tally.superseded + outcome.settled.superseded + outcome.repeated_records + verdict.lost


def _checked(counts: DocumentCounts, of: str) -> DocumentCounts:
    if not counts.adds_up:
        raise AccountingError(f"the documents of {of} do not add up, so nothing was published: {counts}")
    return counts
