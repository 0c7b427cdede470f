"""Stopping at a cap: a document that cannot be paid for whole is left, and nothing of it is published.

What is left is news to the next run: its events do not count as read, and the files that hold it not as seen. A large
document has several blocks; those that were paid for before the cap stay in the store, where the next run finds them.
"""

from collections import defaultdict
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

    `begun` are the events of which earlier blocks may be stored, each with its first ordinal that is not; of a retry
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


def due(block: VectorBlock) -> int:
    """The tokens of a block that are to be paid for: an upper bound of them."""
    return sum(block.chunks[at].tokens for at in block.missing)


def due_by_event(block: VectorBlock) -> dict[Event, int]:
    """The tokens to be paid for each document of a block, in its order."""
    dues: defaultdict[Event, int] = defaultdict(int)
    for chunk in block.chunks:
        dues[event(chunk)] += 0
    for at in block.missing:
        dues[event(block.chunks[at])] += block.chunks[at].tokens
    return dict(dues)


def unaffordable(
    block: VectorBlock, set_aside: Callable[[int], bool], left: Set[Event], canary: int = 0
) -> frozenset[Event]:
    """The documents of a block that are left: those for which nothing can be set aside, and those that were left
    before. For the others the tokens are set aside then; for the first of them also those of a `canary`, which their
    request carries."""
    refused = {event(chunk) for chunk in block.chunks if event(chunk) in left}
    beside = canary
    for one, tokens in due_by_event(block).items():
        if not tokens or one in refused:
            continue
        if set_aside(tokens + beside):
            beside = 0
        else:
            refused.add(one)
    return frozenset(refused)


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


def left_of(block: VectorBlock, events: Set[Event], before: Set[Event], retried: bool, canary: int = 0) -> Left:
    """What leaving these events of a block comes to; those that were left `before` are counted already. A request for
    any of them takes a `canary` of so many tokens, too."""
    chunks = [chunk for chunk in block.chunks if event(chunk) in events]
    first: dict[Event, int] = {}
    for chunk in chunks:
        first[event(chunk)] = min(chunk.ordinal, first.get(event(chunk), chunk.ordinal))
    new = first.keys() - before
    dues = due_by_event(block)
    return Left(
        documents=len(new),
        least=min((dues[one] + canary for one in new if dues[one]), default=0),
        sources=frozenset(chunk.origin.source for chunk in chunks),
        begun={one: first[one] for one in new if retried or first[one] > 0},
    )
