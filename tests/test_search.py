"""Searching tiers, against exact numpy oracles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyroaring import BitMap

from tests.small_shards import CHECKPOINT, Row, make_collection, publish, store_shard, with_dead
from tierloom.index_reader import SCAN_CODES
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.reranking import exact_scores
from tierloom.search import Candidates
from tierloom.snapshot import Snapshot
from tierloom.stores.local import LocalStore

_DIMENSIONS = CHECKPOINT.space.dimensions


@dataclass(frozen=True)
class World:
    """A published collection, with all its live vectors as the oracle sees them."""

    snapshot: Snapshot
    places: NDArray[np.int64]
    """(n, 2): the shard and the row of each live vector."""
    vectors: NDArray[np.float64]

    def best(self, query: NDArray[np.float32], count: int) -> list[tuple[int, int]]:
        order = np.lexsort((self.places[:, 1], self.places[:, 0], -(self.vectors @ query.astype(np.float64))))
        return [(int(shard), int(row)) for shard, row in self.places[order[:count]]]


def clustered(name: str, count: int, seed: int) -> list[Row]:
    """Vectors around few centres, with components that grow smaller as those of Matryoshka models do."""
    draw = np.random.default_rng(seed)
    spread = np.arange(1, _DIMENSIONS + 1) ** -0.4
    centres = np.random.default_rng(0).standard_normal((6, _DIMENSIONS)) * spread
    vectors = centres[draw.integers(0, 6, count)] + 0.5 * draw.standard_normal((count, _DIMENSIONS)) * spread
    return [Row(f"{name}{at}", text=f"{name} {at}", vector=tuple(row)) for at, row in enumerate(vectors.tolist())]


def world_of(store: LocalStore, groups: list[list[VectorShard]]) -> World:
    snapshot = Snapshot(publish(store, groups), CHECKPOINT, ObjectFiles(store))
    files, places, vectors = ObjectFiles(store), [], []
    for position, shard in enumerate(snapshot.manifest.vector_shards):
        dead = set(map(int, _dead_of(shard, store)))
        for row in (row for row in range(shard.rows) if row not in dead):
            places.append((position, row))
            vectors.append(files.shard(shard).column("vector")[row].astype(np.float64))
    return World(snapshot, np.array(places), np.array(vectors))


def _dead_of(shard: VectorShard, store: LocalStore) -> list[int]:
    return list(BitMap.deserialize(store.read(shard.deletes.path))) if shard.deletes else []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three vector shards in two index shards a tier, a third of the rows dead, some codes shared."""
    store = LocalStore(tmp_path_factory.mktemp("store"))
    make_collection(store, tiers=(4, "8-binary", 8, "16-binary", 16))
    shards = [store_shard(store, clustered(name, 300, seed)) for seed, name in enumerate("ab")]
    shards.append(store_shard(store, [Row(f"c{at}", vector=clustered("c", 9, 9)[at % 9].vector) for at in range(90)]))
    shards = [with_dead(store, shard, range(at, shard.rows, 3)) for at, shard in enumerate(shards)]
    return world_of(store, [shards[:2], shards[2:]])


def queries(world: World, count: int) -> list[NDArray[np.float32]]:
    draw = np.random.default_rng(7)
    near = world.vectors[draw.integers(0, len(world.vectors), count)] + 0.1 * draw.standard_normal((count, _DIMENSIONS))
    return [world.snapshot.query_vector(vector) for vector in near]


def addresses(candidates: Candidates) -> list[tuple[int, int]]:
    return list(zip(candidates.shards.tolist(), candidates.rows.tolist(), strict=True))


@pytest.mark.parametrize("tier", [4, 8, 16, "8-binary", "16-binary", None])
def test_a_shortlist_of_everything_reranked_is_the_exact_answer(world: World, tier: int | str | None) -> None:
    for query in queries(world, 10):
        found = world.snapshot.candidates(query, tier=tier, shortlist=len(world.vectors), rerank=True)
        assert len(found) == len(world.vectors)
        assert addresses(found.best(10)) == world.best(query, 10)


def test_a_short_shortlist_of_the_largest_tier_finds_nearly_all(world: World) -> None:
    shares = []
    for query in queries(world, 20):
        found = world.snapshot.candidates(query, tier=16, shortlist=100, rerank=True).best(10)
        shares.append(len(set(addresses(found)) & set(world.best(query, 10))) / 10)
    assert np.mean(shares) > 0.9


