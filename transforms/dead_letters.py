"""Storing dead letters: many at a time, as immutable JSONL parts."""

from collections.abc import Iterator, Sequence

import apache_beam as beam

from tierloom.dead_letter import DeadLetter
from tierloom.letters import store_letters
from tierloom.manifest import DeadLetters
from tierloom.stores.opening import open_store
from transforms.job import Job

LETTERS_PER_PART = 1000


class StoreLettersDoFn(beam.DoFn):
    """A batch of DeadLetters -> the stored part. Idempotent: the name is a digest of the letters."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._store = open_store(self._job.store)

    def process(self, letters: Sequence[DeadLetter]) -> Iterator[DeadLetters]:
        yield store_letters(letters, self._job.run, self._store)


class StoreLetters(beam.PTransform):
    """DeadLetter -> DeadLetters, the stored parts. Bounded; each letter is in at least one part."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def expand(self, letters: beam.PCollection[DeadLetter]) -> beam.PCollection[DeadLetters]:
        return (
            letters
            | "batch letters" >> beam.BatchElements(min_batch_size=LETTERS_PER_PART, max_batch_size=LETTERS_PER_PART)
            | "store letters" >> beam.ParDo(StoreLettersDoFn(self._job))
        )
