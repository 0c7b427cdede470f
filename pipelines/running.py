"""Running a pipeline over a collection: from a plan to the report of what it did."""

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from pipelines.beam_options import new_pipeline
from pipelines.checking_model import check_models_first
from pipelines.ingest import Ingest
from pipelines.progress_display import ProgressDisplay
from pipelines.telling import voice
from tierloom import errors
from tierloom.checkpoint import Checkpoint
from tierloom.document import Deletion
from tierloom.embedders.opening import lane_of, refuse_without_batches
from tierloom.errors import TierloomError
from tierloom.lease import Lease, this_process
from tierloom.manifest import RunRecord
from tierloom.run_report import RunReport, read_report, store_report
from tierloom.seen_files import SeenFile
from tierloom.spending.terms import UNLIMITED, Allowance, Lane, spending_for
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import head_version, read_checkpoint, read_head
from transforms.base import retried_letters, version_of
from transforms.job import Job
from transforms.reading.records import Fields
from transforms.reading.splits import Split
from transforms.timing import NAMESPACE

# How long a run that was killed still keeps what it held.
_LEASE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run: its report, and the seconds that all workers together spent in each step."""

    report: RunReport
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is given: splits to read; and what is known to be gone without reading: deletions, and files."""

    splits: Sequence[Split] = ()
    deletions: tuple[Deletion, ...] = ()
    gone: tuple[SeenFile, ...] = ()

    @property
    def is_none(self) -> bool:
        return not (self.splits or self.deletions or self.gone)


def make_job(
    store: str,
    command: str,
    fields: Fields,
    *,
    retry: bool = False,
    concurrency: int = 8,
    allowance: Allowance = UNLIMITED,
    lane: Lane = "requests",
    writing: bool = True,
    asked: Sequence[Checkpoint] = (),
) -> Job:
    """A new run on top of the newest version; one that is not `writing` leaves the store as it is. `asked` are the
    models that it may ask: if none is named, that of each generation.

    Raises `NotACollection`, `InputError` for a cap in dollars on a model without a price, `CheckpointError` when none
    of the models has that lane, or `PreconditionsIgnored` when two writers could not trust the store.
    """
    opened = open_store(store)
    head = read_head(opened)
    checkpoints = [read_checkpoint(opened, fingerprint) for fingerprint in head.checkpoints]
    for checkpoint in asked or checkpoints:
        spending_for(checkpoint, allowance, lane_of(checkpoint, lane))
    if lane == "batch":
        refuse_without_batches(asked or checkpoints)
    if writing:
        probe_preconditions(opened)
    job = Job(
        run=uuid.uuid4().hex,
        command=command,
        store=opened.url,
        base=head.version,
        checkpoint=checkpoints[0],
        collection=head.collection,
        fields=fields,
        retry=retry,
        concurrency=concurrency,
        allowance=allowance,
        lane=lane,
    )
    voice().about["run"] = job.run
    return job


def generation_jobs(job: Job) -> tuple[Job, ...]:
    """The same run over each generation of its base, that in front first."""
    store = open_store(job.store)
    return tuple(job.of(generation, store) for generation in version_of(job).generations)


def run(job: Job, work: Work, options: PipelineOptions) -> Ran:
    """Do the work, showing progress, and wait for the end.

    The model is checked first, if it may be asked. Raises the `TierloomError` that ended it, if one did; everything
    that was finished until then is in the store, and the next run reuses it.
    """
    if work.is_none and not job.retry:
        return Ran(_nothing_done(job), {})
    total = sum(split.bytes for split in work.splits)
    with spending_together(job) as together:
        if _may_embed(job, work):
            together = check_models_first(together)
        return run_watched(together, lambda watched, pipeline: _ingest(watched, work, pipeline), total, options)


