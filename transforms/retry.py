"""Sending the open dead letters of a version through again."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.dead_letter import DeadLetter, FailedChunk
from tierloom.document import Chunk, Origin
from transforms.base import retried_letters
from transforms.chunk import chunk_blocks
from transforms.elements import ChunkBlock, Place, Tally
from transforms.job import Job
from transforms.paying import event


def retried_chunks(letters: Sequence[DeadLetter]) -> list[Chunk]:
    """The chunks that letters hold, as they were to be embedded; those of a document in order."""
    chunks = [_chunk(letter, letter.chunk) for letter in letters if letter.chunk]
    return sorted(chunks, key=lambda chunk: (chunk.document_id, chunk.sequence, chunk.ordinal))


def _chunk(letter: DeadLetter, failed: FailedChunk) -> Chunk:
    return Chunk(
        document_id=letter.document_id or "",
        ordinal=failed.ordinal,
        sequence=letter.sequence or 0,
        heading=failed.heading,
        text=failed.text,
        metadata=failed.metadata,
        model_input=failed.model_input,
        tokens=failed.tokens,
        origin=Origin(letter.source, letter.offset or 0),
    )


class ReadLettersDoFn(beam.DoFn):
    """One impulse -> ChunkBlocks of the chunks that open letters hold; tag `tally`. Letters of records are
    splits: they are read from their source again."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, _: object) -> Iterator[ChunkBlock | TaggedOutput[Literal["tally"], Tally]]:
        chunks = retried_chunks(retried_letters(self._job))
        documents = [list(some) for _, some in groupby(chunks, event)]
        yield TaggedOutput("tally", Tally(read=len(documents)))
        blocks = chunk_blocks(documents, self._job.collection.sizes.small_shard_rows)
        for number, block in enumerate(blocks):
            yield ChunkBlock(Place(-1, number), block)
