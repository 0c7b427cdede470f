"""Every error that Tierloom raises on purpose.

TierloomError
├── InputError                 what the user named cannot be used as it is
│   ├── SourceError            a source that matches nothing, or lacks a named field
│   ├── SourceLost             a source no longer has the position up to which it was published
│   ├── SyncRefused            a sync would delete more than it may
│   ├── ErasureRefused         a channel or a lease keeps a version that holds what is to be erased
│   ├── PromotionRefused       a version that is not measured, or misses its recall floor, is not served
│   ├── RetirementRefused      the generation serves, or is all there is, or would be thrown away half built
│   ├── CollectionExists       `init` on a store that already holds a collection
│   ├── NotACollection         a store without a manifest
│   ├── NotPulled              a mirror without what is asked of it
│   ├── PullUnderWay           another process pulls into the same mirror
│   ├── QueryError             a query of the wrong dimensions, type or value
│   └── CheckpointError        a model that is unknown, badly declared, or not made for these tiers
├── CheckpointMismatch         two embedding spaces would meet
├── FormatTooNew               written by a newer Tierloom than this one
├── Malformed                  stored bytes that are not what their format says
├── Corrupt                    stored bytes whose length or sha256 is not what the manifest says
├── StoreError                 the store did not do what was asked
│   ├── NotFound               no object of that name
│   ├── StoreUnavailable       it did not answer, or not rightly, until the retries were used up
│   ├── AlreadyExists          create-if-absent found another object of that name
│   ├── RevisionMismatch       compare-and-swap lost to another writer
│   └── PreconditionsIgnored   the store accepts conditional writes and ignores the condition
├── CommitConflict             too many lost races, or a race that rebasing cannot settle
│   ├── SourceHeld             another stream moved the cursor of the same source
│   ├── ChannelMoved           another mover was first: the channel is not what was to be rolled back
│   ├── Overtaken              another writer replaced the shards that were being rewritten
│   └── GenerationsChanged     the collection has moved to other checkpoints since the run began
├── TurnHeld                   another process is at the same deed; nothing was done
├── TurnLost                   another process has taken the deed over from this one, which was stopped for too long
├── AccountingError            documents in and documents out do not add up; nothing was published
├── VerificationError          a built index shard is not what it should be; nothing was published
│   ├── BelowFloor             a tier finds less of the exact answers than the collection's recall floor
│   └── NotMatryoshka          a tier's prefixes carry no more than as many other dimensions would
├── EmbedderError              the model could not be asked
│   ├── EmbedderRefused        it will refuse again: wrong key, no quota, unknown model, wrong dimensions
│   ├── FlipRefused            this process cannot embed queries for the checkpoint that a channel names now
│   ├── EmbedderUnavailable    it kept failing until the retries were used up
│   ├── WaitInterrupted        somebody stopped a run that waited for batches, which are on record
│   ├── BatchCancelled         somebody cancelled a batch that was waited for
│   ├── BatchLost              the provider knows a batch no more, or has lost its files
│   └── ModelChanged           it answers the canaries of the checkpoint otherwise than it did: another model
├── CapReached                 what is left would cost more than the run may spend
└── MissingExtra               an optional dependency that this command needs is not installed

Every message names the value at fault and, where there is one, the cure. None ever carries a secret.
"""


class TierloomError(Exception):
    """The one base of every error raised on purpose."""


class InputError(TierloomError):
    """What the user named cannot be used as it is."""


class SourceError(InputError):
    """A source that matches nothing, cannot be read at all, or lacks a named field."""


class SourceLost(InputError):
    """The source no longer has the position up to which it was published: what lay between is gone."""


class SyncRefused(InputError):
    """A sync would delete a larger share of the collection than it may."""


class ErasureRefused(InputError):
    """A channel or a lease keeps a version that holds what is to be erased."""


class PromotionRefused(InputError):
    """A version that is not measured, or misses the recall floor: no channel is pointed at it."""


class RetirementRefused(InputError):
    """A generation that serves, or without which nothing would, or that is still being built."""


class CollectionExists(InputError):
    """The store already holds a collection."""


class NotACollection(InputError):
    """The store holds no collection."""


class NotPulled(InputError):
    """The folder is a mirror, and what is asked of it was not pulled."""


class PullUnderWay(InputError):
    """Another process pulls into the same mirror."""


class QueryError(InputError):
    """A query of the wrong dimensions, dtype or value."""


class CheckpointError(InputError):
    """A model that is unknown, badly declared, or not made for the tiers asked of it."""


class CheckpointMismatch(TierloomError):
    """Vectors of two embedding spaces would meet."""


class FormatTooNew(TierloomError):
    """The object was written by a newer format than this program knows."""


class Malformed(TierloomError):
    """Stored bytes that are not what their format says."""


class Corrupt(TierloomError):
    """Stored bytes whose length or sha256 is not what the manifest says."""


class StoreError(TierloomError):
    """The store did not do what was asked of it."""


class NotFound(StoreError):
    """No object of that name."""


class StoreUnavailable(StoreError):
    """The store did not answer, or not rightly, until the retries were used up: later it may."""


class AlreadyExists(StoreError):
    """Create-if-absent found another object of that name."""


class RevisionMismatch(StoreError):
    """Compare-and-swap lost: the object changed since it was read."""


class PreconditionsIgnored(StoreError):
    """The store accepts conditional writes but ignores the condition."""


class CommitConflict(TierloomError):
    """The commit kept losing the race, or lost one that rebasing cannot settle."""


class SourceHeld(CommitConflict):
    """Another stream moved the cursor of the same source in the meantime."""


class ChannelMoved(CommitConflict):
    """Somebody else moved the channel first: what was to be rolled back is not what it serves."""


class Overtaken(CommitConflict):
    """Another writer replaced the shards that were being rewritten: the work is void, and nothing is lost."""


class GenerationsChanged(CommitConflict):
    """The collection has moved to other checkpoints since the run began: what it made belongs nowhere."""


class TurnHeld(TierloomError):
    """Another process is at the same deed on the same store; this one has done nothing."""


class TurnLost(TierloomError):
    """The turn was taken over, because its holder did not renew it in time: it must not publish any more."""


class AccountingError(TierloomError):
    """Documents in and documents out do not add up."""


class VerificationError(TierloomError):
    """A built index shard is not what it should be."""


class BelowFloor(VerificationError):
    """A tier finds less of the exact answers than the collection's recall floor; nothing was published."""


class NotMatryoshka(VerificationError):
    """A tier's prefixes carry no more than as many other dimensions would; nothing was published."""


class EmbedderError(TierloomError):
    """The model could not be asked."""


class EmbedderRefused(EmbedderError):
    """The endpoint refused, and would refuse again: asking twice only costs time."""


class FlipRefused(EmbedderError):
    """This process cannot embed queries for the checkpoint that its channel names now: it serves what it served."""


class EmbedderUnavailable(EmbedderError):
    """The endpoint kept failing until the retries were used up."""


class WaitInterrupted(EmbedderError):
    """The run was stopped while it waited for batches; they are on record."""


class BatchCancelled(EmbedderError):
    """A batch was cancelled while it was waited for; what it had answered until then is kept."""


class BatchLost(EmbedderError):
    """The provider no longer knows a batch that was paid for, or has lost its answers. It is not sent again unasked."""


class ModelChanged(EmbedderError):
    """The endpoint answers the canaries of the checkpoint as another model would; nothing of it was stored."""


class CapReached(TierloomError):
    """What is left would cost more than the run may spend: it was not sent."""


class MissingExtra(TierloomError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'tierloom[{extra}]'")
