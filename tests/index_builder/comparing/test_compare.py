"""A comparison finds what is found by hand, one query at a time, from two snapshots."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tierloom
from index_builder.comparing.compare import compare
from index_builder.comparing.comparison import Comparison, read_comparison
from index_builder.comparing.shared_sample import shared_sample
from index_builder.gate.sample import Sample
from tests.embedders.endpoint import Endpoint
from tests.index_builder.gate.measuring import mean_recall
from tests.small_shards import Row, make_collection, store_shard, with_dead
from tests.two_generations import (
    NEW,
    OLD,
    QUESTIONS,
    SHIFT,
    asked_checkpoints,
    asked_generations,
    generation,
    publish_both,
    question,
    rows_of,
)
from tierloom.collection import Chunking
from tierloom.document import document_key
from tierloom.errors import InputError
from tierloom.gate import SHORTLISTS
from tierloom.manifest import KEY_UNITS, Generation
from tierloom.object_files import ObjectFiles
from tierloom.queries import JudgedQuery
from tierloom.shards.live import LiveShard
from tierloom.shards.schema import ShardSchema
from tierloom.snapshot import LiveChunk, Snapshot
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head

Identity = tuple[str, int]


def without(store: LocalStore, made: Generation, rows: list[int]) -> Generation:
    """The same, with rows of its first shard dead."""
    first, *others = made.vector_shards
    return msgspec.structs.replace(made, vector_shards=(with_dead(store, first, rows), *others))


def related(count: int, noise: float) -> tuple[list[Row], list[Row]]:
    """Two chunks of each document, and the same ones with vectors that are like those."""
    draw = np.random.default_rng(3)
    vectors = draw.standard_normal((count, 2, 32))
    others = vectors + noise * draw.standard_normal(vectors.shape)
    first, second = (
        [
            Row(f"d{at}", ordinal, text=f"text {at} {ordinal}", vector=tuple(one[at, ordinal].tolist()))
            for at in range(count)
            for ordinal in range(2)
        ]
        for one in (vectors, others)
    )
    return first, second


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Two generations of 400 chunks in two shards each, of which different ones died."""
    store = LocalStore(tmp_path_factory.mktemp("compared"))
    make_collection(store, OLD, noise=True)
    first, second = related(200, noise=0.5)
    front = without(store, generation(store, [first[:300], first[300:]], OLD), [0, 5, 77])
    other = without(store, generation(store, [second[:100], second[100:]], NEW), [3, 5])
    publish_both(store, front, other)
    return store


@pytest.fixture(scope="module")
def comparison(store: LocalStore) -> Comparison:
    return compare(store, read_head(store), sample=40, seed=2)


def opened(store: LocalStore) -> tuple[Snapshot, Snapshot]:
    return tierloom.open(store.root), tierloom.open(store.root, checkpoint=read_head(store).checkpoints[1])


def sample_of(snapshots: tuple[Snapshot, Snapshot], count: int, seed: int) -> Sample:
    return shared_sample(snapshots[0].rows.shards, snapshots[1].rows.shards, count, seed)


def exact_by_hand(chunks: list[LiveChunk], query: NDArray[np.float32], own: Identity | None) -> list[Identity]:
    """Every other chunk, best first."""
    others = [chunk for chunk in chunks if (chunk.document_id, chunk.ordinal) != own]
    scores = [float(np.dot(vector_of(chunk), query)) for chunk in others]
    return [(others[at].document_id, others[at].ordinal) for at in np.argsort(scores)[::-1]]


def vector_of(chunk: LiveChunk) -> NDArray[np.float32]:
    assert chunk.vector is not None
    wide = chunk.vector.astype(np.float32)
    unit: NDArray[np.float32] = wide / np.linalg.norm(wide)
    return unit


def first_documents(ranked: list[Identity]) -> set[str]:
    return set(list(dict.fromkeys(document_id for document_id, _ in ranked))[:10])


def test_the_overlap_is_that_of_the_exact_first_ten(store: LocalStore, comparison: Comparison) -> None:
    snapshots = opened(store)
    sample = sample_of(snapshots, 40, 2)
    by_identity = [
        {(chunk.document_id, chunk.ordinal): chunk for chunk in snapshot.chunks(vectors=True)} for snapshot in snapshots
    ]
    asked = {(key, ordinal) for key, ordinal in zip(sample.keys.tolist(), sample.ordinals.tolist(), strict=True)}
    queries = [identity for identity in by_identity[0] if (document_key(identity[0]), identity[1]) in asked]
    shared_chunks, shared_documents = [], []
    for identity in queries:
        first, second = (
            exact_by_hand(list(chunks.values()), vector_of(chunks[identity]), identity) for chunks in by_identity
        )
        shared_chunks.append(len(set(first[:10]) & set(second[:10])) / 10)
        shared_documents.append(len(first_documents(first) & first_documents(second)) / 10)
    assert (len(queries), comparison.queries, comparison.source) == (40, 40, "held-out")
    assert comparison.chunks
    assert comparison.chunks.mean == pytest.approx(np.mean(shared_chunks), abs=0.002)
    assert comparison.documents.mean == pytest.approx(np.mean(shared_documents), abs=0.002)
    assert 0.2 < comparison.chunks.mean < 0.9
    assert (comparison.ndcg, comparison.hit_rate) == (None, None)


