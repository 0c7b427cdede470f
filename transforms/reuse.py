"""A vector once paid for is copied, never bought again.

Three places are asked before the model: a shard that an interrupted run finished for the very same chunks; the
document's own live rows, where a chunk whose `content_hash` is there already takes its vector from; and, of work that
is cut at fixed places, shards that were finished for some of the same chunks.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import TaggedOutput
from numpy.typing import NDArray

from tierloom import names
from tierloom.dead_letter import DeadLetter
from tierloom.document import Chunk
from tierloom.shards.columns import ShardColumns
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ShardSchema
from tierloom.shards.vector_checks import checked_vectors
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.storing import vector_shard_in
from transforms.base import Base, base_of
from transforms.block_notes import BlockNotes
from transforms.drafts import noted_before
from transforms.elements import ChunkBlock, Place, ShardReceipt, VectorBlock
from transforms.job import Job
from transforms.progress import Progress
from transforms.timing import stopwatch


def finished_shard(place: Place, digest: str, store: Store) -> tuple[ShardReceipt, tuple[DeadLetter, ...]] | None:
    """The stored shard of this block and the dead letters it left, if an earlier run finished it.

    Raises `Malformed` when its vectors are not what they were.
    """
    name = names.vector_shard(digest)
    # Found, not made: from here on it is as young as if it had been made now.
    if not store.renew(name):
        return None
    with TemporaryDirectory(dir=store.scratch(), prefix="reuse-") as folder:
        path = store.fetch(name, Path(folder))
        mapped = MappedShard(path, name)
        shard, notes = vector_shard_in(path, name), BlockNotes.of(mapped)
        # No manifest states its sha256 yet.
        checked_vectors(mapped, np.arange(shard.rows))
    receipt = ShardReceipt(place, shard, notes.embedded, notes.copied, notes.tokens, found=True)
    return receipt, notes.letters


def with_drafted_vectors(block: VectorBlock, drafts: Sequence[str], store: Store) -> VectorBlock:
    """The block with the vectors that shards hold which were made for a part of its chunks, and not published."""
    for digest in drafts:
        if len(block.missing) and store.renew(name := names.vector_shard(digest)):
            with TemporaryDirectory(dir=store.scratch(), prefix="reuse-") as folder:
                block = _with_vectors_of(block, MappedShard(store.fetch(name, Path(folder)), name))
    return block


def _with_vectors_of(block: VectorBlock, shard: MappedShard) -> VectorBlock:
    rows = np.arange(shard.rows)
    wanted = {(block.chunks[at].document_id, block.chunks[at].content_hash) for at in block.missing.tolist()}
    pairs = list(zip(shard.read(("document_id",), rows)["document_id"].to_pylist(), rows.tolist(), strict=True))
    known = {(id_, content): vector for id_, content, vector in _vectors(shard, pairs, wanted)}
    vectors, still = block.vectors.copy(), []
    for at in block.missing.tolist():
        chunk = block.chunks[at]
        if (vector := known.get((chunk.document_id, chunk.content_hash))) is None:
            still.append(at)
        else:
            vectors[at] = vector
    copied = block.copied + len(block.missing) - len(still)
    return replace(block, vectors=vectors, missing=np.array(still, dtype=np.int64), copied=copied)


def with_known_vectors(block: ChunkBlock, digest: str, base: Base, schema: ShardSchema) -> VectorBlock:
    """The block with the vectors that the documents' own live rows hold for the same content."""
    vectors = np.zeros((len(block.chunks), schema.dimensions), dtype=np.float16)
    missing = np.ones(len(block.chunks), dtype=np.bool_)
    known = _known_vectors(block.chunks, base)
    for position, chunk in enumerate(block.chunks):
        own = known.get(chunk.document_id)
        if own and (vector := own.get(chunk.content_hash)) is not None:
            vectors[position] = vector
            missing[position] = False
    return VectorBlock(
        block.place, digest, block.chunks, vectors, np.flatnonzero(missing), copied=int((~missing).sum())
    )


def _known_vectors(chunks: Sequence[Chunk], base: Base) -> dict[str, dict[bytes, NDArray[np.float16]]]:
    """The vectors of live rows that have the content of a chunk of their document, by document and content hash."""
    wanted = {(chunk.document_id, chunk.content_hash) for chunk in chunks}
    rows_of: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for document_id, addresses in base.find({chunk.document_id for chunk in chunks}).items():
        for address in addresses:
            rows_of[address.shard].append((document_id, address.row))
    known: defaultdict[str, dict[bytes, NDArray[np.float16]]] = defaultdict(dict)
    for position, pairs in rows_of.items():
        for document_id, content_hash, vector in _vectors(base.shards[position].shard, pairs, wanted):
            known[document_id][content_hash] = vector
    return known


def _vectors(
    shard: ShardColumns, rows: Sequence[tuple[str, int]], wanted: Set[tuple[str, bytes]]
) -> Iterator[tuple[str, bytes, NDArray[np.float16]]]:
    """Of these (document_id, row)s, the ones whose content is wanted. No other vector is touched."""
    hashes = shard.gather("content_hash", np.array([row for _, row in rows], dtype=np.int64))
    same = [
        (document_id, content.tobytes(), row)
        for (document_id, row), content in zip(rows, hashes, strict=True)
        if (document_id, content.tobytes()) in wanted
    ]
    vectors = checked_vectors(shard, np.array([row for _, _, row in same], dtype=np.int64))
    for (document_id, content_hash, _), vector in zip(same, vectors, strict=True):
        yield document_id, content_hash, vector


_Reused: TypeAlias = (
    VectorBlock | TaggedOutput[Literal["finished"], ShardReceipt] | TaggedOutput[Literal["letters"], DeadLetter]
)


class ReuseDoFn(beam.DoFn):
    """ChunkBlock -> VectorBlock for the model; tags `finished` (ShardReceipt) and `letters`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        self._base = base_of(self._job)

    def process(self, block: ChunkBlock) -> Iterator[_Reused]:
        with stopwatch("reuse"):
            schema = self._job.schema
            digest = block.digest(schema.checkpoint, schema.prefix_dimensions)
            finished = finished_shard(block.place, digest, self._store)
        if finished is None:
            with stopwatch("reuse"):
                known = with_known_vectors(block, digest, self._base, schema)
                if block.draft and len(known.missing):
                    known = with_drafted_vectors(known, noted_before(block.draft, digest, self._store), self._store)
            yield known
            return
        receipt, letters = finished
        self._progress.add(done=len(block.chunks), found=receipt.shard.rows)
        yield TaggedOutput("finished", receipt)
        for letter in letters:
            yield TaggedOutput("letters", letter)
