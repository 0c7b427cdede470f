"""Progress notes: each worker process keeps its running totals in a small local file that the launcher sums."""

import contextlib
import json
import os
import uuid
from collections import Counter
from pathlib import Path

# When what is waited for began: of several workers the earliest counts.
_SINCE = "batches_since"


class Progress:
    """Totals of one worker since its setup. Where the folder cannot be written, nobody watches: not an error."""

    def __init__(self, folder: str | None) -> None:
        self._path = Path(folder) / f"{uuid.uuid4().hex}.json" if folder and Path(folder).is_dir() else None
        self._totals: Counter[str] = Counter()

    def add(self, **amounts: int) -> None:
        """Add to the totals: `bytes` read, chunks `cut` and `done`, of these `copied` or `found`, `tokens` paid."""
        self._totals.update(amounts)
        self._write()

    def waits_for(self, batches: int, requests: int, answered: int, since: float | None) -> None:
        """Say what is waited for now: batches under way, their requests, how many of these are answered, and since when
        (seconds since 1970)."""
        now = {"batches": batches, "batch_requests": requests, "batch_answered": answered, _SINCE: int(since or 0)}
        for name, amount in now.items():
            self._totals[name] = amount
        self._write()

    def _write(self) -> None:
        if self._path:
            partial = self._path.with_suffix(".part")
            with contextlib.suppress(OSError):
                partial.write_text(json.dumps(self._totals))
                os.replace(partial, self._path)  # noqa: PTH105 -- a reader sees the old totals or the new ones


def total_progress(folder: Path) -> Counter[str]:
    """The totals of all workers so far; `batches_since` is the earliest there is."""
    totals: Counter[str] = Counter()
    began = []
    for path in folder.glob("*.json"):
        noted = json.loads(path.read_text())
        began.append(noted.pop(_SINCE, 0))
        totals.update(noted)
    totals[_SINCE] = min(filter(None, began), default=0)
    return totals
