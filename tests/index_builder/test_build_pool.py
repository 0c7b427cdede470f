from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from index_builder.build import IndexTask, build_index_shard
from index_builder.build_pool import SMALL_ROWS, BuildPool, Stopped, VerifiedBuilds
from tests.small_shards import Row, store_shard
from tierloom.collection import Tier
from tierloom.errors import Corrupt
from tierloom.manifest import VectorShard
from tierloom.stores.local import LocalStore

TIER = Tier(name="8", dimensions=8)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tasks(store: LocalStore) -> list[IndexTask]:
    return [IndexTask(TIER, (store_shard(store, [Row(f"{at}-{row}") for row in range(20)]),)) for at in range(3)]


def test_results_come_in_the_order_of_the_tasks(store: LocalStore, tasks: list[IndexTask]) -> None:
    with BuildPool() as pool:
        built = VerifiedBuilds(store, pool).of(tasks)
    assert built == tuple(build_index_shard(task, store) for task in tasks)


def test_what_is_asked_again_is_not_built_again(store: LocalStore, tasks: list[IndexTask]) -> None:
    with BuildPool() as pool:
        builds = VerifiedBuilds(store, pool)
        first = builds.of(tasks[:2])
        for index in first:
            (store.root / index.path).unlink()
        assert builds.of(tasks)[:2] == first
        assert set(builds.built) == set(builds.of(tasks))
        assert not (store.root / first[0].path).exists()


def test_builds_end_when_they_are_asked_to(store: LocalStore, tasks: list[IndexTask]) -> None:
    with BuildPool() as pool:
        builds = VerifiedBuilds(store, pool, stop=lambda: True)
        with pytest.raises(Stopped):
            builds.of(tasks)
        assert builds.built == ()


def test_small_shards_have_threads_and_large_ones_processes(tasks: list[IndexTask]) -> None:
    large = IndexTask(TIER, tasks[0].vector_shards * (SMALL_ROWS // 20 + 1))
    with BuildPool() as pool, BuildPool(apart=False) as here:
        assert isinstance(pool.executor_for(large), ProcessPoolExecutor)
        for threads in (pool.executor_for(tasks[0]), here.executor_for(tasks[0]), here.executor_for(large)):
            assert isinstance(threads, ThreadPoolExecutor)


def test_damaged_vector_shards_are_told(store: LocalStore, tasks: list[IndexTask]) -> None:
    shard: VectorShard = tasks[0].vector_shards[0]
    (store.root / shard.path).write_bytes(b"no shard")
    with BuildPool() as pool, pytest.raises(Corrupt, match=shard.path):
        VerifiedBuilds(store, pool).of(tasks[:1])
