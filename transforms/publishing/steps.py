"""From the outcomes of bundles to a published version, in this process.

The steps are those of the bounded pipeline. What is costly to open stays open from run to run: the shards that are
live, and the processes that build.
"""

from collections.abc import Sequence
from dataclasses import replace

from index_builder.build import build_index_shard, plan_index_tasks
from index_builder.build_pool import BuildPool
from index_builder.merge import merge_vector_shards
from index_builder.verify import verify_index_shard
from tierloom.collection import Collection
from tierloom.column_files import ColumnFiles
from tierloom.document import Deletion
from tierloom.letters import read_letters
from tierloom.manifest import IndexShard, VectorShard
from tierloom.run_report import RunReport
from tierloom.seen_files import SeenFile
from tierloom.stores.opening import open_store
from transforms.bundle import BundleOutcome
from transforms.elements import ShardReceipt, Tally
from transforms.job import Job
from transforms.merge import settle_run
from transforms.paying import together
from transforms.publishing.outcome import CursorMove, Made, outcome_of
from transforms.publishing.publisher import OpenGenerations, Publisher
from transforms.vector_chain import BundlePart


class PublishSteps:
    """Publishes one run after the other. For one thread."""

    def __init__(self, job: Job, opened: OpenGenerations | None = None) -> None:
        """`opened` is what the same thread has open already."""
        self._job = job
        self._store = open_store(job.store)
        self._builds = BuildPool()
        self._opened = opened or OpenGenerations(job.store)

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
        # A generation that came up between two bundles has not all of them, and so is behind.
        common = set.intersection(*(set(one.parts) for one in outcomes))
        ordered = sorted(outcomes, key=lambda one: one.bundle)
        parts = {fp: [one.parts[fp] for one in ordered] for fp in sorted(common)}
        tally = sum((one.tally for one in outcomes), Tally())
        deletions = tuple(deletion for one in outcomes for deletion in one.deletions)
        made = [self._made(fp, made_in, deletions, tally, files, cursor) for fp, made_in in parts.items()]
        return Publisher(replace(self._job, run=run), made, self._opened).publish()

    def close(self) -> None:
        """Let go of threads and processes."""
        self._builds.close()

    def _made(
        self,
        checkpoint: str,
        parts: Sequence[BundlePart],
        deletions: Sequence[Deletion],
        tally: Tally,
        files: tuple[SeenFile, ...],
        cursor: CursorMove | None,
    ) -> Made:
        collection, columns = parts[0].collection, self._opened[checkpoint].shards.files
        letters = read_letters([stored for part in parts for stored in part.letters], columns)
        most = collection.sizes.vector_shard_rows
        left = together(part.left for part in parts)
        settled, tasks = settle_run(_placed(parts), deletions, letters, columns, most, left)
        merged = [shard for task in tasks if (shard := merge_vector_shards(task, self._store)) is not None]
        outcome = outcome_of(tally, settled, letters, files=files, cursor=cursor)
        return Made(checkpoint, outcome, merged, self._index_shards(collection, merged, columns))

    def _index_shards(
        self, collection: Collection, merged: Sequence[VectorShard], files: ColumnFiles
    ) -> list[IndexShard]:
        """Built and verified, in the order of the tiers."""
        tasks = plan_index_tasks(collection.tiers, merged, collection.sizes.index_shard_rows)
        under_way = [self._builds.executor_for(task).submit(build_index_shard, task, self._store) for task in tasks]
        built = [future.result() for future in under_way]
        for task, index in zip(tasks, built, strict=True):
            verify_index_shard(index, task.vector_shards, files)
        return built


def _placed(parts: Sequence[BundlePart]) -> list[ShardReceipt]:
    """The receipts of all bundles, each at a place that does not depend on the order of arrival."""
    return [
        replace(receipt, place=receipt.place._replace(split=at))
        for at, part in enumerate(parts)
        for receipt in part.receipts
    ]
