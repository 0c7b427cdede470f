"""Crashes between any two calls of a store, in this process: whoever is in the middle of something gets no further."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from tierloom.stores.local import LocalStore

METHODS = (
    "create",
    "create_from_file",
    "read",
    "read_range",
    "size",
    "read_revision",
    "swap",
    "renew",
    "remove",
    "list",
    "fetch",
)


class Crash(BaseException):
    """Not an `Exception`: nobody who handles errors may handle this."""


@dataclass
class Calls:
    """Counts calls; from the `last` one on, which is carried out only if it is `late`, nothing happens any more."""

    last: int
    late: bool
    made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def crashed(self) -> bool:
        return self.made >= self.last

    def wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def called(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self.made += 1
                number = self.made
            if number > self.last or (number == self.last and not self.late):
                raise Crash
            answer = method(*arguments, **named)
            if number == self.last:
                raise Crash
            return answer

        return called


@contextmanager
def dying_at(last: int, late: bool) -> Iterator[Calls]:
    """Within, the `last` call to any local store crashes, before or after it was carried out, as do all that follow."""
    calls = Calls(last, late)
    with ExitStack() as patches:
        for name in METHODS:
            patches.enter_context(mock.patch.object(LocalStore, name, calls.wrap(getattr(LocalStore, name))))
        yield calls
