"""Small vector shards, index shards and collections in a store, described row by row."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index_builder.build import IndexTask, build_index_shard
from tierloom import names
from tierloom.checkpoint import Checkpoint, Space
from tierloom.collection import Collection, plan_tiers
from tierloom.commit import advance_latest, commit
from tierloom.document import CONTENT_HASH_BYTES, document_key, source_key
from tierloom.manifest import IndexShard, Manifest, RunRecord, VectorShard
from tierloom.quantizer import quantize, to_unit_float16
from tierloom.shards.schema import ShardSchema
from tierloom.shards.writer import Rows, writing
from tierloom.stores.store import Store
from tierloom.storing import store_vector_shard, with_dead_rows

CHECKPOINT = Checkpoint(
    Space(provider="openai", model="small-test-model", revision="1", dimensions=32, trained_prefixes=(4, 8, 16))
)
SCHEMA = ShardSchema(CHECKPOINT.fingerprint, dimensions=32, prefix_dimensions=16)


@dataclass(frozen=True, slots=True)
class Row:
    """One chunk. Without a `vector` (of any length and scale) it gets one drawn from its identity."""

    document_id: str
    ordinal: int = 0
    sequence: int = 1
    text: str = "text"
    heading: str = ""
    metadata: str = "{}"
    vector: tuple[float, ...] | None = None
    source: str = "source.jsonl"


KeyOf = Callable[[str], int]


def unit_vectors(rows: Sequence[Row], dimensions: int) -> NDArray[np.float16]:
    """Float16 (n, D) of unit length."""
    return to_unit_float16(np.stack([_vector(row, dimensions) for row in rows]))


def arrange(rows: Iterable[Row], schema: ShardSchema = SCHEMA, key_of: KeyOf = document_key) -> Rows:
    """The columns of a shard, sorted by (key, ordinal). `key_of` may make keys collide."""
    ordered = sorted(rows, key=lambda row: (key_of(row.document_id), row.ordinal))
    vectors = unit_vectors(ordered, schema.dimensions)
    hashes = b"".join(_content_hash(row) for row in ordered)
    return Rows(
        **{name: pa.array([getattr(row, name) for row in ordered], pa.string()) for name in _TEXTS},
        ordinal=np.array([row.ordinal for row in ordered], dtype=np.int32),
        sequence=np.array([row.sequence for row in ordered], dtype=np.int64),
        key=np.array([key_of(row.document_id) for row in ordered], dtype=np.uint64),
        source=np.array([source_key(row.source) for row in ordered], dtype=np.uint64),
        content_hash=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, CONTENT_HASH_BYTES),
        prefix=quantize(vectors, schema.prefix_dimensions),
        vector=vectors,
    )


def random_rows(count: int, schema: ShardSchema = SCHEMA, seed: int = 0) -> Rows:
    """Many rows with arbitrary bytes in every column, in no order of keys."""
    draw = np.random.default_rng(seed)
    ids = [f"document {at} é" for at in range(count)]
    return Rows(
        document_id=pa.array(ids),
        heading=pa.array([f"heading {at % 7}" for at in range(count)]),
        text=pa.array([f"text {at} 字" * (at % 5) for at in range(count)]),
        metadata=pa.array([f'{{"at":{at}}}' for at in range(count)]),
        ordinal=draw.integers(0, 2**31, count, dtype=np.int32),
        sequence=draw.integers(-(2**63), 2**63, count, dtype=np.int64),
        key=draw.integers(0, 2**64, count, dtype=np.uint64),
        source=draw.integers(0, 2**64, count, dtype=np.uint64),
        content_hash=draw.integers(0, 256, (count, CONTENT_HASH_BYTES), dtype=np.uint8),
        prefix=draw.integers(-128, 128, (count, schema.prefix_dimensions), dtype=np.int8),
        vector=draw.integers(0, 1 << 16, (count, schema.dimensions), dtype=np.uint16).view(np.float16),
    )


def write_shard(path: Path, rows: Rows, schema: ShardSchema = SCHEMA, notes: dict[str, str] | None = None) -> Path:
    with writing(path, schema, notes) as writer:
        writer.append(rows)
    return path


def store_rows(store: Store, rows: Rows, schema: ShardSchema = SCHEMA) -> VectorShard:
    """A stored vector shard of these columns, named by its content."""
    with TemporaryDirectory(dir=store.scratch()) as folder:
        path = write_shard(Path(folder) / "rows.parquet", rows, schema)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return store_vector_shard(path, sha256, names.vector_shard(sha256[:40]), store, Path(folder))


def store_shard(
    store: Store, rows: Iterable[Row], schema: ShardSchema = SCHEMA, key_of: KeyOf = document_key
) -> VectorShard:
    """A stored vector shard of these chunks, named by its content."""
    return store_rows(store, arrange(rows, schema, key_of), schema)


def with_dead(store: Store, shard: VectorShard, rows: Iterable[int]) -> VectorShard:
    """The same shard with these row numbers dead, and no others."""
    return with_dead_rows(shard, np.array(sorted(set(map(int, rows))), dtype=np.int64), store)


def collection_of(checkpoint: Checkpoint = CHECKPOINT, tiers: Sequence[int | str] = (4, 8, 16)) -> Collection:
    planned = plan_tiers(checkpoint, tiers, untrained_prefixes=False)
    return Collection(checkpoint=checkpoint.fingerprint, prefix_dimensions=planned[-1].dimensions, tiers=planned)


def first_manifest(collection: Collection) -> Manifest:
    return Manifest(
        version=0,
        created="2026-01-01T00:00:00Z",
        parent=None,
        writer="test",
        collection=collection,
        run=RunRecord(run="first", command="init"),
    )


def make_collection(
    store: Store,
    checkpoint: Checkpoint = CHECKPOINT,
    tiers: Sequence[int | str] = (4, 8, 16),
    noise: bool = False,
) -> Manifest:
    """An empty collection: its checkpoint and version 0. `noise` is for hundreds of rows whose vectors are drawn: their
    prefixes carry nothing, and are accepted as untrained."""
    collection = msgspec.structs.replace(collection_of(checkpoint, tiers), untrained_prefixes=noise)
    first = first_manifest(collection)
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    store.create(names.manifest(0), first.to_bytes())
    advance_latest(store, 0)
    return first


def index_shards(
    store: Store, collection: Collection, groups: Sequence[Sequence[VectorShard]]
) -> tuple[IndexShard, ...]:
    """Built index shards of every tier, one for each group of vector shards."""
    return tuple(
        build_index_shard(IndexTask(tier, tuple(group)), store) for tier in collection.tiers for group in groups
    )


def publish(store: Store, groups: Sequence[Sequence[VectorShard]]) -> Manifest:
    """The next version: it holds exactly these vector shards, and one index shard a tier for each group."""

    def change(head: Manifest) -> Manifest:
        return Manifest(
            version=head.version + 1,
            created="2026-01-01T00:00:00Z",
            parent=head.digest(),
            writer="test",
            collection=head.collection,
            run=RunRecord(run=f"run-{head.version + 1}", command="test"),
            vector_shards=tuple(shard for group in groups for shard in group),
            index_shards=index_shards(store, head.collection, groups),
        )

    return commit(store, change)


_TEXTS = ("document_id", "heading", "text", "metadata")


def _vector(row: Row, dimensions: int) -> NDArray[np.float32]:
    if row.vector is not None:
        return np.array(row.vector, dtype=np.float32)
    seed = zlib.crc32(repr((row.document_id, row.ordinal, row.sequence, row.text)).encode())
    return np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)


def _content_hash(row: Row) -> bytes:
    return hashlib.blake2b(row.text.encode(), digest_size=CONTENT_HASH_BYTES).digest()
