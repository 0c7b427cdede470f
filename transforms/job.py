"""What every step of a run needs to know: plain values, no clients, no keys."""

from dataclasses import dataclass, replace

from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.embedders.opening import lane_of
from tierloom.manifest import Manifest
from tierloom.shards.schema import ShardSchema
from tierloom.spending.terms import UNLIMITED, Allowance, Lane, Spending, spending_for
from tierloom.stores.store import Store
from tierloom.turn import Fence
from tierloom.versions import read_checkpoint
from transforms.reading.records import Fields


@dataclass(frozen=True, slots=True)
class Job:
    """One run over one generation of a collection. `base` is the version that it compares its documents with; None for
    a stream, which compares with the newest there is.

    A `retry` sends the open dead letters of the base through again. `concurrency` bounds the requests in
    flight of one worker, or the batches, `allowance` what all workers may pay; `progress` is a local folder for
    progress notes, or None where nobody watches. With a `fence` the run publishes only while its turn lasts.
    `canary_tokens` were billed for the canaries that were asked before it began, by checkpoint.
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
    allowance: Allowance = UNLIMITED
    progress: str | None = None
    lane: Lane = "requests"
    fence: Fence | None = None
    canary_tokens: tuple[tuple[str, int], ...] = ()

    @property
    def by_batches(self) -> bool:
        """Whether its model is asked by the Batch API: that of another generation may have none."""
        return lane_of(self.checkpoint, self.lane) == "batch"

    @property
    def schema(self) -> ShardSchema:
        space = self.checkpoint.space
        return ShardSchema(self.checkpoint.fingerprint, space.dimensions, self.collection.prefix_dimensions)

    @property
    def spending(self) -> Spending:
        """What may be paid for the model, by its lane. Raises `InputError` as `spending_for`."""
        return spending_for(self.checkpoint, self.allowance, lane_of(self.checkpoint, self.lane))

    @property
    def checking(self) -> Spending:
        """What may be paid for the canaries that are asked first: whatever the lane, request by request."""
        return spending_for(self.checkpoint, self.allowance)

    @property
    def fingerprint(self) -> str:
        """That of its checkpoint: it names the generation."""
        return self.checkpoint.fingerprint

    def of(self, generation: Manifest, store: Store) -> "Job":
        """The same run over the generation that is in front of a version."""
        checkpoint = read_checkpoint(store, generation.checkpoint)
        return replace(self, checkpoint=checkpoint, collection=generation.collection)

    def cuts_like(self, other: "Job") -> bool:
        """Whether its documents have the same chunks, but for what their models are sent."""
        mine, its = self.collection.chunking, other.collection.chunking
        return mine.as_cut_by(self.checkpoint) == its.as_cut_by(other.checkpoint)
