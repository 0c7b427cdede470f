"""Writing vector shards: one block becomes one stored Parquet file, and a receipt."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tierloom import names
from tierloom.document import CONTENT_HASH_BYTES, Chunk, document_key
from tierloom.shards.schema import ShardSchema
from tierloom.shards.writer import Rows, writing
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.storing import store_vector_shard
from transforms.block_notes import BlockNotes
from transforms.elements import QuantizedBlock, ShardReceipt
from transforms.job import Job
from transforms.timing import stopwatch


def write_vector_shard(quantized: QuantizedBlock, schema: ShardSchema, store: Store) -> ShardReceipt:
    """Store the block, sorted by (key, ordinal).

    A model need not answer the same bytes twice: where a replay finds the shard stored already, the stored one
    is the truth.
    """
    block = quantized.block
    name = names.vector_shard(block.digest)
    notes = BlockNotes(len(block.chunks) - block.copied, block.copied, block.tokens, quantized.letters)
    with TemporaryDirectory(dir=store.scratch(), prefix="block-") as folder:
        path = Path(folder) / "block.parquet"
        rows = sorted_rows(quantized)
        with writing(path, schema, notes.to_metadata()) as writer:
            writer.append(rows)
        shard = store_vector_shard(path, writer.sha256, name, store, Path(folder))
    return ShardReceipt(block.place, shard, notes.embedded, notes.copied, notes.tokens, found=False)


def sorted_rows(quantized: QuantizedBlock) -> Rows:
    """The rows of a block in the order of their shard."""
    chunks = quantized.block.chunks
    keys = np.array([document_key(chunk.document_id) for chunk in chunks], dtype=np.uint64)
    ordinals = np.array([chunk.ordinal for chunk in chunks], dtype=np.int32)
    order = np.lexsort((ordinals, keys))
    return _rows([chunks[at] for at in order], keys[order], ordinals[order], quantized, order)


def _rows(
    chunks: list[Chunk], keys: np.ndarray, ordinals: np.ndarray, quantized: QuantizedBlock, order: np.ndarray
) -> Rows:
    hashes = b"".join(chunk.content_hash for chunk in chunks)
    return Rows(
        document_id=pa.array([chunk.document_id for chunk in chunks]),
        ordinal=ordinals,
        sequence=np.array([chunk.sequence for chunk in chunks], dtype=np.int64),
        heading=pa.array([chunk.heading for chunk in chunks]),
        text=pa.array([chunk.text for chunk in chunks]),
        metadata=pa.array([chunk.metadata for chunk in chunks]),
        key=keys,
        source=np.array([chunk.origin.key for chunk in chunks], dtype=np.uint64),
        content_hash=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES),
        prefix=quantized.prefixes[order],
        vector=quantized.block.vectors[order],
    )


class WriteVectorShardDoFn(beam.DoFn):
    """QuantizedBlock -> ShardReceipt. Idempotent: the name is a digest of the block."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)

    def process(self, quantized: QuantizedBlock) -> Iterator[ShardReceipt]:
        with stopwatch("write vector shards"):
            receipt = write_vector_shard(quantized, self._job.schema, self._store)
        yield receipt
