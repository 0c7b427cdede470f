"""The batches of one checkpoint: those that were found on record, and those submitted since."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from tierloom import names
from tierloom.embedders.batch_records import BatchRecord, BatchRecords
from tierloom.embedders.openai_batches import Standing
from tierloom.embedders.submitted_batch import Paid, SubmittedBatch
from tierloom.stores.store import Store


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an input: the batch it is `settled` in, or whether one that has it is `waiting`; in how many
    batches it was sent, and whether the next time it has to go `alone`."""

    settled: SubmittedBatch | None
    waiting: bool
    attempts: int
    alone: bool


class KnownBatches:
    """Found batches count for nothing until somebody wants an input that they have: `under_way`, and waited for by
    vector shards, are those that are taken up."""

    def __init__(self, store: Store, checkpoint: str, retry: bool = False) -> None:
        """For a `retry`, what was rejected in a batch that is found is not settled. Raises `Malformed` or `Corrupt` for
        a record that was edited."""
        self._store = store
        self._retry = retry
        self._records = BatchRecords(store)
        self._kept: set[bytes] = set()
        self._batches = {
            digest: SubmittedBatch(digest, record, own=False)
            for digest, record in self._records.every().items()
            if record.checkpoint == checkpoint
        }

    @property
    def under_way(self) -> list[SubmittedBatch]:
        """Those that are waited for."""
        return [batch for batch in self._batches.values() if batch.under_way]

    def find(self, content: bytes) -> Found:
        """What is known of the input of this content hash."""
        waiting, attempts, alone = False, 0, False
        for batch in self._batches.values():
            if (place := batch.places.get(content)) is None or batch.waiting is None:
                continue
            if batch.settled(place) and (batch.own or not self._retry or not batch.rejected(place)):
                return Found(batch, waiting, attempts, alone)
            waiting |= not batch.ended
            attempts = max(attempts, batch.record.attempt)
            alone |= place in batch.alone
        return Found(None, waiting, attempts, alone)

    def sendings(self, content: bytes) -> int:
        """How often an input was sent since this began."""
        return sum(batch.own and batch.ended and content in batch.places for batch in self._batches.values())

    def having(self, contents: Sequence[bytes]) -> list[SubmittedBatch]:
        """The batches that have any of these inputs."""
        return [batch for batch in self._batches.values() if any(content in batch.places for content in contents)]

    def read(self, digest: str) -> SubmittedBatch | None:
        """A batch that was recorded since, by another run."""
        if (record := self._records.read(digest)) is None:
            return None
        self._batches[digest] = found = SubmittedBatch(digest, record, own=False)
        return found

    def plan(self, digest: str, record: BatchRecord, paid: Paid | None = None) -> SubmittedBatch:
        """Put on record what is about to be submitted. Nobody waits for it yet."""
        self._records.write(digest, record)
        return SubmittedBatch(digest, record, own=True, paid=paid)

    def submitted(self, batch: SubmittedBatch, standing: Standing) -> None:
        """Put on record what the provider calls a batch."""
        self._note(batch, msgspec.structs.replace(batch.record, batch=standing.batch, file=standing.file))
        batch.standing = standing
        batch.waiting = {shard for shard in batch.record.shards if not self._is_stored(shard)}
        self._batches[batch.digest] = batch

    def cancelled(self, batch: SubmittedBatch) -> None:
        """Put on record that somebody cancelled it."""
        self._note(batch, msgspec.structs.replace(batch.record, cancelled=True))

    def take_up(self, batch: SubmittedBatch, recover: Callable[[str, float], Standing | None]) -> None:
        """Wait for a batch that was found. One that was only planned is looked for with `recover`, and forgotten if it
        was never submitted."""
        if batch.record.batch is not None:
            batch.waiting = {shard for shard in batch.record.shards if not self._is_stored(shard)}
        elif (standing := recover(batch.digest, batch.record.planned)) is not None:
            self.submitted(batch, standing)
        else:
            self.forget(batch)

    def stored(self, shard: str) -> list[SubmittedBatch]:
        """Note that a vector shard should be in the store; the batches that none waits for any more."""
        if self._is_stored(shard):
            for batch in self._batches.values():
                if batch.waiting:
                    batch.waiting.discard(shard)
        return self._done()

    def instead(self, shard: str, other: str | None) -> None:
        """The vector shard `other`, if any, takes the place of one that will not be made; on record too."""
        for batch in self._batches.values():
            if batch.waiting and shard in batch.waiting:
                batch.waiting = batch.waiting - {shard} | ({other} if other else set())
            if shard in batch.record.shards:
                shards = {*batch.record.shards} - {shard} | ({other} if other else set())
                self._note(batch, msgspec.structs.replace(batch.record, shards=tuple(sorted(shards))))

    def keep(self, contents: Iterable[bytes]) -> None:
        """Forget no batch that has any of these inputs: another run will want them."""
        self._kept.update(contents)

    def look_again(self) -> list[SubmittedBatch]:
        """The batches that none waits for any more, whoever stored the vector shards."""
        for batch in self._batches.values():
            if batch.waiting:
                batch.waiting = {shard for shard in batch.waiting if not self._is_stored(shard)}
        return self._done()

    def forget(self, batch: SubmittedBatch) -> None:
        """Take a batch off the record."""
        self._records.forget(batch.digest)
        self._batches.pop(batch.digest, None)
        batch.drop_vectors()

    def close(self) -> None:
        """Let go of what was collected."""
        for batch in self._batches.values():
            batch.drop_vectors()

    def _done(self) -> list[SubmittedBatch]:
        done = [batch for batch in self._batches.values() if batch.ended and not batch.waiting]
        return [batch for batch in done if not self._kept or self._kept.isdisjoint(batch.places)]

    def _note(self, batch: SubmittedBatch, record: BatchRecord) -> None:
        batch.record = record
        self._records.write(batch.digest, record)

    def _is_stored(self, shard: str) -> bool:
        return self._store.size(names.vector_shard(shard)) is not None
