"""The contract of a stream: changes in order, and the positions up to which they were taken.

A stream never decides what is true: what it gives may come twice, late or out of order. Its position is moved in
the manifest that publishes what it gave, so that both are there or neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.seen_files import SeenFile


@dataclass(frozen=True, slots=True)
class Change:
    """One change, or what came in its place and could not be read. `arrived` is when its source had it, in seconds
    since 1970."""

    event: Document | Deletion | DeadLetter
    arrived: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive changes of a stream.

    `positions` is where the stream stands after them, partition by partition; None where the source keeps no
    position that could be taken up again. `files` are the files that were read to their end.
    """

    changes: tuple[Change, ...]
    positions: Mapping[str, int] | None = None
    files: tuple[SeenFile, ...] = ()


class ChangeStream(Protocol):
    """A source of changes. Used from one thread."""

    @property
    def source(self) -> str:
        """How the manifest calls it: the same in every run, without secrets."""

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        """Go on behind `positions` (None: from the beginning), with the files that were `seen`.

        Raises `SourceLost` when what follows `positions` is not to be had any more, `SourceError` when the source
        cannot be used at all.
        """

    def take(self, limit: int, seconds: float) -> Batch | None:
        """Up to `limit` changes; waits up to `seconds` for the first. None at the end of a source that has one.

        An empty batch says that nothing came. A source that is out of reach for a while is waited for, and said
        to be.
        """

    def published(self, batch: Batch) -> None:
        """Told after the version that holds the batch is published: now the source may forget it."""

    def behind(self) -> int | None:
        """About how many changes wait to be taken; None if that cannot be known."""

    def close(self) -> None:
        """Let go of everything. What was taken and not published comes again."""
