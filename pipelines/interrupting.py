"""SIGTERM and SIGINT end a command with its affairs in order: turns and leases let go, metrics written.

Without a handler a container's first process would not even see SIGTERM.
"""

import signal
import threading
from types import FrameType
from typing import Any, Final, NoReturn

from pipelines.exit_codes import signalled

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Interrupted(SystemExit):
    """A signal came. What it passes on its way up may make another error of it: `Signals` knows."""


class Signals:
    """In this block the first signal raises `Interrupted` in the main thread, and is `received`; the second does what
    it always did. A context manager."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            # What `nohup`, or a shell's `&`, has told us to ignore is ignored.
            self._before = {one: was for one in _SIGNALS if (was := signal.getsignal(one)) is not signal.SIG_IGN}
        for one in self._before:
            signal.signal(one, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for one, was in self._before.items():
            signal.signal(one, was)

    def _interrupt(self, number: int, _: FrameType | None) -> NoReturn:
        self.__exit__()
        self.received = signal.Signals(number)
        raise Interrupted(signalled(number))
