"""The bounded pipeline: the whole architecture on one screen."""

from typing import Any

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


class Ingest(beam.PTransform):
    """(number, Split) -> the RunReport. Bounded.

    Whatever is replayed, documents have an exactly-once effect: objects are named by digests of their inputs,
    and one manifest publishes them all. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(self, job: Job, deletions: tuple[Deletion, ...] = (), gone: tuple[SeenFile, ...] = ()) -> None:
        """`deletions`, and files that are `gone`, are what no split can tell."""
        super().__init__()
        self._job = job
        self._deletions = deletions
        self._gone = gone
        register_block_coder()

    def expand(self, splits: Any) -> Any:
        job, start = self._job, splits.pipeline | "start" >> beam.Create([None], reshuffle=False)

        # One fused stage: a worker takes a split from its bytes to its vector shards. Nothing may be flattened on
        # the way: a runner may store whole what flows through a Flatten, and FnApiRunner does.
        read = splits | "read" >> beam.ParDo(ReadDoFn(job)).with_outputs("letters", "tally", "files", main="events")
        compared = read.events | "compare" >> beam.ParDo(CompareDoFn(job)).with_outputs(
            "deletions", "tally", main="changed"
        )
        chunked = compared.changed | "chunk" >> beam.ParDo(ChunkDoFn(job)).with_outputs("letters", main="chunks")
        receipts, letters = chunked.chunks | "vector shards" >> VectorShards(job)
        tallies = [read.tally, compared.tally]
        deletions, files = compared.deletions, read.files

        if self._deletions or self._gone:
            missing = start | "missing" >> beam.ParDo(MissingDoFn(self._deletions, self._gone)).with_outputs(
                "tally", "files", main="deletions"
            )
            deletions = (deletions, missing.deletions) | "all deletions" >> beam.Flatten()
            files = (files, missing.files) | "all files" >> beam.Flatten()
            tallies.append(missing.tally)

        if job.retry:
            again = start | "read letters" >> beam.ParDo(ReadLettersDoFn(job)).with_outputs("tally", main="chunks")
            retried, refused = again.chunks | "vector shards of letters" >> VectorShards(job)
            receipts = (receipts, retried) | "all receipts" >> beam.Flatten()
            letters = (letters, refused) | "all letters of chunks" >> beam.Flatten()
            tallies.append(again.tally)

        parts = (
            (read.letters, chunked.letters, letters) | "letters" >> beam.Flatten() | "dead letters" >> StoreLetters(job)
        )

        # Descriptors only: the small shards of the run become large ones, and those index shards.
        settle = beam.ParDo(SettleDoFn(job), AsList(receipts), AsList(deletions), AsList(parts))
        settled = start | "settle" >> settle.with_outputs("settled", main="merges")
        merged = settled.merges | "spread merges" >> beam.Reshuffle() | "merge" >> beam.ParDo(MergeDoFn(job))
        tasks = start | "plan index shards" >> beam.ParDo(PlanIndexesDoFn(job), AsList(merged))
        built = (
            tasks | "spread builds" >> beam.Reshuffle() | "build index shards" >> beam.ParDo(BuildIndexShardDoFn(job))
        )
        verified = built | "verify" >> beam.ParDo(VerifyDoFn(job))

        return start | "publish" >> beam.ParDo(
            PublishDoFn(job),
            AsList(merged),
            AsList(verified),
            AsList(parts),
            AsList(tallies | "tallies" >> beam.Flatten()),
            AsList(files),
            AsSingleton(settled.settled),
        )
