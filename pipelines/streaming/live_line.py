"""What a stream shows while it runs: a live line on a terminal, plain or structured lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from pipelines.streaming.arrivals import Arrivals
from pipelines.telling import is_structured, say

_TERMINAL_SECONDS: Final = 0.25
_PLAIN_SECONDS: Final = 5.0
# A stream to which nothing happens says so now and then: it lives.
_QUIET_SECONDS: Final = 60.0


def stream_line(version: int, behind: int | None, arrivals: Arrivals) -> str:
    """One line: version, lag, arrival to searchable, rate."""
    line = f"version {version:,}; {arrivals.changes:,} changes, {arrivals.rate():,.0f} chunks/s"
    if behind is not None:
        line += f"; {behind:,} behind"
    if (latency := arrivals.latency()) is not None:
        line += f"; searchable after {latency.p50:.1f} s (p50), {latency.p99:.1f} s (p99)"
    return line


class LiveLine:
    """Shows one line on stderr, anew as it changes; and what is said besides, for good. A context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = self._console.is_terminal and not is_structured()
        self._shown = ""
        self._values: dict[str, Any] = {}
        self._at = -_QUIET_SECONDS

    def show(self, line: str, **values: Any) -> None:
        """The line as it is now, and what it says as JSON values. Cheap enough for every turn of a loop."""
        self._values = values
        waited = time.monotonic() - self._at
        if self._drawn:
            due = waited >= _TERMINAL_SECONDS
        else:
            due = waited >= _QUIET_SECONDS or (line != self._shown and waited >= _PLAIN_SECONDS)
        if due:
            self._write(line)
            self._shown, self._at = line, time.monotonic()

    def say(self, text: str) -> None:
        """A line of its own, that stays."""
        if self._drawn:
            self._console.print(text)
        else:
            say(text)

    def __enter__(self) -> "LiveLine":
        if self._drawn:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if is_structured() and self._values:
            say(self._shown, "progress", state="ended", **self._values)

    def _write(self, line: str) -> None:
        if self._drawn:
            self._live.update(line, refresh=True)
        else:
            say(line, "progress", state="running", **self._values)
