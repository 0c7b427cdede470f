"""What a run did before it met the head."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tierloom.dead_letter import UNREADABLE, DeadLetter
from tierloom.manifest import IndexShard, VectorShard
from tierloom.seen_files import SeenFile
from transforms.elements import Tally
from transforms.merge import Settled


@dataclass(frozen=True, slots=True)
class CursorMove:
    """A stream went on in its source: from the positions `before` (None: from none) to those `after`.

    `holder` tells other streams over the same source who they met.
    """

    source: str
    before: Mapping[str, int] | None
    after: Mapping[str, int]
    holder: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events of a run in one generation.

    `letters` holds each dead letter as often as its document or chunk came in; `retried` are those that the run sent
    through again; `files` those that it read to their end, or found to be no more. Made by `outcome_of`.
    """

    tally: Tally
    settled: Settled
    letters: tuple[DeadLetter, ...]
    retried: tuple[DeadLetter, ...] = ()
    files: tuple[SeenFile, ...] = ()
    cursor: CursorMove | None = None

    @property
    def seen(self) -> tuple[SeenFile, ...]:
        """The files that need not be read again: what kept one from being read may pass without changing it, and what
        the cap left of one is to come again."""
        again = {letter.source for letter in self.letters if letter.reason == UNREADABLE} | self.settled.left.sources
        return tuple(file for file in self.files if file.name not in again)

    @property
    def read(self) -> int:
        """The events that came in, but for those that the cap left."""
        return self.tally.read - self.settled.left.documents

    @property
    def records(self) -> frozenset[str]:
        """The ids of the letters of documents and records: what has no chunk."""
        return frozenset(letter.letter_id for letter in self.letters if letter.chunk is None)

    @property
    def repeated_records(self) -> int:
        """How often a record came in dead again."""
        return sum(letter.chunk is None for letter in self.letters) - len(self.records)


def outcome_of(
    tally: Tally,
    settled: Settled,
    letters: Iterable[DeadLetter],
    retried: Iterable[DeadLetter] = (),
    files: tuple[SeenFile, ...] = (),
    cursor: CursorMove | None = None,
) -> Outcome:
    """What became of events, but for those that the cap left: letters about them stay as they are, and no cursor passes
    them."""
    left = settled.left
    return Outcome(
        tally=tally,
        settled=settled,
        letters=tuple(left.without(letters)),
        retried=tuple(letter for letter in retried if not left.holds(letter)),
        files=files,
        cursor=None if left.documents else cursor,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """What a run made of one generation, named by the fingerprint of its checkpoint: merged vector shards, and index
    shards over them. `part` are the keys that it went through, if it builds the generation."""

    checkpoint: str
    outcome: Outcome
    merged: Sequence[VectorShard] = ()
    indexes: Sequence[IndexShard] = ()
    part: range | None = None
