"""The recall canary: now and then a query of the last moments is compared with exact search, behind the back of all
others. It says in production what the gate said at publish."""

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.answer import Answer
from tierloom.errors import TierloomError
from tierloom.server.limits import ServerOptions
from tierloom.server.metrics import Metrics
from tierloom.server.served import Served
from tierloom.server.tracing import REQUEST_ID
from tierloom.snapshot import Snapshot

Query = str | list[float]

_log: Final = logging.getLogger("tierloom.server")

# A comparison may take one in so many seconds of a core.
_SHARE: Final = 20
_WINDOW: Final = 100
# Scores this close are equal: the rounding of a float32 product of 3,072 terms is below it.
_TIE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class _Sampled:
    query: Query
    checkpoint: str
    profile: str
    top: int


class Canary:
    """Keeps the latest fitting query, and compares it when its time has come. Off with an interval of 0."""

    def __init__(self, options: ServerOptions, served: Served, metrics: Metrics) -> None:
        self._options = options
        self._served = served
        self._metrics = metrics
        self._latest: _Sampled | None = None
        self._overlaps: dict[str, deque[float]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def start(self) -> None:
        if self._options.canary > 0:
            self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def offer(self, query: Query, answer: Answer, local_model: bool) -> None:
        """A query that a declared profile answered. A question whose model is not local is let go: to embed it again
        costs."""
        if isinstance(query, str) and not local_model:
            return
        if answer.hits:
            self._latest = _Sampled(query, answer.checkpoint, answer.profile, len(answer.hits))

    def _run(self) -> None:
        _be_modest()
        REQUEST_ID.set("canary")
        pause = self._options.canary
        while not self._stopped.wait(pause):
            began = time.perf_counter()
            self._compare()
            pause = max(self._options.canary, _SHARE * (time.perf_counter() - began))

    def _compare(self) -> None:
        sampled, self._latest = self._latest, None
        if sampled is None or self._served.unready:
            return
        try:
            with self._served.follower.pinned() as snapshot:
                if _fits(sampled, snapshot) and snapshot.manifest.live_chunks <= self._options.canary_chunks:
                    self._note(sampled.profile, _overlap_of(snapshot, sampled))
        except TierloomError as error:
            _log.warning("the recall canary could not compare: %s", error)
        except Exception:  # Whatever it was, the next comparison may go well.
            _log.exception("the recall canary failed")

    def _note(self, profile: str, overlap: float) -> None:
        seen = self._overlaps.setdefault(profile, deque(maxlen=_WINDOW))
        seen.append(overlap)
        self._metrics.comparisons.labels(profile).inc()
        self._metrics.overlap.labels(profile).set(sum(seen) / len(seen))


def _fits(sampled: _Sampled, snapshot: Snapshot) -> bool:
    """Whether it can be compared: the checkpoint that it was asked of is still served, and has full vectors here."""
    return snapshot.has_vectors and sampled.checkpoint == snapshot.manifest.checkpoint


def _overlap_of(snapshot: Snapshot, sampled: _Sampled) -> float:
    vector = snapshot.query_vector(sampled.query)
    declared = snapshot.manifest.collection.serving.profiles
    profile = sampled.profile if sampled.profile in declared else None
    answer = snapshot.search(vector, profile=profile, top=sampled.top, describe=False)
    return overlap(snapshot, vector, answer)


def overlap(snapshot: Snapshot, vector: NDArray[np.float32], answer: Answer) -> float:
    """The share of the exact first `len(answer)` that an answer holds; rows as good as the last of them count too."""
    if not answer.hits:
        return 1.0
    exact = snapshot.exact(vector, 2 * len(answer))
    count = min(len(answer), len(exact))
    as_good = int(np.count_nonzero(exact.scores >= exact.scores[count - 1] - _TIE))
    accepted = {(hit.document_id, hit.ordinal) for hit in snapshot.hits(exact.best(as_good))}
    return sum((hit.document_id, hit.ordinal) in accepted for hit in answer.hits) / len(answer)


def _be_modest() -> None:
    """On Linux the niceness of a thread is its own."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
