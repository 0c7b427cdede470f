"""Waiting for what is out of reach for a while: the store, the model, too many other writers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from tierloom.errors import (
    CommitConflict,
    EmbedderUnavailable,
    PreconditionsIgnored,
    SourceHeld,
    StoreError,
)

T = TypeVar("T")

SLOW_SECONDS: Final = 15.0
_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 15.0
_PASSING: Final = (StoreError, EmbedderUnavailable, CommitConflict)
_LASTING: Final = (PreconditionsIgnored, SourceHeld)


def patiently(work: Callable[[], T], seconds: float, stop: threading.Event, say: Callable[[str], None]) -> T:
    """`work`, tried again for up to `seconds` while what it fails of may pass. Every wait is said.

    Raises what it failed of last; at once if that will not pass, or when `stop` is set.
    """
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(seconds) | stop_when_event_set(stop),
        wait=wait_random_exponential(_FIRST_SECONDS, _LONGEST_SECONDS),
        sleep=sleep_using_event(stop),
        before_sleep=lambda state: say(_waiting(state)),
        reraise=True,
    )
    return retrying(work)


@contextmanager
def said_when_slow(say: Callable[[str], None], seconds: float = SLOW_SECONDS) -> Iterator[None]:
    """Say so when the block is not done after so many seconds: clients of a store or a model wait in silence first."""
    timer = threading.Timer(seconds, say, [f"still publishing after {seconds:.0f} s: the store or the model is slow"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _PASSING) and not isinstance(error, _LASTING)


def _waiting(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return f"waiting: {error}; trying again in {state.upcoming_sleep:.1f} s"
