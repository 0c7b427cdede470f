"""Sending the open dead letters of a version through again."""

from collections.abc import Iterator, Sequence
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.dead_letter import DeadLetter, FailedChunk
from tierloom.document import Chunk, Origin
from transforms.base import retried_letters
from transforms.elements import ChunkBlock, Place, Tally
from transforms.job import Job


def retried_chunks(letters: Sequence[DeadLetter]) -> list[Chunk]:
    """The chunks that letters hold, as they were to be embedded."""
    return [_chunk(letter, letter.chunk) for letter in letters if letter.chunk]


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
        events = {(chunk.document_id, chunk.sequence) for chunk in chunks}
        yield TaggedOutput("tally", Tally(read=len(events)))
        size = self._job.collection.sizes.small_shard_rows
        for number, start in enumerate(range(0, len(chunks), size)):
            yield ChunkBlock(Place(-1, number), tuple(chunks[start : start + size]))
