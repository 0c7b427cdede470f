"""What is no longer in the sources of a sync: news that no split tells."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.compare import Deletions
from transforms.elements import Tally
from transforms.read import Files

_Missing: TypeAlias = Deletions | TaggedOutput[Literal["tally"], Tally] | TaggedOutput[Literal["files"], Files]


class MissingDoFn(beam.DoFn):
    """One impulse -> the deletions; tags `tally` and `files`."""

    def __init__(self, deletions: Deletions, files: Files) -> None:
        self._deletions = deletions
        self._files = files

    def process(self, _: object) -> Iterator[_Missing]:
        yield self._deletions
        yield TaggedOutput("tally", Tally(read=len(self._deletions)))
        yield TaggedOutput("files", self._files)
