import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tierloom
from tests.small_shards import CHECKPOINT, SCHEMA, Row, make_collection, publish, store_shard, with_dead
from tierloom.channel import move_channel, read_channel
from tierloom.errors import (
    CheckpointError,
    CheckpointMismatch,
    Corrupt,
    InputError,
    Malformed,
    NotACollection,
    NotFound,
    QueryError,
)
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import quantize
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ROW_GROUP_ROWS
from tierloom.snapshot import LiveChunk, Snapshot
from tierloom.stores.local import LocalStore

QUERY = [1.0] * 32


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Two shards: four live chunks of two documents, two dead ones."""
    store = LocalStore(tmp_path / "store")
    make_collection(store)
    first = [Row("a", at, 3, f"text {at}", "Heading", '{"n": 1}') for at in range(3)]
    shards = [store_shard(store, first), store_shard(store, [Row("b", at, text="é") for at in range(3)])]
    publish(store, [[with_dead(store, shards[0], [1])], [with_dead(store, shards[1], [2])]])
    return store


@pytest.fixture
def snapshot(store: LocalStore) -> Snapshot:
    return tierloom.open(str(store.root))


def damage(store: LocalStore, name: str) -> None:
    path = store.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_hits_say_what_was_stored(snapshot: Snapshot) -> None:
    hits = snapshot.search(QUERY)
    assert sorted((hit.document_id, hit.ordinal) for hit in hits) == [("a", 0), ("a", 2), ("b", 0), ("b", 1)]
    first = next(hit for hit in hits if (hit.document_id, hit.ordinal) == ("a", 2))
    assert (first.text, first.heading, first.metadata) == ("text 2", "Heading", {"n": 1})
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_score_is_the_cosine(snapshot: Snapshot) -> None:
    of_chunk = {(chunk.document_id, chunk.ordinal): chunk.vector for chunk in snapshot.chunks(vectors=True)}
    for hit in snapshot.search(QUERY):
        vector = of_chunk[hit.document_id, hit.ordinal]
        assert vector is not None
        wide = vector.astype(np.float64)
        assert hit.score == pytest.approx(wide.sum() / np.linalg.norm(wide) / 32**0.5, abs=1e-3)


def test_a_stored_vector_finds_itself_in_every_tier(snapshot: Snapshot) -> None:
    for chunk in snapshot.chunks(vectors=True):
        assert chunk.vector is not None
        for tier in (4, 8, 16):
            (hit,) = snapshot.search(chunk.vector, tier=tier, top=1)
            assert (hit.document_id, hit.ordinal) == (chunk.document_id, chunk.ordinal)
            assert hit.score == pytest.approx(1.0, abs=2e-3)


def test_no_more_are_given_than_asked_for(snapshot: Snapshot) -> None:
    assert [len(snapshot.search(QUERY, top=top, shortlist=1)) for top in (1, 3, 100)] == [1, 3, 4]
    assert snapshot.search(QUERY, top=2).hits == snapshot.search(QUERY)[:2]


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 7.0, 1e30, 1e300])
def test_the_length_of_a_query_does_not_matter(snapshot: Snapshot, scale: float) -> None:
    query = np.linspace(-1, 2, 32)
    scaled, plain = snapshot.search(query * scale), snapshot.search(query)
    assert [(hit.document_id, hit.ordinal) for hit in scaled] == [(hit.document_id, hit.ordinal) for hit in plain]
    assert [hit.score for hit in scaled] == pytest.approx([hit.score for hit in plain], abs=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4", "u1"])
def test_a_query_may_be_of_any_real_dtype(snapshot: Snapshot, dtype: str) -> None:
    assert snapshot.search(np.ones(32, dtype=dtype)) == snapshot.search(QUERY)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([1.0] * 31, r"shape \(31,\).*\(32,\)"),
        ([1.0] * 16, r"\(16,\)"),
        ([[1.0] * 32], r"\(1, 32\)"),
        (np.float32(1), r"\(\)"),
        ([], r"\(0,\)"),
        ([0.0] * 32, "points nowhere"),
        ([1.0] * 31 + [float("nan")], "nan points nowhere"),
        ([1.0] * 31 + [float("inf")], "inf points nowhere"),
        ([1.0] * 31 + ["x"], "real numbers"),
        ([1.0] * 31 + [None], "real numbers"),
        ([1.0] * 31 + [[1.0]], "numbers"),
        (np.ones(32, dtype=complex), "real numbers"),
        (np.ones(32, dtype=bool), "real numbers"),
        ("", "empty"),
        ("  \n", "empty"),
    ],
)
def test_a_query_that_cannot_be_is_refused(snapshot: Snapshot, query: Any, said: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    with pytest.raises(QueryError, match=said):
        snapshot.search(query)


def test_a_query_of_another_checkpoint_is_refused(snapshot: Snapshot) -> None:
    assert snapshot.search(QUERY, checkpoint=CHECKPOINT.fingerprint)
    with pytest.raises(CheckpointMismatch, match="0" * 32) as refused:
        snapshot.search(QUERY, checkpoint="0" * 32)
    assert CHECKPOINT.fingerprint in str(refused.value)


@pytest.mark.parametrize("options", [{"top": 0}, {"top": -1}, {"shortlist": 0}])
def test_counts_below_one_are_refused(snapshot: Snapshot, options: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="at least 1"):
        snapshot.search(QUERY, **options)


def test_a_tier_that_is_not_there_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(CheckpointError, match="it has 4, 8, 16"):
        snapshot.search(QUERY, tier=32)


def test_chunks_are_the_live_rows(snapshot: Snapshot) -> None:
    chunks = list(snapshot.chunks())
    assert [(chunk.document_id, chunk.ordinal, chunk.sequence) for chunk in chunks if chunk.document_id == "a"] == [
        ("a", 0, 3),
        ("a", 2, 3),
    ]
    assert {(chunk.document_id, chunk.text) for chunk in chunks} == {("a", "text 0"), ("a", "text 2"), ("b", "é")}
    assert all(chunk.vector is None for chunk in chunks)


def test_chunks_come_with_their_full_vectors(snapshot: Snapshot) -> None:
    files = snapshot._files
    for shard, dead in zip(snapshot.manifest.vector_shards, (1, 2), strict=True):
        mapped = files.shard(shard)
        stored = {at: mapped.column("vector")[at] for at in range(3) if at != dead}
        texts = mapped.read_all()["document_id"].to_pylist()
        mine = [chunk for chunk in snapshot.chunks(vectors=True) if chunk.document_id == texts[0]]
        assert len(mine) == len(stored)
        for chunk in mine:
            assert chunk.vector is not None
            assert chunk.vector.dtype == np.float16
            assert chunk.vector.tobytes() == stored[chunk.ordinal].tobytes()
            prefixes = mapped.column("prefix")
            assert np.array_equal(quantize(chunk.vector[None, :], SCHEMA.prefix_dimensions)[0], prefixes[chunk.ordinal])


def test_a_walk_decodes_one_row_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where few rows live in each: memory is bounded by the row group, not by the shard."""
    store = LocalStore(tmp_path)
    make_collection(store, tiers=(4,))
    vector = tuple(QUERY)
    shard = store_shard(store, [Row(str(at), vector=vector) for at in range(2 * ROW_GROUP_ROWS + 100)])
    alive = [3, ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS, 2 * ROW_GROUP_ROWS + 99]
    publish(store, [[with_dead(store, shard, set(range(shard.rows)) - set(alive))]])
    decoded: list[set[int]] = []
    read = MappedShard.read

    def watched(self: MappedShard, columns: Any, rows: Any) -> Any:
        decoded.append(set((np.asarray(rows) // ROW_GROUP_ROWS).tolist()))
        return read(self, columns, rows)

    monkeypatch.setattr(MappedShard, "read", watched)
    ids = ObjectFiles(store).shard(shard).read_all()["document_id"].to_pylist()
    chunks: list[LiveChunk] = list(tierloom.open(str(tmp_path)).chunks())
    assert [chunk.document_id for chunk in chunks] == [ids[row] for row in alive]
    assert all(len(groups) <= 1 for groups in decoded)
    assert sum(map(len, decoded)) == 3


def test_hits_and_chunks_outlive_the_snapshot(store: LocalStore) -> None:
    with tierloom.open(str(store.root)) as snapshot:
        hits, chunks = snapshot.search(QUERY), list(snapshot.chunks(vectors=True))
    again = tierloom.open(str(store.root))
    assert hits == again.search(QUERY)
    for chunk, other in zip(chunks, again.chunks(vectors=True), strict=True):
        assert chunk.vector is not None
        assert other.vector is not None
        assert chunk.vector.tobytes() == other.vector.tobytes()


def test_threads_get_the_answers_of_one(store: LocalStore) -> None:
    rows = [Row(str(at)) for at in range(2500)]
    publish(store, [[store_shard(store, rows[:1000])], [store_shard(store, rows[1000:])]])
    queries = np.random.default_rng(0).standard_normal((40, 32))
    expected = [tierloom.open(str(store.root)).search(query, shortlist=50) for query in queries]
    shared, start = tierloom.open(str(store.root)), threading.Barrier(8)

    def ask(_: int) -> list[Any]:
        start.wait(timeout=30)
        return [shared.search(query, shortlist=50) for query in queries]

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(ask, range(8)):
            assert answers == expected


@pytest.mark.parametrize("kind", ["vector", "deletes", "index"])
def test_damage_is_found_before_the_first_use(store: LocalStore, kind: str) -> None:
    shard = tierloom.open(str(store.root)).manifest.vector_shards[0]
    index = tierloom.open(str(store.root)).manifest.index_shards_of("16")[0]
    assert shard.deletes is not None
    name = {"vector": shard.path, "deletes": shard.deletes.path, "index": index.path}[kind]
    damage(store, name)
    with pytest.raises(Corrupt, match=name):
        tierloom.open(str(store.root)).search(QUERY)
    if kind != "index":
        with pytest.raises(Corrupt, match=name):
            list(tierloom.open(str(store.root)).chunks())


def test_a_missing_object_is_named(store: LocalStore) -> None:
    shard = tierloom.open(str(store.root)).manifest.vector_shards[1]
    (store.root / shard.path).unlink()
    with pytest.raises(NotFound, match=shard.path):
        tierloom.open(str(store.root)).search(QUERY)


def test_damage_to_a_tier_leaves_the_others(store: LocalStore) -> None:
    snapshot = tierloom.open(str(store.root))
    damage(store, snapshot.manifest.index_shards_of("4")[0].path)
    assert len(snapshot.search(QUERY, tier=8)) == 4
    with pytest.raises(Corrupt):
        snapshot.search(QUERY, tier=4)


def test_a_damaged_manifest_or_checkpoint_is_refused(store: LocalStore) -> None:
    path = store.root / f"checkpoints/{CHECKPOINT.fingerprint}.json"
    whole = path.read_bytes()
    damage(store, f"checkpoints/{CHECKPOINT.fingerprint}.json")
    with pytest.raises((Corrupt, Malformed), match=CHECKPOINT.fingerprint):
        tierloom.open(str(store.root))
    path.write_bytes(whole)
    damage(store, "manifests/000000000001.json")
    with pytest.raises((Corrupt, Malformed), match=r"000000000001\.json"):
        tierloom.open(str(store.root))
    assert tierloom.open(str(store.root), version=0).manifest.version == 0


def test_the_checkpoint_of_another_model_is_refused(store: LocalStore) -> None:
    other = msgspec.structs.replace(CHECKPOINT, space=msgspec.structs.replace(CHECKPOINT.space, model="other"))
    (store.root / f"checkpoints/{CHECKPOINT.fingerprint}.json").write_bytes(other.to_bytes())
    with pytest.raises(CheckpointMismatch, match="other"):
        tierloom.open(str(store.root))


def test_versions_and_channels_are_opened_by_name(store: LocalStore) -> None:
    move_channel(store, "prod", 0, read_channel(store, "prod"))
    assert tierloom.open(str(store.root)).manifest.version == 1
    assert tierloom.open(str(store.root), version=0).manifest.version == 0
    assert tierloom.open(str(store.root), channel="prod").manifest.version == 0


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        (lambda root: tierloom.open(root, version=7), "no version 7; the newest is 1"),
        (lambda root: tierloom.open(root, version=-1), "no version -1"),
        (lambda root: tierloom.open(root, channel="canary"), "no channel 'canary'"),
        (lambda root: tierloom.open(root, channel="../x"), "'../x' cannot be a channel"),
        (lambda root: tierloom.open(root, channel="Prod"), "'Prod' cannot be a channel"),
        (lambda root: tierloom.open(""), "no store"),
    ],
)
def test_what_is_not_there_is_refused_by_name(store: LocalStore, opening: Callable[[str], Snapshot], said: str) -> None:
    with pytest.raises(InputError, match=said):
        opening(str(store.root))


def test_a_folder_that_holds_no_collection_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotACollection, match="tierloom init"):
        tierloom.open(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
