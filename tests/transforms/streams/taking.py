"""Taking from a stream in a test, until what is due has come."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.seen_files import SeenFile
from transforms.streams.stream import Batch, Change, ChangeStream

PATIENCE = 30.0


@dataclass
class Taken:
    """What a stream gave, in order."""

    batches: list[Batch] = field(default_factory=list)

    @property
    def changes(self) -> list[Change]:
        return [change for batch in self.batches for change in batch.changes]

    @property
    def events(self) -> list[Document | Deletion | DeadLetter]:
        return [change.event for change in self.changes]

    @property
    def documents(self) -> list[Document]:
        return [event for event in self.events if isinstance(event, Document)]

    @property
    def deletions(self) -> list[Deletion]:
        return [event for event in self.events if isinstance(event, Deletion)]

    @property
    def letters(self) -> list[DeadLetter]:
        return [event for event in self.events if isinstance(event, DeadLetter)]

    @property
    def texts(self) -> list[tuple[str, str]]:
        return [(document.document_id, document.text) for document in self.documents]

    @property
    def files(self) -> dict[str, SeenFile]:
        return {file.name: file for batch in self.batches for file in batch.files}

    @property
    def positions(self) -> dict[str, int]:
        """Where the stream stands behind all that was taken."""
        return dict(next((batch.positions for batch in reversed(self.batches) if batch.positions is not None), {}))


def take(stream: ChangeStream, due: int, limit: int = 100) -> Taken:
    """`due` changes, and then what comes at once."""
    return take_until(stream, lambda taken: len(taken.changes) >= due, limit)


def take_until(stream: ChangeStream, enough: Callable[[Taken], bool], limit: int = 100) -> Taken:
    taken, until = Taken(), time.monotonic() + PATIENCE
    while not enough(taken):
        assert time.monotonic() < until, f"only {taken.events} came"
        batch = stream.take(limit, 0.1)
        assert batch is not None, f"the stream ended after {taken.events}"
        assert len(batch.changes) <= limit
        taken.batches.append(batch)
    while (batch := stream.take(limit, 0)) and (batch.changes or batch.files):
        taken.batches.append(batch)
    return taken


def seen_after(seen: dict[str, SeenFile], *taken: Taken) -> dict[str, SeenFile]:
    """What the manifest would hold."""
    return seen | {name: file for one in taken for name, file in one.files.items()}


def ids_of(events: Iterable[Document | Deletion | DeadLetter]) -> list[str]:
    return [event.document_id or "" for event in events]
