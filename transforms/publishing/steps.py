"""From the outcomes of bundles to a published version, in this process.

The steps are those of the bounded pipeline. What is costly to open stays open from run to run: the shards that are
live, and the processes that build.
"""

from collections.abc import Sequence
from dataclasses import replace

from index_builder.build import build_index_shard, plan_index_tasks
from index_builder.build_pool import BuildPool
from index_builder.gate.recall_gate import RecallGate
from index_builder.merge import merge_vector_shards
from index_builder.verify import verify_index_shard
from tierloom.column_files import ColumnFiles
from tierloom.letters import read_letters
from tierloom.manifest import IndexShard, VectorShard
from tierloom.run_report import RunReport
from tierloom.seen_files import SeenFile
from tierloom.shards.live_shards import LiveShards
from tierloom.stores.opening import open_store
from transforms.bundle import BundleOutcome
from transforms.elements import ShardReceipt, Tally
from transforms.job import Job
from transforms.merge import settle_run
from transforms.publishing.outcome import CursorMove, Outcome
from transforms.publishing.publisher import Publisher


class PublishSteps:
    """Publishes one run after the other. For one thread."""

    def __init__(self, job: Job, shards: LiveShards | None = None) -> None:
        """`shards` are what the same thread has open already."""
        self._job = job
        self._store = open_store(job.store)
        self._builds = BuildPool()
        self._shards = shards or LiveShards(ColumnFiles(self._store))
        self._gate = RecallGate(self._shards.files)

    def publish(
        self,
        run: str,
        outcomes: Sequence[BundleOutcome],
        files: tuple[SeenFile, ...] = (),
        cursor: CursorMove | None = None,
    ) -> RunReport:
        """Publish these bundles as the run `run`, with the files that were read and the move of the source's cursor.

        May be tried again whatever it failed of: a run is published once. Raises as `Publisher` does.
        """
        columns = self._shards.files
        letters = read_letters([part for one in outcomes for part in one.letters], columns)
        deletions = [deletion for one in outcomes for deletion in one.deletions]
        most = self._job.collection.sizes.vector_shard_rows
        settled, tasks = settle_run(_placed(outcomes), deletions, letters, columns, most)
        merged = [shard for task in tasks if (shard := merge_vector_shards(task, self._store)) is not None]
        tally = sum((one.tally for one in outcomes), Tally())
        outcome = Outcome(tally, settled, tuple(letters), files=files, cursor=cursor)
        job = replace(self._job, run=run)
        return Publisher(job, outcome, merged, self._index_shards(merged), self._shards, self._gate).publish()

    def close(self) -> None:
        """Let go of threads and processes."""
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


def _placed(outcomes: Sequence[BundleOutcome]) -> list[ShardReceipt]:
    """The receipts of all bundles, each at a place that does not depend on the order of arrival."""
    ordered = sorted(outcomes, key=lambda one: one.bundle)
    return [
        replace(receipt, place=receipt.place._replace(split=at))
        for at, one in enumerate(ordered)
        for receipt in one.receipts
    ]
