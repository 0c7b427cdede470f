"""The bounded pipeline: the whole architecture on one screen."""

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton

from transforms.build import BuildIndexShardDoFn, PlanIndexesDoFn
from transforms.chunk import ChunkDoFn
from transforms.compare import CompareDoFn
from transforms.dead_letters import StoreLetters
from transforms.embed import EmbedDoFn
from transforms.job import Job
from transforms.merge import MergeDoFn, SettleDoFn
from transforms.publish import PublishDoFn
from transforms.quantize import QuantizeDoFn
from transforms.read import ReadDoFn
from transforms.retry import ReadLettersDoFn
from transforms.reuse import ReuseDoFn
from transforms.verify import VerifyDoFn
from transforms.write import WriteVectorShardDoFn


class Ingest(beam.PTransform):
    """(number, Split) -> the RunReport. Bounded.

    Whatever is replayed, documents have an exactly-once effect: objects are named by digests of their inputs,
    and one manifest publishes them all. Vectors never cross a shuffle: what does is receipts.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, splits: Any) -> Any:
        job, start = self._job, splits.pipeline | "start" >> beam.Create([None], reshuffle=False)

        # One fused stage: a worker takes a split from its bytes to its vector shards.
        read = splits | "read" >> beam.ParDo(ReadDoFn(job)).with_outputs("letters", "tally", main="documents")
        compared = read.documents | "compare" >> beam.ParDo(CompareDoFn(job)).with_outputs("tally", main="changed")
        chunked = compared.changed | "chunk" >> beam.ParDo(ChunkDoFn(job)).with_outputs("letters", main="chunks")
        again = start | "read letters" >> beam.ParDo(ReadLettersDoFn(job)).with_outputs("tally", main="chunks")
        blocks = (chunked.chunks, again.chunks) | "chunks" >> beam.Flatten()
        reused = blocks | "reuse" >> beam.ParDo(ReuseDoFn(job)).with_outputs("finished", "letters", main="new")
        embedded = reused.new | "embed" >> beam.ParDo(EmbedDoFn(job)).with_outputs("letters", main="vectors")
        quantized = embedded.vectors | "quantize" >> beam.ParDo(QuantizeDoFn(job))
        written = quantized | "write vector shards" >> beam.ParDo(WriteVectorShardDoFn(job))

        receipts = (written, reused.finished) | "receipts" >> beam.Flatten()
        tallies = (read.tally, compared.tally, again.tally) | "tallies" >> beam.Flatten()
        letters = (read.letters, chunked.letters, reused.letters, embedded.letters) | "letters" >> beam.Flatten()
        parts = letters | "dead letters" >> StoreLetters(job)

        # Descriptors only: the small shards of the run become large ones, and those index shards.
        settled = start | "settle" >> beam.ParDo(SettleDoFn(job), AsList(receipts), AsList(parts)).with_outputs(
            "settled", main="merges"
        )
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
            AsList(tallies),
            AsSingleton(settled.settled),
        )
