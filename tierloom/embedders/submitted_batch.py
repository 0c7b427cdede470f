"""One batch from its submission to its end: who waits for it, and what became of each of its inputs.

Vectors wait on the disk, in a file that is mapped: a batch of 50,000 inputs has 300 MB of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.embedders.answers import Answer
from tierloom.embedders.batch_bill import BatchBill
from tierloom.embedders.batch_lines import AnsweredLine
from tierloom.embedders.batch_records import BatchRecord
from tierloom.embedders.embedder import Rejection
from tierloom.embedders.gathering import PROBE_TOKENS
from tierloom.embedders.openai_batches import Standing
from tierloom.embedders.retrying import Fault, RequestFailed
from tierloom.spending.account import Payment

# What a request that was sent in vain was refused for, where its one input is to blame.
_REASONS: Final = {
    Fault.REFUSED_INPUT: "refused-by-model",
    Fault.MALFORMED: "malformed-answer",
    Fault.WRONG_DIMENSIONS: "wrong-dimensions",
    Fault.FAILING: "no-answer",
}
# Blamed at once, if the same batch has vectors for others: it would be the same again.
_FINAL: Final = frozenset({Fault.REFUSED_INPUT, Fault.MALFORMED, Fault.WRONG_DIMENSIONS})
UNANSWERED: Final = RequestFailed(Fault.EXPIRED, "the batch ended without an answer to it")


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What is waited for: batches, their requests and how many of these are answered, and since when (seconds since
    1970; None when nothing is waited for)."""

    batches: int
    requests: int
    answered: int
    since: float | None


@dataclass(frozen=True, slots=True)
class Paid:
    """What is held for a batch, and bounds of the tokens of its inputs, in their order, and of any `canary`."""

    payment: Payment
    bounds: tuple[int, ...]
    canary: int

    def bound_of(self, inputs: range | None) -> int:
        """The tokens of a request for these inputs, at most; of the probe, if they are None."""
        return PROBE_TOKENS if inputs is None else sum(self.bounds[place] for place in inputs) + self.canary


