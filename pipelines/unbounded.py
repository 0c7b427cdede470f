"""The unbounded pipeline: the same steps as an ingest, for changes that never end, on engines that run for months."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from pipelines.beam_options import DEFAULT_RUNNER, new_pipeline, runner_of, split_arguments, with_flags
from pipelines.checking_model import check_models_first
from pipelines.running import quiet_beam, run_to_end, spending_together
from pipelines.telling import say
from pipelines.unbounded_sources import open_changes
from tierloom.errors import InputError
from tierloom.manifest import Cursor
from tierloom.stores.opening import open_store
from tierloom.versions import read_head
from transforms.bundle import LATENESS, BundleOutcome, ShardBundleDoFn
from transforms.job import Job
from transforms.publish_window import PublishWindowDoFn
from transforms.publishing.stream_position import Positions

# Flink never calls a source that reads for ever unless bundles end before its checkpoints.
_FLINK_FLAGS: Final = ("--checkpointing_interval=10000", "--finish_bundle_before_checkpointing")
# They end a source, or wait for its end.
_FINITE: Final = (DEFAULT_RUNNER, "DirectRunner", "BundleBasedDirectRunner")
_FLAGS: Final = {"FlinkRunner": _FLINK_FLAGS, "PortableRunner": _FLINK_FLAGS}


class PublishChanges(beam.PTransform):
    """Spans of changes -> a RunReport for each version. Unbounded.

    Whatever is replayed, late or out of order, documents have an exactly-once effect: objects are named by digests
    of their inputs, the highest sequence wins whenever it comes, and a pane that comes again is recognised. Every
    pane is published, however late: nothing is dropped. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(self, job: Job, source: str, since: int, taken_up: Positions, seconds: float = 10) -> None:
        """A version every so many `seconds` of event time, and one for what comes late.

        `since` is the newest version now, `taken_up` where each partition of the source is.
        """
        super().__init__()
        self._job = job
        self._source = source
        self._since = since
        self._taken_up = taken_up
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
        publish = PublishWindowDoFn(self._job, self._source, self._since, self._taken_up)
        return panes | "one after the other" >> beam.WindowInto(GlobalWindows()) | "publish" >> beam.ParDo(publish)


def engine_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options. Raises `InputError` for what is none, and unless they name an engine that can run for ever."""
    rest, options = split_arguments(arguments)
    if rest:
        raise InputError(f"one source at a time: what is {rest[0]!r}?")
    if runner_of(options) in _FINITE:
        raise InputError(
            "name an engine that can run for ever with --runner; without Beam's options, tierloom stream runs by itself"
        )
    return options


def run_unbounded(
    job: Job, source: str, options: PipelineOptions, seconds: float = 10, from_beginning: bool = False
) -> None:
    """Follow a topic or a subscription on the engine that `options` name; returns when that ends.

    It is taken up where the manifest says that its last stream stopped, unless it is to be `from_beginning`. The
    model is checked here, before the engine starts. Raises `InputError` for a source or an engine that cannot be used
    so, `SourceError` and `SourceLost` as the source has it, `ModelChanged`.
    """
    if seconds <= 0:
        raise InputError(f"--interval {seconds:g}: an engine publishes by windows, and they last longer than that")
    with spending_together(job) as together, quiet_beam():
        _follow(together, source, options, seconds, from_beginning)


def _follow(job: Job, source: str, options: PipelineOptions, seconds: float, from_beginning: bool) -> None:
    streaming = with_flags(options, ["--streaming", *_FLAGS.get(runner_of(options), ())])
    head = read_head(open_store(job.store))
    pipeline = new_pipeline(streaming)
    changes = open_changes(source, job, streaming)
    cursor = None if from_beginning else head.cursor_of(changes.source)
    taken_up = changes.take_up(cursor.positions if cursor else {})
    job = check_models_first(job)
    tokens = sum(tokens for _, tokens in job.canary_tokens)
    publish = PublishChanges(replace(job, base=None, canary_tokens=()), changes.source, head.version, taken_up, seconds)
    _ = changes.read(pipeline, taken_up) | "publish changes" >> publish
    follows = f"{runner_of(streaming)} follows {changes.source}{_left_by(cursor)}; canaries took {tokens:,} tokens"
    say(follows, "following", source=changes.source, canary_tokens=tokens)
    run_to_end(pipeline)


def _left_by(cursor: Cursor | None) -> str:
    # Two pipelines over one source are both exact, and pay twice: say who was there.
    return f", where {cursor.holder} left it at {cursor.moved}" if cursor else ", from its beginning"
