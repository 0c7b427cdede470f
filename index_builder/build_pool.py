"""Where index shards are built: large ones each in a process of its own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from types import TracebackType
from typing import Final

from index_builder.build import IndexTask, build_index_shard
from index_builder.verify import verify_index_shard
from tierloom.column_files import ColumnFiles
from tierloom.index_reader import SCAN_CODES
from tierloom.manifest import IndexShard
from tierloom.stores.store import Store

# A process takes a second to start; so many rows are built in a tenth of that.
SMALL_ROWS: Final = 4096
# Of a graph that is scanned the build is over before its bytes are in a bucket: there, others may begin meanwhile.
_SCANNED_AT_ONCE: Final = 4


class Stopped(Exception):
    """Work was ended between two of its steps, as was asked for."""


class BuildPool:
    """Executors for builds; a context manager.

    usearch's `add` takes the interpreter's lock for every vector, and crawls beside any other Python thread;
    a crash in native code must not take the process along. So builds run in processes of their own, as many as
    there are processors; those that take less than the start of a process run in a thread. Without `apart`, all do:
    for a process that does nothing else.
    """

    def __init__(self, apart: bool = True) -> None:
        self.processes = len(os.sched_getaffinity(0))
        self._scanned = ThreadPoolExecutor(_SCANNED_AT_ONCE, thread_name_prefix="build")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="build")
        # A process is started when the first large task asks for it.
        self._large: Executor = self._thread
        if apart:
            self._large = ProcessPoolExecutor(self.processes, mp_context=get_context("spawn"))

    def executor_for(self, task: IndexTask) -> Executor:
        rows = sum(shard.rows for shard in task.vector_shards)
        if rows <= SCAN_CODES:
            return self._scanned
        return self._thread if rows <= SMALL_ROWS else self._large

    def close(self) -> None:
        """Wait for what is under way, and start nothing more."""
        self._large.shutdown(cancel_futures=True)
        self._thread.shutdown(cancel_futures=True)
        self._scanned.shutdown(cancel_futures=True)

    def __enter__(self) -> "BuildPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VerifiedBuilds:
    """Index shards that were built and verified, each once however often it is asked for."""

    def __init__(self, store: Store, pool: BuildPool, stop: Callable[[], bool] = lambda: False) -> None:
        self._store = store
        self._pool = pool
        self._stop = stop
        self._built: dict[tuple[str, str], IndexShard] = {}

    def of(self, tasks: Sequence[IndexTask]) -> tuple[IndexShard, ...]:
        """The index shards of these tasks, in their order.

        Raises `VerificationError`; `Stopped` when `stop` says so, which is asked before each result is
        waited for.
        """
        # The largest take longest: begin with them.
        missing = {_identity(task): task for task in reversed(tasks) if _identity(task) not in self._built}
        under_way = {
            identity: self._pool.executor_for(task).submit(partial(_verified, task, self._store))
            for identity, task in missing.items()
        }
        for identity, future in under_way.items():
            if self._stop():
                for waiting in under_way.values():
                    waiting.cancel()
                raise Stopped
            self._built[identity] = future.result()
        return tuple(self._built[_identity(task)] for task in tasks)

    @property
    def built(self) -> tuple[IndexShard, ...]:
        """All of them so far."""
        return tuple(self._built.values())


def _identity(task: IndexTask) -> tuple[str, str]:
    return task.tier.name, task.digest


def _verified(task: IndexTask, store: Store) -> IndexShard:
    shard = build_index_shard(task, store)
    verify_index_shard(shard, task.vector_shards, ColumnFiles(store))
    return shard
