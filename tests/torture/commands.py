"""Commands in processes that can be killed: started by a zygote, watched from here."""

import base64
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.pipelines.command_line import ROOT
from tests.stores.faulty import Counter, Fault
from tests.stores.faulty_network import Weather
from tests.torture.zygote import Order


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; its status is negative when a signal killed it."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Running:
    """A command under way."""

    pid: int
    order: Order
    zygote: "subprocess.Popen[str]"

    def kill(self) -> None:
        """`kill -9`, also of the processes it has started, if it has not ended by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Also ends what the command has left running: a process that works on is not what is looked for here."""
        status = int(_line(self.zygote))
        self.kill()
        return Ended(status, self.order.output.read_text(), self.order.errors.read_text())


class Commands:
    """One command at a time. A context manager; `folder` is for what they print and for counting their calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if _line(self._zygote) != "ready":
            self._end()
            raise AssertionError("the commands could not be imported: see above")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._zygote.kill()
        self._zygote.communicate()

    @property
    def counter(self) -> Counter:
        """Counts the calls of the command that was last given a fault."""
        return Counter(self._folder / "calls")

    def start(self, *arguments: object, fault: Fault | None = None, weather: Weather | None = None) -> Running:
        self.counter.path.unlink(missing_ok=True)
        order = Order(
            tuple(map(str, arguments)),
            self._folder / "stdout",
            self._folder / "stderr",
            self.counter if fault else None,
            fault,
            weather,
        )
        assert self._zygote.stdin
        self._zygote.stdin.write(base64.b64encode(pickle.dumps(order)).decode() + "\n")
        self._zygote.stdin.flush()
        return Running(int(_line(self._zygote)), order, self._zygote)

    def run(self, *arguments: object, fault: Fault | None = None, weather: Weather | None = None) -> Ended:
        return self.start(*arguments, fault=fault, weather=weather).wait()

    def ok(self, *arguments: object, fault: Fault | None = None) -> str:
        """What a command prints that must succeed."""
        ended = self.run(*arguments, fault=fault)
        assert ended.status == 0, ended
        return ended.out


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()
