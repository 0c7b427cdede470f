"""Readers that open `latest` in a loop while others write: `python -m tests.torture.reading STORE`.

A reader prints `version digest` for each version that it has read whole, by row and by a search of every tier; it ends
when its standard input does, and fails with the first query that fails or that mixes two versions.
"""

import hashlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import tierloom
from tests.generations import open_generation
from tests.pipelines.command_line import ROOT
from tests.torture.truth import Chunk, Truth, chunks_of, found_in, live_in
from tierloom.snapshot import Snapshot


def digest_of_chunks(chunks: Counter[Chunk]) -> str:
    """The same for the same live chunks."""
    return hashlib.sha256(repr(sorted(chunks.elements())).encode()).hexdigest()[:16]


def read_once(store: str) -> tuple[int, str]:
    """The newest version, and the digest of what it holds. Raises when two ways of reading differ."""
    with tierloom.open(store) as snapshot:
        live = live_in(snapshot)
        refuse_difference(snapshot, live)
        other = snapshot.manifest.other
        if other and other.is_complete:
            with open_generation(store, snapshot.manifest.turned(other)) as second:
                refuse_difference(second, live)
        return snapshot.manifest.version, digest_of_chunks(live)


def refuse_difference(snapshot: Snapshot, live: Counter[Chunk]) -> None:
    """Raise when the chunks of a generation, or those that a search of a tier of it finds, are not these."""
    version = snapshot.manifest.version
    ways = {tier.name: found_in(snapshot, tier.name) for tier in snapshot.manifest.collection.tiers}
    for way, found in (ways | {"by row": live_in(snapshot)}).items():
        if found != live:
            raise AssertionError(
                f"version {version}, {way}: {found.total()} found, {live.total()} live; "
                f"{sorted((found - live) + (live - found))[:5]}"
            )


class Readers:
    """What some readers have seen: `failures`, and `versions` with what was read of each."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.reads = 0
        self.versions: dict[int, set[str]] = {}

    def add(self, status: int, out: str, err: str) -> None:
        if status:
            self.failures.append(f"a reader ended with {status}: {err[-1000:]}")
        for line in out.splitlines():
            version, digest = line.split()
            self.reads += 1
            self.versions.setdefault(int(version), set()).add(digest)

    def problems(self, history: Mapping[int, Truth]) -> list[str]:
        """Failed queries, versions that were read in two ways, and those that are not what they should have been."""
        mixed = [f"version {version} was read in two ways" for version, seen in self.versions.items() if len(seen) > 1]
        known = {version: digest_of_chunks(chunks_of(truth)) for version, truth in history.items()}
        wrong = [
            f"version {version} was read as another"
            for version, seen in self.versions.items()
            if version in known and seen != {known[version]}
        ]
        return [*self.failures, *mixed, *wrong]


@contextmanager
def readers(store: str, number: int) -> Iterator[Readers]:
    """So many readers at work until the end of the block, at which what they saw is complete."""
    seen = Readers()
    with ExitStack() as stack:
        processes = [stack.enter_context(_reader(store)) for _ in range(number)]
        # Nobody else empties their pipes.
        threads = [threading.Thread(target=_listen, args=(process, seen)) for process in processes]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            for process in processes:
                assert process.stdin
                process.stdin.close()
            for thread in threads:
                thread.join()


def _reader(store: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.reading", store],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _listen(process: "subprocess.Popen[str]", seen: Readers) -> None:
    assert process.stdout
    assert process.stderr
    out, err = process.stdout.read(), process.stderr.read()
    seen.add(process.wait(), out, err)


def main() -> None:
    # There are few processors, and it is the writers that are looked at.
    os.nice(10)
    over = threading.Event()
    threading.Thread(target=_await_end, args=(over,), daemon=True).start()
    while not over.is_set():
        print(*read_once(sys.argv[1]), flush=True)


def _await_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main()