def run_watched(job: Job, make: Callable[[Job, beam.Pipeline], None], total: int, options: PipelineOptions) -> Ran:
    """Run what `make` puts into a pipeline, showing progress towards `total` bytes, and wait for the end. Raises as
    `run`."""
    with (
        TemporaryDirectory(prefix="tierloom-progress-") as folder,
        spending_together(job) as together,
        ProgressDisplay(Path(folder), total),
        quiet_beam(),
        _held(job),
    ):
        pipeline = new_pipeline(options)
        make(replace(together, progress=folder), pipeline)
        result = run_to_end(pipeline)
    return Ran(read_report(job.run, open_store(job.store)), _seconds(result))


@contextmanager
def spending_together(job: Job) -> Iterator[Job]:
    """The job, with a `shared_allowance`."""
    with shared_allowance(job.allowance) as allowance:
        yield replace(job, allowance=allowance)


@contextmanager
def shared_allowance(allowance: Allowance) -> Iterator[Allowance]:
    """What may be paid, with a folder in which the workers of a run share what they spend, and what runs one after the
    other in this block does. On other machines it is made by the first worker that looks for it."""
    if allowance.folder:
        yield allowance
        return
    with TemporaryDirectory(prefix="tierloom-spending-") as folder:
        yield replace(allowance, folder=folder)


def _may_embed(job: Job, work: Work) -> bool:
    """Deletions and files that are gone are published without asking the model."""
    return bool(work.splits or retried_letters(job))


def _held(job: Job) -> AbstractContextManager[object]:
    """Keep what the run compares with and what it makes, should it take longer than garbage is left to lie."""
    if job.base is None:
        return nullcontext()
    holder = f"{job.command} {job.run[:12]} on {this_process()}"
    return Lease(open_store(job.store), job.base, _LEASE, holder, working=True)


def _nothing_done(job: Job) -> RunReport:
    store = open_store(job.store)
    report = RunReport(RunRecord(run=job.run, command=job.command), head_version(store), published=False)
    store_report(report, store)
    return report


def _ingest(job: Job, work: Work, pipeline: beam.Pipeline) -> None:
    # Small descriptions of where to read; the shuffle spreads them over the workers.
    plan = pipeline | "splits" >> beam.Create(list(enumerate(work.splits)), reshuffle=True)
    _ = plan | "ingest" >> Ingest(generation_jobs(job), work.deletions, work.gone)


def run_to_end(pipeline: beam.Pipeline) -> PipelineResult:
    """The result of a pipeline that has ended. Raises the `TierloomError` that a worker raised, if one did."""
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:  # Beam wraps what a worker raised in whatever its runner likes
        raise _raised_in_worker(error) from error
    return result


# How Python prints one of our errors at the end of a traceback.
_OURS = re.compile(r"tierloom\.errors\.(\w+): (.*?)(?:\n|\\n|$)")
_WHERE = re.compile(r" \[while running '[^']*'\]")


def _raised_in_worker(error: Exception) -> Exception:
    """Our own error, if it was one, without what Beam adds to its message."""
    if isinstance(error, TierloomError):
        return _told(type(error), str(error))
    found = _OURS.findall(str(error))
    kind = getattr(errors, found[-1][0], None) if found else None
    if not (isinstance(kind, type) and issubclass(kind, TierloomError)):
        return error
    return _told(kind, found[-1][1])


def _told(kind: type[TierloomError], message: str) -> TierloomError:
    # Not by calling it: some kinds make their message of other arguments.
    return kind.__new__(kind, _WHERE.sub("", message))


class quiet_beam:  # noqa: N801 -- read as a verb
    """Keep Beam's own log lines off the terminal: what a user must know is in our errors and tables."""

    def __enter__(self) -> None:
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apache_beam").setLevel(logging.WARNING)


def _seconds(result: PipelineResult) -> dict[str, float]:
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    seconds: dict[str, float] = {}
    for counter in counters:
        step = counter.key.metric.name
        seconds[step] = seconds.get(step, 0.0) + (counter.committed or counter.attempted or 0) / 1e6
    return seconds
