"""The threads that search: so many at once, so many waiting, and no request longer than its time."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tierloom.server.limits import Limits
from tierloom.server.refusals import busy, too_slow

Result = TypeVar("Result")


class Workers:
    """A pool with a bounded queue. A thread cannot be stopped: work that outlives its request keeps its place until it
    is done, so that no more is taken on than can be done."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="search")
        self._guard = threading.Lock()
        self._held = 0

    @property
    def held(self) -> int:
        """Work that waits or runs."""
        return self._held

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises. Raises `Refused`: 429 when the queue is full, 504 when it takes too long."""
        future = self._take(work)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
        except TimeoutError as error:
            raise too_slow(504, f"not answered within {self._limits.seconds:g} seconds") from error

    def close(self) -> None:
        """Let go of the threads once they are done; what still waits is never begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, work: Callable[[], Result]) -> Future[Result]:
        with self._guard:
            if self._held >= self._limits.threads + self._limits.queue:
                raise busy(f"{self._limits.queue} requests are waiting already; try again in a moment")
            self._held += 1
        future = self._pool.submit(contextvars.copy_context().run, work)
        future.add_done_callback(self._let_go)
        return future

    def _let_go(self, _: Future[Result]) -> None:
        with self._guard:
            self._held -= 1
