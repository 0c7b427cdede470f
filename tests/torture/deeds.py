"""What is interrupted: an ingest, a step of a stream, a compaction, a collection of garbage."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from tests.torture.truth import Event, Truth, after
from tests.torture.world import World


@dataclass(frozen=True, slots=True)
class Deed:
    """A command that is to be carried out once, however often it is interrupted.

    Until then the newest version holds one of `allowed`; then it holds the last of them, in so many whole
    `generations`. A crash may cost `blocks`. What says that it is `done` may fail all the same.
    """

    arguments: tuple[object, ...]
    allowed: tuple[Truth, ...]
    generations: int = 1
    blocks: int = 1
    done: str | None = None


def word(document: int, sequence: int, ordinal: int) -> str:
    """Eight bytes that stand nowhere else."""
    return f"{document:02d}{sequence:04d}{ordinal:02d}"


def document(number: int, sequence: int, words: int, kept: Sequence[str] = ()) -> Event:
    """A document of new words, behind some that are `kept` from an older state of it."""
    new = (word(number, sequence, ordinal) for ordinal in range(len(kept), words))
    return Event(f"d{number}", sequence, (*kept, *new))


def first_events() -> list[Event]:
    """Twenty documents of one to three chunks."""
    return [document(number, 10, 1 + number % 3) for number in range(20)]


def changes() -> list[Event]:
    """New documents, changed ones, one that is as it was, deletions, and events that come too late."""
    known = {event.document_id: event for event in first_events()}
    return [
        *(document(number, 20, 3, kept=known[f"d{number}"].words[:1]) for number in range(6)),
        *(document(number, 10, 2) for number in range(20, 28)),
        Event("d6", 20),
        Event("d7", 20),
        Event("d8", 5),
        document(9, 5, 3),
        known["d10"],
        document(6, 15, 2),
        document(7, 30, 1),
        Event("d28", 20),
    ]


def ingest(world: World) -> Deed:
    """Changes on top of what is there."""
    world.ingest("first.jsonl", first_events())
    source = world.write("changes.jsonl", changes())
    return Deed(("ingest", world.store, source), (world.truth, after(world.truth, changes())))


def stream(world: World) -> Deed:
    """The same changes, as the tail of a file that is followed."""
    source = world.write("stream.jsonl", first_events())
    arguments = ("stream", world.store, source, "--once", "--interval", 0, "--max-batch", 12, "--patience", 3)
    world.commands.ok(*arguments)
    world.truth = after(world.truth, first_events())
    world.note_version()
    world.write("stream.jsonl", changes())
    # Where a batch ends is not known beforehand.
    return Deed(arguments, tuple(accumulate(changes(), _one_more, initial=world.truth)))


def _one_more(truth: Truth, event: Event) -> Truth:
    return after(truth, [event])


def compact(world: World) -> Deed:
    """Many small shards, some of them half dead."""
    publish_often(world)
    return Deed(("compact", world.store), (world.truth,))


def collect(world: World) -> Deed:
    """Old versions, and what a compaction has left behind."""
    publish_often(world)
    world.commands.ok("compact", world.store)
    world.commands.ok("retention", world.store, "--versions", 2, "--age", "0s")
    world.note_version()
    make_old(world)
    return Deed(("gc", world.store, "--grace", "1h", "--json"), (world.truth,))


def publish_often(world: World) -> None:
    for sequence in range(1, 7):
        events = [document(number, sequence, 2) for number in range(sequence, sequence + 4)]
        world.ingest(f"{sequence}.jsonl", [*events, Event(f"d{sequence}", sequence + 1)])


def make_old(world: World) -> None:
    """Two days, for every object: no test can wait for a grace period."""
    then = time.time() - 2 * 86_400
    for path in world.store.rglob("*"):
        os.utime(path, (then, then))


DEEDS: Final[Mapping[str, Callable[[World], Deed]]] = {
    "ingest": ingest,
    "stream": stream,
    "compact": compact,
    "gc": collect,
}
