"""Embedding through the Batch API: inputs are gathered, submitted, waited for, and collected whatever happens.

Whoever wants vectors says which, gets on with other things, and asks again. An input is settled when it has its vector
or its rejection; one whose request failed or expired is open again and has to be wanted once more.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np

from tierloom.canaries import Canaries, refuse_changed
from tierloom.canary_room import canary_bound
from tierloom.checkpoint import Checkpoint
from tierloom.document import content_hash
from tierloom.embedders.batch_lines import AnsweredCanary, read_line
from tierloom.embedders.batch_pace import Looks, Queue, Rounds
from tierloom.embedders.batch_records import BatchRecord
from tierloom.embedders.batch_troubles import cancelled, interruptible, lost, refused, trouble_in
from tierloom.embedders.checking import check_inputs
from tierloom.embedders.embedder import Embedded, Rejection
from tierloom.embedders.gathering import Gatherer, Gathering, Wanted
from tierloom.embedders.known_batches import KnownBatches
from tierloom.embedders.openai_batches import NotThere, Standing
from tierloom.embedders.patient_batches import PatientBatches
from tierloom.embedders.retrying import Patience
from tierloom.embedders.submitted_batch import Paid, SubmittedBatch, UnderWay, under_way_of
from tierloom.errors import CapReached, EmbedderError, ModelChanged
from tierloom.spending.account import Account
from tierloom.spending.terms import Spending
from tierloom.stores.store import Store

LOOKS: Final = Looks()
_FULL_QUEUE: Final = "token_limit_exceeded"


class BatchLane:
    """For one thread, that wants vectors for vector shards to be. At most `at_once` batches are under way."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        store: Store,
        at_once: int = 8,
        account: Account | None = None,
        retry: bool = False,
        watch: Callable[[UnderWay], None] = lambda under_way: None,
        looks: Looks = LOOKS,
        patience: Patience = Patience(),  # noqa: B008 - immutable
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        canaries: Callable[[], Canaries] | None = None,
    ) -> None:
        """Batches are paid from `account`, before anything of them is sent. A `retry` asks again for what was
        rejected before. `watch` is told whenever something changed. With `canaries` requests carry one each, and a
        batch that another model answered is forgotten.

        Raises `EmbedderRefused` without a usable API key, `Malformed` or `Corrupt` for a record that was edited.
        """
        self._checkpoint, self._store, self._clock = checkpoint, store, clock
        self._account, self._watch = account or Account(Spending()), watch
        self._api = PatientBatches(checkpoint, patience, sleep)
        self._known = KnownBatches(store, checkpoint.fingerprint, retry)
        self._scratch = TemporaryDirectory(dir=store.scratch(), prefix="batches-")
        self._folder = Path(self._scratch.name)
        self._canaries = canaries
        self._gatherer = Gatherer(checkpoint, self._folder, canaries)
        self._queue = Queue(at_once, checkpoint.limits.tokens_per_request)
        self._rounds = Rounds(looks, clock, sleep)
        self._probe_tokens = 0
        self._trouble: EmbedderError | None = None

    @property
    def full(self) -> bool:
        """Whether a batch should be sent before more is wanted."""
        return self._gatherer.full

    def to_send(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> dict[bytes, Wanted]:
        """The inputs that a model may be sent, each once, by content hash."""
        rejected = self._check(inputs, token_bounds)
        asked = (Wanted(content_hash(inputs[at]), inputs[at], token_bounds[at]) for at in _others(inputs, rejected))
        return {one.content: one for one in asked}

    def due(self, wanted: Iterable[Wanted]) -> int:
        """The tokens that are to be set aside for these inputs before they are wanted together: none for what was sent
        already, whoever did it, or is gathered."""
        wanted = list(wanted)
        self._take_up([one.content for one in wanted])
        return sum(
            self._gatherer.bound_of(attempt, some, alone) for (attempt, alone), some in self._to_gather(wanted).items()
        )

    def want(self, shard: str, wanted: Iterable[Wanted]) -> None:
        """Gather what is neither settled nor under way. The vector shard of the digest `shard` waits for all of it."""
        wanted = list(wanted)
        for batch in self._take_up([one.content for one in wanted]):
            if batch.waiting is not None:
                batch.waiting.add(shard)
        for (attempt, alone), some in self._to_gather(wanted).items():
            self._gatherer.add(shard, attempt, some, alone)

    def instead(self, shard: str, other: str | None, contents: Iterable[bytes]) -> None:
        """The vector shard `other`, if any, takes the place of one that will not be made. Nobody stores the vectors of
        `contents` now: batches that have any of them stay on record."""
        self._gatherer.instead(shard, other)
        self._known.instead(shard, other)
        self._known.keep(
            content for content in contents if self._gatherer.holds(content) or self._known.having([content])
        )

    def standing(self, contents: Iterable[bytes]) -> Literal["settled", "waiting", "open"]:
        """How these inputs stand: all are settled, some are still waited for, or some have to be wanted (again)."""
        waiting = False
        for content in contents:
            found = self._known.find(content)
            if found.settled is None and not found.waiting and not self._gatherer.holds(content):
                return "open"
            waiting |= found.settled is None
        return "waiting" if waiting else "settled"

    def send(self) -> bool:
        """Submit one batch of what is gathered, full or not; False when there is none, or no room for it now.

        One that turns out to be more than the account allows is not sent: its inputs are open again. Raises
        `EmbedderRefused` or `EmbedderUnavailable`.
        """
        gathering = self._gatherer.next()
        if gathering is None or not self._queue.has_room(self._tokens_under_way, gathering.tokens):
            return False
        try:
            self._submit(gathering)
        except CapReached:
            self._account.release(gathering.tokens)
        self._gatherer.taken()
        self._rounds.looked(anew=self._queue.moves)
        self._tell()
        return True

    def look(self) -> bool:
        """Whether a batch ended; they are looked at if it is time to. Raises `WaitInterrupted` on Ctrl-C, and
        `ModelChanged` where another model answered."""
        under_way = self._known.under_way
        if not (under_way and self._rounds.due):
            return False
        with interruptible(len(under_way)):
            ended = [self._look_at(batch) for batch in under_way]
        self._rounds.looked(anew=any(ended) and self._queue.moves)
        self._tell()
        return any(ended)

    def wait(self) -> bool:
        """Wait until it is time to look, and look: whether a batch ended. There must be one under way.

        Raises `WaitInterrupted` on Ctrl-C, which is how to stop a run that waits for a day."""
        if not (under_way := len(self._known.under_way)):
            raise RuntimeError("no batch is under way: nothing would ever end this wait")
        with interruptible(under_way):
            self._rounds.wait()
        return self.look()

    def check(self) -> None:
        """Raise what went wrong, if anything did. Ask when what is settled was taken."""
        if self._trouble:
            raise self._trouble

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`: what became of inputs that are all settled. Probes since the last time are among the
        tokens billed."""
        rejected = self._check(inputs, token_bounds)
        vectors = np.zeros((len(inputs), self._checkpoint.space.dimensions), np.float32)
        tokens, self._probe_tokens = self._probe_tokens, 0
        for at in _others(inputs, rejected):
            content = content_hash(inputs[at])
            if (batch := self._known.find(content).settled) is None:
                raise KeyError(f"input {at} is not settled")
            outcome = batch.outcome(batch.places[content])
            tokens += batch.billed(batch.places[content], token_bounds[at])
            if isinstance(outcome, Rejection):
                rejected[at] = outcome
            else:
                vectors[at] = outcome
        return Embedded(vectors, rejected, tokens)

    def stored(self, shard: str) -> None:
        """The vector shard of this digest should be in the store: batches that none waits for any more are forgotten
        and their files removed."""
        self._forget(self._known.stored(shard))

    def finish(self) -> None:
        """Forget the batches whose vector shards are stored by now, whoever did it."""
        self._forget(self._known.look_again())

    def close(self) -> None:
        """Let go of connections and of what was collected. Batches under way stay on record."""
        self._known.close()
        self._api.close()
        self._scratch.cleanup()

    @property
    def _tokens_under_way(self) -> list[int]:
        return [batch.record.tokens for batch in self._known.under_way]

    def _check(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> dict[int, Rejection]:
        limits = self._checkpoint.limits
        return check_inputs(inputs, token_bounds, min(limits.tokens_per_input, limits.tokens_per_request))

    def _to_gather(self, wanted: Iterable[Wanted]) -> dict[tuple[int, bool], list[Wanted]]:
        """Those that are neither settled nor under way, by how often they will have been sent then, and whether each
        goes alone."""
        anew: dict[tuple[int, bool], list[Wanted]] = {}
        for one in wanted:
            found = self._known.find(one.content)
            if found.settled is None and not found.waiting and not self._gatherer.holds(one.content):
                anew.setdefault((found.attempts + 1, found.alone), []).append(one)
        return anew

    def _take_up(self, contents: Sequence[bytes]) -> list[SubmittedBatch]:
        """The batches on record that have any of this; they are waited for."""
        having = self._known.having(contents)
        for batch in having:
            if batch.waiting is None:
                self._known.take_up(batch, self._api.recover)
                self._rounds.looked(anew=True)
        return having

    def _submit(self, gathering: Gathering) -> None:
        digest = gathering.digest(self._checkpoint.fingerprint)
        if self._is_known(digest, gathering.shards):
            self._account.release(gathering.tokens)
            return
        bounds = tuple(gathering.contents.values())
        canary = canary_bound(self._checkpoint) if gathering.canaries else 0
        paid = Paid(self._account.pay(gathering.tokens), bounds, canary)
        record = BatchRecord(
            checkpoint=self._checkpoint.fingerprint,
            attempt=gathering.attempt,
            contents=b"".join(gathering.contents),
            shards=tuple(sorted(gathering.shards)),
            tokens=gathering.tokens,
            planned=self._clock(),
        )
        batch = self._known.plan(digest, record, paid)
        self._known.submitted(batch, self._api.submit(gathering.path, digest, record.planned))

    def _is_known(self, digest: str, shards: set[str]) -> bool:
        """Whether another run submitted the same since this one began; then it is waited for."""
        if (batch := self._known.read(digest)) is None:
            return False
        self._known.take_up(batch, self._api.recover)
        if batch.waiting is None:
            return False
        batch.waiting |= shards
        return True

    def _look_at(self, batch: SubmittedBatch) -> bool:
        """Whether the batch ended."""
        try:
            batch.standing = self._api.look(str(batch.record.batch))
            if batch.standing.status == "failed":
                self._refused(batch, batch.standing)
            elif batch.standing.over:
                self._collect(batch, batch.standing)
        except NotThere as failure:
            self._lost(batch, failure.detail)
        return batch.ended

    def _collect(self, batch: SubmittedBatch, standing: Standing) -> None:
        batch.begin_collecting(self._folder / f"{batch.digest}.f4", self._checkpoint.space.dimensions)
        for line in self._api.lines(standing.files, self._folder / f"{batch.digest}.jsonl"):
            read = read_line(line, len(batch.places), self._checkpoint)
            self._judge(batch, standing, read.canary if read else None)
            batch.take(read)
        batch.end(self._api.redacted)
        self._probe_tokens += batch.probe_tokens
        self._queue.moved()
        self._gatherer.tokens_at_most = self._queue.tokens_at_most
        if standing.status == "cancelled" and not batch.record.cancelled:
            self._known.cancelled(batch)
            self._in_trouble(cancelled(batch))
        self._in_trouble(trouble_in(batch, self._api.who, self._api.redacted, self._known.sendings))

    def _judge(self, batch: SubmittedBatch, standing: Standing, canary: AnsweredCanary | None) -> None:
        """Raises `ModelChanged` for a canary that another model answered. The batch is of no use then."""
        canaries = self._canaries() if self._canaries and canary else None
        if canaries is None or canary is None or canary.place >= len(canaries.texts):
            return
        try:
            refuse_changed(canaries, canary.place, canary.vector, self._checkpoint)
        except ModelChanged:
            batch.ended = True
            self._forget([batch])
            raise

    def _refused(self, batch: SubmittedBatch, standing: Standing) -> None:
        """The provider did not begin with it."""
        self._api.delete([standing.file])
        self._known.forget(batch)
        batch.refuse()
        if _FULL_QUEUE in standing.codes and not self._queue.stuck:
            self._queue.refused(self._tokens_under_way, batch.record.tokens)
            self._gatherer.tokens_at_most = self._queue.tokens_at_most
            return
        self._in_trouble(refused(self._api.who, standing))

    def _lost(self, batch: SubmittedBatch, detail: str) -> None:
        batch.waiting = None
        self._in_trouble(lost(batch, self._api.who, self._store.url, detail))

    def _in_trouble(self, trouble: EmbedderError | None) -> None:
        self._trouble = self._trouble or trouble

    def _forget(self, done: Sequence[SubmittedBatch]) -> None:
        for batch in done:
            # The record first: whoever found it without its files would believe them lost.
            self._known.forget(batch)
            if batch.standing:
                self._api.delete([batch.standing.file, *batch.standing.files])

    def _tell(self) -> None:
        self._watch(under_way_of(self._known.under_way))


def _others(inputs: Sequence[str], rejected: dict[int, Rejection]) -> list[int]:
    return [at for at in range(len(inputs)) if at not in rejected]
