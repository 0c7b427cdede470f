import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from usearch.index import Index

from index_builder.build import IndexTask, build_graph, build_index_shard, distinct_codes, plan_index_tasks
from index_builder.verify import verify_index_shard
from tests.small_shards import SCHEMA, Row, random_rows, store_rows, store_shard
from tierloom.collection import Tier
from tierloom.digest import bytes_digest
from tierloom.errors import CheckpointMismatch, Corrupt, Malformed, VerificationError
from tierloom.index_reader import SCAN_CODES, IndexReader, split_keys
from tierloom.manifest import IndexShard, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import Code, query_code
from tierloom.shards.schema import ShardSchema
from tierloom.stores.local import LocalStore

TIER = Tier(name="8", dimensions=8)
SIGNS = Tier(name="16-binary", dimensions=16, kind="binary")
TIERS = {tier.name: tier for tier in (TIER, SIGNS)}
of_either_kind = pytest.mark.parametrize("tier", [TIER, SIGNS], ids=lambda tier: tier.kind)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def numbered(store: LocalStore, name: str, count: int) -> VectorShard:
    return store_shard(store, [Row(f"{name}{at}") for at in range(count)])


def repeated(store: LocalStore, name: str, count: int, distinct: int) -> VectorShard:
    """Rows that share few vectors."""
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((distinct, SCHEMA.dimensions)).tolist()
    return store_shard(store, [Row(f"{name}{at}", vector=tuple(vectors[at % distinct])) for at in range(count)])


def keys_of(shards: tuple[VectorShard, ...]) -> list[int]:
    return [position << 32 | row for position, shard in enumerate(shards) for row in range(shard.rows)]


def open_reader(shard: IndexShard, store: LocalStore) -> IndexReader:
    files = ObjectFiles(store)
    return IndexReader(shard, files.path(shard), files.path(shard.aliases) if shard.aliases else None)


def codes_of(shards: tuple[VectorShard, ...], store: LocalStore, tier: Tier = TIER) -> Code:
    files = ObjectFiles(store)
    prefixes = np.concatenate([files.shard(shard).column("prefix") for shard in shards])[:, : tier.dimensions]
    return np.packbits(prefixes > 0, axis=1) if tier.kind == "binary" else np.ascontiguousarray(prefixes)


def found_by_own_code(
    shard: IndexShard, shards: tuple[VectorShard, ...], store: LocalStore, tier: Tier = TIER
) -> float:
    reader = open_reader(shard, store)
    codes = codes_of(shards, store, tier)
    return float(
        np.mean([key in reader.search(code, 3).keys for key, code in zip(keys_of(shards), codes, strict=True)])
    )


def test_every_row_of_every_shard_is_found_by_its_own_code(store: LocalStore) -> None:
    shards = (numbered(store, "a", 300), numbered(store, "b", 1), repeated(store, "c", 200, 7))
    built = build_index_shard(IndexTask(TIER, shards), store)
    verify_index_shard(built, shards, ObjectFiles(store))
    assert found_by_own_code(built, shards, store) == 1.0
    assert built.codes == 300 + 1 + 7
    assert built.aliases is not None
    assert built.aliases.pairs == 193
    assert built.vector_shards == tuple(shard.path for shard in shards)


def test_a_graph_too_large_to_scan_finds_its_rows(store: LocalStore) -> None:
    shards = (store_rows(store, random_rows(SCAN_CODES + 500)),)
    tier = Tier(name="16", dimensions=16)
    built = build_index_shard(IndexTask(tier, shards), store)
    assert built.codes == SCAN_CODES + 500
    verify_index_shard(built, shards, ObjectFiles(store))
    assert found_by_own_code(built, shards, store, tier) >= 0.99


