"""What a run would take: the steps of its pipeline up to the model, counting instead of paying."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from index_builder.advising.measuring import expected_bytes
from pipelines.beam_options import new_pipeline
from pipelines.ingest import chunk_by, compare_by, label
from pipelines.progress_display import ProgressDisplay
from pipelines.reembedding import runs_of
from pipelines.running import quiet_beam, run_to_end
from tierloom.canaries import canary_inputs, canary_texts
from tierloom.canary_room import bound_of_canary, canary_bound
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.embedders.packing import most_tokens
from tierloom.manifest import Manifest
from tierloom.spending.bucket import Rate
from tierloom.spending.estimating import Estimate, estimate_batches, estimate_requests
from transforms.block_coder import register_block_coder
from transforms.job import Job
from transforms.plan import NAMESPACE, CountDocumentsDoFn, CountDoFn, Counted, CountEventsDoFn, counter_of
from transforms.read import ReadDoFn
from transforms.reading.splits import Split
from transforms.rephrase import RephraseDoFn
from transforms.stored_chunks import StoredChunksDoFn, key_ranges


class PlanIngest(beam.PTransform):
    """(number, Split) -> nothing: all is counted, for each generation. Bounded, and it writes nothing."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__()
        self._jobs = jobs
        register_block_coder()

    def expand(self, splits: Any) -> None:
        first = self._jobs[0]
        read = splits | "read" >> beam.ParDo(ReadDoFn(first)).with_outputs("letters", "tally", "files", main="events")
        compared = read.events | "compare" >> compare_by(first)
        news = compared.changed | "count documents" >> beam.ParDo(CountDocumentsDoFn(first))
        cut = news | "chunk" >> chunk_by(first)
        for job in self._jobs:
            chunks = cut.chunks
            if not job.cuts_like(first):
                chunks = (news | label("chunk", job) >> chunk_by(job)).chunks
            elif job is not first:
                chunks = chunks | label("rephrase", job) >> beam.ParDo(RephraseDoFn(job))
            _ = chunks | label("count chunks", job) >> beam.ParDo(CountDoFn(job, tokens_at_once(job)))
        others = (read.letters, read.tally, compared.deletions, compared.tally, cut.letters)
        for number, events in enumerate(others):
            _ = events | f"count events {number}" >> beam.ParDo(CountEventsDoFn())


class PlanReembed(beam.PTransform):
    """(number, ranges of keys) -> nothing: what a new generation lacks is counted. Bounded, and it writes nothing."""

    def __init__(self, source: Job, job: Job) -> None:
        """`source` is of the generation whose texts are read."""
        super().__init__()
        self._source = source
        self._job = job
        register_block_coder()

    def expand(self, ranges: Any) -> None:
        job = self._job
        read = beam.ParDo(StoredChunksDoFn(self._source, job)).with_outputs("tally", main="chunks")
        stored = ranges | "read texts" >> read
        _ = stored.chunks | "count chunks" >> beam.ParDo(CountDoFn(job, tokens_at_once(job)))
        _ = stored.tally | "count events" >> beam.ParDo(CountEventsDoFn())


@dataclass(frozen=True, slots=True)
class Planned:
    """What was counted: of the events what the counters are called by, and the chunks of each generation."""

    events: Counter[str]

    def counted(self, job: Job) -> Counted:
        """The chunks of the job's generation."""
        return Counted(**{field.name: self.events[counter_of(field.name, job)] for field in fields(Counted)})


def plan_ingest(jobs: Sequence[Job], splits: Sequence[Split], options: PipelineOptions) -> Planned:
    """Read, compare, cut and count, showing progress. Raises the `TierloomError` that ended it, if one did."""
    if not splits:
        return Planned(Counter())

    def make(folder: str, pipeline: beam.Pipeline) -> None:
        numbered = pipeline | "splits" >> beam.Create(list(enumerate(splits)), reshuffle=True)
        _ = numbered | "plan" >> PlanIngest([replace(job, progress=folder) for job in jobs])

    return _counted(make, sum(split.bytes for split in splits), options)


def all_ranges(reached: int, source: Manifest, collection: Collection) -> list[range]:
    """The ranges of keys that are left to build of a generation, as they are cut when it is built."""
    live = source.live_chunks
    return key_ranges(reached, live, max(live, 1), collection.sizes.small_shard_rows)


def plan_reembed(source: Job, job: Job, ranges: Sequence[range], options: PipelineOptions) -> Planned:
    """Count what a generation lacks of another one's texts. Raises as `plan_ingest`."""

    if not ranges:
        return Planned(Counter())

    def make(folder: str, pipeline: beam.Pipeline) -> None:
        numbered = pipeline | "ranges" >> beam.Create(list(enumerate(runs_of(ranges))), reshuffle=True)
        _ = numbered | "plan" >> PlanReembed(source, replace(job, progress=folder))

    planned = _counted(make, sum(map(len, ranges)), options)
    planned.events["new_documents"] = planned.events["read"]
    return planned


def _counted(make: Callable[[str, beam.Pipeline], None], total: int, options: PipelineOptions) -> Planned:
    with (
        TemporaryDirectory(prefix="tierloom-progress-") as folder,
        ProgressDisplay(Path(folder), total, paying=False),
        quiet_beam(),
    ):
        pipeline = new_pipeline(options)
        make(folder, pipeline)
        result = run_to_end(pipeline)
    events = Counter[str]()
    for counter in result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        events[counter.key.metric.name] += counter.committed or counter.attempted or 0
    return Planned(events)


def tokens_at_once(job: Job) -> int:
    """The most tokens of one of the job's requests."""
    per_minute = job.spending.tokens_per_minute
    return most_tokens(job.checkpoint.limits, Rate(per_minute).capacity if per_minute else None)


@dataclass(frozen=True, slots=True)
class Cost:
    """What chunks would cost by the ordinary endpoint and by the Batch API (None for a model that has none), and
    the bytes that they would add: to the vector shards, and to each tier. Canaries take up to `canary_tokens` besides:
    those that a run asks first, and those that go along."""

    requests: Estimate
    batches: Estimate | None
    canary_tokens: int
    vector_shard_bytes: int
    tier_bytes: dict[str, int]


def cost_of(counted: Counted, job: Job) -> Cost:
    """The cost of what was counted for a job."""
    checkpoint, schema = job.checkpoint, job.schema
    tiers = job.collection.tiers
    return Cost(
        requests=estimate_requests(checkpoint, job.spending, counted.requests, counted.tokens),
        batches=_batches(checkpoint, counted),
        canary_tokens=_canary_tokens(checkpoint, counted.canaries) if counted.embedded else 0,
        vector_shard_bytes=counted.chunks * sum(schema.widths.values()) + counted.text_bytes,
        tier_bytes={tier.name: round(expected_bytes(tier) * counted.chunks) for tier in tiers},
    )


def _batches(checkpoint: Checkpoint, counted: Counted) -> Estimate | None:
    if checkpoint.space.in_process or (checkpoint.price and checkpoint.price.batch_usd_per_million_tokens is None):
        return None
    inputs = counted.embedded + counted.canaries
    size = counted.input_bytes + counted.canaries * canary_bound(checkpoint)
    return estimate_batches(checkpoint, counted.requests, inputs, size, counted.tokens)


def _canary_tokens(checkpoint: Checkpoint, carried: int) -> int:
    first = canary_inputs(checkpoint.space, canary_texts())
    asked = sum(bound_of_canary(text, checkpoint.limits) for text in first)
    return asked + carried * canary_bound(checkpoint)