def test_each_tier_is_measured_as_it_is_served_against_its_own_exact_answers(
    store: LocalStore, comparison: Comparison
) -> None:
    snapshots = opened(store)
    sample = sample_of(snapshots, 40, 2)
    for side, snapshot in zip(comparison.sides, snapshots, strict=True):
        assert side.checkpoint == snapshot.manifest.checkpoint
        assert [tier.tier for tier in side.tiers] == ["4", "8", "16"]
        for tier in side.tiers:
            assert tier.shortlist == 50
            by_hand = mean_recall(snapshot, sample, tier.tier, 50)
            assert tier.quality.recall.mean == pytest.approx(by_hand, abs=1e-6)
            assert tier.seconds > 0


def test_sizes_are_those_of_the_manifest(store: LocalStore, comparison: Comparison) -> None:
    for side, manifest in zip(comparison.sides, read_head(store).generations, strict=True):
        assert side.stored_bytes == sum({one.path: one.bytes for one in manifest.own_objects()}.values())
        assert side.vector_bytes == manifest.live_chunks * 64
        assert (side.live_chunks, side.live_documents) == (manifest.live_chunks, manifest.documents.live)
        for tier in side.tiers:
            shards = manifest.index_shards_of(tier.tier)
            assert tier.bytes == sum(one.bytes + (one.aliases.bytes if one.aliases else 0) for one in shards)
        assert (side.model, side.reached, side.exact, side.embed_seconds) == (
            OLD.space.model if side is comparison.first else NEW.space.model,
            KEY_UNITS,
            None,
            None,
        )


def test_the_same_seed_finds_the_same(store: LocalStore, comparison: Comparison) -> None:
    again = compare(store, read_head(store), sample=40, seed=2)
    assert (again.documents, again.chunks) == (comparison.documents, comparison.chunks)
    assert compare(store, read_head(store), sample=40, seed=3).chunks != comparison.chunks


