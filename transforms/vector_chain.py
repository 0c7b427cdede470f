"""From documents to the stored vector shards of one generation: the fused steps, for those who run them themselves."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tierloom.collection import Collection
from tierloom.dead_letter import DeadLetter
from tierloom.manifest import DeadLetters
from transforms.chunk import ChunkDoFn
from transforms.compare import CompareDoFn
from transforms.dead_letters import StoreLettersDoFn
from transforms.elements import ChunkBlock, DocumentBlock, ShardReceipt
from transforms.embed import EmbedDoFn
from transforms.inline import InlineStep, aside
from transforms.job import Job
from transforms.paying import NOTHING_LEFT, Left, together
from transforms.quantize import QuantizeDoFn
from transforms.rephrase import RephraseDoFn
from transforms.reuse import ReuseDoFn
from transforms.write import WriteVectorShardDoFn


@dataclass(frozen=True, slots=True)
class BundlePart:
    """What a bundle made of one generation, which is of this collection."""

    collection: Collection
    receipts: tuple[ShardReceipt, ...]
    letters: tuple[DeadLetters, ...]
    left: Left = NOTHING_LEFT


@dataclass(slots=True)
class Cut:
    """The chunks of documents, and the letters of those that have none, as they come."""

    blocks: list[ChunkBlock] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


class VectorChain:
    """One generation's steps. For one thread."""

    def __init__(self, job: Job) -> None:
        """Raises as the steps' setups do."""
        self.job = job
        self.compare = InlineStep(CompareDoFn(job))
        self._chunk = InlineStep(ChunkDoFn(job))
        self._reuse = InlineStep(ReuseDoFn(job))
        self._embed = InlineStep(EmbedDoFn(job))
        self._quantize = InlineStep(QuantizeDoFn(job))
        self._write = InlineStep(WriteVectorShardDoFn(job))
        self._letters = InlineStep(StoreLettersDoFn(job))

    def cut(self, documents: Iterable[DocumentBlock], into: Cut) -> Iterator[ChunkBlock]:
        """The chunks of documents; they are kept in `into` for other generations as well."""
        others = aside()
        for block in self._chunk.bundle(documents, others=others):
            into.blocks.append(block)
            yield block
        into.letters += others["letters"]

    @cached_property
    def _rephrase(self) -> InlineStep:
        """Loaded where it is needed: it holds a tokenizer."""
        return InlineStep(RephraseDoFn(self.job))

    def rephrased(self, cut: Cut) -> Iterator[ChunkBlock]:
        """The chunks that were cut for another generation, for this one's model."""
        return self._rephrase.bundle(cut.blocks, others=aside())

    def stored(self, chunks: Iterable[ChunkBlock], cut: Cut, unread: Sequence[DeadLetter]) -> BundlePart:
        """These chunks as vector shards. Letters are those of `unread` records, of the `cut`, and the model's."""
        others = aside()
        embedded = self._embed.bundle(self._reuse.bundle(chunks, others=others), others=others)
        receipts = [*self._write.bundle(self._quantize.bundle(embedded, others=others), others=others)]
        letters = [*unread, *cut.letters, *others["letters"]]
        return BundlePart(
            collection=self.job.collection,
            receipts=(*receipts, *others["finished"]),
            letters=tuple(self._letters.bundle([letters] if letters else [], others=others)),
            left=together(others["left"]),
        )

    def close(self) -> None:
        """Let go of the model and of threads."""
        for step in vars(self).values():
            if isinstance(step, InlineStep):
                step.close()
