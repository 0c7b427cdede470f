"""The unbounded pipeline: the same steps as an ingest, for changes that never end, on engines that run for months."""

from typing import Any

import apache_beam as beam
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from transforms.bundle import LATENESS, BundleOutcome, ShardBundleDoFn
from transforms.job import Job
from transforms.publish_window import PublishWindowDoFn


class PublishChanges(beam.PTransform):
    """Spans of changes -> a RunReport for each version. Unbounded.

    Whatever is replayed, late or out of order, documents have an exactly-once effect: objects are named by digests
    of their inputs, the highest sequence wins whenever it comes, and a pane that comes again is recognised. Every
    pane is published, however late: nothing is dropped. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(self, job: Job, source: str, since: int, seconds: float = 10) -> None:
        """A version every so many `seconds` of event time, and one for what comes late. `since` is the newest
        version now."""
        super().__init__()
        self._job = job
        self._source = source
        self._since = since
        self._seconds = seconds

    def expand(self, spans: Any) -> Any:
        # One fused stage: a worker takes what a bundle brings from its changes to its vector shards.
        shards = beam.ParDo(ShardBundleDoFn(self._job)).with_output_types(BundleOutcome)
        outcomes = spans | "vector shards" >> shards

        # Descriptors only. One key: versions are a chain, and one worker forges it.
        windows = beam.WindowInto(
            FixedWindows(self._seconds),
            trigger=AfterWatermark(late=AfterCount(1)),
            accumulation_mode=AccumulationMode.DISCARDING,
            allowed_lateness=LATENESS,
        )
        keyed = outcomes | "key by store" >> beam.WithKeys(self._job.store).with_output_types(tuple[str, BundleOutcome])
        panes = keyed | "windows" >> windows | "panes" >> beam.GroupByKey()
        publish = PublishWindowDoFn(self._job, self._source, self._since)
        return panes | "one after the other" >> beam.WindowInto(GlobalWindows()) | "publish" >> beam.ParDo(publish)
