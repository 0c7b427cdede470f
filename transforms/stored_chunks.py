"""Reading the chunks that one generation holds, for the model of another one: the sources are not needed.

The work is divided by the keys of documents, which are hashes: a range of keys has about its share of the corpus, and
whole documents. Ranges are cut at fixed places, so that a range has the same chunks whenever it comes again, whatever
happened to documents elsewhere or to the shards that they lie in.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, TypeAlias

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput

from tierloom.document import Chunk, Origin, document_key
from tierloom.manifest import KEY_UNITS
from tierloom.shards.live import LiveShard
from tierloom.shards.text_groups import TextGroups
from transforms.base import Base, base_if_any, base_of
from transforms.chunk import chunk_blocks
from transforms.drafts import draft_name
from transforms.elements import ChunkBlock, Place, Tally
from transforms.job import Job
from transforms.progress import Progress
from transforms.rephrase import Rephraser
from transforms.retry import retried_chunks
from transforms.timing import stopwatch

# Keys are told by their upper half.
_SHIFT = 32

_Read: TypeAlias = ChunkBlock | TaggedOutput[Literal["tally"], Tally]


def key_ranges(reached: int, live_chunks: int, part_chunks: int, block_chunks: int) -> list[range]:
    """The next part of a generation that is built up to `reached`: ranges of upper halves of keys, each with about
    half of `block_chunks` of `live_chunks` to all of them, together about `part_chunks`; none at the end."""
    width = KEY_UNITS >> max(0, (-(-live_chunks // block_chunks) - 1).bit_length())
    first = reached // width
    count = max(1, part_chunks * KEY_UNITS // (max(live_chunks, 1) * width))
    last = min(first + count, KEY_UNITS // width)
    return [range(at * width, (at + 1) * width) for at in range(first, last)] if reached < KEY_UNITS else []


class StoredDocuments:
    """What the source generation has and the target lacks. Asked for ascending keys it decodes each text once. For one
    thread."""

    def __init__(self, source: Base, target: Base | None) -> None:
        """Without a target it lacks all."""
        self._target = target
        self._shards = [(live, TextGroups(live.shard)) for live in source.shards]
        self._refused = retried_chunks(source.letters)

    def under(self, keys: range) -> list[list[Chunk]]:
        """The documents with such keys, in the order of their keys: their live chunks, and those that the source's
        model refused; not yet phrased for any model."""
        live = (chunk for shard, texts in self._shards for chunk in _chunks_in(keys, shard, texts))
        refused = (chunk for chunk in self._refused if document_key(chunk.document_id) >> _SHIFT in keys)
        ordered = sorted(self._lacking([*live, *refused]), key=_place)
        return [list(chunks) for _, chunks in groupby(ordered, lambda chunk: chunk.document_id)]

    def _lacking(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Those of documents that the target has at no such sequence: not live, not dead."""
        if self._target is None:
            return list(chunks)
        live = self._target.sequences({chunk.document_id for chunk in chunks})
        return [
            chunk
            for chunk in chunks
            if live.get(chunk.document_id, chunk.sequence - 1) < chunk.sequence
            and (chunk.document_id, chunk.sequence) not in self._target.dead_events
        ]


def _place(chunk: Chunk) -> tuple[int, str, int]:
    return document_key(chunk.document_id), chunk.document_id, chunk.ordinal


def _chunks_in(keys: range, live: LiveShard, texts: TextGroups) -> Iterator[Chunk]:
    begin = int(np.searchsorted(live.keys, np.uint64(keys.start << _SHIFT)))
    end = len(live.keys)
    if keys.stop < KEY_UNITS:
        end = int(np.searchsorted(live.keys, np.uint64(keys.stop << _SHIFT)))
    rows = begin + np.flatnonzero(live.alive[begin:end])
    if not len(rows):
        return
    described: list[dict[str, Any]] = texts.read(rows).to_pylist()
    numbers = (live.shard.gather(column, rows).tolist() for column in ("ordinal", "sequence", "source"))
    for row, said, ordinal, sequence, source in zip(rows.tolist(), described, *numbers, strict=True):
        origin = Origin(live.stored.path, row, stored_key=source)
        yield Chunk(ordinal=ordinal, sequence=sequence, model_input="", tokens=0, origin=origin, **said)


class StoredChunksDoFn(beam.DoFn):
    """(number, ascending ranges of keys) -> ChunkBlocks for the job's model, of what its generation lacks; tag
    `tally`."""

    def __init__(self, source: Job, job: Job) -> None:
        """`source` is the run over the generation that is complete."""
        self._source = source
        self._job = job

    def setup(self) -> None:
        self._rephraser = Rephraser(self._job.checkpoint)
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        self._documents = StoredDocuments(base_of(self._source), base_if_any(self._job))

    def process(self, numbered: tuple[int, Sequence[range]]) -> Iterator[_Read]:
        number, ranges = numbered
        for at, keys in enumerate(ranges):
            with stopwatch("read texts"):
                documents = self._documents.under(keys)
                said = [list(self._rephraser.rephrased(chunks)) for chunks in documents]
            self._progress.add(bytes=len(keys), cut=sum(map(len, said)))
            draft = draft_name(self._job.fingerprint, self._job.collection.prefix_dimensions, keys)
            for part, chunks in enumerate(chunk_blocks(said, self._job.collection.sizes.small_shard_rows)):
                yield ChunkBlock(Place(number, at, part), chunks, draft)
            yield TaggedOutput("tally", Tally(read=len(documents)))
