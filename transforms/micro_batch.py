"""A micro-batch: some changes become a published version in one go, in this process.

The steps are those of the bounded pipeline. What is costly to open stays open from batch to batch: the chunker, the
model's connections, the shards that are live.
"""

from collections.abc import Sequence
from dataclasses import replace

from index_builder.build import build_index_shard, plan_index_tasks
from index_builder.build_pool import BuildPool
from index_builder.merge import merge_vector_shards
from index_builder.verify import verify_index_shard
from tierloom.letters import read_letters
from tierloom.manifest import IndexShard, VectorShard
from tierloom.run_report import RunReport
from tierloom.stores.opening import open_store
from transforms.base import open_shards
from transforms.bundle import ShardSteps, Span
from transforms.job import Job
from transforms.merge import settle_run
from transforms.outcome import CursorMove, Outcome
from transforms.publish import Publisher
from transforms.streams.stream import Batch


class MicroBatches:
    """Publishes one batch after the other. For one thread."""

    def __init__(self, job: Job) -> None:
        """`job` has no fixed base: each batch is compared with the newest version. Raises as the steps' setups do."""
        self._job = job
        self._steps = ShardSteps(job)
        self._builds = BuildPool()
        self._store = open_store(job.store)
        self._shards = open_shards(job.store)

    def publish(self, batch: Batch, run: str, cursor: CursorMove | None) -> RunReport:
        """Publish a batch, and the position of its source with it, as the run `run`.

        May be tried again with the same arguments whatever it failed of: it is published once. Raises as `Publisher`
        does.
        """
        made = self._steps.run([Span(tuple(change.event for change in batch.changes))])
        files = self._shards.files
        letters = read_letters(made.letters, files)
        sizes = self._job.collection.sizes
        settled, tasks = settle_run(made.receipts, made.deletions, letters, files, sizes.vector_shard_rows)
        merged = [shard for task in tasks if (shard := merge_vector_shards(task, self._store)) is not None]
        outcome = Outcome(tally=made.tally, settled=settled, letters=tuple(letters), files=batch.files, cursor=cursor)
        job = replace(self._job, run=run)
        return Publisher(job, outcome, merged, self._index_shards(merged), self._shards).publish()

    def close(self) -> None:
        """Let go of the model, of threads and processes."""
        self._steps.close()
        self._builds.close()

    def _index_shards(self, merged: Sequence[VectorShard]) -> list[IndexShard]:
        """Built and verified, in the order of the tiers."""
        collection = self._job.collection
        tasks = plan_index_tasks(collection.tiers, merged, collection.sizes.index_shard_rows)
        under_way = [self._builds.executor_for(task).submit(build_index_shard, task, self._store) for task in tasks]
        built = [future.result() for future in under_way]
        for task, index in zip(tasks, built, strict=True):
            verify_index_shard(index, task.vector_shards, self._shards.files)
        return built
