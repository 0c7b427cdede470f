"""Compaction behind a stream, in a process of its own: it takes seconds of a processor, and a stream has none to spare.

The process ends with this one, however that ends. What it had not published then is garbage, or found again.
"""

import os
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Final

from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules
from pipelines.streaming.stopping import without_interrupts
from tierloom.errors import TierloomError
from tierloom.stores.store import Store

# The stream goes first where processors are few.
_NICENESS: Final = 5
_PAUSE_SECONDS: Final = 60.0

_SPAWN: Final = get_context("spawn")


# Small groups are compacted while large ones take their minutes: their number stays small all the while.
_LANES: Final = (
    Rules(group_rows=range(2048), round_rows=16_384),
    Rules(group_rows=range(2048, 32_768), round_rows=262_144),
    Rules(group_rows=range(32_768, 1 << 40)),
)


class Upkeep:
    """Looks after one store, bounded rounds at a time. For one thread; a context manager."""

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._lanes = [_Lane(store, say, rules) for rules in _LANES]

    @property
    def rounds(self) -> int:
        """How many were published."""
        return sum(lane.rounds for lane in self._lanes)

    def look(self, published: bool) -> None:
        """Have rounds carried out that may be due, unless they are under way. Does not wait.

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
    """Groups of some sizes: a round at a time, in a process of its own."""

    def __init__(self, store: Store, say: Callable[[str], None], rules: Rules) -> None:
        self._store = store
        self._say = say
        self._rules = rules
        self._worker: _Worker | None = None
        self._due = self._busy = False
        self._not_before = 0.0
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
            self._worker = _Worker(self._store, self._rules)
        self._worker.ask()
        self._busy, self._due = True, False

    def _listen(self) -> None:
        if self._worker is None or not self._worker.has_answered():
            return
        rounds, problem = self._worker.answer()
        self._busy = False
        # Where one was due, another may be.
        self._due |= rounds > 0
        self.rounds += rounds
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
    """A process that answers each question with the number of rounds it published, and what went wrong."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: SpawnProcess = _SPAWN.Process(
            target=_serve, args=(store, rules, theirs), name="upkeep", daemon=True
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

    def answer(self) -> tuple[int, str | None]:
        """Raises `EOFError` when the process has ended."""
        answer: tuple[int, str | None] = self._pipe.recv()
        return answer

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _serve(store: Store, rules: Rules, pipe: Connection) -> None:
    os.nice(_NICENESS)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(_compact(store, rules))


def _compact(store: Store, rules: Rules) -> tuple[int, str | None]:
    try:
        return len(compact(store, rules, rounds=1, apart=False).rounds), None
    except (TierloomError, OSError) as error:
        return 0, str(error)
