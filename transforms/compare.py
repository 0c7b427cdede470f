"""Comparing documents with what is live: what did not change costs nothing."""

from collections.abc import Iterator, Sequence
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tierloom.document import Document
from transforms.base import Base, open_base
from transforms.elements import DocumentBlock, Tally
from transforms.job import Job
from transforms.timing import stopwatch


def changed_documents(documents: Sequence[Document], base: Base, retry: bool = False) -> tuple[list[Document], Tally]:
    """The documents that the base does not hold yet at their sequence or a higher one; and what the rest is.

    Of several events of one document the highest sequence is kept, the first of equal ones. A document with an
    open letter is not tried again but by a `retry`.
    """
    newest: dict[str, Document] = {}
    for document in documents:
        if (seen := newest.get(document.document_id)) is None or document.sequence > seen.sequence:
            newest[document.document_id] = document
    live = base.find(newest)
    sequences = {id_: max(address.sequence for address in addresses) for id_, addresses in live.items()}
    changed, unchanged, older, dead = [], 0, 0, 0
    for document in newest.values():
        known = sequences.get(document.document_id)
        if known == document.sequence:
            unchanged += 1
        elif known is not None and known > document.sequence:
            older += 1
        elif not retry and (document.document_id, document.sequence) in base.dead_events:
            dead += 1
        else:
            changed.append(document)
    repeated = len(documents) - len(newest)
    return changed, Tally(unchanged=unchanged, superseded=older + repeated, known_dead=dead)


class CompareDoFn(beam.DoFn):
    """DocumentBlock -> DocumentBlock of what changed; tag `tally`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._base = open_base(self._job.store, self._job.base)

    def process(self, block: DocumentBlock) -> Iterator[DocumentBlock | TaggedOutput[Literal["tally"], Tally]]:
        with stopwatch("compare"):
            changed, tally = changed_documents(block.documents, self._base, self._job.retry)
        yield TaggedOutput("tally", tally)
        if changed:
            yield DocumentBlock(block.place, tuple(changed))
