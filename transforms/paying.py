"""Stopping at a cap: a document that cannot be paid for whole is left, and nothing of it is published.

What is left is news to the next run: its events do not count as read, and the files that hold it not as seen. A large
document has several blocks; those that were paid for before the cap stay in the store, where the next run finds them.
"""

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final

import numpy as np

from tierloom.dead_letter import DeadLetter
from tierloom.document import Chunk
from transforms.elements import ChunkBlock, VectorBlock
from transforms.publishing.events import Event, event_of


@dataclass(frozen=True, slots=True)
class Left:
    """Documents that the cap left: how many, the fewest tokens that one of them takes, and their sources.

    `begun` are the events of which other blocks may be stored, each with its first ordinal that is not; of a retry
    of dead letters: all events.
    """

    documents: int = 0
    least: int = 0
    sources: frozenset[str] = frozenset()
    begun: dict[Event, int] = field(default_factory=dict)

    def __add__(self, other: "Left") -> "Left":
        first = {event: max(at, self.begun.get(event, at)) for event, at in other.begun.items()}
        return Left(
            documents=self.documents + other.documents,
            least=min(filter(None, (self.least, other.least)), default=0),
            sources=self.sources | other.sources,
            begun={**self.begun, **first},
        )

    def holds(self, letter: DeadLetter) -> bool:
        """Whether a letter is about something that was left, and stays open."""
        event = event_of(letter)
        return letter.source in self.sources if event is None else event in self.begun

    def without(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        """Those of the letters of a run that are not about what it left."""
        return [letter for letter in letters if event_of(letter) not in self.begun]


NOTHING_LEFT: Final = Left()


def together(every: Iterable[Left]) -> Left:
    """The sum of what several blocks left."""
    return reduce(Left.__add__, every, NOTHING_LEFT)


def event(chunk: Chunk) -> Event:
    """The event that a chunk is a piece of."""
    return chunk.document_id, chunk.sequence


def asked_of(block: VectorBlock) -> list[Chunk]:
    """The chunks of a block that have no vector yet."""
    return [block.chunks[at] for at in block.missing]


def asked_by_event(block: VectorBlock) -> dict[Event, list[Chunk]]:
    """The chunks that have no vector yet of each document of a block, in its order."""
    asked: dict[Event, list[Chunk]] = {event(chunk): [] for chunk in block.chunks}
    for chunk in asked_of(block):
        asked[event(chunk)].append(chunk)
    return asked


def without_events(block: VectorBlock, left: Set[Event], digest: Callable[[ChunkBlock], str]) -> VectorBlock:
    """The block of the other documents; what it is called depends on its chunks alone."""
    kept = np.array([at for at, chunk in enumerate(block.chunks) if event(chunk) not in left], dtype=np.int64)
    missing = np.flatnonzero(np.isin(kept, block.missing))
    chunks = tuple(block.chunks[at] for at in kept)
    return replace(
        block,
        digest=digest(ChunkBlock(block.place, chunks)),
        chunks=chunks,
        vectors=block.vectors[kept],
        missing=missing,
        copied=len(chunks) - len(missing),
    )
