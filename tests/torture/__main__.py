"""The long torture: `make torture`, or `python -m tests.torture --help`.

Deeds are interrupted before and after every call of their store, with its answer lost, and at every request to their
model, some of them on two generations of a collection; they meet outages; writers are killed at random moments of long
lives; committers race; a bucket lies behind a bad network. Every failure is printed with what replays it.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.embedders.endpoint import Endpoint
from tests.engines import gcs_server
from tests.pipelines.command_line import KEY, KEY_VARIABLE
from tests.torture.commands import Commands
from tests.torture.deeds_of_two import EVERY_DEED
from tests.torture.interrupting import Interrupter, Point
from tests.torture.life import live
from tests.torture.racing import race
from tests.torture.storms import storm
from tests.torture.world import World

_KINDS = ("calls", "outages", "lives", "races", "storms")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where one torture takes place."""

    folder: Path
    endpoint: Endpoint
    commands: Commands

    def world(self) -> World:
        return World(self.folder, self.endpoint, self.commands)

    def interrupter(self, deed: str) -> Interrupter:
        world = self.world()
        return Interrupter(world, EVERY_DEED[deed](world))


@contextmanager
def workshop() -> Iterator[Workshop]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tierloom-torture-")))
        endpoint = stack.enter_context(Endpoint(dimensions=16))
        yield Workshop(folder, endpoint, stack.enter_context(Commands(folder)))


def calls(options: argparse.Namespace) -> Iterator[str]:
    """Interrupt each deed at every call of its store and every request to its model, or at some of them."""
    for name in options.deeds:
        with workshop() as place:
            interrupter = place.interrupter(name)
            points = [*interrupter.every_call(), *interrupter.every_request()]
            if options.points:
                points = random.Random(options.seed).sample(points, min(options.points, len(points)))
            report = interrupter.interrupt(points)
            points_of = f"{interrupter.calls} calls and {interrupter.requests} requests"
        print(f"{name}, at {len(points):,} points of {points_of}: {report}", flush=True)
        yield from (f"--replay {name}:{failure}" for failure in report.failures)


def outages(options: argparse.Namespace) -> Iterator[str]:
    """Let a share of the calls of each deed fail."""
    for name in options.deeds:
        with workshop() as place:
            interrupter = place.interrupter(name)
            report = interrupter.interrupt(Point("outages", seed) for seed in _seeds(options))
        print(f"{name}, with outages: {report}", flush=True)
        yield from (f"--replay {name}:{failure}" for failure in report.failures)


def lives(options: argparse.Namespace) -> Iterator[str]:
    """Live until so many commands were killed: 50 in each life, so that a failure need not be sought for long."""
    until, left = time.monotonic() + options.seconds, options.kills
    for seed in range(options.seed, options.seed + options.kills):
        if left <= 0 or time.monotonic() >= until:
            return
        with workshop() as place:
            lived = live(place.world(), seed, min(left, 50), until - time.monotonic())
        print(f"life {seed}: {lived}", flush=True)
        yield from (f"--replay life:{seed}: {failure}" for failure in lived.failures)
        left -= lived.kills


def races(options: argparse.Namespace) -> Iterator[str]:
    """Two and eight committers, in a folder and in a bucket."""
    for racers in (2, 8):
        share = -(-options.commits // 4 // racers)
        with TemporaryDirectory(prefix="tierloom-torture-") as folder:
            yield from _raced(f"{folder}/store", racers, share)
        if options.server:
            yield from _raced(gcs_server.new_bucket(options.server).url, racers, share)


def _raced(store: str, racers: int, commits: int) -> Iterator[str]:
    problems = race(store, racers, commits)
    print(f"{racers} committers of {commits:,} versions each on {store}: {len(problems)} problems", flush=True)
    yield from problems


def storms(options: argparse.Namespace) -> Iterator[str]:
    """Everything over a bad network."""
    for seed in _seeds(options) if options.server else ():
        url = gcs_server.new_bucket(options.server).url
        with workshop() as place:
            problems = storm(url, place.folder, place.endpoint, place.commands, seed)
        print(f"storm {seed}: {len(problems)} problems", flush=True)
        yield from problems


@contextmanager
def server() -> Iterator[str | None]:
    """The address of a real server of buckets, for this process and those it starts; None where there is none."""
    if (program := gcs_server.program()) is None:
        print("no fake-gcs-server on PATH, and no Go to build it: nothing is done in a bucket")
        yield None
        return
    with TemporaryDirectory() as folder, gcs_server.serving(program, Path(folder) / "log") as address:
        os.environ["STORAGE_EMULATOR_HOST"] = address
        yield address


def replay(what: str) -> list[str]:
    """The failures of one point (deed:how:number) or of one life (life:seed)."""
    name, _, point = what.partition(":")
    with workshop() as place:
        if name == "life":
            return live(place.world(), int(point), kills=50).failures
        how, _, number = point.partition(":")
        return place.interrupter(name).interrupt([Point(how, int(number))]).failures


def _seeds(options: argparse.Namespace) -> range:
    return range(options.seed, options.seed + options.seeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="the first of all seeds")
    parser.add_argument("--seeds", type=int, default=20, help="how many outages of each deed, and storms")
    parser.add_argument("--points", type=int, default=0, help="calls to interrupt each deed at; 0 for all")
    parser.add_argument("--kills", type=int, default=200, help="commands to kill at random moments")
    parser.add_argument("--seconds", type=float, default=3600, help="how long lives may last in all")
    parser.add_argument("--commits", type=int, default=1000, help="versions that are raced for in all")
    parser.add_argument("--only", nargs="*", choices=_KINDS, default=_KINDS, help="which kinds of torture")
    parser.add_argument(
        "--deeds", nargs="*", choices=list(EVERY_DEED), default=list(EVERY_DEED), help="what is interrupted"
    )
    parser.add_argument("--replay", metavar="WHAT", help="what was printed with a failure, such as ingest:before:37")
    return parser.parse_args()


def main() -> int:
    os.environ[KEY_VARIABLE] = KEY
    options = _options()
    if options.replay:
        failures = replay(options.replay)
    else:
        print(f"seed {options.seed}", flush=True)
        kinds = {"calls": calls, "outages": outages, "lives": lives, "races": races, "storms": storms}
        with server() as options.server:
            failures = [failure for kind in options.only for failure in kinds[kind](options)]
    print(*failures or ["nothing lost, doubled, torn or resurrected"], sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
