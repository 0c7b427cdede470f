"""Embedding by the Batch API: blocks wait on the disk for vectors that may take a day."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
import numpy as np

from tierloom.canaries import kept_canaries
from tierloom.embedders.opening import open_batch_lane, post_processed
from tierloom.stores.opening import open_store
from transforms.elements import VectorBlock
from transforms.embed import EmbeddedBlock, embed_block, outputs_of
from transforms.job import Job
from transforms.overlap import windowed
from transforms.progress import Progress
from transforms.timing import stopwatch


def allow_batch(job: Job, tokens: int) -> None:
    """Asked before anything of a batch is sent, with the tokens that it may cost at most: whoever holds the purse
    raises here what stops the run. Nobody does yet."""


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


class EmbedByBatchDoFn(beam.DoFn):
    """VectorBlock -> EmbeddedBlock; tag `letters`. As `EmbedDoFn`, by batches.

    Blocks are gathered until a batch is full or the bundle ends, and leave when all that they wait for has come: in any
    order. What went wrong is raised when everything that came has left: it is stored by then.
    """

    step = "embed"

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lane: Any = None
        self._begun = 0

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        # After a bundle that failed there is one that was not closed.
        self.teardown()
        self._lane = open_batch_lane(
            self._job.checkpoint,
            self._store,
            self._job.concurrency,
            lambda tokens: allow_batch(self._job, tokens),
            lambda now: self._progress.waits_for(now.batches, now.requests, now.answered, now.since),
            lru_cache(partial(kept_canaries, self._store, self._job.checkpoint)),
        )
        self._embedder = post_processed(self._lane, self._job.checkpoint)
        self._scratch = TemporaryDirectory(dir=self._store.scratch(), prefix="waiting-")
        self._waiting: dict[Path, WaitingBlock] = {}

    def process(
        self,
        element: VectorBlock,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        with stopwatch(self.step):
            waiting = self._begin(element, timestamp, window)
            changed = self._lane.look()
        if changed:
            yield from self._leave()
        elif self._lane.standing(waiting.contents) == "settled":
            yield from self._outputs(waiting)
        while self._lane.full:
            yield from self._go_on()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._leave()
        while self._waiting:
            yield from self._go_on()
        self._lane.finish()
        self.teardown()

    def teardown(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._scratch.cleanup()
            self._lane = None

    def _begin(self, block: VectorBlock, timestamp: Any, window: Any) -> WaitingBlock:
        wanted = self._wanted(block)
        self._begun += 1
        path = Path(self._scratch.name) / str(self._begun)
        self._waiting[path] = waiting = lay_aside(block, path, tuple(wanted), timestamp, window)
        self._lane.want(block.digest, wanted.values())
        return waiting

    def _wanted(self, block: VectorBlock) -> dict[bytes, Any]:
        asked = [block.chunks[position] for position in block.missing]
        wanted: dict[bytes, Any] = self._lane.to_send(
            [chunk.model_input for chunk in asked], [chunk.tokens for chunk in asked]
        )
        return wanted

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
                self._lane.want(waiting.digest, self._wanted(waiting.load()).values())
            if standing == "settled":
                yield from self._outputs(waiting)

    def _outputs(self, waiting: WaitingBlock) -> Iterator[Any]:
        block = waiting.load()
        with stopwatch(self.step):
            embedded: EmbeddedBlock = embed_block(block, self._embedder, self._job.collection.tiers[0].dimensions)
        del self._waiting[waiting.path]
        waiting.path.unlink()
        for output in outputs_of(block, embedded, self._progress):
            yield windowed(output, waiting.timestamp, waiting.window)
        # Where steps are fused it is stored by now; where not, the end of the bundle looks once more.
        self._lane.stored(waiting.digest)
