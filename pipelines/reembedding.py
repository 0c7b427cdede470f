"""Building a second generation to its end: part after part, each of them published."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from index_builder.reembedding.completing import complete_generation
from index_builder.reembedding.early_probe import refuse_untrained
from pipelines.ingest import Ingest
from pipelines.reembed import Reembed
from pipelines.running import Ran, generation_jobs, run_watched
from tierloom.column_files import ColumnFiles
from tierloom.manifest import Manifest, RunRecord
from tierloom.spending.terms import Lane
from tierloom.stores.opening import open_store
from tierloom.versions import read_head, read_manifest
from transforms.job import Job
from transforms.reading.splits import Split
from transforms.stored_chunks import key_ranges

# The first parts are small: what a model is worth is known before much is paid.
_FIRST_PART: Final = 4096
# So many times the chunks of a vector shard are in the largest part by batches: for each part a day may be waited.
_SHARDS_BY_BATCHES: Final = 8
# Of a part; in each a worker reads the texts in order.
_RUNS: Final = 32


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a generation that was built and published: how it ran, and the version as that generation has it."""

    ran: Ran
    generation: Manifest

    @property
    def record(self) -> RunRecord:
        """What it did in the generation."""
        report = self.ran.report
        return self.generation.run if report.published else report.other or report.record


class Reembedding:
    """The building of one generation, from where it was left."""

    def __init__(self, job: Job, checkpoint: str, options: PipelineOptions, check: Callable[[], None]) -> None:
        """`checkpoint` is the fingerprint of the generation; `job` may be of any. What the canaries of the job took is
        told with the first part. `check` raises when the turn of this process is over."""
        self._job = job
        self._check = check
        self._checkpoint = checkpoint
        self._options = options
        self._store = open_store(job.store)
        self._is_probed = False

    def from_texts(self) -> Iterator[Part]:
        """Build all that is left of the texts that the store holds.

        Raises what ends a run; what was published until then stays, and what was embedded besides is found again. The
        last part is the one that the cap divided, if it did.
        """
        while not (generation := read_head(self._store).of(self._checkpoint)).is_complete:
            part = self._next_part(generation)
            yield self._probed(part)
            if part.ran.report.left_documents:
                return

    def from_sources(self, splits: Sequence[Split]) -> Iterator[Part]:
        """Build all from the sources of the collection, which are cut anew. Raises `InputError` if they lack documents
        that the collection has."""
        if not read_head(self._store).of(self._checkpoint).is_complete:
            job = replace(self._job, run=uuid.uuid4().hex, base=read_head(self._store).version)
            jobs = generation_jobs(job)

            def make(watched: Job, pipeline: beam.Pipeline) -> None:
                plan = pipeline | "splits" >> beam.Create(list(enumerate(splits)), reshuffle=True)
                watching = [replace(each, progress=watched.progress, allowance=watched.allowance) for each in jobs]
                _ = plan | "ingest" >> Ingest(watching, compare_each=True)

            total = sum(split.bytes for split in splits)
            part = self._part(run_watched(jobs[0], make, total, self._options))
            yield self._probed(part)
            if not part.ran.report.left_documents:
                complete_generation(self._store, self._checkpoint, self._check)

    def _next_part(self, generation: Manifest) -> Part:
        source = texts_of(generation)
        ranges = next_ranges(generation, source, self._job.lane)
        part = range(ranges[0].start, ranges[-1].stop)
        job = replace(self._job, run=uuid.uuid4().hex, base=generation.version).of(generation, self._store)
        texts = job.of(source, self._store)
        self._job = replace(self._job, canary_tokens=())

        def make(watched: Job, pipeline: beam.Pipeline) -> None:
            runs = pipeline | "ranges" >> beam.Create(list(enumerate(runs_of(ranges))), reshuffle=True)
            _ = runs | "reembed" >> Reembed(texts, watched, part)

        return self._part(run_watched(job, make, len(part), self._options))

    def _part(self, ran: Ran) -> Part:
        return Part(ran, read_manifest(self._store, ran.report.version).of(self._checkpoint))

    def _probed(self, part: Part) -> Part:
        if not self._is_probed:
            native = self._job.of(part.generation, self._store).checkpoint.space.dimensions
            files = ColumnFiles(self._store)
            self._is_probed = refuse_untrained(part.generation, native, files, self._store.url)
        return part


def texts_of(generation: Manifest) -> Manifest:
    """The generation beside the one in front: the one whose texts this one is built of."""
    return generation.turned(generation.other) if generation.other else generation


def next_ranges(generation: Manifest, source: Manifest, lane: Lane = "requests") -> list[range]:
    """The ranges of keys of the next part of a generation that is not complete: about as much as there is of it, and
    at most what fills a vector shard. By batches, which take their time, at most what fills several."""
    sizes = generation.collection.sizes
    most = sizes.vector_shard_rows * (_SHARDS_BY_BATCHES if lane == "batch" else 1)
    chunks = min(max(_FIRST_PART, generation.live_chunks), most)
    return key_ranges(generation.reached, source.live_chunks, chunks, sizes.small_shard_rows)


def runs_of(ranges: Sequence[range]) -> list[tuple[range, ...]]:
    """At most so many runs of neighbours, of about one length."""
    length = -(-len(ranges) // _RUNS)
    return [tuple(ranges[at : at + length]) for at in range(0, len(ranges), length)]
