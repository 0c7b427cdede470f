"""A short torture: some points and seeds of each kind. `make torture` takes all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.engines.gcs_server import GcsBucket
from tests.pipelines.command_line import ROOT
from tests.torture.commands import Commands
from tests.torture.deeds import DEEDS
from tests.torture.interrupting import Interrupter, Point
from tests.torture.life import live
from tests.torture.racing import race
from tests.torture.storms import storm
from tests.torture.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Their points, times three, are what there is to interrupt.
CALLS = {"ingest": 100, "stream": 100, "compact": 30, "gc": 30}


@pytest.mark.parametrize(("name", "points"), [("ingest", 3), ("stream", 3), ("compact", 6), ("gc", 6)])
def test_what_is_interrupted_at_a_call_of_the_store_is_finished_by_the_next(
    world: World, name: str, points: int
) -> None:
    interrupter = Interrupter(world, DEEDS[name](world))
    assert interrupter.calls >= CALLS[name]
    report = interrupter.interrupt(interrupter.some_calls(points, seed=7))
    assert report.interrupted == points
    assert report.failures == []


@pytest.mark.parametrize(("name", "seeds"), [("ingest", 1), ("stream", 1), ("compact", 2), ("gc", 2)])
def test_a_store_that_is_out_of_reach_now_and_then_loses_nothing(world: World, name: str, seeds: int) -> None:
    report = Interrupter(world, DEEDS[name](world)).interrupt(Point("outages", seed) for seed in range(seeds))
    assert report.failures == []


def test_a_life_of_writers_killed_at_random_loses_nothing(world: World) -> None:
    lived = live(world, seed=3, kills=4)
    assert lived.failures == []
    # The step in which the fourth falls may bring more.
    assert lived.kills >= 4
    assert lived.reads > 0


@pytest.mark.parametrize(("racers", "commits"), [(2, 12), (8, 3)])
def test_racing_committers_make_one_history(tmp_path: Path, racers: int, commits: int) -> None:
    assert race(str(tmp_path / "store"), racers, commits) == []


@pytest.mark.engine
def test_racing_committers_make_one_history_in_a_bucket(gcs_bucket: GcsBucket) -> None:
    assert race(gcs_bucket.url, racers=4, commits=3) == []


@pytest.mark.engine
def test_in_a_storm_everything_comes_out_right(
    gcs_bucket: GcsBucket, tmp_path: Path, endpoint: Endpoint, commands: Commands
) -> None:
    assert storm(gcs_bucket.url, tmp_path, endpoint, commands, seed=1) == []


def test_spoiled_files_are_refused_or_harmless() -> None:
    """In a process of its own: it forks, and must not have threads."""
    command = [sys.executable, "-m", "tests.torture.mutations", "--count", "60", "--seed", "4"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 wrong, 0 crashed" in ended.stdout
