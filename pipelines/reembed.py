"""The pipeline that builds a second generation, a part at a time."""

from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList

from pipelines.ingest import Outputs, Publishable, VectorShards
from transforms.block_coder import register_block_coder
from transforms.job import Job
from transforms.publish import PublishDoFn
from transforms.stored_chunks import StoredChunksDoFn


class Reembed(beam.PTransform):
    """(number, ranges of keys) -> the RunReport. Bounded.

    The texts that one generation holds become vector shards of the other one. A part is published by itself, so
    that a run which is stopped has lost nothing; what it had embedded besides is found again by the next one.
    """

    def __init__(self, source: Job, job: Job, part: range) -> None:
        """`source` is the run over the generation that is complete; `part` are all the keys of these ranges."""
        super().__init__()
        self._source = source
        self._job = job
        self._part = part
        register_block_coder()

    def expand(self, ranges: Any) -> Any:
        job = self._job
        start = ranges.pipeline | "start" >> beam.Create([None], reshuffle=False)
        read = beam.ParDo(StoredChunksDoFn(self._source, job)).with_outputs("tally", main="chunks")
        stored = ranges | "read texts" >> read
        receipts, refused, left = stored.chunks | "vector shards" >> VectorShards(job)
        outputs = Outputs(receipts=(receipts,), letters=(refused,), left=(left,), tallies=(stored.tally,))
        made = ranges.pipeline | "publishable" >> Publishable(job, outputs, self._part)
        return start | "publish" >> beam.ParDo(PublishDoFn(job), AsList(made))
