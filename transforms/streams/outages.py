"""A source out of reach: said once, waited for, and not for ever."""

import time
from collections.abc import Callable
from typing import TypeAlias

from tierloom.errors import SourceError

Say: TypeAlias = Callable[[str], None]


class Outage:
    """Whether `what` is out of reach. `say` is told when that begins and ends."""

    def __init__(self, what: str, say: Say, patience: float) -> None:
        """`patience` is how many seconds it is waited for."""
        self._what = what
        self._say = say
        self._patience = patience
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def note(self, why: str) -> None:
        """It is out of reach. Raises `SourceError` when it has been so for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._say(f"{self._what} is out of reach: {why}; waiting for it")
        elif now - self._since > self._patience:
            raise SourceError(
                f"{self._what} has been out of reach for {now - self._since:.0f} s: {why}. Start again when it is "
                "back: the stream goes on where it was published"
            )

    def end(self) -> None:
        """It answers."""
        if self._since is not None:
            self._say(f"{self._what} is back after {time.monotonic() - self._since:.0f} s")
            self._since = None
