"""A deed is interrupted at one point, looked at, carried out once more, and looked at again."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Asked, Reply, error
from tests.stores.faulty import ENDED, ExitAt, Fault, LoseAnswer, NoFault, Outages
from tests.torture.commands import Ended, Running
from tests.torture.deeds import Deed
from tests.torture.truth import Losses, head_losses, history_losses
from tests.torture.world import BLOCK_TOKENS, World


@dataclass(frozen=True, slots=True)
class Point:
    """Where a deed is interrupted: `before` or `after` a call of the store, by a lost answer to one (`lost`), by many
    refusals drawn from a seed (`outages`), by a signal at a share of its time (`signal`), in millionths; when it
    sends a request to the model (`killed`), which is answered all the same, or by a key that is `refused` from then on.
    """

    how: str
    at: int

    def __str__(self) -> str:
        return f"{self.how}:{self.at}"

    def fault(self) -> Fault:
        """What goes wrong in the process itself."""
        match self.how:
            case "before" | "after":
                return ExitAt(self.at, late=self.how == "after")
            case "lost":
                return LoseAnswer(self.at)
            case "outages":
                return Outages(self.at, share=0.02)
        return NoFault()


class AtRequest:
    """What the endpoint does from the n-th request on, which is a point's."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._seen = 0
        self._lock = threading.Lock()
        self._victim: Running | None = None

    def run(self, start: Callable[[], Running]) -> Ended:
        """The command, which sends no request before it is known here."""
        with self._lock:
            running = self._victim = start()
        return running.wait()

    def __call__(self, asked: Asked) -> Reply | None:
        with self._lock:
            self._seen += 1
            if self._seen < self._point.at:
                return None
            if self._point.how == "refused":
                return error(401, "no such key")
            if self._seen == self._point.at and self._victim:
                self._victim.kill()
            return None


@dataclass(slots=True)
class Report:
    """What came of many interruptions. `failures` are the points, each with what was wrong."""

    interrupted: int = 0
    losses: Losses = field(default_factory=Losses)
    most_repaid: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.interrupted:,} interrupted: {self.losses}; re-paid at most {self.most_repaid} tokens "
            f"({BLOCK_TOKENS} a block allowed), {self.losses.repaid} in all; {len(self.failures)} failures"
        )


class Interrupter:
    """Interrupts one deed in one world, as often as it is asked to."""

    def __init__(self, world: World, deed: Deed) -> None:
        self._world = world
        self._deed = deed
        self.report = Report()
        world.save()
        began, asked = time.monotonic(), world.endpoint.requests
        self._finish("uninterrupted", fault=NoFault())
        self.requests = world.endpoint.requests - asked
        self.seconds = time.monotonic() - began
        self.calls = len(world.commands.counter.calls())

    def every_call(self) -> Iterator[Point]:
        """Before and after each call of the store; and its answer lost, where that says something."""
        for number in range(1, self.calls + 1):
            yield from (Point("before", number), Point("after", number), Point("lost", number))

    def every_request(self) -> Iterator[Point]:
        """Killed when it sends one, and refused from one on."""
        for number in range(1, self.requests + 1):
            yield from (Point("killed", number), Point("refused", number))

    def some_calls(self, number: int, seed: int) -> list[Point]:
        """So many of them, drawn from a seed."""
        return random.Random(seed).sample(list(self.every_call()), number)

    def interrupt(self, points: Iterable[Point]) -> Report:
        """Interrupt at each of these points, from the same beginning."""
        for point in points:
            self._world.restore()
            ended = self._interrupted(point)
            losses = head_losses(self._world.store, self._deed.allowed)
            if not losses.none:
                self._fail(point, "when it was interrupted", losses)
            if ended.status not in (0, 1, ExitCode.LATER, ENDED, -9) or "Traceback" in ended.err:
                self.report.failures.append(f"{point}: ended with {ended.status}: {ended.err[-2000:]}")
            self.report.interrupted += 1
            self._finish(str(point))
        return self.report

    def _interrupted(self, point: Point) -> Ended:
        if point.how in ("killed", "refused"):
            return self._stopped_at_request(AtRequest(point))
        if point.how != "signal":
            return self._world.commands.run(*self._deed.arguments, fault=point.fault())
        running = self._world.commands.start(*self._deed.arguments)
        time.sleep(self.seconds * point.at / 1e6)
        running.kill()
        return running.wait()

    def _stopped_at_request(self, script: AtRequest) -> Ended:
        self._world.endpoint.script = script
        try:
            return script.run(lambda: self._world.commands.start(*self._deed.arguments))
        finally:
            self._world.endpoint.script = None

    def _finish(self, point: str, fault: Fault | None = None) -> None:
        """Carry the deed out to its end, and look whether that is the right one."""
        ended = self._world.commands.run(*self._deed.arguments, fault=fault)
        losses = head_losses(self._world.store, self._deed.allowed[-1:])
        losses.add(history_losses(self._world.store, self._world.history))
        repaid = self._world.repaid().repaid
        if ended.status != 0 and not (self._deed.done and self._deed.done in ended.out + ended.err):
            losses.notes.append(f"ended with {ended.status}: {ended.out[-1000:]}{ended.err[-2000:]}")
        if (whole := sum(one.is_complete for one in self._world.head.generations)) != self._deed.generations:
            losses.notes.append(f"{whole} whole generations instead of {self._deed.generations}")
        if repaid > self._deed.blocks * _allowed(point):
            losses.notes.append(f"re-paid {repaid} tokens")
        if not losses.none:
            self._fail(point, "when it was finished", losses)
        self.report.losses.repaid += repaid
        self.report.most_repaid = max(self.report.most_repaid, repaid)

    def _fail(self, point: Point | str, when: str, losses: Losses) -> None:
        self.report.losses.add(losses)
        self.report.failures.append(f"{point}: {when}: {'; '.join(losses.notes)}")


def _allowed(point: str) -> int:
    """Tokens of a block that may be paid twice. A store that is out of reach makes a stream try its batch again, and a
    failed try loses what it had in flight just as a kill does (docs/streams.md)."""
    return 2 * BLOCK_TOKENS if point.startswith("outages") else BLOCK_TOKENS


def random_signals(number: int, seed: int) -> Sequence[Point]:
    """Moments that are drawn from a seed."""
    draw = random.Random(seed)
    return [Point("signal", draw.randrange(1_000_000)) for _ in range(number)]
