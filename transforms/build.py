"""Building index shards, each in a process of its own."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import apache_beam as beam

from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from tierloom.manifest import IndexShard
from tierloom.stores.opening import open_store
from transforms.job import Job
from transforms.merge import MergedShard
from transforms.overlap import OverlappingDoFn

# A process takes a second to start; so many rows are built in a tenth of that.
SMALL_ROWS = 4096


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
    """IndexTask -> (IndexTask, IndexShard), built and stored.

    usearch's `add` takes the interpreter's lock for every vector, and crawls beside any other Python thread;
    a crash in native code must not take the worker along. So builds run in processes of their own, as many as
    there are processors; those that take less than the start of a process run in a thread.
    """

    step = "build index shards"

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self.depth = len(os.sched_getaffinity(0))
        # A process is started when the first large task asks for it.
        self.executor = ProcessPoolExecutor(self.depth, mp_context=get_context("spawn"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="build")

    def executor_for(self, element: IndexTask) -> Executor:
        rows = sum(shard.rows for shard in element.vector_shards)
        return self._thread if rows <= SMALL_ROWS else self.executor

    def work(self, element: IndexTask) -> Callable[[], IndexShard]:
        return partial(build_index_shard, element, self._store)

    def outputs(self, element: IndexTask, result: IndexShard) -> Iterator[tuple[IndexTask, IndexShard]]:
        yield element, result

    def teardown(self) -> None:
        self.executor.shutdown()
        self._thread.shutdown()
