"""A micro-batch: some changes become a published version in one go, in this process.

The steps are those of the bounded pipeline. What is costly to open stays open from batch to batch: the chunker, the
model's connections, the shards that are live.
"""

from tierloom.run_report import RunReport
from transforms.bundle import ShardSteps, Span
from transforms.job import Job
from transforms.publishing.outcome import CursorMove
from transforms.publishing.publisher import OpenGenerations
from transforms.publishing.steps import PublishSteps
from transforms.streams.stream import Batch


class MicroBatches:
    """Publishes one batch after the other. For one thread."""

    def __init__(self, job: Job) -> None:
        """`job` has no fixed base: each batch is compared with the newest version. Raises as the steps' setups do."""
        self._make = ShardSteps(job)
        self._publish = PublishSteps(job, OpenGenerations(job.store, with_bases=True))

    def publish(self, batch: Batch, run: str, cursor: CursorMove | None) -> RunReport:
        """Publish a batch, and the position of its source with it, as the run `run`.

        May be tried again with the same arguments whatever it failed of: it is published once. Raises as `Publisher`
        does.
        """
        made = self._make.run([Span(tuple(change.event for change in batch.changes))])
        return self._publish.publish(run, [made], batch.files, cursor)

    def close(self) -> None:
        """Let go of the model, of threads and processes."""
        self._make.close()
        self._publish.close()
