"""Verifying stored index shards before they are published."""

from collections.abc import Iterator

import apache_beam as beam

from index_builder.build import IndexTask
from index_builder.verify import verify_index_shard
from tierloom.column_files import ColumnFiles
from tierloom.manifest import IndexShard
from tierloom.stores.opening import open_store
from transforms.job import Job
from transforms.timing import stopwatch


class VerifyDoFn(beam.DoFn):
    """(IndexTask, IndexShard) -> the IndexShard, if it is sound. Fails the pipeline if it is not."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)

    def process(self, built: tuple[IndexTask, IndexShard]) -> Iterator[IndexShard]:
        task, shard = built
        with stopwatch("verify"):
            verify_index_shard(shard, task.vector_shards, ColumnFiles(self._store))
        yield shard
