"""An embedder over HTTP: requests packed, spread over threads, retried, and bisected around a bad input.

Who is to blame for a request that keeps failing, the input or the endpoint? An input is blamed only while the
endpoint answers something else: before a request is bisected, and again before a single input is given up, one
plain word is sent. If that word has no usable vector either, the endpoint is at fault and the job stops; so an
outage, a captive portal or a wrong model never turns a corpus into dead letters.

Whether the vectors are still those of the same model is told by the canaries that requests carry, see `canaried`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.canaries import Canaries
from tierloom.canary_room import Packed, canary_bound, pack_with_canaries
from tierloom.checkpoint import Checkpoint, Role
from tierloom.embedders.answers import Answer
from tierloom.embedders.canaried import CanariedEndpoint
from tierloom.embedders.checking import check_inputs
from tierloom.embedders.embedder import Embedded, PaidInPart, Rejection
from tierloom.embedders.openai_endpoint import OpenAIEndpoint
from tierloom.embedders.packing import most_tokens, pack
from tierloom.embedders.retrying import Fault, Patience, RequestFailed, retrying
from tierloom.errors import CapReached, EmbedderError, EmbedderRefused, EmbedderUnavailable, ModelChanged
from tierloom.spending.account import Account

PROBE: Final = "hello"
# Its bytes, and the marks that some models put around a text.
_PROBE_TOKENS: Final = len(PROBE) + 4

# Faults that get the brief attempts: asking for the whole request, for a part of one that failed, for the probe.
_WHOLE: Final = frozenset({Fault.MALFORMED, Fault.NO_CANARY, Fault.TIMED_OUT})
_PART: Final = frozenset({Fault.MALFORMED, Fault.NO_CANARY, Fault.TIMED_OUT, Fault.FAILING})
_PROBE: Final = frozenset({Fault.MALFORMED, Fault.NO_CANARY})

_REASONS: Final = {
    Fault.REFUSED_INPUT: "refused-by-model",
    Fault.MALFORMED: "malformed-answer",
    Fault.WRONG_DIMENSIONS: "wrong-dimensions",
    Fault.TIMED_OUT: "no-answer",
    Fault.FAILING: "no-answer",
}


@dataclass(frozen=True, slots=True)
class _Batch:
    """The inputs of one request, with upper bounds of their tokens, and whether it carries a canary."""

    texts: list[str]
    bounds: list[int]
    canary: bool


class OpenAICompatibleEmbedder:
    """Embeds through one endpoint with at most `concurrency` requests under way, whoever asks.

    `patience` bounds the retries of each request; `sleep` takes the place of waiting between them. With `canaries` each
    request carries one, or where it has no room for it, each call of `embed` ends with one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        concurrency: int = 8,
        patience: Patience = Patience(),  # noqa: B008 - immutable
        connect_seconds: float = 10.0,
        read_seconds: float = 60.0,
        sleep: Callable[[float], None] | None = None,
        role: Role = "documents",
        account: Account | None = None,
        canaries: Callable[[], Canaries] | None = None,
    ) -> None:
        """Requests are paid from `account`, and wait for their turn with it.

        Raises `EmbedderRefused` when the environment holds no API key that the endpoint needs.
        """
        self._checkpoint = checkpoint
        self._account = account
        heed = account.heed if account else None
        self._endpoint = OpenAIEndpoint(checkpoint, concurrency, connect_seconds, read_seconds, role, heed)
        self._canaried = CanariedEndpoint(self._endpoint, checkpoint, canaries) if canaries else None
        # More threads than requests: while one decodes its answer or waits to try again, another one asks.
        self._pool = ThreadPoolExecutor(2 * concurrency, thread_name_prefix="embed")
        self._patience = patience
        self._sleep = sleep
        self._over = threading.Event()
        self._end: EmbedderError = EmbedderRefused("the embedder was closed")
        self._answered = False

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`. The tokens of canaries, and of the probe if it was sent, are among those billed.

        Raises `PaidInPart` when the account does not allow all of it, `ModelChanged` when a canary was answered by
        another model, and whatever reading the canaries raises.
        """
        limits = self._checkpoint.limits
        rejected = check_inputs(inputs, token_bounds, min(limits.tokens_per_input, limits.tokens_per_request))
        kept = [position for position in range(len(inputs)) if position not in rejected]
        bounds = [token_bounds[position] for position in kept]
        packed = self._packed(bounds)
        groups = [kept[r.start : r.stop] for r in packed.ranges]
        batches = [
            _Batch([inputs[p] for p in group], [token_bounds[p] for p in group], carrying)
            for group, carrying in zip(groups, packed.carrying, strict=True)
        ]
        vectors = np.zeros((len(inputs), self._checkpoint.space.dimensions), np.float32)
        answers, unpaid = self._answers(batches), set[int]()
        tokens = self._vouch_by_canary() if packed.has_closing else 0
        for group, answer in zip(groups, answers, strict=True):
            vectors[group] = answer.vectors
            rejected |= {group[place]: rejection for place, rejection in answer.rejected.items()}
            tokens += answer.tokens or 0
            unpaid |= {group[place] for place in answer.unpaid}
        embedded = Embedded(vectors, rejected, tokens)
        if unpaid:
            raise PaidInPart(embedded, frozenset(unpaid))
        return embedded

    def close(self) -> None:
        """End the waits, let requests under way finish, and close the connections."""
        self._over.set()
        # Queued requests are not cancelled: each ends at once, and whoever waits for it is told why.
        self._pool.shutdown(wait=True)
        self._endpoint.close()

    def _packed(self, bounds: list[int]) -> Packed:
        if self._canaried:
            return pack_with_canaries(bounds, self._checkpoint, self._tokens_per_request)
        ranges = pack(bounds, self._checkpoint.limits.inputs_per_request, self._tokens_per_request)
        return Packed(ranges, [True] * len(ranges))

    def _answers(self, batches: list[_Batch]) -> list[Answer]:
        self._refuse_if_over()
        if self._canaried and batches:
            self._canaried.prepare()
        futures = [self._pool.submit(self._answer, batch) for batch in batches]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            return _results(futures)
        finally:
            for future in futures:
                future.cancel()

    def _answer(self, batch: _Batch) -> Answer:
        """The answer for a whole batch, bisected where it fails. Runs in one thread of the pool from start to end."""
        gathered = _Gathered(len(batch.texts), self._checkpoint.space.dimensions)
        pending = [range(len(batch.texts))]
        while pending:
            part = pending.pop()
            whole = len(part) == len(batch.texts)
            try:
                answer = self._attempt(batch, part, whole)
                if isinstance(answer, Answer):
                    gathered.add(part, answer)
                    continue
                if whole or len(part) == 1:
                    gathered.tokens += self._vouch()
            except CapReached:
                gathered.unpaid.update(*pending, part)
                break
            if len(part) == 1:
                gathered.rejected[part.start] = Rejection(_REASONS[answer.fault], answer.detail)
            else:
                middle = part.start + len(part) // 2
                pending += [range(middle, part.stop), range(part.start, middle)]
        return gathered.answer()

    def _attempt(self, batch: _Batch, part: range, whole: bool) -> Answer | RequestFailed:
        texts = batch.texts[part.start : part.stop]
        try:
            answer = self._ask(
                texts, sum(batch.bounds[part.start : part.stop]), _WHOLE if whole else _PART, batch.canary
            )
        except RequestFailed as failure:
            return failure
        probed = self._vouch() if len(answer.rejected) == len(texts) else 0
        billed = answer.tokens if answer.tokens is not None else sum(batch.bounds[part.start : part.stop])
        return Answer(answer.vectors, answer.rejected, billed + probed)

    def _vouch(self) -> int:
        """Make sure that the endpoint has a usable vector for a plain word; the tokens that this took."""
        said = f"so it answers even the one word {PROBE!r}"
        answer = self._ask_plain([PROBE], _PROBE_TOKENS, said)
        if answer.rejected:
            raise self._refuse(f"{answer.rejected[0].detail}; {said}")
        return answer.tokens or 0

    def _vouch_by_canary(self) -> int:
        """Make sure that it is still the same model; the tokens that this took."""
        return self._ask_plain([], 0, "so it answers a canary", True).tokens or 0

    def _ask_plain(self, texts: list[str], bound: int, said: str, canary: bool = False) -> Answer:
        """Ask for what any endpoint that is well has an answer to."""
        try:
            return self._ask(texts, bound, _PROBE, canary)
        except RequestFailed as failure:
            detail = f"{failure.detail}; {said}"
            if failure.fault in (Fault.REFUSED_INPUT, Fault.WRONG_DIMENSIONS):
                raise self._refuse(detail) from None
            raise EmbedderUnavailable(f"{self._who}: {detail}") from None

    def _ask(self, texts: list[str], bound: int, brief: frozenset[Fault], canary: bool) -> Answer:
        """One request of at most `bound` tokens, with a canary besides or not, with its retries. Raises `RequestFailed`
        for what may be the fault of the inputs."""
        if not self._answered:
            brief |= {Fault.UNREACHABLE}
        asking: OpenAIEndpoint | CanariedEndpoint = self._endpoint
        if canary and self._canaried:
            asking, bound = self._canaried, bound + canary_bound(self._checkpoint)
        try:
            answer: Answer = retrying(self._patience, brief, self._over, self._sleep)(
                self._ask_once, asking, texts, bound
            )
        except ModelChanged as change:
            raise self._stop(change) from None
        except RequestFailed as failure:
            if failure.fault is Fault.REFUSED_JOB:
                raise self._refuse(failure.detail) from None
            if failure.fault is Fault.NO_CANARY:
                raise self._stop(ModelChanged(f"{self._who}: {failure.detail}; it had one before")) from None
            if failure.fault in (Fault.UNREACHABLE, Fault.BUSY):
                raise EmbedderUnavailable(f"{self._who}: {failure.detail}") from None
            raise
        self._answered = True
        return answer

    def _ask_once(self, asking: OpenAIEndpoint | CanariedEndpoint, texts: list[str], bound: int) -> Answer:
        self._refuse_if_over()
        if self._account is None:
            return asking.ask(texts)
        payment = self._account.request(bound, self._wait)
        try:
            answer = asking.ask(texts)
        except RequestFailed as failure:
            if not failure.billed:
                payment.void()
            raise
        if answer.tokens is not None:
            payment.settle(answer.tokens)
        return answer

    def _wait(self, seconds: float) -> None:
        (self._sleep or self._over.wait)(seconds)
        self._refuse_if_over()

    def _refuse(self, detail: str) -> EmbedderError:
        return self._stop(EmbedderRefused(f"{self._who}: {detail}"))

    def _stop(self, error: EmbedderError) -> EmbedderError:
        """The error to raise, now and in every other thread that would still ask."""
        self._end = error
        self._over.set()
        return type(error)(str(error))

    def _refuse_if_over(self) -> None:
        if self._over.is_set():
            raise type(self._end)(str(self._end))

    @property
    def _tokens_per_request(self) -> int:
        at_once = self._account.tokens_at_once if self._account else None
        return most_tokens(self._checkpoint.limits, at_once)

    @property
    def _who(self) -> str:
        address = self._checkpoint.endpoint.base_url or "the endpoint of the provider"
        return f"{address}, asked for {self._checkpoint.space.model}"


class _Gathered:
    """The parts of one batch as they come in."""

    def __init__(self, inputs: int, dimensions: int) -> None:
        self.vectors: NDArray[np.float32] = np.zeros((inputs, dimensions), np.float32)
        self.rejected: dict[int, Rejection] = {}
        self.unpaid: set[int] = set()
        self.tokens = 0

    def add(self, part: range, answer: Answer) -> None:
        self.vectors[part.start : part.stop] = answer.vectors
        self.rejected |= {part.start + place: rejection for place, rejection in answer.rejected.items()}
        self.tokens += answer.tokens or 0

    def answer(self) -> Answer:
        return Answer(self.vectors, self.rejected, self.tokens, frozenset(self.unpaid))


def _results(futures: list[Future[Answer]]) -> list[Answer]:
    """The answers in order; the first error there is, without waiting for those still under way."""
    for future in futures:
        if future.done() and (error := future.exception()):
            raise error
    return [future.result() for future in futures]
