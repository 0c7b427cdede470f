"""What a run did before it met the head."""

from dataclasses import dataclass

from tierloom.dead_letter import DeadLetter
from transforms.elements import Tally
from transforms.merge import Settled


@dataclass(frozen=True, slots=True)
class Outcome:
    """`letters` holds each dead letter as often as its document or chunk came in; `retried` are those that the
    run sent through again."""

    tally: Tally
    settled: Settled
    letters: tuple[DeadLetter, ...]
    retried: tuple[DeadLetter, ...] = ()

    @property
    def records(self) -> frozenset[str]:
        """The ids of the letters of documents and records: what has no chunk."""
        return frozenset(letter.letter_id for letter in self.letters if letter.chunk is None)

    @property
    def repeated_records(self) -> int:
        """How often a record came in dead again."""
        return sum(letter.chunk is None for letter in self.letters) - len(self.records)
