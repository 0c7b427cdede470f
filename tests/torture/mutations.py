"""Thousands of spoiled files: `python -m tests.torture.mutations [--count 10000] [--seed 1]`.

A file of a mirror is spoiled, and a reader in a process of its own uses all of it: it must refuse, or answer as if
nothing had happened. Or a file of the source is spoiled, and pulled from: the pull must refuse while the mirror answers
as before, or the new version must be right. Counted is what was detected, what was harmless, and what must not be:
wrong answers, and crashes of the process. Each number of a seed is one mutation, that `--replay` does again.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from tests.mirroring.mirrored import answers, make, move
from tests.torture.spoiling import spoil
from tierloom.errors import TierloomError
from tierloom.mirroring.mirror import read_mirror, write_mirror
from tierloom.mirroring.pulling import pull
from tierloom.stores.local import LocalStore

DETECTED: Final = 40
WRONG: Final = 41
# A reader that has not answered by then hangs.
_SECONDS: Final = 60
_MEMORY: Final = 8 << 30


@dataclass
class Counts:
    """How the mutations ended; `failures` with what replays them."""

    of: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ("detected", "harmless", "wrong", "crashed")
        return ", ".join(f"{self.of[kind]:,} {kind}" for kind in kinds)


class World:
    """A source with two versions; mirrors of the first one, with full vectors and without; what each answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.expected: dict[tuple[int, bool], str] = {}
        # In a child: threads that were started before a fork do not come along.
        assert _in_child(self._make) == 0
        for version in (1, 2):
            for vectors in (True, False):
                self.expected[version, vectors] = self._answered_in_child(version, vectors)

    def mirror(self, vectors: bool) -> Path:
        return self.folder / ("whole" if vectors else "hollow")

    def _make(self) -> None:
        store = LocalStore(self.source)
        make(store)
        for vectors in (True, False):
            pull(store, self.mirror(vectors), "prod", vectors=vectors)
        move(store, 2)

    def _answered_in_child(self, version: int, vectors: bool) -> str:
        kept = self.folder / "answers"

        def answer() -> None:
            kept.write_text(_answered(self.source, vectors, version))

        assert _in_child(answer) == 0
        return kept.read_text()


def mutate(world: World, seed: int, number: int) -> tuple[str, str]:
    """How one mutation ended, and what it was."""
    draw = random.Random(f"{seed}:{number}")
    vectors = draw.random() < 0.7
    with _copies(world, vectors) as (source, mirror):
        if number % 2:
            what = spoil(mirror, draw)
            return _read_spoiled(world, mirror, vectors), f"mirror, {what}"
        what = spoil(source, draw)
        return _pull_spoiled(world, source, mirror, vectors), f"source, {what}"


def _read_spoiled(world: World, mirror: Path, vectors: bool) -> str:
    return _named(_in_child(lambda: _compare(mirror, vectors, world.expected[1, vectors])))


def _pull_spoiled(world: World, source: Path, mirror: Path, vectors: bool) -> str:
    """Whatever the pull says, the mirror serves a whole version: the old one where it was refused."""

    def pulled() -> None:
        pull(LocalStore(source), mirror, "prod", vectors=vectors)

    ended = _named(_in_child(pulled))
    if ended == "crashed":
        return ended
    version = 1 if ended == "detected" else 2
    served = _named(_in_child(lambda: _compare(mirror, vectors, world.expected[version, vectors])))
    if served == "harmless":
        return ended
    return "crashed" if served == "crashed" else "wrong"


def _compare(mirror: Path, vectors: bool, expected: str) -> None:
    if _answered(mirror, vectors) != expected:
        os._exit(WRONG)


def _answered(store: Path, vectors: bool, version: int | None = None) -> str:
    return repr(answers(store, version, rerank=vectors))


def _named(ended: int) -> str:
    return {0: "harmless", DETECTED: "detected", WRONG: "wrong"}.get(ended, "crashed")


def _in_child(work: Callable[[], None]) -> int:
    """How a child ended that did this: 0, `DETECTED` when it raised an error of ours, below 0 when it was killed."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        work()
    except TierloomError:
        os._exit(DETECTED)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


@contextmanager
def _copies(world: World, vectors: bool) -> Iterator[tuple[Path, Path]]:
    """A source and a mirror of it to spoil: hard links, which are replaced and never written to."""
    with TemporaryDirectory(dir=world.folder) as folder:
        source, mirror = Path(folder) / "source", Path(folder) / "mirror"
        for original, copy in ((world.source, source), (world.mirror(vectors), mirror)):
            shutil.copytree(original, copy, copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
        # The mirror knows its source by its address.
        rename_source(mirror, str(world.source), str(source))
        yield source, mirror


def rename_source(mirror: Path, old: str, new: str) -> None:
    """As if it had been pulled from there."""
    known = read_mirror(LocalStore(mirror))
    assert known is not None
    assert known.source == old
    write_mirror(LocalStore(mirror), msgspec.structs.replace(known, source=new))


def torture(world: World, seed: int, numbers: range, told: bool = False) -> Counts:
    counts = Counts()
    for number in numbers:
        ended, what = mutate(world, seed, number)
        counts.of[ended] += 1
        counts.of[f"{what.split()[0]} {what.split()[1]}: {ended}"] += 1
        if ended in ("wrong", "crashed"):
            counts.failures.append(f"--seed {seed} --replay {number}: {ended}: {what}")
            print(counts.failures[-1], flush=True)
        if told and number % 500 == 499:
            print(f"{number + 1:,} mutations: {counts}", flush=True)
    return counts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many files to spoil")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which ones, and how")
    parser.add_argument("--replay", type=int, help="do one mutation of the seed again")
    return parser.parse_args()


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    numbers = range(options.count) if options.replay is None else range(options.replay, options.replay + 1)
    with TemporaryDirectory(prefix="tierloom-mutations-") as folder:
        counts = torture(World(Path(folder)), options.seed, numbers, told=True)
    for kind, number in sorted(counts.of.items()):
        if ":" in kind:
            print(f"  {kind:30} {number:6,}")
    print(f"{len(numbers):,} mutations: {counts}")
    return bool(counts.failures)


if __name__ == "__main__":
    sys.exit(main())
