"""Requests that carry a canary: what came with a canary that another model answered is never used.

A canary is never an input. It goes last, takes its turn from request to request and from retry to retry, and its vector
is judged before the others are handed on: so a model that changes while a run lasts is noticed by the next request.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import count
from random import randrange

from tierloom.canaries import MOST_TEXTS, Canaries, canary_inputs, refuse_changed
from tierloom.checkpoint import Checkpoint
from tierloom.embedders.answers import Answer
from tierloom.embedders.embedder import Rejection
from tierloom.embedders.openai_endpoint import OpenAIEndpoint
from tierloom.embedders.retrying import Fault, RequestFailed


class CanariedEndpoint:
    """An endpoint that is asked with a canary. Safe to use from several threads."""

    def __init__(self, endpoint: OpenAIEndpoint, checkpoint: Checkpoint, read: Callable[[], Canaries]) -> None:
        """`read` brings the canaries when the first one is due; it raises as `tierloom.canaries.kept_canaries` does."""
        self._endpoint = endpoint
        self._checkpoint = checkpoint
        self._read = read
        # Many workers begin at the same time: not all with the same text.
        self._turns = count(randrange(MOST_TEXTS))

    def prepare(self) -> None:
        """Read the canaries, if that was not done. Raises what reading them does, before anything is paid for."""
        _ = self._inputs

    def ask(self, inputs: list[str]) -> Answer:
        """The vectors of `inputs` (which may be none at all) in one request; the tokens billed are with the canary's.

        Raises `RequestFailed`, and `ModelChanged` when the canary was answered by another model.
        """
        at = next(self._turns) % len(self._inputs)
        answer = self._endpoint.ask([*inputs, self._inputs[at]])
        if (rejection := answer.rejected.get(len(inputs))) is not None:
            raise RequestFailed(Fault.NO_CANARY, f"{rejection.detail}, for the canary {self._canaries.texts[at]!r}")
        refuse_changed(self._canaries, at, answer.vectors[-1], self._checkpoint)
        return Answer(answer.vectors[:-1], _of_inputs(answer.rejected, len(inputs)), answer.tokens)

    @cached_property
    def _canaries(self) -> Canaries:
        return self._read()

    @cached_property
    def _inputs(self) -> list[str]:
        return canary_inputs(self._checkpoint.space, self._canaries.texts)


def _of_inputs(rejected: Mapping[int, Rejection], inputs: int) -> dict[int, Rejection]:
    return {at: rejection for at, rejection in rejected.items() if at < inputs}
