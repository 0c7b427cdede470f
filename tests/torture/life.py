"""A collection whose corpus changes for a long time, while its writers are killed at random and others read it.

Each step is drawn from a seed: some events, in pieces and perhaps twice; a command that publishes them; compactions,
collections of garbage and tiers that come and go in between. A second generation is begun, built in parts, by itself or
beside an ingest, put in front and retired. Each command is killed some times before it may finish.
"""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipelines.exit_codes import ExitCode
from tests.torture.commands import Commands
from tests.torture.deeds import document
from tests.torture.reading import readers
from tests.torture.truth import WORD_BYTES, Event, Losses, after, head_losses, history_losses
from tests.torture.world import BLOCK_TOKENS, World

_DOCUMENTS: Final = 30
_READERS: Final = 2
# Tokens that a kill may cost: a block of each generation.
_ALLOWED: Final = 2 * BLOCK_TOKENS


@dataclass(slots=True)
class Lived:
    """What came of it: commands that were killed, commands that finished, what was wrong, what readers saw."""

    steps: int = 0
    kills: int = 0
    finished: int = 0
    reads: int = 0
    losses: Losses = field(default_factory=Losses)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps, {self.kills:,} kills, {self.reads:,} reads of whole versions: {self.losses}; "
            f"re-paid {self.losses.repaid} tokens ({self.kills * _ALLOWED} allowed); {len(self.failures)} failures"
        )


