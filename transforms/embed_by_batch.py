"""Embedding by the Batch API: blocks wait on the disk for vectors that may take a day."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from tierloom.canaries import kept_canaries
from tierloom.document import Chunk
from tierloom.embedders.opening import open_batch_lane, post_processed
from tierloom.spending.account import Account
from tierloom.stores.opening import open_store
from transforms.admission import Admission
from transforms.elements import VectorBlock
from transforms.embed import EmbeddedBlock, embed_block, outputs_of
from transforms.job import Job
from transforms.overlap import windowed
from transforms.paying import asked_of, event
from transforms.progress import Progress
from transforms.publishing.events import Event
from transforms.timing import stopwatch


@dataclass(frozen=True, slots=True)
class WaitingBlock:
    """A block on the disk. `contents` are the hashes of what it waits for."""

    path: Path
    digest: str
    contents: tuple[bytes, ...]
    timestamp: Any
    window: Any

    def load(self) -> VectorBlock:
        """The block as it was. Only the vectors that it has were written: the others are nothing but zeros."""
        block: VectorBlock
        block, known = pickle.loads(self.path.read_bytes())
        vectors = np.zeros((len(block.chunks), block.vectors.shape[1]), np.float16)
        vectors[known] = block.vectors
        return replace(block, vectors=vectors)


def lay_aside(block: VectorBlock, path: Path, contents: tuple[bytes, ...], timestamp: Any, window: Any) -> WaitingBlock:
    """Write a block to `path`, to wait there."""
    known = np.setdiff1d(np.arange(len(block.chunks)), block.missing)
    path.write_bytes(pickle.dumps((replace(block, vectors=block.vectors[known]), known), pickle.HIGHEST_PROTOCOL))
    return WaitingBlock(path, block.digest, contents, timestamp, window)


def wanted_of(chunks: Iterable[Chunk], lane: Any) -> dict[bytes, Any]:
    """What a lane may send of these chunks, by content hash."""
    asked = list(chunks)
    wanted: dict[bytes, Any] = lane.to_send([chunk.model_input for chunk in asked], [chunk.tokens for chunk in asked])
    return wanted


class EmbedByBatchDoFn(beam.DoFn):
    """VectorBlock -> EmbeddedBlock; tags `letters` and `left`. As `EmbedDoFn`, by batches.

    Blocks are gathered until a batch is full or the bundle ends, and leave when all that they wait for has come: in any
    order. What went wrong is raised when everything that came has left: it is stored by then.

    What the cap does not allow is left, see `Admission`; nothing is waited for first, though it may turn out to cost
    less than its bound. What has to be sent again is to be paid for again, or its document is left then.
    """

    step = "embed"

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lane: Any = None
        self._begun = 0

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self._account = Account(self._job.spending)
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        # After a bundle that failed there is one that was not closed.
        self._close_lane()
        self._lane = open_batch_lane(
            self._job.checkpoint,
            self._store,
            self._job.concurrency,
            self._account,
            self._job.retry,
            lambda now: self._progress.waits_for(now.batches, now.requests, now.answered, now.since),
            lru_cache(partial(kept_canaries, self._store, self._job.checkpoint)),
        )
        self._embedder = post_processed(self._lane, self._job.checkpoint)
        self._scratch = TemporaryDirectory(dir=self._store.scratch(), prefix="waiting-")
        self._waiting: dict[Path, WaitingBlock] = {}
        self._admission = Admission(self._job, self._account, self._due)

    def process(
        self,
        element: VectorBlock,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        with stopwatch(self.step):
            changed = self._lane.look()
        if changed:
            yield from self._leave()
        yield from self._admitted(element, timestamp, window)
        while self._lane.full:
            yield from self._go_on()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._leave()
        while self._waiting:
            yield from self._go_on()
        self._lane.finish()
        self._close_lane()

    def teardown(self) -> None:
        self._close_lane()
        self._account.close()

    def _close_lane(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._scratch.cleanup()
            self._lane = None

    def _admitted(self, block: VectorBlock, timestamp: Any, window: Any) -> Iterator[Any]:
        """What of a block can be paid for waits, unless it has all that it waits for; the rest is left."""
        with stopwatch(self.step):
            admitted = self._admission.admits(block)
        if not admitted:
            block, left = self._divided(block, self._admission.unaffordable(block))
            yield windowed(left, timestamp, window)
        if block.chunks:
            with stopwatch(self.step):
                waiting = self._begin(block, timestamp, window)
            if self._lane.standing(waiting.contents) == "settled":
                yield from self._outputs(waiting)

    def _begin(self, block: VectorBlock, timestamp: Any, window: Any) -> WaitingBlock:
        wanted = wanted_of(asked_of(block), self._lane)
        self._begun += 1
        path = Path(self._scratch.name) / str(self._begun)
        self._waiting[path] = waiting = lay_aside(block, path, tuple(wanted), timestamp, window)
        self._lane.want(block.digest, wanted.values())
        return waiting

    def _due(self, chunks: Sequence[Chunk]) -> int:
        """What any run has sent and nobody has stored costs nothing again."""
        tokens: int = self._lane.due(wanted_of(chunks, self._lane).values())
        return tokens

    def _divided(self, block: VectorBlock, events: frozenset[Event]) -> tuple[VectorBlock, TaggedOutput]:
        """A block without these documents, and what is told of them."""
        left = self._admission.leave(block, events)
        rest = self._admission.without(block, events)
        gone = wanted_of((chunk for chunk in asked_of(block) if event(chunk) in events), self._lane)
        self._lane.instead(block.digest, rest.digest if rest.chunks else None, gone)
        return rest, TaggedOutput("left", left)

    def _forget(self, waiting: WaitingBlock) -> None:
        del self._waiting[waiting.path]
        waiting.path.unlink()

    def _go_on(self) -> Iterator[Any]:
        """Send what may be sent now; if nothing may, wait."""
        with stopwatch(self.step):
            changed = self._lane.send() or self._lane.wait()
        if changed:
            yield from self._leave()
        self._lane.check()

    def _leave(self) -> Iterator[Any]:
        """What is ready leaves; what has to be sent again is gathered."""
        for waiting in list(self._waiting.values()):
            standing = self._lane.standing(waiting.contents)
            if standing == "open":
                yield from self._again(waiting)
            if standing == "settled":
                yield from self._outputs(waiting)

    def _again(self, waiting: WaitingBlock) -> Iterator[Any]:
        """A block of which something has to be sent again is gathered, as far as that can be paid for."""
        block = waiting.load()
        if self._admission.admits(block):
            self._lane.want(block.digest, wanted_of(asked_of(block), self._lane).values())
            return
        self._forget(waiting)
        yield from self._admitted(block, waiting.timestamp, waiting.window)

    def _outputs(self, waiting: WaitingBlock) -> Iterator[Any]:
        block = waiting.load()
        if events := self._admission.left_in(block):
            # Another block of these documents could not be paid for.
            block, left = self._divided(block, events)
            yield windowed(left, waiting.timestamp, waiting.window)
        self._forget(waiting)
        if not block.chunks:
            return
        with stopwatch(self.step):
            embedded: EmbeddedBlock = embed_block(block, self._embedder, self._job.collection.tiers[0].dimensions)
        for output in outputs_of(block, embedded, self._progress):
            yield windowed(output, waiting.timestamp, waiting.window)
        if not embedded.block.chunks:
            # No shard is made of it: nobody has to wait for one.
            self._lane.instead(block.digest, None, ())
        # Where steps are fused it is stored by now; where not, the end of the bundle looks once more.
        self._lane.stored(block.digest)
