"""From arrival to searchable: how long the changes of the last minutes took, and how many there were."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW_SECONDS: Final = 300.0
_RATE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from arrival to searchable: the median and the 99th percentile."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class _Published:
    at: float
    seconds: NDArray[np.float64]
    chunks: int


class Arrivals:
    """What was published, batch by batch; older than `WINDOW_SECONDS` is forgotten. For one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._batches: deque[_Published] = deque()
        self._began = clock()
        self.changes = 0
        self.chunks = 0

    def add(self, arrived: Sequence[float], chunks: int) -> None:
        """A batch is published now; `arrived` is when each of its changes was there, in seconds since 1970."""
        now = self._clock()
        self._batches.append(_Published(now, np.maximum(now - np.array(arrived, np.float64), 0.0), chunks))
        self.changes += len(arrived)
        self.chunks += chunks

    def latency(self) -> Latency | None:
        """Of the changes of the window; None if there were none."""
        self._forget()
        seconds = np.concatenate([np.empty(0), *(batch.seconds for batch in self._batches)])
        if not len(seconds):
            return None
        p50, p99 = np.percentile(seconds, (50, 99))
        return Latency(float(p50), float(p99))

    def rate(self) -> float:
        """Chunks a second over the last minute."""
        now = self._clock()
        since = now - _RATE_SECONDS
        recent = sum(batch.chunks for batch in self._batches if batch.at > since)
        return recent / max(1.0, min(_RATE_SECONDS, now - self._began))

    def _forget(self) -> None:
        since = self._clock() - WINDOW_SECONDS
        while self._batches and self._batches[0].at < since:
            self._batches.popleft()