def test_the_exact_search_is_exact(world: World) -> None:
    for query in queries(world, 10):
        found = world.snapshot.exact(query, 25)
        assert addresses(found) == world.best(query, 25)
        order = world.places.tolist()
        scores = [world.vectors[order.index(list(place))] @ query.astype(np.float64) for place in addresses(found)]
        assert np.allclose(found.scores, scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tier", [4, 16])
def test_without_reranking_the_order_is_that_of_the_codes(world: World, tier: int) -> None:
    files = world.snapshot._files
    codes = [files.shard(shard).column("prefix")[:, :tier] for shard in world.snapshot.manifest.vector_shards]
    for query in queries(world, 10):
        found = world.snapshot.candidates(query, tier=tier, shortlist=20, rerank=False)
        prefix = np.rint(query[:tier] / np.abs(query[:tier]).max() * 127).astype(np.float64)
        live = np.array([codes[shard][row] for shard, row in world.places], dtype=np.float64)
        cosines = live @ prefix / np.linalg.norm(live, axis=1) / np.linalg.norm(prefix)
        assert np.allclose(found.scores, np.sort(cosines)[::-1][:20], atol=1e-5)
        of_place = dict(zip(map(tuple, world.places.tolist()), cosines, strict=True))
        assert np.allclose(found.scores, [of_place[place] for place in addresses(found)], atol=1e-5)


@pytest.mark.parametrize("dimensions", [8, 16])
def test_a_binary_tier_finds_the_fewest_differing_signs(world: World, dimensions: int) -> None:
    files = world.snapshot._files
    signs = [files.shard(shard).column("prefix")[:, :dimensions] > 0 for shard in world.snapshot.manifest.vector_shards]
    live = np.array([signs[shard][row] for shard, row in world.places])
    for query in queries(world, 10):
        found = world.snapshot.candidates(query, tier=f"{dimensions}-binary", shortlist=20, rerank=False)
        differing = np.count_nonzero(live != (query[:dimensions] > 0), axis=1)
        scores = np.cos(np.pi * differing / dimensions)
        assert np.allclose(found.scores, np.sort(scores)[::-1][:20], atol=1e-12)
        of_place = dict(zip(map(tuple, world.places.tolist()), scores, strict=True))
        assert np.allclose(found.scores, [of_place[place] for place in addresses(found)], atol=1e-12)


@pytest.mark.parametrize("tier", [4, "8-binary"])
def test_a_row_is_found_once_and_only_alive(world: World, tier: int | str) -> None:
    live = set(map(tuple, world.places.tolist()))
    for query in queries(world, 10):
        found = addresses(world.snapshot.candidates(query, tier=tier, shortlist=500, rerank=True))
        assert len(found) == len(set(found))
        assert set(found) <= live


def test_the_answer_is_full_though_the_nearest_rows_are_dead(tmp_path: Path) -> None:
    """The dead lie nearest to the query, far more of them than the shortlist asks for at first."""
    store = LocalStore(tmp_path)
    make_collection(store, tiers=(4, 16, "16-binary"))
    noise = np.random.default_rng(1).standard_normal((SCAN_CODES + 500, 31)) * 0.1
    near = [Row(f"near{at}", vector=(1.0, *row)) for at, row in enumerate(noise.tolist())]
    far = [Row(f"far{at}", vector=(0.5, 1.0, at / 100) + (0.0,) * 29) for at in range(40)]
    shard = store_shard(store, [*near, *far])
    ids = ObjectFiles(store).shard(shard).read_all()["document_id"].to_pylist()
    dead = [row for row, document_id in enumerate(ids) if document_id.startswith("near")]
    world = world_of(store, [[with_dead(store, shard, dead)]])
    query = world.snapshot.query_vector([1.0] + [0.0] * 31)
    assert world.snapshot.manifest.index_shards_of("16")[0].codes > SCAN_CODES
    for tier in (4, 16, "16-binary"):
        hits = world.snapshot.search(query, tier=tier, shortlist=10, top=10)
        assert len(hits) == 10
        assert all(hit.document_id.startswith("far") for hit in hits)
        found = world.snapshot.candidates(query, tier=tier, shortlist=500, rerank=True)
        assert addresses(found) == world.best(query, 500)


def test_a_shard_whose_rows_are_all_dead_answers_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    make_collection(store)
    gone, here = store_shard(store, [Row("a"), Row("b")]), store_shard(store, [Row("c")])
    world = world_of(store, [[with_dead(store, gone, [0, 1])], [here]])
    query = world.snapshot.query_vector([1.0] * 32)
    assert [hit.document_id for hit in world.snapshot.search(query)] == ["c"]
    assert [hit.document_id for hit in world.snapshot.hits(world.snapshot.exact(query))] == ["c"]


def test_an_empty_collection_answers_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with Snapshot(make_collection(store), CHECKPOINT, ObjectFiles(store)) as snapshot:
        assert not snapshot.search([1.0] * 32)
        assert list(snapshot.chunks()) == []
        assert len(snapshot.exact(snapshot.query_vector([1.0] * 32))) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2048), st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-3, 0.01]))
def test_exact_scores_are_those_of_float64(dimensions: int, count: int, seed: int, spread: float) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((count, dimensions)) * spread ** draw.random(dimensions)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    query = draw.standard_normal(dimensions)
    unit: NDArray[np.float32] = (query / np.linalg.norm(query)).astype(np.float32)
    stored = rows.astype(np.float16)
    scores = exact_scores(stored, unit)
    assert scores.shape == (count,)
    assert np.abs(scores - stored.astype(np.float64) @ unit.astype(np.float64)).max(initial=0) < 1e-5
    assert exact_scores(stored[::2], unit).tolist() == scores[::2].tolist()


def test_ties_are_broken_by_place() -> None:
    tied = Candidates(np.array([1, 0, 0, 1]), np.array([0, 9, 2, 5]), np.array([0.5, 0.5, 0.5, 0.9]))
    assert addresses(tied.best(3)) == [(1, 5), (0, 2), (0, 9)]
    assert len(tied.best(100)) == 4
