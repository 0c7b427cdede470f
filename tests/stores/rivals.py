"""Starts second processes that work on the same store as the test: see `rival.py`."""

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.stores import rival
from tierloom.stores.store import Store


@contextlib.contextmanager
def rival_process(
    store: Store, folder: Path, *arguments: str, within: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A rival that waits to be started; killed at the end. `within` is a command that runs another."""
    pickled = folder / "store.pickle"
    pickled.write_bytes(pickle.dumps(store))
    command = [*within, sys.executable, rival.__file__, str(pickled), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def start(rivals: list[subprocess.Popen[str]]) -> None:
    """Let them all go at once, when the last of them is ready."""
    assert [line(process) for process in rivals] == ["ready"] * len(rivals)
    for process in rivals:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a rival says."""
    assert process.stdout
    return process.stdout.readline().strip()
