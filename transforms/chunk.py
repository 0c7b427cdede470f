"""Cutting documents into chunks. What the model is sent for each is ruled in `tierloom.model_input`."""

from collections.abc import Iterable, Iterator
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.checkpoint import Checkpoint
from tierloom.collection import Chunking
from tierloom.dead_letter import DeadLetter
from tierloom.document import Chunk, Document
from tierloom.model_input import check_chunking, model_input
from transforms.chunking.headings import HeadingPaths, find_headings
from transforms.chunking.slabs import LINE_CHARACTERS_PER_TOKEN, cut_slabs, is_deeply_nested
from transforms.chunking.tokens import open_count, open_splitters
from transforms.elements import ChunkBlock, DocumentBlock, Place
from transforms.job import Job
from transforms.progress import Progress
from transforms.timing import stopwatch


def empty_document(document: Document) -> DeadLetter:
    """The dead letter of a document that has no chunk: there was nothing in it to embed."""
    return DeadLetter(
        stage="chunk",
        reason="empty-document",
        detail="nothing in the document can be embedded",
        source=document.origin.source,
        offset=document.origin.offset,
        length=document.origin.length,
        document_id=document.document_id,
        sequence=document.sequence,
        record=document.origin.record,
    )


class Chunker:
    """Cuts documents by one checkpoint's tokens. Made in a worker, never pickled."""

    def __init__(self, checkpoint: Checkpoint, chunking: Chunking) -> None:
        """Raises `CheckpointError` or `MissingExtra`."""
        check_chunking(checkpoint, chunking)
        self._prompt = checkpoint.space.document_prompt
        self._longest_line = chunking.max_tokens * LINE_CHARACTERS_PER_TOKEN
        tokenizer = chunking.tokenizer or checkpoint.tokenizer
        self._splitters = open_splitters(tokenizer, chunking)
        self._count = self._splitters.count if tokenizer == checkpoint.tokenizer else open_count(checkpoint.tokenizer)

    def cut(self, document: Document) -> list[Chunk]:
        """The chunks of a document, in order: each of at most `max_tokens` tokens; none if it says nothing."""
        paths = HeadingPaths(document.title, find_headings(document.text) if document.markdown else [])
        pieces = [(paths.at(offset), text) for offset, text in self._pieces(document)]
        inputs = [model_input(self._prompt, heading, text) for heading, text in pieces]
        counts = self._count(inputs)
        return [
            Chunk(
                document_id=document.document_id,
                ordinal=ordinal,
                sequence=document.sequence,
                heading=heading,
                text=text,
                metadata=document.metadata,
                model_input=sent,
                tokens=tokens,
                origin=document.origin,
            )
            for ordinal, ((heading, text), sent, tokens) in enumerate(zip(pieces, inputs, counts, strict=True))
        ]

    def _pieces(self, document: Document) -> Iterator[tuple[int, str]]:
        """The texts of the chunks, each with its character offset in the document."""
        for start, slab in cut_slabs(document.text, self._longest_line):
            structured = document.markdown and not is_deeply_nested(slab)
            splitter = self._splitters.markdown if structured else self._splitters.plain
            for offset, text in splitter.chunk_indices(slab):
                yield start + offset, text


def chunk_blocks(cut: Iterable[list[Chunk]], block_chunks: int) -> Iterator[tuple[Chunk, ...]]:
    """Chunks of consecutive documents, at most `block_chunks` together. A document stays whole if it fits."""
    block: list[Chunk] = []
    for chunks in cut:
        if block and len(block) + len(chunks) > block_chunks:
            yield tuple(block)
            block = []
        block += chunks
        while len(block) > block_chunks:
            yield tuple(block[:block_chunks])
            block = block[block_chunks:]
    if block:
        yield tuple(block)


class ChunkDoFn(beam.DoFn):
    """DocumentBlock -> ChunkBlocks; tag `letters` for documents that say nothing."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._chunker = Chunker(self._job.checkpoint, self._job.collection.chunking)
        self._progress = Progress(self._job.progress)

    def process(self, block: DocumentBlock) -> Iterator[ChunkBlock | TaggedOutput[Literal["letters"], DeadLetter]]:
        silent: list[Document] = []
        blocks = chunk_blocks(self._cut(block.documents, silent), self._job.collection.sizes.small_shard_rows)
        part = 0
        # The first chunks are on their way to the model while the last documents are still being cut.
        while chunks := self._next(blocks):
            self._progress.add(cut=len(chunks))
            yield ChunkBlock(Place(block.place.split, block.place.block, part), chunks)
            part += 1
        for document in silent:
            yield TaggedOutput("letters", empty_document(document))

    def _cut(self, documents: Iterable[Document], silent: list[Document]) -> Iterator[list[Chunk]]:
        """The chunks of each document; those that have none go into `silent`."""
        for document in documents:
            chunks = self._chunker.cut(document)
            if not chunks:
                silent.append(document)
            yield chunks

    @staticmethod
    def _next(blocks: Iterator[tuple[Chunk, ...]]) -> tuple[Chunk, ...]:
        with stopwatch("chunk"):
            return next(blocks, ())
