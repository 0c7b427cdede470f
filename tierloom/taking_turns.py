"""Holding a turn while something is done: taken, waited for if need be, and renewed by a thread until it ends."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final

from tierloom.errors import StoreError, TurnHeld, TurnLost
from tierloom.lease import this_process
from tierloom.living import this_process_mark
from tierloom.stores.store import Store
from tierloom.turn import TERM, Fence, Term, check_turn, end_turn, renew_turn, take_turn

_RENEWALS: Final = 4
_LOOK_SECONDS: Final = 5.0
# It goes on while a machine sleeps. macOS has it by another name.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_log: Final = logging.getLogger(__name__)


class Turn:
    """The turn of a deed, held until it is closed. A context manager.

    `fence` is what a worker elsewhere asks (`tierloom.turn.check_turn`); `check` asks here.
    """

    def __init__(
        self,
        store: Store,
        deed: str,
        *,
        wait: timedelta = timedelta(),
        waiting: Callable[[TurnHeld], None] = lambda held: None,
        lost: Callable[[TurnLost], None] = lambda lost: None,
        term: Term = TERM,
    ) -> None:
        """Raises `TurnHeld` when another still holds it after `wait`; `waiting` is told once that there is a wait.

        `lost` is told, in another thread, as soon as it is found that another has taken it over.
        """
        self._store = store
        self._term = term
        self._lost = lost
        self._closing = threading.Event()
        self._sure_until = 0.0
        self.fence = self._taken(deed, time.monotonic() + wait.total_seconds(), waiting)
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._keep_renewing, name=f"turn to {deed}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises `TurnLost` when another has taken the turn over. Costs a request only after a while of silence."""
        if _clock() >= self._sure_until:
            self._renew()

    def check_now(self) -> None:
        """`check`, by the store's own word: before what is done once, like publishing."""
        check_turn(self._store, self.fence, time.time(), self._term)

    def close(self) -> None:
        """Let go of it. In a forked child nothing: it is the parent's."""
        if os.getpid() != self._process:
            return
        self._closing.set()
        # A store that is out of reach may hold it up: the turn then ends by itself.
        self._thread.join(timeout=5)
        with contextlib.suppress(StoreError):
            end_turn(self._store, self.fence)

    def __enter__(self) -> "Turn":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self, deed: str, until: float, waiting: Callable[[TurnHeld], None]) -> Fence:
        said = False
        while True:
            began = _clock()
            try:
                fence = take_turn(self._store, deed, this_process(), time.time(), self._term, this_process_mark())
            except TurnHeld as held:
                if (left := until - time.monotonic()) <= 0:
                    raise
                if not said:
                    waiting(held)
                said = True
                self._closing.wait(min(left, _LOOK_SECONDS))
            else:
                self._sure_until = began + self._seconds
                return fence

    def _keep_renewing(self) -> None:
        while not self._closing.wait(self._seconds / _RENEWALS):
            try:
                self._renew()
            except TurnLost as lost:
                self._lost(lost)
                return
            except StoreError as error:
                _log.warning("the turn to %s was not renewed, and is tried again: %s", self.fence.deed, error)

    def _renew(self) -> None:
        began = _clock()
        renew_turn(self._store, self.fence, time.time(), self._term)
        self._sure_until = began + self._seconds

    @property
    def _seconds(self) -> float:
        return self._term.duration.total_seconds()


def _clock() -> float:
    return time.clock_gettime(_CLOCK)
