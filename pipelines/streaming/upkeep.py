"""Upkeep behind a stream: compaction, and now and then the collection of garbage.

Each in a process of its own, because it takes seconds of a processor, and a stream has none to spare. The processes end
with this one, however that ends. What a compaction had not published then is garbage, or found again.
"""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Final

from index_builder.upkeep.collect import collect
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules
from pipelines.streaming.stopping import without_interrupts
from tierloom.errors import TierloomError
from tierloom.stores.store import Store

# The stream goes first where processors are few.
_NICENESS: Final = 5
_PAUSE_SECONDS: Final = 60.0

_SPAWN: Final = get_context("spawn")

# What a task does for a store; whether it should look again at once.
Task = Callable[[Store], bool]

# Small groups are compacted while large ones take their minutes: their number stays small all the while.
_COMPACTIONS: Final = (
    Rules(group_rows=range(2048), round_rows=16_384),
    Rules(group_rows=range(2048, 32_768), round_rows=262_144),
    Rules(group_rows=range(32_768, 1 << 40)),
)
# A stream leaves a dozen objects a second behind. Who makes others over a longer time holds a lease meanwhile.
_GRACE: Final = timedelta(hours=1)
_COLLECT_EVERY: Final = timedelta(minutes=10)


class Upkeep:
    """Looks after one store, bounded rounds at a time. For one thread; a context manager."""

    def __init__(self, store: Store, say: Callable[[str], None], collect_every: timedelta = _COLLECT_EVERY) -> None:
        self._compactions = [_Lane(store, say, partial(_compact, rules=rules)) for rules in _COMPACTIONS]
        self._collection = _Lane(store, say, _collect, rest=collect_every.total_seconds())
        self._lanes = (*self._compactions, self._collection)

    @property
    def rounds(self) -> int:
        """How many compactions were published."""
        return sum(lane.rounds for lane in self._compactions)

    def look(self, published: bool) -> None:
        """Have done what may be due, unless it is under way. Does not wait.

        `published` tells that there is a new version to look at.
        """
        for lane in self._lanes:
            lane.look(published)

    def close(self) -> None:
        """End what is under way."""
        for lane in self._lanes:
            lane.close()

    def __enter__(self) -> "Upkeep":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Lane:
    """One task, again and again while versions are published: a round at a time, in a process of its own.

    With a `rest`, so many seconds lie between two rounds and before the first, and there is no process meanwhile.
    """

    def __init__(self, store: Store, say: Callable[[str], None], task: Task, rest: float = 0.0) -> None:
        self._store = store
        self._say = say
        self._task = task
        self._rest = rest
        self._worker: _Worker | None = None
        self._due = self._busy = False
        self._not_before = time.monotonic() + rest
        self.rounds = 0

    def look(self, published: bool) -> None:
        self._due |= published
        try:
            if self._busy:
                self._listen()
            elif self._due and time.monotonic() >= self._not_before:
                self._ask()
        except (EOFError, OSError):
            self.close()
            self._pause("its process has ended")

    def _ask(self) -> None:
        if self._worker is None:
            self._worker = _Worker(self._store, self._task)
        self._worker.ask()
        self._busy, self._due = True, False

    def _listen(self) -> None:
        if self._worker is None or not self._worker.has_answered():
            return
        again, problem = self._worker.answer()
        self._busy = False
        self._due |= again
        self.rounds += again
        if self._rest:
            self.close()
            self._not_before = time.monotonic() + self._rest
        if problem is not None:
            self._pause(problem)

    def _pause(self, problem: str) -> None:
        self._say(f"upkeep: {problem}; the next try is in {_PAUSE_SECONDS:.0f} s")
        self._not_before = time.monotonic() + _PAUSE_SECONDS
        self._due = True

    def close(self) -> None:
        """End what is under way."""
        if self._worker is not None:
            self._worker.end()
        self._worker, self._busy = None, False


class _Worker:
    """A process that answers each question with whether it should be asked again, and what went wrong."""

    def __init__(self, store: Store, task: Task) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(
            target=_serve, args=(store, task, theirs), name="upkeep", daemon=True
        )
        # Ctrl-C is for the stream, which ends this process when it is done.
        with without_interrupts():
            self._process.start()
        # Theirs alone now, so that an end of the process is an end of the pipe.
        theirs.close()

    def ask(self) -> None:
        self._pipe.send(None)

    def has_answered(self) -> bool:
        return self._pipe.poll()

    def answer(self) -> tuple[bool, str | None]:
        """Raises `EOFError` when the process has ended."""
        answer: tuple[bool, str | None] = self._pipe.recv()
        return answer

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _serve(store: Store, task: Task, pipe: Connection) -> None:
    os.nice(_NICENESS)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(_attempted(store, task))


def _attempted(store: Store, task: Task) -> tuple[bool, str | None]:
    try:
        return task(store), None
    except (TierloomError, OSError) as error:
        return False, str(error)


def _compact(store: Store, rules: Rules) -> bool:
    """Where one round was due, another may be."""
    return bool(compact(store, rules, rounds=1, apart=False).rounds)


def _collect(store: Store) -> bool:
    collect(store, _GRACE)
    return False
