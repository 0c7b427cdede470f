"""A manifest made by someone who means harm, under a whole seal: refused at once, and nothing outside is touched."""

import gc
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tierloom
from tests.small_shards import Row, make_collection, publish, store_shard, with_dead
from tests.test_manifest import WHOLE as SMALL
from tests.test_manifest import changed, index_shard, put, vector_shard
from tierloom import names
from tierloom.errors import Corrupt, FormatTooNew, Malformed, NotFound, StoreError, TierloomError
from tierloom.manifest import Manifest
from tierloom.sealed import MAX_BYTES, canonical, seal
from tierloom.stores.local import LocalStore
from tierloom.versions import read_manifest

VERSION = SMALL.version
# What is promised is 100 ms. Time of the processor, because other work may share it; and some room for a slow one.
SECONDS = 0.1
ROOM = 3


@contextmanager
def at_once(what: str) -> Iterator[None]:
    # What the tests before have left in memory is not to be looked through for garbage meanwhile.
    gc.collect()
    gc.freeze()
    began = time.process_time()
    try:
        yield
    finally:
        took = time.process_time() - began
        gc.unfreeze()
    print(f"{what}: refused in {1000 * took:.1f} ms")
    assert took < ROOM * SECONDS


def refused(tmp_path: Path, data: bytes, kind: type[TierloomError], said: str) -> None:
    """Laid into a store that holds nothing else, and read from there."""
    store = LocalStore(tmp_path / "store")
    (store.root / "manifests").mkdir(parents=True)
    (store.root / names.manifest(VERSION)).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    with at_once(said), pytest.raises(kind, match=said) as error:
        read_manifest(store, VERSION)
    assert names.manifest(VERSION) in str(error.value)
    assert len(str(error.value)) < 2000
    assert sorted(tmp_path.rglob("*")) == before


def whole(times: int) -> Manifest:
    """A manifest of so many vector shards, in groups of eight."""
    shards = tuple(vector_shard(f"shards/{at:040d}.parquet", 5) for at in range(times))
    groups = [tuple(shard.path for shard in shards[at : at + 8]) for at in range(0, times, 8)]
    indexes = (index_shard(tier, group, 5 * len(group)) for tier in (4, 8) for group in groups)
    held = tuple(
        msgspec.structs.replace(one, path=f"indexes/{one.tier}/{at}.usearch", bytes=100)
        for at, one in enumerate(indexes)
    )
    return msgspec.structs.replace(SMALL, vector_shards=shards, index_shards=held)


_NUMBERS: list[tuple[tuple[str | int, ...], Any]] = [
    (("vector_shards", 0, "rows"), 10**12),
    (("vector_shards", 0, "rows"), 10**30),
    (("vector_shards", 0, "rows"), 5.0),
    (("vector_shards", 0, "rows"), 1e300),
    (("vector_shards", 0, "rows"), "5"),
    (("vector_shards", 0, "rows"), True),
    (("vector_shards", 0, "bytes"), 10**15),
    (("vector_shards", 0, "bytes"), 2**63),
    (("vector_shards", 0, "footer", "bytes"), 10**18),
    (("vector_shards", 0, "deletes", "rows"), 10**12),
    (("index_shards", 0, "codes"), 10**12),
    (("index_shards", 0, "aliases", "pairs"), 10**12),
    (("index_shards", 0, "parameters", "dimensions"), 10**12),
    (("index_shards", 0, "parameters", "connectivity"), 10**12),
    (("index_shards", 0, "parameters", "expansion_search"), 10**12),
    (("collection", "prefix_dimensions"), 10**12),
    (("collection", "tiers", 0, "dimensions"), 10**12),
    (("documents", "live"), -1),
    (("documents", "live"), 10**20),
]


