"""A stream of changes that a test wrote down beforehand."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document, Origin
from tierloom.seen_files import SeenFile
from transforms.streams.stream import Batch, Change

SOURCE = "scripted"

Event = Document | Deletion | DeadLetter


def document(document_id: str, sequence: int, text: str = "words") -> Document:
    return Document(document_id, sequence, text, "{}", Origin(SOURCE, sequence))


class Scripted:
    """Gives `events` in order; of each take no more than `at_once`. Its position is the number of them given.

    It notes how much was asked for in each take, and what was told to be published.
    """

    source = SOURCE

    def __init__(self, events: Sequence[Event], at_once: int = 1 << 30, ends: bool = True) -> None:
        self.events = list(events)
        self.at_once = at_once
        self.ends = ends
        self.asked: list[int] = []
        self.published_up_to: list[int] = []
        self.on_take: Callable[[], None] = lambda: None
        self.taken = 0
        self.opened_at: Mapping[str, int] | None = None
        self.closed = False

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        self.opened_at = positions
        self.taken = positions["0"] if positions else 0

    def take(self, limit: int, seconds: float) -> Batch | None:
        self.on_take()
        self.asked.append(limit)
        if self.taken >= len(self.events) and self.ends:
            return None
        now = time.time()
        some = tuple(
            Change(event, now) for event in islice(self.events, self.taken, self.taken + min(limit, self.at_once))
        )
        self.taken += len(some)
        return Batch(some, {"0": self.taken} if some else None)

    def published(self, batch: Batch) -> None:
        assert batch.positions is not None
        self.published_up_to.append(batch.positions["0"])

    def behind(self) -> int:
        return len(self.events) - self.taken

    def close(self) -> None:
        self.closed = True