class Life:
    """One collection, from one seed."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._draw = random.Random(seed)
        self._sequence = 0
        self._events: list[Event] = []
        self._seconds: dict[str, float] = {}
        self._checkpoints = 0
        self._folder = world.folder / "beside"
        self._folder.mkdir()
        self.lived = Lived()
        world.commands.ok("retention", world.store, "--versions", 6, "--age", "0s")
        world.note_version()

    def live(self, kills: int, seconds: float) -> Lived:
        """Go on until so many commands were killed, or the time is over."""
        until = time.monotonic() + seconds
        with readers(str(self._world.store), _READERS) as seen:
            while self.lived.kills < kills and time.monotonic() < until and not self.lived.failures:
                self._step()
        self.lived.reads = seen.reads
        self.lived.failures += seen.problems(self._world.history)
        return self.lived

    def _step(self) -> None:
        self.lived.steps += 1
        steps = [self._ingest, self._stream, *self._upkeep(), *self._generations()]
        self._draw.choices(steps, weights=[4, 4, 2, 1, 1, 4])[0]()
        self._look()

    def _ingest(self) -> None:
        source = self._world.write(f"{self.lived.steps}.jsonl", self._new_events())
        self._repeatedly("ingest", self._world.store, source, "--concurrency", self._draw.choice([1, 8]))

    def _stream(self) -> None:
        source = self._world.write("stream.jsonl", self._new_events())
        self._repeatedly("stream", self._world.store, source, "--once", "--interval", 0)

    def _upkeep(self) -> Sequence[Callable[[], None]]:
        store = self._world.store
        return (
            lambda: self._repeatedly("compact", store),
            self._collect,
            self._change_tiers,
        )

    def _collect(self) -> None:
        # Nobody writes meanwhile: nothing must be young, but for what the next part of a re-embedding will find.
        building = any(not one.is_complete for one in self._world.head.generations)
        self._repeatedly("gc", self._world.store, "--grace", "1h" if building else "0s")

    def _generations(self) -> Sequence[Callable[[], None]]:
        """What can be done about a second generation."""
        other = self._world.head.other
        if other is None:
            self._checkpoints += 1
            return (self._build,)
        if not other.is_complete:
            return (self._draw.choice((self._build, self._build, self._build_beside, self._retire)),)
        return (self._draw.choice((self._flip, self._retire)),)

    def _build(self) -> None:
        """Build all of it, or some; what is killed may have done all."""
        building = self._world.reembedding(f"m{self._checkpoints}")
        if self._draw.random() < 0.5:
            self._repeatedly(*building)
        elif not self._killed_once(*building):
            self._finish(*building, "--max-tokens", self._draw.randint(8, 40) * WORD_BYTES, allowed=ExitCode.CAPPED)

    def _build_beside(self) -> None:
        """Go on building while documents change."""
        with Commands(self._folder) as commands:
            running = commands.start(*self._world.reembedding(f"m{self._checkpoints}"))
            self._ingest()
            ended = running.wait()
        if ended.status:
            self._fail(f"the reembed beside it ended with {ended.status}: {ended.err[-2000:]}")

    def _flip(self) -> None:
        other = self._world.head.checkpoints[1]
        flip = ("promote", self._world.store, "latest", "--channel", "latest", "--checkpoint", other)
        self._until(lambda: self._world.head.checkpoint == other, *flip)

    def _retire(self) -> None:
        """Either of them, but for the only one that is complete."""
        head = self._world.head
        assert head.other
        gone = self._draw.choice(head.checkpoints) if head.other.is_complete else head.other.checkpoint
        force = () if head.other.is_complete else ("--force",)
        retire = ("retire", self._world.store, "--checkpoint", gone, *force)
        self._until(lambda: gone not in self._world.head.checkpoints, *retire)

    def _change_tiers(self) -> None:
        """A tier comes, or goes: what was killed may have done so already."""
        tier = self._draw.choice(("4", "16-binary"))
        what = "drop" if tier in self._world.tiers() else "add"
        self._until(lambda: (tier in self._world.tiers()) == (what == "add"), "tiers", what, self._world.store, tier)

    def _until(self, done: Callable[[], bool], *arguments: object) -> None:
        """Carry out what cannot be done twice: when it was killed it may be done already."""
        while self._killed_once(*arguments):
            pass
        if not done():
            self._finish(*arguments)
        if not done():
            self._fail(f"{' '.join(map(str, arguments))} did nothing")

    def _new_events(self) -> list[Event]:
        """Some changes, mixed with older events that come again or too late."""
        new = [self._new_event() for _ in range(self._draw.randint(1, 12))]
        again = self._draw.sample(self._events, min(len(self._events), self._draw.randint(0, 4)))
        self._events += new
        mixed = new + again
        self._draw.shuffle(mixed)
        self._world.truth = after(self._world.truth, mixed)
        return mixed

    def _new_event(self) -> Event:
        number = self._draw.randrange(_DOCUMENTS)
        # Sequences are given once: who is first among equals would depend on the order of arrival.
        self._sequence += self._draw.randint(1, 3)
        if self._draw.random() < 0.2:
            return Event(f"d{number}", self._sequence)
        known = self._world.truth.get(f"d{number}")
        kept = known.words[: self._draw.randint(0, 2)] if known else ()
        return document(number, self._sequence, len(kept) + self._draw.randint(1, 3), kept)

    def _repeatedly(self, *arguments: object) -> None:
        """Carry out a command that is killed some times before."""
        while self._killed_once(*arguments):
            pass
        self._finish(*arguments)

    def _killed_once(self, *arguments: object) -> bool:
        """Perhaps start a command and kill it; whether that was done."""
        if self._draw.random() < 0.5:
            return False
        running = self._world.commands.start(*arguments)
        time.sleep(self._draw.random() * self._seconds.get(str(arguments[0]), 1.0))
        running.kill()
        self.lived.kills += running.wait().status == -signal.SIGKILL
        return True

    def _finish(self, *arguments: object, allowed: int = ExitCode.DONE) -> None:
        began = time.monotonic()
        ended = self._world.commands.run(*arguments)
        self._seconds[str(arguments[0])] = time.monotonic() - began
        if ended.status not in (ExitCode.DONE, allowed):
            self._fail(f"{' '.join(map(str, arguments))} ended with {ended.status}: {ended.err[-2000:]}")
        self.lived.finished += 1

    def _look(self) -> None:
        losses = head_losses(self._world.store, [self._world.truth])
        self._world.note_version()
        losses.add(history_losses(self._world.store, self._world.history))
        self.lived.losses.add(losses)
        self.lived.losses.repaid = self._world.repaid().repaid
        if not losses.none:
            self._fail("; ".join(losses.notes))
        if self.lived.losses.repaid > self.lived.kills * _ALLOWED:
            self._fail(f"re-paid {self.lived.losses.repaid} tokens after {self.lived.kills} kills")

    def _fail(self, what: str) -> None:
        self.lived.failures.append(f"step {self.lived.steps}: {what}")


def live(world: World, seed: int, kills: int, seconds: float = 1e9) -> Lived:
    """The life that follows from a seed, until so many commands were killed or the time is over."""
    return Life(world, seed).live(kills, seconds)
