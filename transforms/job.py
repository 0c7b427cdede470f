"""What every step of a run needs to know: plain values, no clients, no keys."""

from dataclasses import dataclass

from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.shards.schema import ShardSchema
from transforms.reading.records import Fields


@dataclass(frozen=True, slots=True)
class Job:
    """One run over one collection. `base` is the version that it compares its documents with; None for a stream,
    which compares with the newest there is.

    A `retry` sends the open dead letters of the base through again. `concurrency` bounds the requests in
    flight of one worker; `progress` is a local folder for progress notes, or None where nobody watches.
    """

    run: str
    command: str
    store: str
    base: int | None
    checkpoint: Checkpoint
    collection: Collection
    fields: Fields
    retry: bool = False
    concurrency: int = 8
    progress: str | None = None

    @property
    def schema(self) -> ShardSchema:
        space = self.checkpoint.space
        return ShardSchema(self.checkpoint.fingerprint, space.dimensions, self.collection.prefix_dimensions)
