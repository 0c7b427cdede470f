"""What a collection must hold, in a plain dict; and what is wrong with the one there is."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Final

import tierloom
from index_builder.audit import audit
from tests.generations import open_generation
from tierloom.document import document_key
from tierloom.errors import TierloomError
from tierloom.manifest import Manifest
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest, stored_versions

WORD_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a document: its words, each of which is a chunk of its own; none says that it is deleted."""

    document_id: str
    sequence: int
    words: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """As a line of JSON says it."""
        named: dict[str, object] = {"id": self.document_id, "sequence": self.sequence}
        return named | ({"text": " ".join(self.words)} if self.words else {"deleted": True})


# Document id, ordinal, text.
Chunk = tuple[str, int, str]

# The event that holds for each document that there ever was.
Truth = Mapping[str, Event]


def after(truth: Truth, events: Iterable[Event]) -> Truth:
    """The highest sequence wins; of equal ones the deletion, else the first."""
    held = dict(truth)
    for event in events:
        known = held.get(event.document_id)
        if known is None or (event.sequence, not event.words) > (known.sequence, not known.words):
            held[event.document_id] = event
    return held


def chunks_of(truth: Truth) -> Counter[Chunk]:
    """The chunks that live."""
    return Counter(
        (event.document_id, ordinal, word) for event in truth.values() for ordinal, word in enumerate(event.words)
    )


@dataclass(slots=True)
class Losses:
    """How many chunks, objects and tokens went wrong; `notes` tell which."""

    lost: int = 0
    doubled: int = 0
    torn: int = 0
    resurrected: int = 0
    repaid: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.lost} lost, {self.doubled} doubled, {self.torn} torn, {self.resurrected} resurrected"

    @property
    def none(self) -> bool:
        """Nothing is wrong, but for what was paid again."""
        return not (self.lost or self.doubled or self.torn or self.resurrected or self.notes)

    def add(self, other: "Losses") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def losses_of(store: object, version: int, truth: Truth) -> Losses:
    """What is wrong with a version that should hold this, in each of its generations."""
    found = Losses()
    for problem in audit(open_store(str(store)), version).problems:
        found.torn += 1
        found.notes.append(f"version {version}: {problem}")
    if not found.torn:
        _compare_all(found, store, version, truth)
    return found


def _compare_all(found: Losses, store: object, version: int, truth: Truth) -> None:
    for generation in read_manifest(open_store(str(store)), version).generations:
        where = f"version {version}" + (f" of {generation.checkpoint[:8]}" if generation.other else "")
        with open_generation(str(store), generation) as snapshot:
            _compare_generation(found, where, snapshot, truth)


def _compare_generation(found: Losses, where: str, snapshot: Snapshot, truth: Truth) -> None:
    live = live_in(snapshot)
    there = {document_id for document_id, _, _ in live}
    truth = built(truth, snapshot.manifest.reached, there)
    wanted = chunks_of(truth)
    _compare(found, where, live, wanted)
    for tier in snapshot.manifest.collection.tiers:
        _compare(found, f"{where}, tier {tier.name}", found_in(snapshot, tier.name), wanted)
    _check_counts(found, where, snapshot.manifest, truth)


def built(truth: Truth, reached: int, there: Set[str]) -> Truth:
    """What a generation must hold of the truth when its building has `reached` so far: what lies beyond may be `there`
    already, because it has changed meanwhile; then it must be as it is."""
    return {name: event for name, event in truth.items() if document_key(name) >> 32 < reached or name in there}


def live_in(snapshot: Snapshot) -> Counter[Chunk]:
    """Every live row."""
    return Counter((chunk.document_id, chunk.ordinal, chunk.text) for chunk in snapshot.chunks())


def found_in(snapshot: Snapshot, tier: str) -> Counter[Chunk]:
    """Every chunk that a search of one tier can find."""
    query = [1.0] * snapshot.checkpoint.space.dimensions
    hits = snapshot.search(query, tier=tier, shortlist=100_000, top=100_000)
    return Counter((hit.document_id, hit.ordinal, hit.text) for hit in hits)


def _compare(found: Losses, where: str, live: Counter[Chunk], wanted: Counter[Chunk]) -> None:
    twice = Counter({chunk: number - 1 for chunk, number in live.items() if number > 1})
    missing = wanted - live
    strange = live - twice - wanted
    found.lost += missing.total()
    found.doubled += twice.total()
    found.resurrected += strange.total()
    for word, chunks in (("lost", missing), ("doubled", twice), ("resurrected", strange)):
        if chunks:
            found.notes.append(f"{where}: {word} {chunks.total()}: {sorted(chunks)[:5]}")


def _check_counts(found: Losses, where: str, manifest: Manifest, truth: Truth) -> None:
    counts, live = manifest.documents, sum(bool(event.words) for event in truth.values())
    if not counts.adds_up or counts.live != live:
        found.notes.append(f"{where}: counts {counts} of {live} live documents")


def head_losses(store: object, allowed: Sequence[Truth]) -> Losses:
    """What is wrong with the newest version, which should hold one of these."""
    version = max(stored_versions(open_store(str(store))))
    return losses_of(store, version, min(allowed, key=partial(_distance, _live_in_version(store, version))))


def _live_in_version(store: object, version: int) -> Counter[Chunk]:
    try:
        with tierloom.open(str(store), version) as snapshot:
            return live_in(snapshot)
    except TierloomError:
        return Counter()


def _distance(live: Counter[Chunk], truth: Truth) -> int:
    wanted = chunks_of(truth)
    return (wanted - live).total() + (live - wanted).total()


def history_losses(store: object, history: Mapping[int, Truth]) -> Losses:
    """What is wrong with the versions that were published before."""
    found = Losses()
    for version in stored_versions(open_store(str(store))):
        if version in history:
            found.add(losses_of(store, version, history[version]))
    return found
