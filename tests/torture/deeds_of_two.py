"""What is interrupted while a collection has two generations: both are looked at after each interruption."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tests.torture.deeds import DEEDS, Deed, changes, first_events, make_old, publish_often, stream
from tests.torture.truth import Event, after
from tests.torture.world import World

# How the second checkpoint is called; what it is asked for begins so.
SECOND: Final = "b"
# Of 39 words; a part has 24.
_HALF: Final = 26


def reembed(world: World) -> Deed:
    """From nothing to the end."""
    world.ingest("first.jsonl", first_events())
    world.ingest("changes.jsonl", changes())
    return Deed(world.reembedding(SECOND), (world.truth,), generations=2)


def reembed_on(world: World) -> Deed:
    """From where a cap had stopped it; documents have changed since."""
    _half_built(world)
    world.ingest("changes.jsonl", changes())
    return Deed(world.reembedding(SECOND), (world.truth,), generations=2)


def ingest_into_both(world: World) -> Deed:
    """Changes on top of two whole generations."""
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND)
    source = world.write("changes.jsonl", changes())
    allowed = (world.truth, after(world.truth, changes()))
    return Deed(("ingest", world.store, source), allowed, generations=2, blocks=2)


def ingest_while_building(world: World) -> Deed:
    """Changes on top of one and a half."""
    _half_built(world)
    source = world.write("changes.jsonl", changes())
    return Deed(("ingest", world.store, source), (world.truth, after(world.truth, changes())), blocks=2)


def stream_into_both(world: World) -> Deed:
    """The tail of a file that is followed, into two whole generations."""
    one = stream(world)
    world.reembed(SECOND)
    return replace(one, generations=2, blocks=2)


def compact_both(world: World) -> Deed:
    """Many small shards of each, some of them half dead."""
    world.ingest("0.jsonl", first_events())
    world.reembed(SECOND)
    publish_often(world)
    return Deed(("compact", world.store, "--fan-out", 2), (world.truth,), generations=2)


def collect_retired(world: World) -> Deed:
    """All that a generation had, once it is retired."""
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND)
    world.ingest("changes.jsonl", changes())
    world.commands.ok(*_retiring(world))
    world.commands.ok("retention", world.store, "--versions", 1, "--age", "0s")
    world.note_version()
    make_old(world)
    return Deed(("gc", world.store, "--grace", "1h", "--json"), (world.truth,))


def erase(world: World) -> Deed:
    """Documents leave both, with all the versions that held them."""
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND)
    gone = ("d1", "d5", "d11")
    left = after(world.truth, [Event(name, 99) for name in gone])
    # What is left of a crash is named among the temporary files of who may be at work, until nobody can be.
    return Deed(("erase", world.store, *gone), (world.truth, left), generations=2, done="the documents are in none")


def flip(world: World) -> Deed:
    """The second one comes in front."""
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND)
    assert world.head.other
    flipping = ("promote", world.store, "latest", "--channel", "latest", "--checkpoint", world.head.other.checkpoint)
    return Deed(flipping, (world.truth,), generations=2)


def retire(world: World) -> Deed:
    """One of two goes."""
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND)
    return Deed(_retiring(world), (world.truth,), done="has no generation")


def _half_built(world: World) -> None:
    world.ingest("first.jsonl", first_events())
    world.reembed(SECOND, _HALF)
    assert world.head.other
    assert not world.head.other.is_complete


def _retiring(world: World) -> tuple[object, ...]:
    assert world.head.other
    return ("retire", world.store, "--checkpoint", world.head.other.checkpoint)


DEEDS_OF_TWO: Final[Mapping[str, Callable[[World], Deed]]] = {
    "reembed": reembed,
    "reembed-on": reembed_on,
    "ingest-both": ingest_into_both,
    "ingest-building": ingest_while_building,
    "stream-both": stream_into_both,
    "compact-both": compact_both,
    "gc-retired": collect_retired,
    "erase-both": erase,
    "flip": flip,
    "retire": retire,
}

EVERY_DEED: Final = {**DEEDS, **DEEDS_OF_TWO}
