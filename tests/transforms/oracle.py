"""What a collection must hold after any history of runs, kept in plain dictionaries.

An arrival is a document id and a sequence; its text, and so its chunks, follow from them. Of a deletion the id is
marked. A chunk is (document_id, sequence, ordinal).
"""

from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

Arrival = tuple[str, int]
Chunk = tuple[str, int, int]


DELETED = "-"


def is_deletion(arrival: Arrival) -> bool:
    return arrival[0].startswith(DELETED)


def deletion(arrival: Arrival) -> Arrival:
    """The deletion of a document, as an arrival."""
    return DELETED + arrival[0], arrival[1]


def chunks_of(arrival: Arrival) -> list[Chunk]:
    """One to three chunks: the more, the higher the sequence."""
    return [(*arrival, ordinal) for ordinal in range(1 + arrival[1] % 3)]


def word_of(chunk: Chunk) -> str:
    """The text of a chunk: eight bytes, which fill a chunk of eight tokens."""
    document_id, sequence, ordinal = chunk
    return f"{document_id}{sequence:04d}{ordinal:03d}"


def text_of(arrival: Arrival) -> str:
    return " ".join(word_of(chunk) for chunk in chunks_of(arrival))


@dataclass
class State:
    """One version: the live chunks of each document under its sequence, the sequence at which others were deleted,
    the open letters, the unreadable records."""

    live: dict[str, tuple[int, frozenset[int]]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    letters: set[Chunk] = field(default_factory=set)
    records: set[str] = field(default_factory=set)

    @property
    def chunks(self) -> set[Chunk]:
        return {(id_, sequence, o) for id_, (sequence, ordinals) in self.live.items() for o in ordinals}

    @property
    def dead(self) -> int:
        """Documents and records of which nothing lives."""
        live = {(id_, sequence) for id_, (sequence, _) in self.live.items()}
        return len({chunk[:2] for chunk in self.letters} - live) + len(self.records)

    def settled(self, rows: Iterable[Chunk], letters: Iterable[Chunk], deletions: Iterable[Arrival] = ()) -> "State":
        """After a run that embedded `rows`, could not embed `letters`, and was told of `deletions`."""
        after, rows = deepcopy(self), list(rows)
        for document_id, sequence in deletions:
            after._delete(document_id, sequence, rows)
        for document_id, sequence, ordinal in rows:
            best, ordinals = after.live.get(document_id, (sequence, frozenset()))
            if sequence >= best and not after._is_deleted(document_id, sequence):
                after.live[document_id] = (sequence, (ordinals if sequence == best else frozenset()) | {ordinal})
        after.letters |= set(letters)
        alive = after.chunks
        after.letters = {
            chunk
            for chunk in after.letters
            if chunk not in alive
            and chunk[1] >= after.live.get(chunk[0], (chunk[1],))[0]
            and not after._is_deleted(*chunk[:2])
        }
        return after

    def _delete(self, document_id: str, sequence: int, rows: Iterable[Chunk]) -> None:
        """It holds unless something newer is there, or comes with it."""
        newest = max((row[1] for row in rows if row[0] == document_id), default=sequence)
        if max(newest, self.live.get(document_id, (sequence,))[0]) <= sequence:
            self.live.pop(document_id, None)
            self.deleted[document_id] = max(sequence, self.deleted.get(document_id, sequence))

    def _is_deleted(self, document_id: str, sequence: int) -> bool:
        return document_id in self.deleted and self.deleted[document_id] >= sequence


def deletions_of(group: Iterable[Arrival]) -> list[Arrival]:
    """The deletions of a group, as of the documents themselves."""
    return [(document_id.removeprefix(DELETED), s) for document_id, s in group if is_deletion((document_id, s))]


def to_embed(group: Sequence[Arrival], base: State, retry: bool = False) -> list[Arrival]:
    """What of a group that is read together is sent on: the newest of each document, if the base knows it not."""
    newest: dict[str, int] = {}
    for document_id, sequence in (arrival for arrival in group if not is_deletion(arrival)):
        newest[document_id] = max(sequence, newest.get(document_id, sequence))
    gone = dict(base.deleted)
    for document_id, sequence in deletions_of(group):
        gone[document_id] = max(sequence, gone.get(document_id, sequence))
    dead = set() if retry else {chunk[:2] for chunk in base.letters}
    return [
        (document_id, sequence)
        for document_id, sequence in newest.items()
        if base.live.get(document_id, (sequence - 1,))[0] < sequence
        and gone.get(document_id, sequence - 1) < sequence
        and (document_id, sequence) not in dead
    ]


class Embedded:
    """What the model made of blocks. A block with any row is stored, and not sent again."""

    def __init__(self) -> None:
        self._stored: dict[tuple[Chunk, ...], frozenset[Chunk]] = {}

    def rows(self, block: Sequence[Chunk], refused: Collection[str]) -> frozenset[Chunk]:
        key = tuple(block)
        if key not in self._stored:
            made = frozenset(chunk for chunk in block if word_of(chunk) not in refused)
            if not made:
                return made
            self._stored[key] = made
        return self._stored[key]
