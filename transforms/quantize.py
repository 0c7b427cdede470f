"""Quantizing: the nested int8 prefixes of a block."""

from collections.abc import Iterator

import apache_beam as beam

from tierloom.quantizer import quantize
from transforms.elements import QuantizedBlock
from transforms.embed import EmbeddedBlock
from transforms.job import Job
from transforms.timing import stopwatch


class QuantizeDoFn(beam.DoFn):
    """EmbeddedBlock -> QuantizedBlock; a block that lost all its chunks ends here."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, embedded: EmbeddedBlock) -> Iterator[QuantizedBlock]:
        if embedded.block.chunks:
            with stopwatch("quantize"):
                prefixes = quantize(embedded.block.vectors, self._job.collection.prefix_dimensions)
            yield QuantizedBlock(embedded.block, embedded.letters, prefixes)
