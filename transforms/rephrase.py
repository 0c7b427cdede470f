"""The chunks of one generation, said as the model of another one is to be asked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import apache_beam as beam

from tierloom.checkpoint import Checkpoint
from tierloom.document import Chunk
from tierloom.model_input import model_input
from transforms.chunking.tokens import open_count
from transforms.elements import ChunkBlock
from transforms.job import Job
from transforms.timing import stopwatch


class Rephraser:
    """Puts a checkpoint's own prompt before texts that were cut already. Made in a worker, never pickled."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises `CheckpointError` or `MissingExtra`."""
        self._prompt = checkpoint.space.document_prompt
        self._count = open_count(checkpoint.tokenizer)

    def rephrased(self, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
        """The same chunks, for this checkpoint's model."""
        inputs = [model_input(self._prompt, chunk.heading, chunk.text) for chunk in chunks]
        return tuple(
            replace(chunk, model_input=sent, tokens=tokens)
            for chunk, sent, tokens in zip(chunks, inputs, self._count(inputs), strict=True)
        )


class RephraseDoFn(beam.DoFn):
    """ChunkBlock -> ChunkBlock."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._rephraser = Rephraser(self._job.checkpoint)

    def process(self, block: ChunkBlock) -> Iterator[ChunkBlock]:
        with stopwatch("rephrase"):
            chunks = self._rephraser.rephrased(block.chunks)
        yield ChunkBlock(block.place, chunks)
