"""The bounded pipeline: the whole architecture on one screen."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton

from tierloom.document import Deletion
from tierloom.seen_files import SeenFile
from transforms.block_coder import register_block_coder
from transforms.build import BuildIndexShardDoFn, PlanIndexesDoFn
from transforms.chunk import ChunkDoFn
from transforms.compare import CompareDoFn
from transforms.dead_letters import StoreLetters
from transforms.embed import EmbeddedBlock, EmbedDoFn
from transforms.embed_by_batch import EmbedByBatchDoFn
from transforms.job import Job
from transforms.merge import MergeDoFn, SettleDoFn
from transforms.missing import MissingDoFn
from transforms.publish import GatherDoFn, PublishDoFn
from transforms.quantize import QuantizeDoFn
from transforms.read import ReadDoFn
from transforms.rephrase import RephraseDoFn
from transforms.retry import ReadLettersDoFn
from transforms.reuse import ReuseDoFn
from transforms.verify import VerifyDoFn
from transforms.write import WriteVectorShardDoFn


class VectorShards(beam.PTransform):
    """ChunkBlock -> (ShardReceipts, DeadLetters, Left): each block becomes a vector shard. Bounded."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, chunks: Any) -> Any:
        job = self._job
        reused = chunks | "reuse" >> beam.ParDo(ReuseDoFn(job)).with_outputs("finished", "letters", main="new")
        lane = EmbedByBatchDoFn if job.by_batches else EmbedDoFn
        embed = beam.ParDo(lane(job)).with_output_types(EmbeddedBlock)
        embedded = reused.new | "embed" >> embed.with_outputs("letters", "left", main="vectors")
        quantized = embedded.vectors | "quantize" >> beam.ParDo(QuantizeDoFn(job))
        written = quantized | "write vector shards" >> beam.ParDo(WriteVectorShardDoFn(job))
        return (
            (written, reused.finished) | "receipts" >> beam.Flatten(),
            (reused.letters, embedded.letters) | "letters" >> beam.Flatten(),
            embedded.left,
        )


class Outputs(NamedTuple):
    """What a part of a run puts out: of each kind the PCollections that hold it."""

    receipts: tuple[Any, ...] = ()
    deletions: tuple[Any, ...] = ()
    letters: tuple[Any, ...] = ()
    left: tuple[Any, ...] = ()
    tallies: tuple[Any, ...] = ()
    files: tuple[Any, ...] = ()

    def and_of(self, *others: "Outputs") -> "Outputs":
        """With those of other parts."""
        return Outputs(*(sum(kind, ()) for kind in zip(self, *others, strict=True)))


