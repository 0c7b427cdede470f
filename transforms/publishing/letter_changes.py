"""Which dead letters are open after a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tierloom.dead_letter import DeadLetter
from tierloom.letters import read_letters, store_letters
from tierloom.manifest import DeadLetters, Manifest
from tierloom.object_files import ObjectFiles
from tierloom.shards.live import LiveShard
from tierloom.stores.store import Store
from transforms.publishing.events import DeletedAt, Event, LiveEvents, events_of, live_events
from transforms.publishing.outcome import Outcome


@dataclass(frozen=True, slots=True)
class LetterCounts:
    """What letters mean for the counts of the history, in documents and unreadable records.

    `dead` is what open letters speak of and nothing lives. Of what the head had as dead, `revived` has live rows
    now, and `closed` counts the records that a retry read. `known` arrived dead in this run and was in the head
    already, dead or live. `superseded` was dead in the head or arrived so, and a newer event lives.
    """

    dead: int
    revived: int
    closed: int
    known: int
    superseded: int


@dataclass(frozen=True, slots=True)
class Sides:
    """What a run met: the shards of the head, and when the head knew a document deleted; with those of the run, the
    shards of both, and when a document is deleted after it."""

    before: Sequence[LiveShard]
    deleted_before: DeletedAt
    after: Sequence[LiveShard]
    deleted_after: DeletedAt


@dataclass(frozen=True, slots=True)
class LetterChanges:
    """`kept` parts stay as they are, `rewritten` letters make a new one; `changed` tells if that is any change."""

    kept: tuple[DeadLetters, ...]
    rewritten: tuple[DeadLetter, ...]
    changed: bool
    counts: LetterCounts

    def store(self, run: str, store: Store) -> tuple[DeadLetters, ...]:
        """The parts of the next manifest."""
        return (*self.kept, store_letters(self.rewritten, run, store)) if self.rewritten else self.kept


_Letters = Mapping[str, DeadLetter]
_GROWTH: Final = 2


def change_letters(
    outcome: Outcome,
    head: Manifest,
    sides: Sides,
    files: ObjectFiles,
) -> LetterChanges:
    """Open what a run received; close what it retried with success, what lives, and what newer events outdated."""
    parts = {part: read_letters([part], files) for part in head.dead_letters}
    opened = _by_id(letter for part in parts.values() for letter in part)
    every = _by_id(outcome.letters) | opened
    closed = {letter.letter_id for letter in outcome.retried} - {letter.letter_id for letter in outcome.letters}
    candidates = {id_: letter for id_, letter in every.items() if id_ not in closed}
    before = live_events(every.values(), sides.before, sides.deleted_before)
    after = live_events(every.values(), sides.after, sides.deleted_after)
    remaining = {id_: x for id_, x in candidates.items() if not (after.answers(x) or after.outdates(x))}
    kept = tuple(part for part, letters in parts.items() if all(letter.letter_id in remaining for letter in letters))
    unmoved = {letter.letter_id for part in kept for letter in parts[part]}
    moved = {id_: letter for id_, letter in remaining.items() if id_ not in unmoved}
    kept, rewritten = _folded(kept, moved, parts)
    return LetterChanges(
        kept=kept,
        rewritten=rewritten,
        changed=remaining.keys() != opened.keys(),
        counts=_count(outcome, opened, candidates, remaining, before, after),
    )


def _folded(
    kept: tuple[DeadLetters, ...], moved: _Letters, letters_of: Mapping[DeadLetters, Sequence[DeadLetter]]
) -> tuple[tuple[DeadLetters, ...], tuple[DeadLetter, ...]]:
    """Small parts join what makes a new one, so that their number stays logarithmic (as in `tierloom.ledger`)."""
    while moved and kept and kept[-1].letters <= _GROWTH * len(moved):
        moved = {**_by_id(letters_of[kept[-1]]), **moved}
        kept = kept[:-1]
    return kept, tuple(moved.values())


def _by_id(letters: Iterable[DeadLetter]) -> dict[str, DeadLetter]:
    return {letter.letter_id: letter for letter in letters}


def _count(
    outcome: Outcome,
    opened: _Letters,
    candidates: _Letters,
    remaining: _Letters,
    before: LiveEvents,
    after: LiveEvents,
) -> LetterCounts:
    head_events = events_of(opened.values())
    head_dead = head_events - before.events
    new_dead = outcome.settled.dead - head_events - before.events
    return LetterCounts(
        dead=len(_records(remaining)) + len(events_of(remaining.values()) - after.events),
        revived=len(head_dead & after.events),
        closed=len(_records(opened).keys() - candidates.keys()),
        known=len(outcome.settled.dead - new_dead) + len(outcome.records & opened.keys()),
        superseded=_superseded(head_dead | new_dead, after) + sum(map(after.outdates, _records(candidates).values())),
    )


def _records(letters: _Letters) -> dict[str, DeadLetter]:
    return {id_: letter for id_, letter in letters.items() if letter.chunk is None}


def _superseded(events: Iterable[Event], after: LiveEvents) -> int:
    return sum(after.supersedes(event) for event in events)
