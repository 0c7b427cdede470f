"""Progress notes: each worker process keeps its running totals in a small local file that the launcher sums."""

import contextlib
import json
import os
import uuid
from collections import Counter
from pathlib import Path


class Progress:
    """Totals of one worker since its setup. Where the folder cannot be written, nobody watches: not an error."""

    def __init__(self, folder: str | None) -> None:
        self._path = Path(folder) / f"{uuid.uuid4().hex}.json" if folder and Path(folder).is_dir() else None
        self._totals: Counter[str] = Counter()

    def add(self, **amounts: int) -> None:
        """Add to the totals: `bytes` read, chunks `cut` and `done`, of these `copied` or `found`, `tokens` paid."""
        self._totals.update(amounts)
        if self._path:
            partial = self._path.with_suffix(".part")
            with contextlib.suppress(OSError):
                partial.write_text(json.dumps(self._totals))
                os.replace(partial, self._path)  # noqa: PTH105 -- a reader sees the old totals or the new ones


def total_progress(folder: Path) -> Counter[str]:
    """The totals of all workers so far."""
    totals: Counter[str] = Counter()
    for path in folder.glob("*.json"):
        totals.update(json.loads(path.read_text()))
    return totals
