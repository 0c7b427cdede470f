"""A store that fails on purpose: the n-th call never returns, or it is refused, cut short, or its answer is lost.

Calls are counted over all methods, threads and processes that share a `Counter`. What is raised is what a backend
raises when its own retries are used up.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from tierloom.errors import StoreError
from tierloom.stores.store import Listed, Revision, Store

T = TypeVar("T")

# How a process that a fault has ended exits: no other end looks like it.
ENDED: Final = 86
# A lost answer to these leaves something behind.
WRITES: Final = frozenset({"create", "create_from_file", "swap", "renew", "remove"})
_READS: Final = frozenset({"read", "read_range", "fetch", "read_revision"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the n-th (from 1), of this method, about this object."""

    number: int
    method: str
    name: str


class Fault(Protocol):
    """What goes wrong. Both raise what the store is to raise, or do not return at all."""

    def before(self, call: Call) -> None:
        """The store has not begun."""

    def after(self, call: Call) -> None:
        """The store is done; its answer is on the way."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts in a file, to which every call adds a line: threads and processes agree on each number."""

    path: Path

    def next(self, method: str, name: str) -> Call:
        """The call that is now made."""
        line = f"{method} {name}"[:_LINE].ljust(_LINE).encode() + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            return Call(os.lseek(descriptor, 0, os.SEEK_CUR) // len(line), method, name)
        finally:
            os.close(descriptor)

    def calls(self) -> list[Call]:
        """Every call so far."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [Call(number, *_words(line)) for number, line in enumerate(lines, 1)]


_LINE: Final = 200


def _words(line: str) -> tuple[str, str]:
    method, _, name = line.rstrip().partition(" ")
    return method, name


class NoFault:
    """Only counts."""

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call) -> None:
        pass


@dataclass(frozen=True, slots=True)
class ExitAt:
    """The process is gone before or after its `number`th call, without any farewell."""

    number: int
    late: bool

    def before(self, call: Call) -> None:
        if call.number == self.number and not self.late:
            os._exit(ENDED)

    def after(self, call: Call) -> None:
        if call.number == self.number and self.late:
            os._exit(ENDED)


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """The call that is the `number`th is carried out, and reported as failed."""

    number: int

    def before(self, call: Call) -> None:
        pass

    def after(self, call: Call) -> None:
        if call.number == self.number:
            raise StoreError(f"{call.name}: ConnectionResetError; see that the network is up, and try again")


@dataclass(slots=True)
class Outages:
    """Calls fail at random, `share` of them: refused (429, 503), timed out before or after they were carried out, or
    with a body that was cut."""

    seed: int
    share: float
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def before(self, call: Call) -> None:
        if self._draw.random() < self.share / 2:
            raise StoreError(f"{call.name}: {self._draw.choice(_REFUSALS)}")

    def after(self, call: Call) -> None:
        if self._draw.random() < self.share / 2 and call.method in WRITES | _READS:
            raise StoreError(f"{call.name}: {_LOST if call.method in WRITES else _CUT}")


_REFUSALS: Final = (
    "kept failing until the retries were used up: 429 Too Many Requests; see that the network is up, and try again",
    "kept failing until the retries were used up: 503 Service Unavailable; see that the network is up, and try again",
    "kept failing until the retries were used up: ReadTimeout; see that the network is up, and try again",
)
_LOST: Final = "kept failing until the retries were used up: ConnectionError; see that the network is up, and try again"
_CUT: Final = "the bytes that came do not have its crc32c; see that the network is up, and try again"


@dataclass(frozen=True, slots=True)
class FaultyStore:
    """A store, with a fault between it and who uses it."""

    inner: Store
    fault: Fault
    counter: Counter

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def local(self) -> bool:
        return self.inner.local

    def create(self, name: str, data: bytes) -> None:
        self._call("create", name, lambda: self.inner.create(name, data))

    def create_from_file(self, name: str, path: Path) -> None:
        self._call("create_from_file", name, lambda: self.inner.create_from_file(name, path))

    def read(self, name: str) -> bytes:
        return self._call("read", name, lambda: self.inner.read(name))

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        return self._call("read_range", name, lambda: self.inner.read_range(name, offset, length))

    def size(self, name: str) -> int | None:
        return self._call("size", name, lambda: self.inner.size(name))

    def read_revision(self, name: str) -> tuple[bytes, Revision] | None:
        return self._call("read_revision", name, lambda: self.inner.read_revision(name))

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        return self._call("swap", name, lambda: self.inner.swap(name, data, expected))

    def renew(self, name: str) -> bool:
        return self._call("renew", name, lambda: self.inner.renew(name))

    def remove(self, listed: Listed) -> bool:
        return self._call("remove", listed.name, lambda: self.inner.remove(listed))

    def list(self, prefix: str) -> Iterator[Listed]:
        return self._call("list", prefix, lambda: iter([*self.inner.list(prefix)]))

    def scratch(self) -> Path:
        return self._call("scratch", "", self.inner.scratch)

    def fetch(self, name: str, folder: Path) -> Path:
        return self._call("fetch", name, lambda: self.inner.fetch(name, folder))

    def _call(self, method: str, name: str, act: Callable[[], T]) -> T:
        call = self.counter.next(method, name)
        self.fault.before(call)
        answer = act()
        self.fault.after(call)
        return answer
