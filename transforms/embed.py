"""Embedding: the chunks of a block that have no vector yet are sent to the model."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from apache_beam.pvalue import TaggedOutput

from tierloom.collection import SHARDS_IN_FLIGHT
from tierloom.dead_letter import DeadLetter, FailedChunk
from tierloom.document import Chunk
from tierloom.embedders.embedder import Embedder, Rejection
from tierloom.embedders.opening import open_embedder
from tierloom.quantizer import to_unit_float16
from transforms.elements import VectorBlock
from transforms.job import Job
from transforms.overlap import OverlappingDoFn
from transforms.progress import Progress


@dataclass(frozen=True, slots=True)
class EmbeddedBlock:
    """A block whose every chunk has its vector, and the letters of those that got none."""

    block: VectorBlock
    letters: tuple[DeadLetter, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return self.block.weight


def embed_block(block: VectorBlock, embedder: Embedder, smallest_tier: int) -> EmbeddedBlock:
    """Fill in the missing vectors; a chunk that the model refuses becomes a dead letter.

    So does one whose prefix of the smallest tier is zero: it points nowhere there and could never be found.
    """
    asked = [block.chunks[position] for position in block.missing]
    if not asked:
        return EmbeddedBlock(block, ())
    answer = embedder.embed([chunk.model_input for chunk in asked], [chunk.tokens for chunk in asked])
    rejected = dict(answer.rejected)
    fine = np.array([position not in rejected for position in range(len(asked))], dtype=np.bool_)
    units = to_unit_float16(answer.vectors[fine])
    for position, unit in zip(np.flatnonzero(fine).tolist(), units, strict=True):
        if not unit[:smallest_tier].any():
            rejected[position] = Rejection("zero-prefix", f"its first {smallest_tier} dimensions are all zero")
    vectors = block.vectors.copy()
    vectors[block.missing[fine]] = units
    letters = tuple(_letter(asked[position], rejection) for position, rejection in sorted(rejected.items()))
    dropped = block.missing[sorted(rejected)]
    return EmbeddedBlock(_without(replace(block, vectors=vectors, tokens=answer.tokens), dropped), letters)


def _without(block: VectorBlock, dropped: np.ndarray) -> VectorBlock:
    kept = np.setdiff1d(np.arange(len(block.chunks)), dropped)
    return replace(
        block,
        chunks=tuple(block.chunks[position] for position in kept),
        vectors=block.vectors[kept],
        missing=np.empty(0, dtype=np.int64),
    )


def _letter(chunk: Chunk, rejection: Rejection) -> DeadLetter:
    return DeadLetter(
        stage="embed",
        reason=rejection.reason,
        detail=rejection.detail,
        source=chunk.origin.source,
        offset=chunk.origin.offset,
        document_id=chunk.document_id,
        sequence=chunk.sequence,
        chunk=FailedChunk(
            ordinal=chunk.ordinal,
            heading=chunk.heading,
            text=chunk.text,
            metadata=chunk.metadata,
            model_input=chunk.model_input,
            tokens=chunk.tokens,
        ),
    )


class EmbedDoFn(OverlappingDoFn):
    """VectorBlock -> EmbeddedBlock; tag `letters`.

    At most `block_chunks` chunks are in flight: sent to the model, and not yet in a stored shard. So much may a crash
    cost a worker. They are those of several blocks, so that the endpoint is not idle while one of these is stored
    and another is read and cut.
    """

    step = "embed"

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._embedder = open_embedder(self._job.checkpoint, self._job.concurrency)
        self.depth = self._job.collection.sizes.block_chunks
        # Blocks may be small: in any case as many as there may be requests are under way.
        threads = max(self._job.concurrency, SHARDS_IN_FLIGHT)
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="embed")
        self._progress = Progress(self._job.progress)

    def weight(self, element: VectorBlock) -> int:
        """The chunks to be paid for; of those that are only held in memory, an eighth."""
        return max(len(element.missing), -(-len(element.chunks) // 8))

    def work(self, element: VectorBlock) -> Callable[[], EmbeddedBlock]:
        return partial(embed_block, element, self._embedder, self._job.collection.tiers[0].dimensions)

    def outputs(
        self, element: VectorBlock, result: EmbeddedBlock
    ) -> Iterator[EmbeddedBlock | TaggedOutput[Literal["letters"], DeadLetter]]:
        block = result.block
        self._progress.add(done=len(element.chunks), copied=block.copied, tokens=block.tokens)
        yield result
        for letter in result.letters:
            yield TaggedOutput("letters", letter)

    def teardown(self) -> None:
        self.executor.shutdown()
        self._embedder.close()
