"""The bounded pipeline: the whole architecture on one screen."""

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
from transforms.job import Job
from transforms.merge import MergeDoFn, SettleDoFn
from transforms.missing import MissingDoFn
from transforms.publish import PublishDoFn
from transforms.quantize import QuantizeDoFn
from transforms.read import ReadDoFn
from transforms.retry import ReadLettersDoFn
from transforms.reuse import ReuseDoFn
from transforms.verify import VerifyDoFn
from transforms.write import WriteVectorShardDoFn


class VectorShards(beam.PTransform):
    """ChunkBlock -> (ShardReceipts, DeadLetters): each block becomes a vector shard. Bounded."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, chunks: Any) -> Any:
        job = self._job
        reused = chunks | "reuse" >> beam.ParDo(ReuseDoFn(job)).with_outputs("finished", "letters", main="new")
        embed = beam.ParDo(EmbedDoFn(job)).with_output_types(EmbeddedBlock)
        embedded = reused.new | "embed" >> embed.with_outputs("letters", main="vectors")
        quantized = embedded.vectors | "quantize" >> beam.ParDo(QuantizeDoFn(job))
        written = quantized | "write vector shards" >> beam.ParDo(WriteVectorShardDoFn(job))
        return (
            (written, reused.finished) | "receipts" >> beam.Flatten(),
            (reused.letters, embedded.letters) | "letters" >> beam.Flatten(),
        )


class Made(NamedTuple):
    """What a part of a run makes: of each kind the PCollections that hold it."""

    receipts: tuple[Any, ...] = ()
    deletions: tuple[Any, ...] = ()
    letters: tuple[Any, ...] = ()
    tallies: tuple[Any, ...] = ()
    files: tuple[Any, ...] = ()

    def together(self) -> "Made":
        """One PCollection of each kind."""
        flat = {kind: some | f"all {kind}" >> beam.Flatten() for kind, some in self._asdict().items() if some}
        return Made(**{kind: (every,) for kind, every in flat.items()})


class Ingest(beam.PTransform):
    """(number, Split) -> the RunReport. Bounded.

    Whatever is replayed, documents have an exactly-once effect: objects are named by digests of their inputs,
    and one manifest publishes them all. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(self, job: Job, deletions: tuple[Deletion, ...] = (), gone: tuple[SeenFile, ...] = ()) -> None:
        """`deletions`, and files that are `gone`, are what no split can tell."""
        super().__init__()
        self._job = job
        self._missing = (deletions, gone)
        register_block_coder()

    def expand(self, splits: Any) -> Any:
        start = splits.pipeline | "start" >> beam.Create([None], reshuffle=False)
        parts = [self._shards_of(splits)]
        if any(self._missing):
            parts.append(self._missing_in(start))
        if self._job.retry:
            parts.append(self._retried(start))
        made = Made(*(sum(kind, ()) for kind in zip(*parts, strict=True)))
        return self._published(start, made.together())

    def _shards_of(self, splits: Any) -> Made:
        """One fused stage: a worker takes a split from its bytes to its vector shards. Nothing may be flattened on
        the way: a runner may store whole what flows through a Flatten, and FnApiRunner does."""
        job = self._job
        read = splits | "read" >> beam.ParDo(ReadDoFn(job)).with_outputs("letters", "tally", "files", main="events")
        compare = beam.ParDo(CompareDoFn(job)).with_outputs("deletions", "tally", main="changed")
        compared = read.events | "compare" >> compare
        chunked = compared.changed | "chunk" >> beam.ParDo(ChunkDoFn(job)).with_outputs("letters", main="chunks")
        receipts, refused = chunked.chunks | "vector shards" >> VectorShards(job)
        return Made(
            receipts=(receipts,),
            deletions=(compared.deletions,),
            letters=(read.letters, chunked.letters, refused),
            tallies=(read.tally, compared.tally),
            files=(read.files,),
        )

    def _missing_in(self, start: Any) -> Made:
        missing = beam.ParDo(MissingDoFn(*self._missing)).with_outputs("tally", "files", main="deletions")
        told = start | "missing" >> missing
        return Made(deletions=(told.deletions,), tallies=(told.tally,), files=(told.files,))

    def _retried(self, start: Any) -> Made:
        job = self._job
        again = start | "read letters" >> beam.ParDo(ReadLettersDoFn(job)).with_outputs("tally", main="chunks")
        receipts, refused = again.chunks | "vector shards of letters" >> VectorShards(job)
        return Made(receipts=(receipts,), letters=(refused,), tallies=(again.tally,))

    def _published(self, start: Any, made: Made) -> Any:
        """Descriptors only: the small shards of the run become large ones, those index shards, and one version."""
        job = self._job
        (receipts,), (deletions,), (letters,), (tallies,), (files,) = made
        stored = letters | "dead letters" >> StoreLetters(job)
        settle = beam.ParDo(SettleDoFn(job), AsList(receipts), AsList(deletions), AsList(stored))
        settled = start | "settle" >> settle.with_outputs("settled", main="merges")
        merged = settled.merges | "spread merges" >> beam.Reshuffle() | "merge" >> beam.ParDo(MergeDoFn(job))
        tasks = start | "plan index shards" >> beam.ParDo(PlanIndexesDoFn(job), AsList(merged))
        spread = tasks | "spread builds" >> beam.Reshuffle()
        built = spread | "build index shards" >> beam.ParDo(BuildIndexShardDoFn(job))
        verified = built | "verify" >> beam.ParDo(VerifyDoFn(job))
        sides = (AsList(side) for side in (merged, verified, stored, tallies, files))
        return start | "publish" >> beam.ParDo(PublishDoFn(job), *sides, AsSingleton(settled.settled))
