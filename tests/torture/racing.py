"""Committers that race for each version: `python -m tests.torture.racing STORE NAME COMMITS`.

A version holds one of two shards, by its number: so a reader that mixes two versions is found out.
"""

import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import Final

import msgspec

from tests.pipelines.command_line import ROOT
from tests.small_shards import Row, index_shards, make_collection, store_shard
from tests.torture.reading import readers
from tests.torture.truth import Event, Truth
from tierloom import names
from tierloom.channel import read_channel
from tierloom.commit import commit
from tierloom.manifest import DocumentCounts, IndexShard, Manifest, RunRecord, VectorShard
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import read_manifest, stored_versions

_ROWS: Final = 6


def prepare(store: Store) -> None:
    """An empty collection, and the shards that its versions will hold."""
    make_collection(store, tiers=(8, 16))
    for which in (0, 1):
        contents(store, which)


def contents(store: Store, which: int) -> tuple[VectorShard, tuple[IndexShard, ...]]:
    """One of the two shards with its index shards, stored if they are not yet."""
    rows = [Row(event.document_id, 0, event.sequence, event.words[0]) for event in truth_of(which).values()]
    shard = store_shard(store, rows)
    return shard, index_shards(store, read_manifest(store, 0).collection, [[shard]])


def truth_of(version: int) -> Truth:
    """What a version holds, but for the first."""
    which = version % 2
    return {f"{which}-{n}": Event(f"{which}-{n}", 1, (f"word {n} of {which}",)) for n in range(_ROWS)}


def commit_often(store: Store, name: str, commits: int) -> None:
    """Publish so many versions, whoever else is publishing."""
    held = [contents(store, which) for which in (0, 1)]

    def change(head: Manifest, run: str) -> Manifest:
        version = head.version + 1
        shard, indexes = held[version % 2]
        return msgspec.structs.replace(
            head,
            version=version,
            run=RunRecord(run=run, command="race"),
            documents=DocumentCounts(documents_in=version, live=version),
            vector_shards=(shard,),
            index_shards=indexes,
        )

    for at in range(commits):
        commit(store, partial(change, run=f"{name}-{at}"))


def race(store: str, racers: int, commits: int, reading: int = 1) -> list[str]:
    """What went wrong while `racers` processes published `commits` versions each, and others read."""
    opened = open_store(store)
    prepare(opened)
    with readers(store, reading) as seen:
        command = [sys.executable, "-m", "tests.torture.racing", store]
        processes = [
            subprocess.Popen([*command, f"r{racer}", str(commits)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for racer in range(racers)
        ]
        errors = [process.communicate()[1] for process in processes]
    failed = [error for process, error in zip(processes, errors, strict=True) if process.returncode]
    runs = {f"r{racer}-{at}" for racer in range(racers) for at in range(commits)}
    truths = {version: truth_of(version) for version in range(1, len(runs) + 1)}
    unread = [] if seen.reads else ["nobody read anything"]
    return [*failed, *history_problems(opened, runs), *seen.problems(truths), *unread]


def history_problems(store: Store, runs: set[str]) -> list[str]:
    """What is wrong with a history in which each of these runs should be one version, each the child of the last."""
    history = [read_manifest(store, version) for version in stored_versions(store)]
    published = [manifest.run.run for manifest in history[1:]]
    latest = read_channel(store, names.LATEST)
    checks = {
        f"lost commits: {sorted(runs - {*published})[:5]}": runs <= {*published},
        "a commit that is there twice": len(published) == len({*published}),
        "numbers that are not 0, 1, 2, ...": [m.version for m in history] == [*range(len(runs) + 1)],
        "a version that is not the child of the one before": all(
            child.parent == parent.digest() for parent, child in pairwise(history)
        ),
        "a commit that did not see the one before": [m.documents.live for m in history] == [*range(len(history))],
        "latest does not name the newest": latest is not None and latest[0].version == len(runs),
    }
    return [problem for problem, holds in checks.items() if not holds]


def main() -> None:
    store, name, commits = sys.argv[1:]
    commit_often(open_store(store), name, int(commits))


if __name__ == "__main__":
    main()