@pytest.mark.parametrize(("place", "value"), _NUMBERS)
def test_numbers_that_cannot_be(tmp_path: Path, place: tuple[str | int, ...], value: Any) -> None:
    refused(tmp_path, changed(put(value, *place)), Malformed, str(place[-1]))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("vector_shards", 0, "rows"), 10**9, "cannot hold 1000000000 rows in 9 bytes"),
        (("index_shards", 0, "codes"), 10**9, "cannot hold 1000000000 rows in 10 bytes"),
        (("index_shards", 0, "aliases", "pairs"), 10**9, "32 bytes of 1000000000 pairs"),
    ],
)
def test_rows_that_the_file_cannot_hold(tmp_path: Path, place: tuple[str | int, ...], value: int, said: str) -> None:
    refused(tmp_path, changed(put(value, *place)), Malformed, said)


_KINDS: list[tuple[tuple[str | int, ...], str]] = [
    (("vector_shards", 0, "path"), "shards/"),
    (("vector_shards", 0, "deletes", "path"), "deletes/"),
    (("index_shards", 0, "path"), "indexes/4/"),
    (("index_shards", 0, "aliases", "path"), "indexes/4/"),
    (("dead_letters", 0, "path"), "dead-letters/"),
    (("tombstones", 0, "path"), "tombstones/"),
    (("files", 0, "path"), "files/"),
]


@pytest.mark.parametrize(("place", "folder"), _KINDS)
@pytest.mark.parametrize("path", ["channels/prod.json", "manifests/000000000012.json", "leases/a.json", "indexes/8/a"])
def test_a_path_of_another_kind(tmp_path: Path, place: tuple[str | int, ...], folder: str, path: str) -> None:
    refused(tmp_path, changed(put(path, *place)), Malformed, f"path '{path}' does not lie in {folder}")


def test_an_object_of_two_contents(tmp_path: Path) -> None:
    twice = changed(put("indexes/4/2-6.usearch", "index_shards", 0, "aliases", "path"))
    refused(tmp_path, twice, Malformed, r"two contents of indexes/4/2-6\.usearch")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "not valid JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON"),
        (b"[" * (MAX_BYTES - 1), "not valid JSON"),
        (b'{"version":12,' + SMALL.to_bytes()[1:], "'version' appears twice"),
        (b'{"a":{"b":1,"b":2}}', "'b' appears twice"),
        (SMALL.to_bytes().replace(b'"rows":5', b'"rows":NaN'), "not valid JSON"),
        (SMALL.to_bytes().replace(b'"rows":5', b'"rows":Infinity'), "not valid JSON"),
        (SMALL.to_bytes().replace(b'"rows":5', b'"rows":-0'), "states sha256|rows"),
        (SMALL.to_bytes().replace(b'"rows":5', b'"rows":1e999'), "not valid JSON"),
        (SMALL.to_bytes().replace(b"tierloom 0", rb"\ud800"), "not valid JSON"),
        (SMALL.to_bytes().replace(b"tierloom 0", b"\xed\xa0\x80"), "not valid JSON"),
        (SMALL.to_bytes().replace(b"tierloom 0", b"\xff"), "not valid JSON"),
        (b" " * (64 << 20), "67108864 bytes, more than"),
        (b"", "not valid JSON"),
        (b"null", "object was expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_bytes_that_are_no_manifest(tmp_path: Path, data: bytes, said: str) -> None:
    refused(tmp_path, data, TierloomError, said)


def test_a_seal_over_members_that_are_there_twice(tmp_path: Path) -> None:
    refused(tmp_path, b'{"version":12,' + SMALL.to_bytes()[1:], Malformed, "'version' appears twice")


@pytest.mark.parametrize("depth", [100, 500, 900, 1100])
def test_nesting_in_a_member_under_a_whole_seal(tmp_path: Path, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    data = SMALL.to_bytes().replace(b'"tierloom 0"', nested.encode())
    refused(tmp_path, data, TierloomError, r"000000000012")


@pytest.mark.parametrize("member", ["surprise", "__class__", "é", "x" * 1000])
def test_members_that_nobody_knows(tmp_path: Path, member: str) -> None:
    refused(tmp_path, changed(put(1, member)), Malformed, member[:100])


def test_a_format_of_tomorrow(tmp_path: Path) -> None:
    refused(tmp_path, changed(put(2, "format")), FormatTooNew, "Upgrade")


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None, 10**30])
def test_a_format_that_never_was(tmp_path: Path, value: Any) -> None:
    refused(tmp_path, changed(put(value, "format")), TierloomError, "format")


