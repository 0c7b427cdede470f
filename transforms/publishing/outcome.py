"""What a run did before it met the head."""

from collections.abc import Mapping, Sequence
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
    through again; `files` those that it read to their end, or found to be no more.
    """

    tally: Tally
    settled: Settled
    letters: tuple[DeadLetter, ...]
    retried: tuple[DeadLetter, ...] = ()
    files: tuple[SeenFile, ...] = ()
    cursor: CursorMove | None = None

    @property
    def seen(self) -> tuple[SeenFile, ...]:
        """The files that need not be read again: what kept one from being read may pass without changing it."""
        unreadable = {letter.source for letter in self.letters if letter.reason == UNREADABLE}
        return tuple(file for file in self.files if file.name not in unreadable)

    @property
    def records(self) -> frozenset[str]:
        """The ids of the letters of documents and records: what has no chunk."""
        return frozenset(letter.letter_id for letter in self.letters if letter.chunk is None)

    @property
    def repeated_records(self) -> int:
        """How often a record came in dead again."""
        return sum(letter.chunk is None for letter in self.letters) - len(self.records)


@dataclass(frozen=True, slots=True)
class Made:
    """What a run made of one generation, named by the fingerprint of its checkpoint: merged vector shards, and index
    shards over them. `part` are the keys that it went through, if it builds the generation."""

    checkpoint: str
    outcome: Outcome
    merged: Sequence[VectorShard] = ()
    indexes: Sequence[IndexShard] = ()
    part: range | None = None
