"""Events as live rows and dead letters speak of them: one document at one sequence."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import find_documents

Event = tuple[str, int]


def event_of(letter: DeadLetter) -> Event | None:
    """The event of which the letter of a chunk speaks; None for that of a record."""
    if letter.chunk is None or letter.document_id is None or letter.sequence is None:
        return None
    return letter.document_id, letter.sequence


def events_of(letters: Iterable[DeadLetter]) -> frozenset[Event]:
    """The events of which letters of chunks speak."""
    return frozenset(event for letter in letters if (event := event_of(letter)) is not None)


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """Live rows of some documents: for each event how many rows each ordinal has, each document's newest, and the
    sequence at which it was deleted."""

    rows: dict[Event, Counter[int]]
    newest: dict[str, int]
    deleted: dict[str, int]

    @property
    def events(self) -> frozenset[Event]:
        return frozenset(self.rows)

    def answers(self, letter: DeadLetter) -> bool:
        """Whether the very chunk that the letter holds lives."""
        event = event_of(letter)
        return bool(event and letter.chunk and letter.chunk.ordinal in self.rows.get(event, ()))

    def outdates(self, letter: DeadLetter) -> bool:
        """Whether a newer event of the letter's document lives, or deleted it."""
        if letter.document_id is None or letter.sequence is None:
            return False
        return self.supersedes((letter.document_id, letter.sequence))

    def supersedes(self, event: Event) -> bool:
        """Whether a newer event of the same document lives, or deleted it."""
        document_id, sequence = event
        deleted = self.deleted.get(document_id)
        return self.newest.get(document_id, sequence) > sequence or (deleted is not None and deleted >= sequence)


DeletedAt = Callable[[str], int | None]


def live_events(letters: Iterable[DeadLetter], shards: Sequence[LiveShard], deleted_at: DeletedAt) -> LiveEvents:
    """What of the documents of these letters lives in the shards. `deleted_at` tells when a document was deleted."""
    ids = {letter.document_id for letter in letters if letter.document_id is not None}
    rows: defaultdict[Event, Counter[int]] = defaultdict(Counter)
    for document_id, addresses in find_documents(shards, {id_: document_key(id_) for id_ in ids}).items():
        for address in addresses:
            ordinal = shards[address.shard].shard.gather("ordinal", np.array([address.row]))[0]
            rows[document_id, address.sequence][int(ordinal)] += 1
    newest: dict[str, int] = {}
    for document_id, sequence in rows:
        newest[document_id] = max(sequence, newest.get(document_id, sequence))
    deleted = {id_: gone for id_ in ids if (gone := deleted_at(id_)) is not None}
    return LiveEvents(dict(rows), newest, deleted)