def test_a_manifest_of_a_million_shards_is_too_long_to_be_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    (store.root / "manifests").mkdir(parents=True)
    with (store.root / names.manifest(VERSION)).open("wb") as file:
        file.write(SMALL.to_bytes())
        file.truncate(350 * 10**6)
    with at_once("1e6 shards"), pytest.raises(Malformed, match="350000000 bytes, more than"):
        read_manifest(store, VERSION)


@pytest.mark.parametrize(
    ("value", "member", "said"), [("../x", "path", r"'\.\./x'"), (0, "rows", r"\.rows"), (10**9, "rows", "cannot hold")]
)
def test_the_longest_manifest_with_its_fault_at_the_end(tmp_path: Path, value: Any, member: str, said: str) -> None:
    manifest = whole(MAX_BYTES // 535)
    data = changed(put(value, "vector_shards", len(manifest.vector_shards) - 1, member), manifest)
    assert 0.9 * MAX_BYTES < len(data) <= MAX_BYTES
    refused(tmp_path, data, Malformed, said)


def test_a_manifest_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(TierloomError, match="fewer and larger shards"):
        seal(whole(MAX_BYTES // 400))


@pytest.fixture
def collection(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    make_collection(store)
    shard = with_dead(store, store_shard(store, [Row("a", at) for at in range(5)]), [1])
    publish(store, [[shard]])
    return store


def used(store: LocalStore) -> None:
    """All that a reader may do with a version."""
    with tierloom.open(str(store.root)) as snapshot:
        for tier in (4, 8, 16):
            snapshot.search([1.0] * 32, tier=tier)
        list(snapshot.chunks(vectors=True))


@pytest.mark.parametrize("kind", ["shards", "deletes", "indexes", "manifests", "channels", "checkpoints"])
def test_a_link_in_the_place_of_an_object_or_of_a_folder(collection: LocalStore, tmp_path: Path, kind: str) -> None:
    used(collection)
    outside = tmp_path / "outside"
    (collection.root / kind).rename(outside)
    (collection.root / kind).symlink_to(outside)
    with at_once(f"{kind}, a folder"), pytest.raises(StoreError, match="symbolic link"):
        used(collection)
    (collection.root / kind).unlink()
    (collection.root / kind).mkdir()
    for file in filter(Path.is_file, outside.rglob("*")):
        link = collection.root / kind / file.relative_to(outside)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(file)
    with at_once(f"{kind}, objects"), pytest.raises(StoreError, match="symbolic link"):
        used(collection)


def test_an_object_that_is_a_device_or_a_pipe(collection: LocalStore) -> None:
    (shard,) = read_manifest(collection, 1).vector_shards
    path = collection.root / shard.path
    path.unlink()
    os.mkfifo(path)
    with at_once("a pipe"), pytest.raises(StoreError, match="not a plain file"):
        used(collection)


def test_an_object_that_is_shorter_or_longer_than_stated(collection: LocalStore) -> None:
    (shard,) = read_manifest(collection, 1).vector_shards
    with (collection.root / shard.path).open("ab") as file:
        file.truncate(10**12)
    with at_once("10^12 bytes"), pytest.raises(Corrupt, match="1000000000000 bytes, but the manifest states"):
        used(collection)
    (collection.root / shard.path).unlink()
    with at_once("gone"), pytest.raises(NotFound):
        used(collection)


def test_a_channel_that_names_what_is_not_there(collection: LocalStore) -> None:
    members = json.loads((collection.root / names.channel("latest")).read_bytes())
    del members["sha256"]
    for version in (10**12, 2**53):
        data = canonical(members | {"version": version})
        sealed = canonical(json.loads(data) | {"sha256": hashlib.sha256(data).hexdigest()}) + b"\n"
        (collection.root / names.channel("prod")).write_bytes(sealed.replace(b'"latest"', b'"prod"'))
        with at_once("a channel"), pytest.raises(TierloomError):
            tierloom.open(str(collection.root), channel="prod")