def test_a_comparison_is_kept_as_json(comparison: Comparison, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(msgspec.json.encode(comparison))
    assert read_comparison(tmp_path / "kept") == comparison
    (tmp_path / "other").write_text('{"version": 1}')
    with pytest.raises(InputError, match="other is no comparison"):
        read_comparison(tmp_path / "other")
    with pytest.raises(InputError, match="cannot be read"):
        read_comparison(tmp_path / "none")


def test_generations_that_are_alike_have_everything_in_common(tmp_path: Path) -> None:
    """Equal texts have equal vectors, in any order: what is as good as the tenth counts."""
    store = LocalStore(tmp_path / "store")
    make_collection(store, OLD, noise=True)
    rows = [replace(row, vector=(1.0, *[0.1] * 31)) if at % 2 else row for at, row in enumerate(related(60, 0)[0])]
    publish_both(store, generation(store, [rows], OLD), generation(store, [rows[:50], rows[50:]], NEW))
    found = compare(store, read_head(store))
    assert found.chunks
    assert (found.queries, found.documents.mean, found.chunks.mean) == (120, 1.0, 1.0)


def test_generations_that_are_cut_differently_are_compared_by_documents(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make_collection(store, OLD, noise=True)
    front, other = (generation(store, [rows_of("a")], checkpoint) for checkpoint in (OLD, NEW))
    collection = msgspec.structs.replace(other.collection, chunking=Chunking(max_tokens=64))
    publish_both(store, front, msgspec.structs.replace(other, collection=collection))
    assert compare(store, read_head(store)).chunks is None


def test_a_generation_that_is_being_built_is_compared_on_what_it_has(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make_collection(store, OLD, noise=True)
    rows = rows_of("a")
    other = generation(store, [rows[:12]], NEW, reached=KEY_UNITS // 5)
    publish_both(store, generation(store, [rows], OLD), other)
    found = compare(store, read_head(store))
    assert (found.queries, found.second.reached, found.second.live_chunks) == (12, KEY_UNITS // 5, 12)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "sk-planted-0123456789abcdef")
    with Endpoint(dimensions=32) as served:
        yield served


def test_questions_are_embedded_by_both_models_and_judged(endpoint: Endpoint, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    checkpoints = asked_checkpoints(endpoint.base_url)
    asked_generations(store, *checkpoints)
    queries = [JudgedQuery(question(at), (f"{at}",) if at % 2 else ()) for at in range(QUESTIONS)]
    found = compare(store, read_head(store), queries)
    assert (endpoint.requests, found.queries, found.source) == (2, QUESTIONS, "given")
    assert found.first.exact
    assert found.first.exact.ndcg
    assert found.first.exact.ndcg.mean == 1
    gains = []
    with tierloom.open(store.root, checkpoint=checkpoints[1].fingerprint) as snapshot:
        for at in range(1, QUESTIONS, 2):
            hits = snapshot.hits(snapshot.exact(snapshot.query_vector(question(at)), 10))
            assert hits[0].document_id == f"{(at + SHIFT) % QUESTIONS}"
            places = [place for place, hit in enumerate(hits) if hit.document_id == f"{at}"]
            gains.append(1 / np.log2(2 + places[0]) if places else 0.0)
    assert found.second.exact
    assert found.second.exact.ndcg
    assert found.second.exact.ndcg.mean == pytest.approx(np.mean(gains), abs=1e-5)
    assert found.ndcg
    assert found.ndcg.mean == pytest.approx(np.mean(gains) - 1, abs=1e-5)
    assert found.ndcg.low < found.ndcg.mean < found.ndcg.high < 0
    assert found.hit_rate
    assert found.hit_rate.mean == pytest.approx(np.mean(np.array(gains) > 0) - 1, abs=1e-5)
    assert all(side.embed_seconds for side in found.sides)
    assert {len(side.tiers) for side in found.sides} == {3}
    assert found.first.tiers[0].shortlist in (*SHORTLISTS, 50)


def test_held_out_chunks_ask_no_model(endpoint: Endpoint, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    asked_generations(store, *asked_checkpoints(endpoint.base_url))
    compare(store, read_head(store))
    assert endpoint.requests == 0


def test_what_cannot_be_compared_is_told(store: LocalStore, tmp_path: Path) -> None:
    single = LocalStore(tmp_path / "store")
    make_collection(single, OLD, noise=True)
    with pytest.raises(InputError, match=r"version 0 of .* has one generation, that of checkpoint .*tierloom reembed"):
        compare(single, read_head(single))
    rows = rows_of("a")
    others = [replace(row, text=f"other {row.text}") for row in rows]
    publish_both(single, generation(single, [rows], OLD), generation(single, [others], NEW))
    with pytest.raises(InputError, match="have no chunk in common"):
        compare(single, read_head(single))
    with pytest.raises(InputError, match="query 2 is a vector, which is of one checkpoint"):
        compare(store, read_head(store), [JudgedQuery("text", ()), JudgedQuery((1.0,) * 32, ())])


Chunk = tuple[bool, bool, bool]


@settings(max_examples=25, deadline=None)
@given(
    chunks=st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), st.tuples(*[st.booleans()] * 3)),
    count=st.integers(1, 12),
    seed=st.integers(0, 3),
    cut=st.integers(0, 20),
)
def test_a_sample_is_of_chunks_that_say_the_same_in_both(
    tmp_path_factory: pytest.TempPathFactory, chunks: dict[Identity, Chunk], count: int, seed: int, cut: int
) -> None:
    """`chunks` says of each whether the first one has it, whether the second one has it, and if it says the same."""
    store = LocalStore(tmp_path_factory.mktemp("sampled"))
    ours = [Row(name, at) for (name, at), (mine, _, _) in sorted(chunks.items()) if mine]
    theirs = [
        Row(name, at, text="text" if same else "other") for (name, at), (_, other, same) in chunks.items() if other
    ]
    common = {identity for identity, (mine, other, same) in chunks.items() if mine and other and same}
    first = shards_of(store, [ours[:cut], ours[cut:]])
    second = shards_of(store, [theirs])
    if not common:
        with pytest.raises(InputError, match="have no chunk in common"):
            shared_sample(first, second, count, seed)
        return
    sample = shared_sample(first, second, count, seed)
    drawn = list(zip(sample.keys.tolist(), sample.ordinals.tolist(), strict=True))
    known = {(document_key(name), at) for name, at in common}
    assert len(drawn) == len(set(drawn)) == min(count, len(common))
    assert set(drawn) <= known
    whole = shared_sample(shards_of(store, [ours]), second, count, seed)
    assert (whole.keys.tolist(), whole.ordinals.tolist()) == (sample.keys.tolist(), sample.ordinals.tolist())


def shards_of(store: LocalStore, groups: list[list[Row]]) -> list[LiveShard]:
    files = ObjectFiles(store)
    schema = ShardSchema(OLD.fingerprint, 32, 16)
    return [LiveShard(store_shard(store, rows, schema), files) for rows in groups if rows]
