"""The collection that is served: opened behind the first requests, then followed."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import numpy as np

from tierloom.following import Follower, follow
from tierloom.server.limits import ServerOptions
from tierloom.server.metrics import Metrics
from tierloom.server.refusals import not_ready
from tierloom.snapshot import Snapshot

_log: Final = logging.getLogger("tierloom.server")

STOPPING: Final = "the server is stopping"
_PATIENCE: Final = 1.0


class Served:
    """Says whether there is something to search. `failed` is called, from a thread, when the collection cannot be
    opened; `failure` is why."""

    def __init__(self, options: ServerOptions, metrics: Metrics, failed: Callable[[], None]) -> None:
        self.draining = False
        self.failure: Exception | None = None
        self._options = options
        self._metrics = metrics
        self._failed = failed
        self._follower: Follower | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)
        metrics.watch("version", "The version that is served; -1 while none is", self._version)

    @property
    def follower(self) -> Follower:
        """Raises `Refused` (503) while nothing is open."""
        if self._follower is None:
            raise not_ready(self.unready or "nothing is open")
        return self._follower

    @property
    def unready(self) -> str | None:
        """Why no new request should come here; None while they should."""
        if self.draining:
            return STOPPING
        return "the collection is being opened" if self._follower is None else None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """After the last search. A store that keeps the thread waiting does not keep the server from ending."""
        self._stopped.set()
        self._thread.join(_PATIENCE)
        if self._follower is not None and not self._thread.is_alive():
            self._follower.close()

    def _version(self) -> float:
        return -1 if self._follower is None else self._follower.version

    def _run(self) -> None:
        try:
            opened = self._open()
        except Exception as error:  # Whatever it was, a server that serves nothing is to end, and to say why.
            self.failure = error
            self._failed()
            return
        self._follower = opened
        _log.info("version %d of channel %s is served", opened.version, self._options.channel)
        while not self._stopped.wait(self._options.interval):
            self._look(opened)

    def _open(self) -> Follower:
        """Open and warmed: the first query of a client is not the one that waits."""
        interval = timedelta(seconds=self._options.interval)
        opened = follow(
            self._options.store, self._options.channel, cache=self._options.cache, interval=interval, poll=False
        )
        try:
            with opened.pinned() as snapshot:
                warm(snapshot)
        except BaseException:
            opened.close()
            raise
        return opened

    def _look(self, follower: Follower) -> None:
        """The follower itself logs what it finds."""
        if follower.check():
            self._metrics.moves.inc()
        if follower.last_error is not None:
            self._metrics.following_errors.inc()


def warm(snapshot: Snapshot) -> None:
    """Ask every declared profile, and a local model, once. A model behind an endpoint is not asked: that costs."""
    unit = np.eye(1, snapshot.checkpoint.space.dimensions, dtype=np.float32)[0]
    for profile in (None, *snapshot.manifest.collection.serving.profiles):
        snapshot.search(unit, profile=profile)
    if snapshot.checkpoint.space.in_process:
        snapshot.query_vector("warm")
