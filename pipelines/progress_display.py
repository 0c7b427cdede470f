"""Progress while a run lasts: a live line on a terminal, plain or structured lines elsewhere."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from pipelines.commands.tables import count
from pipelines.telling import is_structured, say
from transforms.progress import total_progress

_TERMINAL_SECONDS = 0.25
_PLAIN_SECONDS = 5.0


class ProgressDisplay:
    """Sums the workers' progress notes in `folder` and shows them on stderr; `total` is the bytes to read. Who only
    plans is not `paying`."""

    def __init__(self, folder: Path, total: int, paying: bool = True) -> None:
        self._paying = paying
        self._folder = folder
        self._total = total
        self._began = time.monotonic()
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> "ProgressDisplay":
        if is_structured():
            self._say("started")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        if is_structured():
            self._say("ended")

    def _show(self) -> None:
        if self._console.is_terminal and not is_structured():
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                while not self._stopped.wait(_TERMINAL_SECONDS):
                    live.update(self._line(*self._now()), refresh=True)
        else:
            while not self._stopped.wait(_PLAIN_SECONDS):
                self._say("running")

    def _say(self, state: str) -> None:
        totals, seconds = self._now()
        values: dict[str, Any] = {"seconds": round(seconds, 3), "bytes_in_all": self._total, **totals}
        say(self._line(totals, seconds), "progress", state=state, **values)

    def _now(self) -> tuple[Counter[str], float]:
        return total_progress(self._folder), time.monotonic() - self._began

    def _line(self, totals: Counter[str], seconds: float) -> str:
        return progress_line(totals, self._total, seconds) if self._paying else plan_line(totals, self._total)


def progress_line(totals: Counter[str], total_bytes: int, seconds: float) -> str:
    """One line: chunks, rate, tokens paid, time left; or the batches that are waited for.

    How many chunks there will be is estimated from the share of the bytes that is read; the time left from
    what those until now took.
    """
    done, cut = totals["done"], totals["cut"]
    read = totals["bytes"] / total_bytes if total_bytes else 1.0
    line = f"{done:,} chunks, {done / seconds if seconds else 0:,.0f}/s, {totals['tokens']:,} tokens paid"
    if totals["batches"]:
        return f"{line}; {_waited_for(totals)}"
    if read >= 1 and done >= cut:
        return f"{line}; merging and building index shards"
    if not (read and done):
        return f"{line}; {read:.0%} read"
    return f"{line}; of about {cut / read:,.0f}, {seconds * (cut / read / done - 1):,.0f} s left"


def plan_line(totals: Counter[str], total_bytes: int) -> str:
    """One line: chunks counted, and how much is read."""
    return f"{totals['done']:,} chunks, {totals['bytes'] / max(total_bytes, 1):.0%} read"


def _waited_for(totals: Counter[str]) -> str:
    since = datetime.fromtimestamp(totals["batches_since"], UTC).strftime("%Y-%m-%d %H:%M")
    batches = f"{totals['batches']:,} batch{'' if totals['batches'] == 1 else 'es'}"
    answered = f"{totals['batch_answered']:,} of {count(totals['batch_requests'], 'request')} answered"
    return f"{batches} under way since {since} UTC, {answered}"
