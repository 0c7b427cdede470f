"""A collection of three versions to mirror, what is answered from it, and a process that pulls and dies."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tierloom
from tests.small_shards import Row, make_collection, publish, store_shard, with_dead
from tierloom.channel import move_channel, read_channel
from tierloom.mirroring.pulling import pull
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store

ROOT = Path(__file__).parents[2]
TIERS = ("4", "8", "16")
QUERIES = np.random.default_rng(5).standard_normal((4, 32))
# The exit of a process that ended itself in the middle of its work.
DIED = 86


def make(store: Store) -> None:
    """Version 1: two vector shards in two groups, one with dead rows, and with rows of one code; 2: another shard, and
    more of them dead; 3: the first group is gone. The channel `prod` names version 1."""
    make_collection(store)
    same = [Row("same", at, text=f"same {at}", vector=(1.0, *([0.5] * 31))) for at in range(40)]
    first = store_shard(store, [*(Row("a", at, text=f"a {at}") for at in range(260)), *same])
    second = store_shard(store, [Row("b", at, text=f"b {at}", metadata='{"n": 1}') for at in range(300)])
    publish(store, [[with_dead(store, first, [1, 2, 3])], [second]])
    third = store_shard(store, [Row("c", at, text=f"c {at}") for at in range(300)])
    publish(store, [[with_dead(store, first, range(100))], [second], [third]])
    publish(store, [[second], [third]])
    move_channel(store, "prod", 1, None)


def move(store: Store, version: int) -> None:
    move_channel(store, "prod", version, read_channel(store, "prod"))


def answers(
    store: str | Path, version: int | None = None, tiers: Sequence[str] = TIERS, rerank: bool = True
) -> list[list[tuple[Any, ...]]]:
    """What is found in each tier, with and without its full vectors."""
    found = []
    with tierloom.open(store, version, channel="prod") as snapshot:
        for tier in map(int, tiers):
            for query in QUERIES:
                for exactly in (False, True)[: 1 + rerank]:
                    hits = snapshot.search(query, tier=tier, rerank=exactly, shortlist=50, top=20)
                    found.append([(hit.document_id, hit.ordinal, hit.score, hit.text, hit.metadata) for hit in hits])
    return found


def files(folder: Path) -> set[str]:
    """The names of all objects in a mirror."""
    every = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in every if not name.startswith(".")}


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def dying(store: str, folder: Path, steps: Sequence[int], vectors: bool = True) -> "subprocess.Popen[str]":
    """A process that, for each line it is given, pulls in a child that dies at that step; it answers how that ended."""
    arguments = [sys.executable, "-m", "tests.mirroring.mirrored", store, str(folder), str(vectors), *map(str, steps)]
    return subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pull_and_die(store: str, folder: str, vectors: bool, step: int) -> int:
    """The exit of a child that is gone, without any farewell, at its `step`th call that touches a file."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate", "os.utime", "fcntl.flock"):
            left -= 1
            if left == 0:
                os._exit(DIED)

    sys.addaudithook(count)
    pull(open_store(store), folder, "prod", vectors=vectors)
    os._exit(0)


def main(store: str, folder: str, vectors: str, *steps: str) -> None:
    for step in map(int, steps):
        sys.stdin.readline()
        print(_pull_and_die(store, folder, vectors == "True", step), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