class Ingest(beam.PTransform):
    """(number, Split) -> the RunReport. Bounded.

    Whatever is replayed, documents have an exactly-once effect: objects are named by digests of their inputs,
    and one manifest publishes them all. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        deletions: tuple[Deletion, ...] = (),
        gone: tuple[SeenFile, ...] = (),
        compare_each: bool = False,
    ) -> None:
        """The same run over each generation. What changed is told by the first one, unless each is to be compared with:
        another one may lack more. `deletions`, and files that are `gone`, are what no split can tell."""
        super().__init__()
        self._jobs = jobs
        self._compare_each = compare_each
        self._missing = (deletions, gone)
        register_block_coder()

    def expand(self, splits: Any) -> Any:
        first = self._jobs[0]
        start = splits.pipeline | "start" >> beam.Create([None], reshuffle=False)
        read = splits | "read" >> beam.ParDo(ReadDoFn(first)).with_outputs("letters", "tally", "files", main="events")
        told = Outputs(letters=(read.letters,), tallies=(read.tally,), files=(read.files,))
        if any(self._missing):
            told = told.and_of(self._missing_in(start))
        made = [
            splits.pipeline | label("publishable", job) >> Publishable(job, told.and_of(*outputs))
            for job, outputs in self._shards_of(read.events, start)
        ]
        together = made | "of all generations" >> beam.Flatten()
        return start | "publish" >> beam.ParDo(PublishDoFn(first), AsList(together))

    def _shards_of(self, events: Any, start: Any) -> Iterator[tuple[Job, list[Outputs]]]:
        """One fused stage: a worker takes a split from its bytes to its vector shards. Nothing may be flattened on
        the way: a runner may store whole what flows through a Flatten, and FnApiRunner does."""
        first = self._jobs[0]
        decided = events | "compare" >> compare_by(first)
        cut = decided.changed | "chunk" >> chunk_by(first)
        for job in self._jobs:
            compared, own = decided, cut
            if job is not first and self._compare_each:
                compared = events | label("compare", job) >> compare_by(job)
                own = compared.changed | label("chunk", job) >> chunk_by(job)
            elif not job.cuts_like(first):
                own = decided.changed | label("chunk", job) >> chunk_by(job)
            chunks = own.chunks
            if own is cut and job is not first:
                chunks = cut.chunks | label("rephrase", job) >> beam.ParDo(RephraseDoFn(job))
            receipts, refused, left = chunks | label("vector shards", job) >> VectorShards(job)
            told = Outputs(deletions=(decided.deletions,), letters=(own.letters,), tallies=(compared.tally,))
            outputs = [told, Outputs(receipts=(receipts,), letters=(refused,), left=(left,))]
            yield job, [*outputs, self._retried(start, job)] if job.retry else outputs

    def _missing_in(self, start: Any) -> Outputs:
        missing = beam.ParDo(MissingDoFn(*self._missing)).with_outputs("tally", "files", main="deletions")
        told = start | "missing" >> missing
        return Outputs(deletions=(told.deletions,), tallies=(told.tally,), files=(told.files,))

    def _retried(self, start: Any, job: Job) -> Outputs:
        read = beam.ParDo(ReadLettersDoFn(job)).with_outputs("tally", main="chunks")
        again = start | label("read letters", job) >> read
        receipts, refused, left = again.chunks | label("vector shards of letters", job) >> VectorShards(job)
        return Outputs(receipts=(receipts,), letters=(refused,), left=(left,), tallies=(again.tally,))


class Publishable(beam.PTransform):
    """The start of a pipeline -> Made, of one generation.

    Descriptors only: the small shards of the run become large ones, and those index shards.
    """

    def __init__(self, job: Job, outputs: Outputs, part: range | None = None) -> None:
        """`part` are the keys that the run goes through, if it builds the generation."""
        super().__init__()
        self._job = job
        self._outputs = outputs
        self._part = part

    def expand(self, begin: Any) -> Any:
        job = self._job
        # An impulse for each generation: with one for all, FnApiRunner fuses steps that wait for each other for ever.
        start = begin | "start" >> beam.Create([None], reshuffle=False)
        flat = {
            kind: some | f"all {kind}" >> beam.Flatten(pipeline=start.pipeline)
            for kind, some in self._outputs._asdict().items()
        }
        stored = flat["letters"] | "dead letters" >> StoreLetters(job)
        settling = (flat["receipts"], flat["deletions"], stored, flat["left"])
        settle = beam.ParDo(SettleDoFn(job), *map(AsList, settling))
        settled = start | "settle" >> settle.with_outputs("settled", main="merges")
        merged = settled.merges | "spread merges" >> beam.Reshuffle() | "merge" >> beam.ParDo(MergeDoFn(job))
        tasks = start | "plan index shards" >> beam.ParDo(PlanIndexesDoFn(job), AsList(merged))
        spread = tasks | "spread builds" >> beam.Reshuffle()
        built = spread | "build index shards" >> beam.ParDo(BuildIndexShardDoFn(job))
        verified = built | "verify" >> beam.ParDo(VerifyDoFn(job))
        sides = (AsList(side) for side in (merged, verified, stored, flat["tallies"], flat["files"]))
        gather = beam.ParDo(GatherDoFn(job, self._part), *sides, AsSingleton(settled.settled))
        return start | "gather" >> gather


def compare_by(job: Job) -> Any:
    """EventBlock -> what is news to the job's base."""
    return beam.ParDo(CompareDoFn(job)).with_outputs("deletions", "tally", main="changed")


def chunk_by(job: Job) -> Any:
    """DocumentBlock -> ChunkBlocks, as the job's collection cuts them."""
    return beam.ParDo(ChunkDoFn(job)).with_outputs("letters", main="chunks")


def label(step: str, job: Job) -> str:
    """Steps of several generations are told apart by their checkpoints."""
    return f"{step}: {job.checkpoint.space.model} {job.fingerprint[:8]}"