# Not all are a multiple of 64: usearch compares words of bits, and what is left of them.
@pytest.mark.parametrize("dimensions", [8, 40, 64, 72, 256])
@pytest.mark.parametrize("rows", [300, SCAN_CODES + 500])
def test_a_binary_tier_answers_by_the_hamming_distance(store: LocalStore, dimensions: int, rows: int) -> None:
    schema = ShardSchema("0" * 32, dimensions=256, prefix_dimensions=256)
    shards = (store_rows(store, random_rows(rows, schema), schema),)
    tier = Tier(name=f"{dimensions}-binary", dimensions=dimensions, kind="binary")
    built = build_index_shard(IndexTask(tier, shards), store)
    verify_index_shard(built, shards, ObjectFiles(store))
    codes = codes_of(shards, store, tier)
    assert built.codes == len(np.unique(codes, axis=0))
    reader, draw = open_reader(built, store), np.random.default_rng(4)
    for _ in range(5):
        code = draw.integers(0, 256, dimensions // 8).astype(np.uint8)
        exact = np.bitwise_count(codes ^ code).sum(axis=1)
        found = reader.search(code, built.codes)
        assert sorted(found.keys.tolist()) == list(range(rows))
        assert np.array_equal(found.distances, np.sort(exact))
        assert np.array_equal(found.distances, exact[found.keys.astype(np.int64)])


@pytest.mark.parametrize("dimensions", [16, 64, 72])
def test_a_graph_takes_the_bytes_that_are_stated(store: LocalStore, dimensions: int) -> None:
    """Those of the codes, and what 16 edges of a node take: the header and the layout are those of int8 graphs."""
    schema = ShardSchema("0" * 32, dimensions=128, prefix_dimensions=128)
    shards = (store_rows(store, random_rows(3000, schema), schema),)
    for tier in (Tier("int8", dimensions), Tier("bits", dimensions, "binary")):
        built = build_index_shard(IndexTask(tier, shards), store)
        width = dimensions // 8 if tier.kind == "binary" else dimensions
        edges = 16 + 8 * 16 + (4 + 4 * 16) / 15
        assert built.bytes / built.codes == pytest.approx(width + edges, rel=0.01)
        data = store.read(built.path)
        assert np.frombuffer(data[:8], "<u4").tolist() == [built.codes, width]
        codes = distinct_codes(IndexTask(tier, shards), ObjectFiles(store)).codes
        assert data[8 : 8 + codes.nbytes] == codes.tobytes()


@of_either_kind
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_rows_that_are_all_the_same_share_one_code(store: LocalStore, rows: int, tier: Tier) -> None:
    shards = (repeated(store, "a", rows, 1),)
    built = build_index_shard(IndexTask(tier, shards), store)
    verify_index_shard(built, shards, ObjectFiles(store))
    assert built.codes == 1
    assert (built.aliases.pairs if built.aliases else 0) == rows - 1
    found = open_reader(built, store).search(codes_of(shards, store, tier)[0], 1)
    assert sorted(found.keys.tolist()) == keys_of(shards)
    assert np.allclose(found.distances, 0, atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_tier_in_which_most_rows_point_alike_is_sound(store: LocalStore, dimensions: int) -> None:
    shards = (numbered(store, "a", 400),)
    built = build_index_shard(IndexTask(Tier(name="tiny", dimensions=dimensions), shards), store)
    verify_index_shard(built, shards, ObjectFiles(store))


@of_either_kind
def test_rows_whose_prefix_is_zero_are_kept(store: LocalStore, tier: Tier) -> None:
    nothing = (0.0,) * 16 + (1.0,) * 16
    shards = (store_shard(store, [Row("a"), Row("b", vector=nothing), Row("c", vector=nothing)]),)
    built = build_index_shard(IndexTask(tier, shards), store)
    verify_index_shard(built, shards, ObjectFiles(store))
    code = query_code(np.ones(32, np.float32), tier)
    assert sorted(open_reader(built, store).search(code, 10).keys.tolist()) == keys_of(shards)


@of_either_kind
def test_distinct_codes_and_aliases_are_the_rows(store: LocalStore, tier: Tier) -> None:
    shards = (repeated(store, "a", 50, 9), repeated(store, "b", 20, 4))
    codes = distinct_codes(IndexTask(tier, shards), ObjectFiles(store))
    stored = dict(zip(keys_of(shards), map(bytes, codes_of(shards, store, tier)), strict=True))
    indexed = dict(zip(codes.keys.tolist(), map(bytes, codes.codes), strict=True))
    assert len(set(indexed.values())) == len(indexed) == len(set(stored.values()))
    assert indexed.items() <= stored.items()
    assert codes.codes.flags.c_contiguous
    assert sorted([*indexed, *codes.aliases[:, 1].tolist()]) == sorted(stored)
    assert all(indexed[owner] == stored[further] for owner, further in codes.aliases.tolist())
    assert codes.aliases.tolist() == sorted(codes.aliases.tolist())


def test_hits_carry_the_position_and_the_row(store: LocalStore) -> None:
    shards = (numbered(store, "a", 5), numbered(store, "b", 5))
    built = build_index_shard(IndexTask(TIER, shards), store)
    code = np.ascontiguousarray(codes_of(shards, store)[7])
    positions, rows = split_keys(open_reader(built, store).search(code, 1).keys)
    assert (positions.tolist(), rows.tolist()) == ([1], [2])


@of_either_kind
def test_the_same_inputs_make_the_same_bytes(tmp_path: Path, store: LocalStore, tier: Tier) -> None:
    other = LocalStore(tmp_path / "other")
    first, second = ((store_rows(at, random_rows(3000)), repeated(at, "b", 60, 5)) for at in (store, other))
    built = build_index_shard(IndexTask(tier, first), store)
    assert build_index_shard(IndexTask(tier, second), other) == built
    assert built.aliases is not None
    for name in (built.path, built.aliases.path):
        assert store.read(name) == other.read(name)


def test_another_process_makes_the_same_bytes(store: LocalStore, tmp_path: Path) -> None:
    shards = (numbered(store, "a", 500),)
    built = build_index_shard(IndexTask(TIER, shards), store)
    (store.root / built.path).rename(tmp_path / "first")
    program = (
        "import sys, msgspec; from pathlib import Path\n"
        "from index_builder.build import IndexTask, build_index_shard\n"
        "from tierloom.collection import Tier; from tierloom.manifest import VectorShard\n"
        "from tierloom.stores.local import LocalStore\n"
        "shards = msgspec.json.decode(sys.argv[2], type=tuple[VectorShard, ...])\n"
        "build_index_shard(IndexTask(Tier(name='8', dimensions=8), shards), LocalStore(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", program, str(store.root), msgspec.json.encode(shards).decode()]
    subprocess.run(command, check=True, timeout=60)
    assert store.read(built.path) == (tmp_path / "first").read_bytes()


def test_other_inputs_have_another_name(store: LocalStore) -> None:
    first, second = numbered(store, "a", 3), numbered(store, "b", 3)
    tasks = [
        IndexTask(TIER, (first, second)),
        IndexTask(TIER, (second, first)),
        IndexTask(TIER, (first,)),
        IndexTask(msgspec.structs.replace(TIER, dimensions=4), (first,)),
        IndexTask(msgspec.structs.replace(TIER, kind="binary"), (first,)),
        IndexTask(msgspec.structs.replace(TIER, connectivity=2), (first,)),
        IndexTask(msgspec.structs.replace(TIER, expansion_add=2), (first,)),
    ]
    assert len({task.digest for task in tasks}) == len(tasks)


@pytest.mark.parametrize(("rows", "scanned"), [(SCAN_CODES, True), (SCAN_CODES + 1, False)])
def test_only_a_graph_that_is_scanned_is_built_with_few_edges(store: LocalStore, rows: int, scanned: bool) -> None:
    built = build_index_shard(IndexTask(TIER, (repeated(store, "a", rows, rows),)), store)
    stated = (built.parameters.connectivity, built.parameters.expansion_add)
    assert (stated != (TIER.connectivity, TIER.expansion_add)) == scanned


def test_a_stored_index_shard_is_reused(store: LocalStore) -> None:
    shards = (repeated(store, "a", 300, 200),)
    built = build_index_shard(IndexTask(TIER, shards), store)
    before = (store.root / built.path).stat()
    assert build_index_shard(IndexTask(TIER, shards), store) == built
    after = (store.root / built.path).stat()
    assert after.st_ino == before.st_ino
    # It is as young as a new one: what collects garbage spares it.
    assert after.st_mtime_ns > before.st_mtime_ns
    assert list(store.scratch().iterdir()) == []


def test_shards_of_two_checkpoints_are_never_indexed_together(store: LocalStore) -> None:
    other = ShardSchema("0" * 32, SCHEMA.dimensions, SCHEMA.prefix_dimensions)
    shards = (numbered(store, "a", 2), store_shard(store, [Row("b")], other))
    with pytest.raises(CheckpointMismatch, match="0" * 32):
        build_index_shard(IndexTask(TIER, shards), store)


def test_only_contiguous_codes_of_the_tier_are_fed_to_the_graph() -> None:
    keys = np.arange(4, dtype=np.uint64)
    wrong: list[tuple[Tier, NDArray[Any]]] = [
        (TIER, np.zeros((4, 8), np.uint8)),
        (TIER, np.zeros((4, 8), np.float32)),
        (TIER, np.zeros((4, 16), np.int8)[:, ::2]),
        (TIER, np.zeros((4, 16), np.int8)),
        (SIGNS, np.zeros((4, 2), np.int8)),
        (SIGNS, np.zeros((4, 16), np.uint8)),
        (SIGNS, np.zeros((4, 4), np.uint8)[:, ::2]),
        (SIGNS, np.zeros((4, 2), np.bool_)),
    ]
    for tier, codes in wrong:
        with pytest.raises(TypeError, match=f"contiguous u?int8 codes .* for tier {tier.name}"):
            build_graph(tier, keys, codes)
    with pytest.raises(TypeError, match="uint64"):
        build_graph(TIER, keys.astype(np.int64), np.zeros((4, 8), np.int8))


def test_a_code_of_another_kind_is_not_searched_for(store: LocalStore) -> None:
    shards = (numbered(store, "a", 5),)
    wrong: list[tuple[Tier, Code]] = [(TIER, np.zeros(8, np.uint8)), (SIGNS, np.zeros(16, np.int8))]
    for tier, code in wrong:
        with pytest.raises(TypeError, match="make it by query_code"):
            open_reader(build_index_shard(IndexTask(tier, shards), store), store).search(code, 1)


def test_tasks_put_each_shard_into_each_tier_once(store: LocalStore) -> None:
    shards = [numbered(store, f"{at}-", rows) for at, rows in enumerate((3, 3, 9, 1))]
    tiers = (Tier(name="4", dimensions=4), TIER)
    tasks = plan_index_tasks(tiers, shards, max_rows=6)
    assert [(task.tier.name, [shards.index(s) for s in task.vector_shards]) for task in tasks] == [
        (tier.name, group) for tier in tiers for group in ([0, 1], [2], [3])
    ]
    assert plan_index_tasks(tiers, [], max_rows=6) == []


@of_either_kind
class TestVerification:
    """What is wrong with a stored shard is found, and the process lives."""

    @pytest.fixture
    def shards(self, store: LocalStore) -> tuple[VectorShard, ...]:
        return (numbered(store, "a", 400), repeated(store, "b", 30, 5))

    @pytest.fixture
    def built(self, store: LocalStore, shards: tuple[VectorShard, ...], tier: Tier) -> IndexShard:
        return build_index_shard(IndexTask(tier, shards), store)

    def restored(self, store: LocalStore, built: IndexShard, keys: NDArray[np.uint64], codes: Code) -> IndexShard:
        """A shard that claims to be `built`, with this graph and a true length and sha256."""
        path = store.scratch() / "graph"
        build_graph(TIERS[built.tier], keys, codes).save(str(path))
        return self.replaced(store, built, path.read_bytes())

    def replaced(self, store: LocalStore, built: IndexShard, data: bytes) -> IndexShard:
        (store.root / built.path).write_bytes(data)
        return msgspec.structs.replace(built, bytes=len(data), sha256=bytes_digest(data))

    def test_every_byte_that_is_flipped_or_missing(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        data = store.read(built.path)
        for at in range(0, len(data), 997):
            for damaged in (data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], data[:at], data + data[:at]):
                if damaged != data:
                    (store.root / built.path).write_bytes(damaged)
                    with pytest.raises(Corrupt, match=built.path):
                        verify_index_shard(built, shards, ObjectFiles(store))

    def test_a_flipped_alias(self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard) -> None:
        assert built.aliases is not None
        path = store.root / built.aliases.path
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
        with pytest.raises(Corrupt, match=built.aliases.path):
            verify_index_shard(built, shards, ObjectFiles(store))

    def test_what_is_not_a_graph(self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard) -> None:
        for data in (b"", b"usearch", bytes(4096), b"PAR1" * 100):
            with pytest.raises((Malformed, VerificationError), match=built.path):
                verify_index_shard(self.replaced(store, built, data), shards, ObjectFiles(store))

    def test_a_graph_of_other_codes(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        codes = distinct_codes(IndexTask(TIERS[built.tier], shards), ObjectFiles(store))
        wrong = self.restored(store, built, codes.keys, np.ascontiguousarray(codes.codes[::-1]))
        with pytest.raises(VerificationError, match="found by their own codes"):
            verify_index_shard(wrong, shards, ObjectFiles(store))

    def test_a_small_graph_of_other_codes(self, store: LocalStore, tier: Tier) -> None:
        """All of its keys are among the ten nearest to any code."""
        shards = (numbered(store, "a", 6),)
        built = build_index_shard(IndexTask(tier, shards), store)
        codes = distinct_codes(IndexTask(tier, shards), ObjectFiles(store))
        wrong = self.restored(store, built, codes.keys, np.ascontiguousarray(codes.codes[::-1]))
        with pytest.raises(VerificationError, match="found by their own codes"):
            verify_index_shard(wrong, shards, ObjectFiles(store))

    def test_a_graph_of_the_other_kind(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        """usearch would take over kind and metric of the file, and search it."""
        dimensions, other = built.parameters.dimensions, SIGNS if built.tier == TIER.name else TIER
        disguised = msgspec.structs.replace(other, dimensions=dimensions)
        codes = distinct_codes(IndexTask(disguised, shards), ObjectFiles(store))
        path = store.scratch() / "graph"
        build_graph(disguised, codes.keys, codes.codes).save(str(path))
        wrong = self.replaced(store, built, path.read_bytes())
        wrong = msgspec.structs.replace(wrong, codes=len(codes.keys))
        for refused in (
            lambda: verify_index_shard(wrong, shards, ObjectFiles(store)),
            lambda: open_reader(wrong, store),
        ):
            with pytest.raises(Malformed, match=f"{built.path}: a graph of .* but the manifest states"):
                refused()

    @pytest.mark.parametrize(("dtype", "metric"), [("i8", "ip"), ("f32", "cos"), ("b1", "tanimoto")])
    def test_a_graph_of_another_metric(self, store: LocalStore, built: IndexShard, dtype: str, metric: str) -> None:
        index = Index(ndim=built.parameters.dimensions, metric=metric, dtype=dtype)
        width = index.ndim // 8 if dtype == "b1" else index.ndim
        given = {"i8": np.int8, "f32": np.float32, "b1": np.uint8}[dtype]
        index.add(np.arange(built.codes, dtype=np.uint64), np.ones((built.codes, width), given))
        path = store.scratch() / "graph"
        index.save(str(path))
        with pytest.raises(Malformed, match=f"{built.path}: a graph of .* but the manifest states"):
            open_reader(self.replaced(store, built, path.read_bytes()), store)

    def test_a_missing_row(self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard) -> None:
        codes = distinct_codes(IndexTask(TIERS[built.tier], shards), ObjectFiles(store))
        wrong = self.restored(store, built, codes.keys[1:], np.ascontiguousarray(codes.codes[1:]))
        with pytest.raises(
            VerificationError,
            match=f"{built.codes - 1} codes of .* dimensions, not {built.codes}",
        ):
            verify_index_shard(wrong, shards, ObjectFiles(store))

    def test_a_row_that_is_there_twice_for_another(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        codes = distinct_codes(IndexTask(TIERS[built.tier], shards), ObjectFiles(store))
        keys = codes.keys.copy()
        keys[0] = 1 << 40
        wrong = self.restored(store, built, keys, codes.codes)
        with pytest.raises(VerificationError, match="are not the 430 rows"):
            verify_index_shard(wrong, shards, ObjectFiles(store))

    def test_another_order_of_the_shards(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        with pytest.raises(VerificationError):
            verify_index_shard(built, shards[::-1], ObjectFiles(store))

    def test_aliases_that_are_not_those_stated(
        self, store: LocalStore, shards: tuple[VectorShard, ...], built: IndexShard
    ) -> None:
        assert built.aliases is not None
        stated = msgspec.structs.replace(built.aliases, pairs=built.aliases.pairs + 1)
        with pytest.raises(Malformed, match=built.aliases.path):
            verify_index_shard(msgspec.structs.replace(built, aliases=stated), shards, ObjectFiles(store))
