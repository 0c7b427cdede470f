"""What the benchmarks work on: documents, vectors and vector shards made by a seed."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index_builder.build import IndexTask, build_index_shard
from index_builder.gate.recall_gate import RecallGate
from tierloom import names
from tierloom.checkpoint import Checkpoint, Endpoint, Limits, Space
from tierloom.collection import Chunking, Collection, Sizes, Tier, plan_tiers
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit
from tierloom.creating import create_collection
from tierloom.document import CONTENT_HASH_BYTES, document_key, source_key
from tierloom.manifest import DocumentCounts, Manifest, VectorShard
from tierloom.quantizer import quantize, to_unit_float16
from tierloom.shards.schema import ROW_GROUP_ROWS, ShardSchema
from tierloom.shards.writer import Rows, writing
from tierloom.stores.store import Store
from tierloom.storing import store_vector_shard

DIMENSIONS = 768
TIERS = (64, 128, 256)

CHUNK_BYTES = 512
CHUNKS_PER_DOCUMENT = 4


def checkpoint(base_url: str | None = None, inputs_per_request: int = 2048) -> Checkpoint:
    """An embedding space of `DIMENSIONS`, trained for `TIERS`."""
    return Checkpoint(
        Space(provider="openai", model="benchmark", revision="1", dimensions=DIMENSIONS, trained_prefixes=TIERS),
        limits=Limits(inputs_per_request=inputs_per_request, tokens_per_request=1 << 24),
        endpoint=Endpoint(base_url=base_url),
    )


def create(store: Store, model: Checkpoint, limits: Sizes = Sizes()) -> Collection:  # noqa: B008 -- immutable
    """An empty collection of this model in `store`."""
    collection = Collection(
        checkpoint=model.fingerprint,
        prefix_dimensions=max(TIERS),
        tiers=plan_tiers(model, TIERS, untrained_prefixes=False),
        chunking=Chunking(max_tokens=CHUNK_BYTES),
        sizes=limits,
    )
    create_collection(store, model, collection)
    return collection


def write_documents(path: Path, chunks: int) -> Path:
    """A JSONL file whose documents are cut into `chunks` chunks of about `CHUNK_BYTES` each."""
    draw = random.Random(1)
    words = _words(draw)
    with path.open("w") as file:
        for start in range(0, chunks, CHUNKS_PER_DOCUMENT):
            count = min(CHUNKS_PER_DOCUMENT, chunks - start)
            record = {
                "id": f"document-{start // CHUNKS_PER_DOCUMENT}",
                "sequence": start,
                "text": "\n\n".join(_paragraph(draw, words) for _ in range(count)),
                "section": f"section {start % 97}",
            }
            file.write(json.dumps(record) + "\n")
    return path


def _words(draw: random.Random) -> list[str]:
    return ["".join(draw.choices(ascii_lowercase, k=draw.randint(2, 9))) for _ in range(2000)]


def _paragraph(draw: random.Random, words: list[str]) -> str:
    """More than half of `CHUNK_BYTES`, so that no two paragraphs share a chunk, and never more than all of it."""
    text = " ".join(draw.choices(words, k=CHUNK_BYTES // 4))
    return text[: CHUNK_BYTES - 32].rsplit(" ", 1)[0] + "."


def vectors(count: int, dimensions: int = DIMENSIONS, seed: int = 0) -> NDArray[np.float32]:
    """Vectors (count, dimensions) in clusters, whose components fall off in size as those of an MRL model do."""
    draw = np.random.default_rng(seed)
    spectrum = (1.0 / np.sqrt(8.0 + np.arange(dimensions))).astype(np.float32)
    centres = draw.standard_normal((max(1, count // 200), dimensions), dtype=np.float32)
    made = draw.standard_normal((count, dimensions), dtype=np.float32)
    made += centres[draw.integers(0, len(centres), count)]
    made *= spectrum
    return made


@dataclass(frozen=True, slots=True)
class ShardRows:
    """Columns of random rows in the order of a shard, by row groups."""

    schema: ShardSchema
    groups: tuple[Rows, ...]


def shard_rows(count: int, seed: int = 0) -> ShardRows:
    """`count` rows of one chunk documents."""
    schema = ShardSchema(checkpoint().fingerprint, DIMENSIONS, max(TIERS))
    units = to_unit_float16(vectors(count, seed=seed))
    ids = sorted((f"document-{seed}-{at}" for at in range(count)), key=document_key)
    draw = random.Random(seed)
    # One vocabulary, as a corpus has: shards are as compressible after a merge as before it.
    words = _words(random.Random(1))
    paragraphs = [_paragraph(draw, words) for _ in range(ROW_GROUP_ROWS)]
    starts = range(0, count, ROW_GROUP_ROWS)
    return ShardRows(
        schema,
        tuple(_group(ids[s : s + ROW_GROUP_ROWS], units[s : s + ROW_GROUP_ROWS], paragraphs) for s in starts),
    )


def _group(ids: list[str], units: NDArray[np.float16], paragraphs: list[str]) -> Rows:
    count = len(ids)
    return Rows(
        document_id=pa.array(ids),
        ordinal=np.zeros(count, np.int32),
        sequence=np.arange(count, dtype=np.int64),
        heading=pa.array([""] * count),
        text=pa.array(paragraphs[:count]),
        metadata=pa.array(["{}"] * count),
        key=np.array([document_key(id_) for id_ in ids], dtype=np.uint64),
        source=np.full(count, source_key("corpus"), dtype=np.uint64),
        content_hash=np.random.default_rng(count).integers(0, 256, (count, CONTENT_HASH_BYTES), dtype=np.uint8),
        prefix=quantize(units, max(TIERS)),
        vector=units,
    )


def write_shard(path: Path, rows: ShardRows) -> str:
    """Write the rows as one vector shard file; its sha256."""
    with writing(path, rows.schema) as writer:
        for group in rows.groups:
            writer.append(group)
    return writer.sha256


def store_shards(store: Store, rows: int, rows_per_shard: int, first_seed: int = 0) -> Iterator[VectorShard]:
    """Stored vector shards of `rows` rows together."""
    for number, start in enumerate(range(0, rows, rows_per_shard), start=first_seed):
        made = shard_rows(min(rows_per_shard, rows - start), seed=number)
        with TemporaryDirectory(dir=store.scratch()) as folder:
            path = Path(folder) / "shard.parquet"
            yield store_vector_shard(
                path, write_shard(path, made), names.vector_shard(f"{number:040d}"), store, Path(folder)
            )


def publish_rows(store: Store, rows: int, rows_per_shard: int, limits: Sizes = Sizes()) -> Manifest:  # noqa: B008
    """A collection whose second version holds `rows` rows in vector shards of their own index shards; its one tier has
    the smallest prefix, and few edges, so that it is soon built. It is measured, and refused nothing."""
    collection = create(store, checkpoint(), limits)
    tier = Tier(name=str(TIERS[0]), dimensions=TIERS[0], connectivity=8, expansion_add=40)
    shards = tuple(store_shards(store, rows, rows_per_shard))

    def change(head: Manifest) -> Manifest:
        made = msgspec.structs.replace(
            head,
            version=head.version + 1,
            collection=msgspec.structs.replace(collection, tiers=(tier,), recall_floor=0.0),
            vector_shards=shards,
            index_shards=tuple(build_index_shard(IndexTask(tier, (shard,)), store) for shard in shards),
            documents=DocumentCounts(documents_in=rows, live=rows),
        )
        return RecallGate(ColumnFiles(store)).measured(made, head, refuse=False)

    return commit(store, change)
