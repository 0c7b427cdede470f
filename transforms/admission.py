"""Which documents of a bundle the cap pays for: what is left of one is not paid for further."""

from collections.abc import Callable, Sequence, Set
from typing import TypeAlias

from tierloom.document import Chunk
from tierloom.spending.account import Account
from transforms.elements import ChunkBlock, VectorBlock
from transforms.job import Job
from transforms.paying import Left, asked_by_event, asked_of, event, without_events
from transforms.publishing.events import Event

# The tokens that chunks are yet to be paid for with, at most, if they are sent together.
Due: TypeAlias = Callable[[Sequence[Chunk]], int]


class Admission:
    """For the blocks of one bundle: before one is sent, what it costs is set aside. Where the cap does not allow all of
    it, the documents that it allows are sent, and the others are left."""

    def __init__(self, job: Job, account: Account, due: Due) -> None:
        self._schema = job.schema
        self._retry = job.retry
        self._account = account
        self._due = due
        # Of each document that was left the ordinals of the chunks, as bits: to tell when it comes in again.
        self._left: dict[Event, int] = {}

    def admits(self, block: VectorBlock) -> bool:
        """Whether all of a block can be paid for; it is set aside then."""
        return not self.left_in(block) and self._affords(self._due(asked_of(block)))

    def unaffordable(self, block: VectorBlock) -> frozenset[Event]:
        """The documents of a block that are left: those that cannot be paid for, and those that were left before. For
        the others all is set aside."""
        refused, paid, tokens = set[Event](), list[Chunk](), 0
        for one, chunks in asked_by_event(block).items():
            together = self._due([*paid, *chunks]) if chunks else tokens
            if one in self._left or not self._affords(together - tokens):
                refused.add(one)
            else:
                paid += chunks
                tokens = together
        return frozenset(refused)

    def left_in(self, block: VectorBlock) -> frozenset[Event]:
        """The documents of a block of which something was left."""
        return frozenset(self._left.keys() & set(map(event, block.chunks)))

    def leave(self, block: VectorBlock, events: Set[Event]) -> Left:
        """What it comes to that these documents of a block are left."""
        last = event(block.chunks[-1])
        dues = {one: self._due(chunks) for one, chunks in asked_by_event(block).items() if one in events}
        ordinals: dict[Event, int] = {}
        for chunk in block.chunks:
            if event(chunk) in events:
                ordinals[event(chunk)] = ordinals.get(event(chunk), 0) | 1 << chunk.ordinal
        new = {one for one, bits in ordinals.items() if one not in self._left or bits & self._left[one]}
        first = {one: _lowest(ordinals[one]) for one in new}
        for one, bits in ordinals.items():
            self._left[one] = bits if one in new else self._left[one] | bits
        return Left(
            documents=len(new),
            least=min(filter(None, (dues[one] for one in new)), default=0),
            sources=frozenset(chunk.origin.source for chunk in block.chunks if event(chunk) in events),
            # Other blocks may be stored of what began in one before this, or goes on in one after it.
            begun={one: at for one, at in first.items() if self._retry or at > 0 or one == last},
        )

    def without(self, block: VectorBlock, events: Set[Event]) -> VectorBlock:
        """The block of the other documents."""
        return without_events(block, events, self._digest)

    def _affords(self, tokens: int) -> bool:
        return not tokens or self._account.set_aside(tokens)

    def _digest(self, block: ChunkBlock) -> str:
        return block.digest(self._schema.checkpoint, self._schema.prefix_dimensions)


def _lowest(bits: int) -> int:
    """The lowest bit that is set."""
    return (bits & -bits).bit_length() - 1
