"""Embedding: the chunks of a block that have no vector yet are sent to the model."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from tierloom.canaries import kept_canaries
from tierloom.canary_room import canary_bound, pack_with_canaries
from tierloom.collection import SHARDS_IN_FLIGHT
from tierloom.dead_letter import DeadLetter, FailedChunk
from tierloom.document import Chunk
from tierloom.embedders.embedder import Embedded, Embedder, PaidInPart, Rejection
from tierloom.embedders.opening import open_embedder
from tierloom.embedders.packing import most_tokens
from tierloom.errors import CapReached
from tierloom.quantizer import to_unit_float16
from tierloom.spending.account import Account
from tierloom.stores.opening import open_store
from transforms.admission import Admission
from transforms.elements import VectorBlock
from transforms.job import Job
from transforms.overlap import OverlappingDoFn, windowed
from transforms.paying import Left, event
from transforms.progress import Progress
from transforms.publishing.events import Event, event_of


@dataclass(frozen=True, slots=True)
class EmbeddedBlock:
    """A block whose every chunk has its vector, and the letters of those that got none. Of the `unpaid` documents
    something is missing all the same."""

    block: VectorBlock
    letters: tuple[DeadLetter, ...]
    unpaid: frozenset[Event] = frozenset()

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return self.block.weight


def embed_block(block: VectorBlock, embedder: Embedder, smallest_tier: int) -> EmbeddedBlock:
    """Fill in the missing vectors; a chunk that the model refuses becomes a dead letter.

    So does one whose prefix of the smallest tier is zero: it points nowhere there and could never be found. What would
    have passed the cap has no vector, and its document is named.
    """
    asked = [block.chunks[position] for position in block.missing]
    if not asked:
        return EmbeddedBlock(block, ())
    try:
        answer, unpaid = _answer(asked, embedder)
    except CapReached:
        return EmbeddedBlock(block, (), frozenset(map(event, asked)))
    rejected = dict(answer.rejected)
    fine = np.array([at not in rejected and at not in unpaid for at in range(len(asked))], dtype=np.bool_)
    units = to_unit_float16(answer.vectors[fine])
    for position, unit in zip(np.flatnonzero(fine).tolist(), units, strict=True):
        if not unit[:smallest_tier].any():
            rejected[position] = Rejection("zero-prefix", f"its first {smallest_tier} dimensions are all zero")
    vectors = block.vectors.copy()
    vectors[block.missing[fine]] = units
    letters = tuple(_letter(asked[position], rejection) for position, rejection in sorted(rejected.items()))
    dropped = block.missing[sorted(rejected)]
    embedded = _without(replace(block, vectors=vectors, tokens=answer.tokens), dropped)
    return EmbeddedBlock(embedded, letters, frozenset(event(asked[at]) for at in unpaid))


def _answer(asked: list[Chunk], embedder: Embedder) -> tuple[Embedded, frozenset[int]]:
    """The vectors of chunks, and the positions of those that could not be paid for."""
    inputs, bounds = [chunk.model_input for chunk in asked], [chunk.tokens for chunk in asked]
    try:
        return embedder.embed(inputs, bounds), frozenset()
    except PaidInPart as paid:
        return paid.embedded, paid.unpaid


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


EmbedOutput: TypeAlias = (
    EmbeddedBlock | TaggedOutput[Literal["letters"], DeadLetter] | TaggedOutput[Literal["left"], Left]
)


def outputs_of(element: VectorBlock, result: EmbeddedBlock, progress: Progress) -> Iterator[EmbedOutput]:
    """What becomes of a block: itself, and the letters it lost."""
    progress.add(done=len(element.chunks), copied=result.block.copied, tokens=result.block.tokens)
    yield result
    for letter in result.letters:
        yield TaggedOutput("letters", letter)


class EmbedDoFn(OverlappingDoFn):
    """VectorBlock -> EmbeddedBlock; tags `letters` and `left`.

    At most `block_chunks` chunks are in flight: sent to the model, and not yet in a stored shard. So much may a crash
    cost a worker. They are those of several blocks, so that the endpoint is not idle while one of these is stored
    and another is read and cut. What the cap does not allow is left, see `Admission`.
    """

    step = "embed"

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._account = Account(self._job.spending)
        canaries = partial(kept_canaries, open_store(self._job.store), self._job.checkpoint)
        self._embedder = open_embedder(
            self._job.checkpoint, self._job.concurrency, account=self._account, canaries=canaries
        )
        self._canary = 0 if self._job.checkpoint.space.in_process else canary_bound(self._job.checkpoint)
        self.depth = self._job.collection.sizes.block_chunks
        # Blocks may be small: in any case as many as there may be requests are under way.
        threads = max(self._job.concurrency, SHARDS_IN_FLIGHT)
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="embed")
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        super().start_bundle()
        self._admission = Admission(self._job, self._account, self._due)

    def process(
        self,
        element: VectorBlock,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        admitted = self._admission.admits(element)
        while not admitted and self._pending:
            # What is under way was set aside at its bound, and may turn out to cost less.
            yield from self._leave()
            admitted = self._admission.admits(element)
        if not admitted:
            left = self._admission.unaffordable(element)
            yield windowed(TaggedOutput("left", self._admission.leave(element, left)), timestamp, window)
            element = self._admission.without(element, left)
        if element.chunks:
            yield from super().process(element, timestamp, window)

    def weight(self, element: VectorBlock) -> int:
        """The chunks to be paid for; of those that are only held in memory, an eighth."""
        return max(len(element.missing), -(-len(element.chunks) // 8))

    def work(self, element: VectorBlock) -> Callable[[], EmbeddedBlock]:
        return partial(embed_block, element, self._embedder, self._job.collection.tiers[0].dimensions)

    def outputs(self, element: VectorBlock, result: EmbeddedBlock) -> Iterator[EmbedOutput]:
        block, letters = result.block, result.letters
        if left := result.unpaid | self._admission.left_in(element):
            yield TaggedOutput("left", self._admission.leave(element, left))
            rest = self._admission.without(element, left)
            block = replace(self._admission.without(block, left), digest=rest.digest, copied=rest.copied)
            letters = tuple(letter for letter in letters if event_of(letter) not in left)
        yield from outputs_of(element, replace(result, block=block, letters=letters), self._progress)

    def teardown(self) -> None:
        self.executor.shutdown()
        self._embedder.close()
        self._account.close()

    def _due(self, chunks: Sequence[Chunk]) -> int:
        """Their tokens, and those of the canaries that their requests carry."""
        bounds = [chunk.tokens for chunk in chunks]
        if not bounds or not self._canary:
            return sum(bounds)
        at_once = most_tokens(self._job.checkpoint.limits, self._account.tokens_at_once)
        return sum(bounds) + self._canary * pack_with_canaries(bounds, self._job.checkpoint, at_once).canaries