class SubmittedBatch:
    """A batch on record. `own` if it was submitted by whoever asks, and not found; it may have been `paid` then."""

    def __init__(self, digest: str, record: BatchRecord, own: bool, paid: Paid | None = None) -> None:
        self.digest = digest
        self.record = record
        self.own = own
        self.places = {content: place for place, content in enumerate(record.inputs)}
        # Digests of the vector shards that are not stored yet; None until anybody wants any of it.
        self.waiting: set[str] | None = None
        self.standing: Standing | None = None
        self.ended = False
        self.probe_failure: RequestFailed | None = None
        self.probe_tokens = 0
        self.failures: dict[int, RequestFailed] = {}
        # Inputs of requests that failed with several: next time each has one of its own.
        self.alone: set[int] = set()
        self._paid = paid
        self._bill = BatchBill()
        self._answered = False
        self._path: Path | None = None
        self._vectors: NDArray[np.float32] | None = None
        self._settled = np.zeros(len(self.places), np.bool_)
        self._rejected: dict[int, Rejection] = {}
        # Vectors that came and may not be stored.
        self._unusable: dict[int, Rejection] = {}
        self._request_of: dict[int, int] = {}
        self._tokens: dict[int, int | None] = {}

    @property
    def under_way(self) -> bool:
        """Whether it is waited for."""
        return self.waiting is not None and not self.ended

    def settled(self, place: int) -> bool:
        """Whether the input has its vector or its rejection."""
        return bool(self._settled[place])

    def rejected(self, place: int) -> bool:
        """Whether the input has its rejection."""
        return place in self._rejected

    def outcome(self, place: int) -> NDArray[np.float32] | Rejection:
        """The vector of a settled input, or why it has none."""
        if place in self._rejected or self._vectors is None:
            return self._rejected[place]
        vector: NDArray[np.float32] = self._vectors[place]
        return vector

    def billed(self, place: int, bound: int) -> int:
        """Tokens that the request of this input cost: told once, to whoever asks first. Where the provider does not
        say, the `bound` of each input counts."""
        request = self._request_of.get(place, -1)
        if (tokens := self._tokens.get(request, 0)) is None:
            return bound
        self._tokens[request] = 0
        return tokens

    def begin_collecting(self, path: Path, dimensions: int) -> None:
        """Make room for the vectors, in the file `path`; what was collected before is void."""
        self._path = path
        self._vectors = np.memmap(path, np.float32, "w+", shape=(len(self.places), dimensions))
        self._settled[:] = False
        self._bill = BatchBill()
        for kept in (self._rejected, self._unusable, self.failures):
            kept.clear()

    def take(self, line: AnsweredLine | None) -> None:
        """Note what came back for one request; None is a line that is about none of them."""
        self._bill.take(line)
        if line is None:
            return
        if isinstance(line.outcome, RequestFailed):
            self._take_failure(line.inputs, line.outcome)
        elif line.inputs is None:
            self._take_probe(line.outcome)
        else:
            self._take_answer(line.inputs, line.outcome)

    def end(self, redacted: Callable[[str], str]) -> None:
        """Judge what failed, when all has been taken. An input is blamed only where others of its batch, or the
        probe, have vectors. `redacted` takes the key out of what the provider said."""
        self.ended = True
        if self._paid:
            self._paid.payment.settle(self._bill.at_most(self._paid.bound_of, self._paid.payment.bound))
        for place in np.flatnonzero(~self._settled).tolist():
            self._judge(place, self.failures.setdefault(place, UNANSWERED), redacted)

    def refuse(self) -> None:
        """The provider did not begin with it, and bills nothing."""
        self.ended = True
        if self._paid:
            self._paid.payment.void()

    def give_up(self, place: int) -> bool:
        """Blame an input that was sent in vain again and again, if that can be: others have vectors, it was alone."""
        fault = self.failures[place].fault if place in self.failures else None
        if not self._answered or place in self.alone or fault not in _REASONS:
            return False
        self._reject(place, Rejection(_REASONS[fault], self.failures[place].detail))
        return True

    def drop_vectors(self) -> None:
        """Remove the file of vectors."""
        self._vectors = None
        if self._path:
            self._path.unlink(missing_ok=True)

    def _judge(self, place: int, failure: RequestFailed, redacted: Callable[[str], str]) -> None:
        failure.detail = redacted(failure.detail)
        if not self._answered or place in self.alone:
            return
        if place in self._unusable:
            self._reject(place, self._unusable[place])
        elif failure.fault in _FINAL:
            self._reject(place, Rejection(_REASONS[failure.fault], failure.detail))

    def _reject(self, place: int, rejection: Rejection) -> None:
        self._rejected[place] = rejection
        self._settled[place] = True

    def _take_failure(self, inputs: range | None, failure: RequestFailed) -> None:
        if inputs is None:
            self.probe_failure = failure
            return
        self.failures.update((place, failure) for place in inputs)
        if len(inputs) > 1 and failure.fault in _REASONS:
            self.alone.update(inputs)

    def _take_probe(self, answer: Answer) -> None:
        self.probe_tokens = answer.tokens or 0
        if answer.rejected:
            self.probe_failure = RequestFailed(Fault.MALFORMED, answer.rejected[0].detail)
        else:
            self._answered = True

    def _take_answer(self, inputs: range, answer: Answer) -> None:
        if self._vectors is None:
            raise ValueError("nothing is collected yet")
        self._vectors[inputs.start : inputs.stop] = answer.vectors
        for at, rejection in answer.rejected.items():
            self._unusable[inputs[at]] = rejection
            self.failures[inputs[at]] = RequestFailed(Fault.MALFORMED, rejection.detail)
        kept = [place for at, place in enumerate(inputs) if at not in answer.rejected]
        self._settled[kept] = True
        self._answered |= bool(kept)
        self._request_of.update(dict.fromkeys(inputs, inputs.start))
        self._tokens[inputs.start] = answer.tokens


def under_way_of(batches: Sequence[SubmittedBatch]) -> UnderWay:
    """These batches, summed up."""
    standings = [batch.standing for batch in batches if batch.standing]
    return UnderWay(
        batches=len(batches),
        requests=sum(standing.requests for standing in standings),
        answered=sum(standing.answered + standing.failed for standing in standings),
        since=min((batch.record.planned for batch in batches), default=None),
    )
