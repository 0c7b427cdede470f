"""What docs/format.md says is enough to read a mirror in another language."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.inspect import Field, StructType, Type, type_info
from numpy.typing import NDArray

import tierloom
from tests.small_shards import Row, make_collection, publish, store_shard, with_dead
from tests.two_generations import NEW, OLD, two_generations
from tierloom.channel import Channel, move_channel
from tierloom.checkpoint import Checkpoint
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import Mirror
from tierloom.mirroring.pulling import pull
from tierloom.object_files import ObjectFiles
from tierloom.promoting import promote
from tierloom.quantizer import binary_codes, query_code
from tierloom.shards.schema import ShardSchema
from tierloom.stores.local import LocalStore

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
TOP = 10


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large index shard, with aliases, over two vector shards with dead rows; and a small one."""
    folder = tmp_path_factory.mktemp("formats")
    store = LocalStore(folder / "store")
    make_collection(store, tiers=(8, 16, "16-binary"))
    draw = np.random.default_rng(1)

    def rows(name: str, count: int) -> list[Row]:
        return [Row(f"{name} é{at}", at, vector=tuple(draw.standard_normal(32))) for at in range(count)]

    same = [Row("same", at, vector=(1.0,) * 32) for at in range(30)]
    many = (rows("a", 3000) + same, rows("b", 1000), rows("c", 400))
    first, second, third = (store_shard(store, some) for some in many)
    dead = with_dead(store, first, [*range(500), *range(1000, 2000, 3), 3010])
    publish(store, [[dead, with_dead(store, second, range(7, 900))], [third]])
    move_channel(store, "prod", 1, None)
    pull(store, folder / "mirror", "prod")
    return folder / "mirror"


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror that was pulled by one checkpoint, and again when its channel had flipped to the other."""
    folder = tmp_path_factory.mktemp("flipped")
    store = LocalStore(folder / "store")
    two_generations(store)
    for checkpoint in (OLD, NEW):
        promote(store, "latest", "prod", checkpoint=checkpoint.fingerprint)
        pull(store, folder / "mirror", "prod")
    return folder / "mirror"


def printed(command: list[str], mirror: Path, *more: str, given: str = "") -> Any:
    ended = subprocess.run([*command, str(mirror), "prod", *more], input=given, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def queries() -> NDArray[np.float32]:
    drawn = np.random.default_rng(2).standard_normal((40, 32))
    drawn[0] = 1
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.mark.engine
@pytest.mark.parametrize("tier", ["8", "16"])
def test_node_finds_what_we_find(mirror: Path, node_reader: list[str], tier: str) -> None:
    asked = queries()[:, : int(tier)].tolist()
    found = printed(node_reader, mirror, tier, str(TOP), given=json.dumps(asked))
    assert found["version"] == 1
    assert found["dead"] == [835, 893]
    alike = 0
    with tierloom.open(mirror) as snapshot:
        paths = [shard.path for shard in snapshot.manifest.vector_shards]
        for query, theirs in zip(queries(), found["answers"], strict=True):
            ours = snapshot.candidates(query, tier=int(tier), shortlist=2 * TOP, rerank=False)
            near = [(paths[shard], int(row)) for shard, row in zip(ours.shards, ours.rows, strict=True)]
            alike += len({(path, row) for path, row in theirs}.intersection(near))
            assert len(theirs) == TOP
    # usearch truncates where our rule rounds: neighbours at the edge may change places.
    assert alike >= 0.97 * TOP * len(queries())


@pytest.mark.engine
def test_node_finds_signs_as_near_as_we_do(mirror: Path, node_reader: list[str]) -> None:
    """Many codes are as near as each other: what counts is how near those are that it finds."""
    found = printed(node_reader, mirror, "16-binary", str(TOP), given=json.dumps(queries()[:, :16].tolist()))
    files = ObjectFiles(LocalStore(mirror))
    near = 0
    with tierloom.open(mirror) as snapshot:
        stored = {shard.path: shard for shard in snapshot.manifest.vector_shards}
        tier = snapshot.manifest.collection.tier("16-binary")
        for query, theirs in zip(queries(), found["answers"], strict=True):
            ours = snapshot.candidates(query, tier="16-binary", shortlist=TOP, rerank=False)
            prefixes = [files.shard(stored[path]).gather("prefix", np.array([row])) for path, row in theirs]
            codes = binary_codes(np.concatenate(prefixes), tier.dimensions)
            asked = query_code(query, tier).view(np.uint8)
            bits = np.unpackbits(codes ^ asked, axis=1).sum(axis=1)
            near += int((np.cos(np.pi * bits / tier.dimensions) >= ours.scores.min() - 1e-6).sum())
            assert len(theirs) == TOP
    assert near >= 0.97 * TOP * len(queries())


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["manifests", "indexes/16", "deletes"])
def test_node_refuses_what_is_damaged(mirror: Path, node_reader: list[str], tmp_path: Path, kind: str) -> None:
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(mirror), str(damaged)], check=True)
    victim = next((damaged / kind).iterdir())
    data = victim.read_bytes()
    middle = len(data) // 2
    victim.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    ended = subprocess.run([*node_reader, str(damaged), "prod", "16", "5"], input="[]", capture_output=True, text=True)
    assert ended.returncode == 1
    assert "damaged" in ended.stderr or "seal" in ended.stderr or "JSON" in ended.stderr


@pytest.mark.engine
def test_go_reads_the_rows_that_we_read(mirror: Path, go_reader: list[str]) -> None:
    found = printed(go_reader, mirror)
    with tierloom.open(mirror) as snapshot:
        manifest = snapshot.manifest
    files = ObjectFiles(LocalStore(mirror))
    assert [shard["Path"] for shard in found["shards"]] == [shard.path for shard in manifest.vector_shards]
    for theirs, stored in zip(found["shards"], manifest.vector_shards, strict=True):
        ours = files.shard(stored)
        assert theirs["IDs"] == ours.read_all(["document_id"])["document_id"].to_pylist()
        assert [int(key) for key in theirs["Keys"]] == ours.column("key").tolist()
        assert theirs["Ordinal"] == ours.column("ordinal").tolist()
        assert np.array_equal(np.array(theirs["Prefix"], dtype=np.int8), ours.column("prefix"))
        vectors = ours.gather("vector", np.arange(ours.rows))
        assert np.array_equal(np.array(theirs["Vector"], dtype=np.float32), vectors.astype(np.float32))


@pytest.mark.engine
def test_node_serves_the_generation_of_the_channel(flipped: Path, node_reader: list[str]) -> None:
    found = printed(node_reader, flipped, "8", "5", given=json.dumps(queries()[:, :8].tolist()))
    with tierloom.open(flipped) as snapshot:
        assert snapshot.manifest.checkpoint == NEW.fingerprint
        paths = {shard.path for shard in snapshot.manifest.vector_shards}
    assert {path for answer in found["answers"] for path, _ in answer} == paths


@pytest.mark.engine
def test_go_reads_the_generation_of_the_channel(flipped: Path, go_reader: list[str]) -> None:
    found = printed(go_reader, flipped)
    with tierloom.open(flipped) as snapshot:
        assert snapshot.manifest.checkpoint == NEW.fingerprint
        assert [shard["Path"] for shard in found["shards"]] == [shard.path for shard in snapshot.manifest.vector_shards]


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["manifests", "shards"])
def test_go_refuses_what_is_damaged(mirror: Path, go_reader: list[str], tmp_path: Path, kind: str) -> None:
    damaged = tmp_path / "damaged"
    subprocess.run(["cp", "-r", str(mirror), str(damaged)], check=True)
    victim = next((damaged / kind).iterdir())
    data = victim.read_bytes()
    middle = len(data) // 2
    victim.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    ended = subprocess.run([*go_reader, str(damaged), "prod"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "damaged" in ended.stderr or "seal" in ended.stderr or "not JSON" in ended.stderr


def _structures(kind: Type, seen: set[type]) -> Iterator[StructType]:
    if isinstance(kind, StructType) and kind.cls not in seen:
        seen.add(kind.cls)
        yield kind
    fields: tuple[Field, ...] = kind.fields if isinstance(kind, StructType) else ()
    within = [field.type for field in fields if isinstance(kind, StructType)] if fields else []
    for name in ("item_type", "types", "value_type"):
        part = getattr(kind, name, None)
        within += list(part) if isinstance(part, tuple) else [part] if part is not None else []
    for one in within:
        if not (isinstance(one, StructType) and one.cls in seen):
            yield from _structures(one, seen)


@pytest.mark.parametrize("top", [Manifest, Channel, Mirror, Checkpoint])
def test_every_member_is_documented(top: type[msgspec.Struct]) -> None:
    text = FORMAT.read_text()
    members = {field.name for found in _structures(type_info(top), set()) for field in found.fields}
    assert {name for name in members if f"`{name}`" not in text} == set()


def test_every_column_is_documented() -> None:
    text = FORMAT.read_text()
    assert {name for name in ShardSchema("", 2, 1).to_arrow({}).names if f"`{name}`" not in text} == set()
