"""A bundle of changes becomes stored vector shards, and one small outcome.

Its steps are fused here and not by the runner: shards, deletions, letters and counts of the same changes arrive in
one piece, or a pane that fires between them would hold documents whose counts do not add up.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Duration, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.errors import CapReached
from tierloom.manifest import Manifest
from tierloom.stores.opening import open_store
from transforms.base import version_of
from transforms.elements import EventBlock, Place, Tally
from transforms.inline import aside
from transforms.job import Job
from transforms.vector_chain import BundlePart, Cut, VectorChain

# How far event time may be behind before what comes is moved forward: into a window that is still open.
LATENESS: Final = Duration.of(3600)
_OLDEST: Final = Duration.of(1800)
# A bundle of more characters is taken in parts.
_LARGEST: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive changes of one partition of a source, from position `start` up to `stop`, and what began there.

    `first` is the position at which the pipeline took up the partition. A source that keeps no positions has ""
    as its partition.
    """

    events: tuple[Document | Deletion | DeadLetter, ...]
    partition: str = ""
    first: int = 0
    start: int = 0
    stop: int = 0

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return sum(len(event.text) if isinstance(event, Document) else 64 for event in self.events)


@dataclass(frozen=True, slots=True)
class Passed:
    """The positions that a bundle took of one partition."""

    partition: str
    first: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class BundleOutcome:
    """What became of a bundle of changes: all that crosses a shuffle. `bundle` is never given twice; `parts` are those
    of the generations that there were, by checkpoint."""

    bundle: str
    tally: Tally
    parts: Mapping[str, BundlePart]
    deletions: tuple[Deletion, ...]
    passed: tuple[Passed, ...]


class ShardSteps:
    """From events to stored vector shards of every generation, with DoFns that live across bundles. For one thread."""

    def __init__(self, job: Job) -> None:
        """`job` is of any generation; each bundle finds those that there are then."""
        self._job = job
        self._store = open_store(job.store)
        self._chains: dict[str, VectorChain] = {}
        self._of_version(version_of(job))

    def run(self, spans: Sequence[Span]) -> BundleOutcome:
        """Everything that these changes come to, but for its publication."""
        first, *others = self._of_version(version_of(self._job))
        every = [event for span in spans for event in span.events]
        unread = [event for event in every if isinstance(event, DeadLetter)]
        told, cut = aside(), Cut()
        documents = list(first.compare.bundle(_blocks(spans), others=told))
        parts = {first.job.fingerprint: first.stored(first.cut(documents, cut), cut, unread)}
        for chain in others:
            own = cut if chain.job.cuts_like(first.job) else Cut()
            chunks = chain.rephrased(cut) if own is cut else chain.cut(documents, own)
            parts[chain.job.fingerprint] = chain.stored(chunks, own, unread)
        return BundleOutcome(
            bundle=uuid.uuid4().hex,
            tally=sum(told["tally"], Tally(read=len(every))),
            parts=parts,
            deletions=tuple(deletion for some in told["deletions"] for deletion in some),
            passed=tuple(Passed(span.partition, span.first, span.start, span.stop) for span in spans if span.partition),
        )

    def close(self) -> None:
        """Let go of the models and of threads."""
        while self._chains:
            self._chains.popitem()[1].close()

    def _of_version(self, version: Manifest) -> list["VectorChain"]:
        """A chain for each generation; those of generations that are no more are closed."""
        for gone in self._chains.keys() - set(version.checkpoints):
            self._chains.pop(gone).close()
        for generation in version.generations:
            if generation.checkpoint not in self._chains:
                self._chains[generation.checkpoint] = VectorChain(self._job.of(generation, self._store))
        return [self._chains[checkpoint] for checkpoint in version.checkpoints]


def _blocks(spans: Sequence[Span]) -> Iterator[EventBlock]:
    """A block for each span, so that whatever else a bundle holds, the same span has the same vector shard.

    Changes without positions will never come again as the same span: they make one block together.
    """
    loose = [event for span in spans if not span.partition for event in span.events]
    for at, events in enumerate([loose, *(span.events for span in spans if span.partition)]):
        if readable := tuple(event for event in events if not isinstance(event, DeadLetter)):
            yield EventBlock(Place(0, at), readable)


class ShardBundleDoFn(beam.DoFn):
    """Spans -> BundleOutcomes, at the end of a bundle and whenever much has come together."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._steps = ShardSteps(self._job)

    def start_bundle(self) -> None:
        self._spans: list[Span] = []
        self._newest = MIN_TIMESTAMP

    def process(self, span: Span, timestamp: Timestamp = beam.DoFn.TimestampParam) -> Iterator[TimestampedValue]:
        self._spans.append(span)
        self._newest = max(self._newest, timestamp)
        if sum(held.weight for held in self._spans) >= _LARGEST:
            yield TimestampedValue(self._outcome(), self._stamp())

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._spans:
            yield WindowedValue(self._outcome(), self._stamp(), (GlobalWindow(),))

    def teardown(self) -> None:
        self._steps.close()

    def _outcome(self) -> BundleOutcome:
        outcome = self._steps.run(self._spans)
        if any(part.left.documents for part in outcome.parts.values()):
            # An engine takes no step back: what it passed is published, and what it could not pay for ends it.
            raise CapReached(f"{self._job.allowance.caps}: what comes next would pass it; start again to go on")
        self._spans = []
        return outcome

    def _stamp(self) -> Timestamp:
        """The time of the newest change; of very old ones a later one, so that no runner drops them as too late.

        Who wins is decided by sequences: time says only with which window a change is published.
        """
        return max(self._newest, Timestamp.of(time.time()) - _OLDEST)
