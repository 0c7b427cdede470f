"""Building index shards, each in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial

import apache_beam as beam

from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from index_builder.build_pool import BuildPool
from tierloom.manifest import IndexShard
from tierloom.stores.opening import open_store
from transforms.job import Job
from transforms.merge import MergedShard
from transforms.overlap import OverlappingDoFn


class PlanIndexesDoFn(beam.DoFn):
    """(all merged shards) -> IndexTasks: each vector shard once in each tier."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, _: object, merged: Sequence[MergedShard]) -> Iterator[IndexTask]:
        shards = [one.shard for one in sorted(merged, key=lambda one: one.place)]
        collection = self._job.collection
        # The largest tiers take longest: begin with them.
        yield from reversed(plan_index_tasks(collection.tiers, shards, collection.sizes.index_shard_rows))


class BuildIndexShardDoFn(OverlappingDoFn):
    """IndexTask -> (IndexTask, IndexShard), built and stored; see `index_builder.build_pool` for where."""

    step = "build index shards"

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self._pool = BuildPool()
        # One more than can be built at a time waits for its turn.
        self.depth = self._pool.processes + 1

    def executor_for(self, element: IndexTask) -> Executor:
        return self._pool.executor_for(element)

    def work(self, element: IndexTask) -> Callable[[], IndexShard]:
        return partial(build_index_shard, element, self._store)

    def outputs(self, element: IndexTask, result: IndexShard) -> Iterator[tuple[IndexTask, IndexShard]]:
        yield element, result

    def teardown(self) -> None:
        self._pool.close()
