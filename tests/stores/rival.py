"""A second process at work on the same store: `python rival.py <pickled store> <action> <arguments>`.

It says `ready`, waits for a line, and then does the action, so that several start together.
"""

import hashlib
import itertools
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tierloom import promoting
from tierloom.errors import AlreadyExists, RevisionMismatch, StoreError
from tierloom.stores.store import Store


def create(store: Store, name: str, letter: str, length: str) -> None:
    """Create an object of one repeated letter and say whether that succeeded."""
    try:
        store.create(name, letter.encode() * int(length))
    except AlreadyExists:
        print("lost", flush=True)
    else:
        print("won", flush=True)


def count(store: Store, name: str, times: str) -> None:
    """Add one to a number, so many times, whoever else is counting."""
    for _ in range(int(times)):
        while not add_one(store, name):
            pass


def add_one(store: Store, name: str) -> bool:
    found = store.read_revision(name)
    number, revision = (int(found[0]), found[1]) if found else (0, None)
    try:
        store.swap(name, b"%d" % (number + 1), revision)
    except RevisionMismatch:
        return False
    return True


def promote(store: Store, name: str, times: str) -> None:
    """Point the channel `prod` at one version after the other, so many times, whoever else is moving it."""
    for at in range(int(times)):
        promoting.promote(store, 1 + at % 4, "prod", f"{name}: {at}")


def churn(store: Store, prefix: str, length: str) -> None:
    """Create objects that are named by their sha256 until killed, by both ways of creating."""
    number = 0
    while True:
        data = number.to_bytes(8, "little") * (int(length) // 8)
        name = prefix + hashlib.sha256(data).hexdigest()
        file = store.scratch() / f"{hashlib.sha256(name.encode()).hexdigest()}.churn"
        print(name, flush=True)
        if number % 2:
            file.write_bytes(data)
            store.create_from_file(name, file)
            file.unlink(missing_ok=True)
        else:
            store.create(name, data)
        number += 1


def die_at_every_step(store: Store, deed: str, prefix: str) -> None:
    """Do a deed again and again, each time killed one step later, until it ends; then say how often.

    A step is a call of the system that Python audits: between two of them no name in the store changes.
    """
    for step in itertools.count(1):
        name = f"{prefix}{step}/object"
        if deed == "swap":
            store.swap(name, OLD, None)
        child = os.fork()
        if child == 0:
            _die_at(step)
            DEEDS[deed](store, name)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            print(step, flush=True)
            return


def _die_at(step: int) -> None:
    steps = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _create_from_file(store: Store, name: str) -> None:
    path = store.scratch() / f"{os.getpid()}.file"
    path.write_bytes(NEW)
    store.create_from_file(name, path)


def _swap(store: Store, name: str) -> None:
    found = store.read_revision(name)
    store.swap(name, NEW, found[1] if found else None)


def overfill(store: Store, limit: str, folder: str) -> None:
    """Do each deed where there is no room for it, and say what came of it, a line each."""
    channel = store.swap("channel", OLD, None)
    file = Path(folder) / "too-large"
    file.write_bytes(NEW)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    deeds: list[Callable[[], object]] = [
        lambda: store.create("created", NEW),
        lambda: store.create_from_file("from-file", file),
        lambda: store.swap("channel", NEW, channel),
    ]
    for deed in deeds:
        try:
            deed()
        except StoreError as error:
            print(error, flush=True)
    print(sorted(listed.name for listed in store.list("")), store.read("channel"), [*store.scratch().iterdir()])


OLD: Final = b"old"
NEW: Final = b"new" * 100_000
STEPS: Final = {"open", "os.link", "os.mkdir", "os.rename", "os.remove", "fcntl.flock"}
DEEDS: Final[dict[str, Callable[[Store, str], None]]] = {
    "create": lambda store, name: store.create(name, NEW),
    "create_from_file": _create_from_file,
    "swap": _swap,
}
ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "create": create,
    "count": count,
    "promote": promote,
    "churn": churn,
    "die-at-every-step": die_at_every_step,
    "overfill": overfill,
}


if __name__ == "__main__":
    _, pickled, action, *arguments = sys.argv
    rival_store: Store = pickle.loads(Path(pickled).read_bytes())
    print("ready", flush=True)
    sys.stdin.readline()
    ACTIONS[action](rival_store, *arguments)
