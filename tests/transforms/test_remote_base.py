"""Comparing with a version in a bucket: the answers of whole files, for a few percent of their bytes."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.build import IndexTask, build_index_shard
from index_builder.verify import verify_index_shard
from tests.remote import RemoteStore
from tests.small_shards import SCHEMA, Row, arrange, collection_of, first_manifest, store_rows, store_shard, with_dead
from tierloom.collection import Tier
from tierloom.column_files import ColumnFiles
from tierloom.document import Chunk, Document, Origin, document_key
from tierloom.errors import Malformed
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import quantize
from tierloom.settle import Verdict, settle
from tierloom.shards.live import LiveShard
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ROW_GROUP_ROWS, ShardSchema
from transforms.base import Base
from transforms.compare import changed_events
from transforms.elements import ChunkBlock, Place, VectorBlock
from transforms.reuse import with_known_vectors

ORIGIN = Origin("source")
WIDE = ShardSchema(SCHEMA.checkpoint, dimensions=768, prefix_dimensions=256)
DOCUMENTS = 20_000

_ROWS = st.lists(
    st.builds(Row, st.sampled_from("abcde"), st.integers(0, 2), st.integers(1, 3), st.sampled_from(["x", "y"])),
    min_size=1,
    max_size=8,
)
_SHARDS = st.lists(st.tuples(_ROWS, st.sets(st.integers(0, 7))), min_size=1, max_size=4)
Shards = list[tuple[list[Row], set[int]]]


def colliding(document_id: str) -> int:
    return document_key(document_id) % 3


@contextmanager
def bucket() -> Iterator[RemoteStore]:
    """Hypothesis asks for a new one for each example."""
    with TemporaryDirectory() as folder:
        yield RemoteStore(Path(folder))


def stored(store: RemoteStore, shards: Shards, collide: bool = False) -> list[VectorShard]:
    key_of = colliding if collide else document_key
    made = [store_shard(store.files, rows, key_of=key_of) for rows, _ in shards]
    return [with_dead(store.files, shard, _own(dead, shard)) for shard, (_, dead) in zip(made, shards, strict=True)]


def _own(dead: set[int], shard: VectorShard) -> list[int]:
    return [row for row in dead if row < shard.rows]


def local_base(store: RemoteStore, shards: Sequence[VectorShard]) -> Base:
    """From whole, verified files."""
    return base(shards, ObjectFiles(store.files))


def remote_base(store: RemoteStore, shards: Sequence[VectorShard]) -> Base:
    """From ranges."""
    store.traffic.ranges.clear()
    return base(shards, ColumnFiles(store))


def base(shards: Sequence[VectorShard], files: ObjectFiles) -> Base:
    manifest = msgspec.structs.replace(first_manifest(collection_of()), vector_shards=tuple(shards))
    return Base(manifest, [LiveShard(shard, files) for shard in shards], files)


def documents(rows: Sequence[Row]) -> list[Document]:
    return [Document(row.document_id, row.sequence, row.text, row.metadata, ORIGIN) for row in rows]


def block(rows: Sequence[Row]) -> ChunkBlock:
    """Chunks of which the model is sent nothing but the text, as `tests.small_shards` hashes it."""
    chunks = [Chunk(r.document_id, r.ordinal, r.sequence, "", r.text, r.metadata, r.text, 1, ORIGIN) for r in rows]
    return ChunkBlock(Place(0, 0), tuple(chunks))


def known(rows: Sequence[Row], base: Base, schema: ShardSchema = SCHEMA) -> VectorBlock:
    return with_known_vectors(block(rows), "digest", base, schema)


@settings(max_examples=40, deadline=None)
@given(shards=_SHARDS, asked=_ROWS)
def test_compare_and_reuse_answer_alike(shards: Shards, asked: list[Row]) -> None:
    with bucket() as store:
        head = stored(store, shards)
        here, there = local_base(store, head), remote_base(store, head)
        assert changed_events(documents(asked), there) == changed_events(documents(asked), here)
        mine, its = known(asked, there), known(asked, here)
        assert mine.vectors.tobytes() == its.vectors.tobytes()
        assert mine.missing.tolist() == its.missing.tolist()


@settings(max_examples=40, deadline=None)
@given(existing=_SHARDS, incoming=_SHARDS)
def test_settle_decides_alike(existing: Shards, incoming: Shards) -> None:
    def decide(files: ObjectFiles) -> Verdict:
        return settle([LiveShard(one, files) for one in head], [LiveShard(one, files) for one in new])

    with bucket() as store:
        head, new = stored(store, existing, collide=True), stored(store, incoming, collide=True)
        here, there = decide(ObjectFiles(store.files)), decide(ColumnFiles(store))
    for name in ("live", "completed", "lost", "repeated", "replaced"):
        assert getattr(there, name) == getattr(here, name)
    assert [rows.tolist() for rows in there.dead] == [rows.tolist() for rows in here.dead]


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> RemoteStore:
    return RemoteStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def large(large_store: RemoteStore) -> VectorShard:
    """20,000 documents of one chunk, 768 dimensions: 37 MB."""
    return store_rows(large_store.files, arrange(map(large_row, range(DOCUMENTS)), WIDE), WIDE)


def test_ten_documents_cost_a_few_percent(large_store: RemoteStore, large: VectorShard) -> None:
    assert large.bytes > 36_000_000
    rows = [large_row(at) for at in range(0, DOCUMENTS, DOCUMENTS // 10)]
    base = remote_base(large_store, [large])
    tally = changed_events(documents(rows), base).tally
    assert tally.unchanged == 10
    compared = large_store.traffic.bytes
    assert compared < 0.03 * large.bytes
    copied = known(rows, base, WIDE)
    assert copied.copied == 10
    assert large_store.traffic.bytes < 0.05 * large.bytes
    assert copied.vectors.tobytes() == known(rows, local_base(large_store, [large]), WIDE).vectors.tobytes()


def test_what_has_other_content_costs_no_vector(large_store: RemoteStore, large: VectorShard) -> None:
    rows = [Row(f"document {at}", text="changed") for at in range(10)]
    base = remote_base(large_store, [large])
    assert known(rows, base, WIDE).copied == 0
    assert large_store.traffic.bytes < 0.04 * large.bytes


def test_the_same_is_not_fetched_again(large_store: RemoteStore, large: VectorShard) -> None:
    base = remote_base(large_store, [large])
    rows = documents([large_row(at) for at in range(0, DOCUMENTS, 3)])
    changed_events(rows, base)
    requests = len(large_store.traffic.ranges)
    assert requests <= 4 * -(-DOCUMENTS // ROW_GROUP_ROWS)
    assert changed_events(rows, base).tally.unchanged == len(rows)
    assert len(large_store.traffic.ranges) == requests


def test_a_tier_costs_the_prefixes(large_store: RemoteStore) -> None:
    store = large_store
    rows = arrange(map(large_row, range(3000)), WIDE)
    shard = store_rows(store.files, rows, WIDE)
    task = IndexTask(Tier("64", 64), (shard,))
    store.traffic.ranges.clear()
    built = build_index_shard(task, store)
    assert store.traffic.bytes < 3000 * WIDE.prefix_dimensions + (1 << 17)
    verify_index_shard(built, (shard,), ColumnFiles(store))
    assert store.traffic.bytes < 0.4 * shard.bytes
    assert hashlib.sha256(store.files.read(built.path)).hexdigest() == built.sha256
    verify_index_shard(built, (shard,), ObjectFiles(store.files))


def large_row(at: int) -> Row:
    return Row(f"document {at}", sequence=at, text=f"the text of document {at}")


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path: Path) -> RemoteStore:
        return RemoteStore(tmp_path)

    @pytest.mark.parametrize("column", ["vector", "prefix"])
    def test_a_vector_that_is_not_its_prefix_is_never_copied(self, store: RemoteStore, column: str) -> None:
        row = Row("a")
        shard = store_shard(store.files, [row])
        path = store.files.root / shard.path
        data = bytearray(path.read_bytes())
        value = MappedShard(path).column(column).tobytes()
        assert data.count(value) == 1
        data[data.index(value) + 1] ^= 0x3F
        path.write_bytes(data)
        with pytest.raises(Malformed, match=f"{shard.path}: (vectors|prefixes) that are not"):
            known([row], remote_base(store, [shard]))

    @pytest.mark.parametrize("odd", [np.nan, np.inf, 0.0, 2.0])
    def test_a_vector_of_another_length_is_never_copied(self, store: RemoteStore, odd: float) -> None:
        row = Row("a")
        columns = arrange([row])
        vectors = columns.vector * np.float16(odd)
        with np.errstate(all="ignore"):
            prefixes = quantize(np.nan_to_num(vectors, posinf=0, neginf=0), SCHEMA.prefix_dimensions)
        values = {name: getattr(columns, name) for name in type(columns).__slots__}
        shard = store_rows(store.files, type(columns)(**values | {"vector": vectors, "prefix": prefixes}))
        with pytest.raises(Malformed, match=f"{shard.path}: vectors that are not of unit length, in rows 0..0"):
            known([row], remote_base(store, [shard]))
